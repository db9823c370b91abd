//! The OS layer on Linux.
//!
//! Memory is mapped through libc, so that the sanitizers see it; system calls are made directly
//! only for what libc has no function for, or has one only in newer versions. Nothing here needs
//! a kernel newer than 4.14; what newer ones add (populating without a fault, paging out, the
//! barrier) is asked for first.

const builtin = @import("builtin");
const std = @import("std");
const linux = std.os.linux;
const os = @import("../os.zig");
const posix = @import("posix.zig");
const processors = @import("processors.zig");
const attributes = @import("linux/attributes.zig");
const extents = @import("linux/extents.zig");
const signals = @import("signals.zig");

pub const File = posix.File;
pub const code_is_directory = posix.code_is_directory;
pub const code_not_mappable = posix.code_not_mappable;
pub const code_short_read = posix.code_short_read;
pub const code_is_link = posix.code_is_link;

pub const pageSize = posix.pageSize;
pub const granularity = posix.pageSize;
pub const describe = posix.describe;
pub const isMemoryCode = posix.isMemoryCode;
pub const isSpaceCode = posix.isSpaceCode;
pub const isMissingCode = posix.isMissingCode;
pub const isExistsCode = posix.isExistsCode;
pub const isFaultCode = posix.isFaultCode;
pub const unreserve = posix.unreserve;
pub const unreserveArena = posix.unreserve;
pub const take = posix.take;
pub const renew = posix.renew;
pub const permanent = posix.permanent;
pub const open = posix.open;
pub const close = posix.close;
pub const readAt = posix.readAt;
pub const writeAt = posix.writeAt;
pub const syncFile = posix.syncFile;
pub const rename = posix.rename;
pub const absolutePath = posix.absolutePath;
pub const remove = posix.remove;
pub const lock = posix.lock;
pub const unlock = posix.unlock;
pub const atThreadExit = posix.atThreadExit;
pub const stayLoaded = posix.stayLoaded;
pub const atFork = posix.atFork;
pub const Cancellation = posix.Cancellation;
pub const holdCancellation = posix.holdCancellation;
pub const releaseCancellation = posix.releaseCancellation;
pub const heap = posix.heap;

// Machine ---------------------------------------------------------------------------------------

pub fn capabilities() os.Capabilities {
    return .{
        .process_barrier = barrierRegistered(),
        .atomic_placement = true,
        .codes_are_errno = true,
        .fault_guard = true,
        .huge_pages = hugePagesFound(),
    };
}

const Found = enum(u8) { unknown, absent, present };
var huge_pages: std.atomic.Value(Found) = .init(.unknown);

/// Two threads that come here at once find the same.
fn hugePagesFound() bool {
    if (huge_pages.load(.monotonic) == .unknown) {
        var buffer: [64]u8 = undefined;
        const choices = readFile("/sys/kernel/mm/transparent_hugepage/enabled", &buffer);
        const absent = choices.len == 0 or std.mem.find(u8, choices, "[never]") != null;
        huge_pages.store(if (absent) .absent else .present, .monotonic);
    }
    return huge_pages.load(.monotonic) == .present;
}

pub fn nowNs() u64 {
    var time: std.c.timespec = undefined;
    _ = std.c.clock_gettime(.MONOTONIC, &time);
    return @as(u64, @intCast(time.sec)) * std.time.ns_per_s + @as(u64, @intCast(time.nsec));
}

/// Asked of the kernel each time: a number kept by the thread would be the parent's after a fork.
pub fn threadId() u64 {
    return @intCast(linux.gettid());
}

/// Pages of files that nobody used lately count as available: the kernel takes them first.
pub fn memoryAvailable() ?os.Limit {
    var buffer: [8192]u8 = undefined;
    const info = readFile("/proc/meminfo", &buffer);
    var machine: ?os.Limit = null;
    if (kibibytes(info, "MemTotal:")) |total| if (kibibytes(info, "MemAvailable:")) |available| {
        machine = .{ .kind = .memory, .value = total, .used = total -| available };
    };
    return os.Limit.tighter(machine, groupLimit(null));
}

/// The kernel counts pages of files as available, used or not, and takes them from whoever reads
/// more of them than there is room for.
pub fn memoryToSpare() ?os.Limit {
    var limit = memoryAvailable() orelse return null;
    limit.used +|= Own.now().file;
    return limit;
}

pub fn memoryLimit(addresses: u64) ?os.Limit {
    const own: Own = .now();
    var buffer: [8192]u8 = undefined;
    var least = groupLimit(own.resident);
    if (kibibytes(readFile("/proc/meminfo", &buffer), "MemTotal:")) |total| {
        const machine: os.Limit = .{ .kind = .memory, .value = total, .used = own.resident };
        least = os.Limit.tighter(least, machine);
    }
    for ([_]?os.Limit{
        posix.resourceLimit(.address_space, .AS, own.addresses +| addresses),
        posix.resourceLimit(.data, .DATA, own.private),
    }) |limit| least = os.Limit.tighter(least, limit);
    return least;
}

pub fn shortOf(need: os.Need) ?os.Limit {
    const own: Own = .now();
    if (need.addresses > 0) {
        const mine = posix.resourceLimit(.address_space, .AS, own.addresses);
        if (isShort(mine, need.addresses)) return mine;
        const machine = addressLimit(own.addresses);
        if (isShort(machine, need.addresses)) return machine;
    }
    if (need.entries > 0) {
        const entries = entryLimit();
        if (isShort(entries, need.entries)) return entries;
    }
    if (need.private > 0) {
        const data = posix.resourceLimit(.data, .DATA, own.private);
        if (isShort(data, need.private)) return data;
        const commitment = commitLimit();
        if (isShort(commitment, need.private)) return commitment;
    }
    if (need.locked > 0) {
        const locked = posix.resourceLimit(.locked_memory, .MEMLOCK, own.locked);
        if (isShort(locked, need.locked)) return locked;
    }
    return null;
}

fn isShort(limit: ?os.Limit, more: u64) bool {
    return more > (limit orelse return false).left();
}

/// `madvise` says that the map is full by another code than `mmap` does, which has that code for
/// locked memory.
pub fn exhausted(code: i64, size: u64, path: []const u8) ?os.Limit {
    // A mapping within another makes three of one.
    const entries = 2;
    return switch (code) {
        @backingInt(linux.E.NOMEM) => shortOf(.{
            .addresses = size,
            .private = size,
            .entries = entries,
        }),
        @backingInt(linux.E.AGAIN) => shortOf(.{ .entries = entries }) orelse
            posix.resourceLimit(.locked_memory, .MEMLOCK, Own.now().locked),
        else => posix.exhausted(code, path),
    };
}

/// What this process uses. Pages that a file stands behind can be taken back, and are not counted
/// as resident.
const Own = struct {
    addresses: u64,
    private: u64,
    locked: u64,
    resident: u64,
    file: u64,

    fn now() Own {
        var buffer: [8192]u8 = undefined;
        const status = readFile("/proc/self/status", &buffer);
        return .{
            .addresses = kibibytes(status, "VmSize:") orelse 0,
            .private = kibibytes(status, "VmData:") orelse 0,
            .locked = kibibytes(status, "VmLck:") orelse 0,
            .resident = (kibibytes(status, "RssAnon:") orelse 0) +
                (kibibytes(status, "RssShmem:") orelse 0),
            .file = kibibytes(status, "RssFile:") orelse 0,
        };
    }
};

/// What a processor of this kind can address; null where that differs from one to the next.
fn addressLimit(used: u64) ?os.Limit {
    if (builtin.cpu.arch != .x86_64) return null;
    return .{ .kind = .addressable, .value = 1 << 47, .used = used };
}

fn entryLimit() ?os.Limit {
    var buffer: [8192]u8 = undefined;
    const value = number(readFile("/proc/sys/vm/max_map_count", &buffer)) orelse return null;
    var code: i64 = 0;
    const maps = open("/proc/self/maps", .read, &code) catch return null;
    defer close(maps);
    var count: u64 = 0;
    var offset: u64 = 0;
    while (true) {
        const size = readAt(maps, &buffer, offset, &code) catch return null;
        count += std.mem.countScalar(u8, buffer[0..size], '\n');
        offset += size;
        if (size < buffer.len) return .{ .kind = .map_entries, .value = value, .used = count };
    }
}

/// How much memory may be promised: exactly, or what obviously nobody could keep.
fn commitLimit() ?os.Limit {
    var buffer: [8192]u8 = undefined;
    const mode = number(readFile("/proc/sys/vm/overcommit_memory", &buffer)) orelse return null;
    return commitLimitOf(mode, readFile("/proc/meminfo", &buffer));
}

fn commitLimitOf(overcommit: u64, meminfo: []const u8) ?os.Limit {
    return switch (overcommit) {
        0 => .{
            .kind = .memory,
            .value = (kibibytes(meminfo, "MemTotal:") orelse return null) +
                (kibibytes(meminfo, "SwapTotal:") orelse 0),
        },
        2 => .{
            .kind = .commit,
            .value = kibibytes(meminfo, "CommitLimit:") orelse return null,
            .used = kibibytes(meminfo, "Committed_AS:") orelse 0,
        },
        else => null,
    };
}

/// The tightest of all control groups that this process is in. `own`: what it uses of each, if
/// that is what matters, and not what all in the group use.
fn groupLimit(own: ?u64) ?os.Limit {
    return groupLimitIn("/proc/self/cgroup", .one, .two, own);
}

/// Looks at whole lines, however many there are.
fn groupLimitIn(memberships: [*:0]const u8, one: Groups, two: Groups, own: ?u64) ?os.Limit {
    var code: i64 = 0;
    const file = open(memberships, .read, &code) catch return null;
    defer close(file);
    var buffer: [4096]u8 = undefined;
    var least: ?os.Limit = null;
    var offset: u64 = 0;
    while (true) {
        const size = readAt(file, &buffer, offset, &code) catch return least;
        const is_last = size < buffer.len;
        const end = if (is_last) size else std.mem.lastIndexOfScalar(u8, &buffer, '\n') orelse
            // No group has so long a name.
            return least;
        least = os.Limit.tighter(least, groupLimitOf(buffer[0..end], one, two, own));
        if (is_last) return least;
        offset += end + 1;
    }
}

fn groupLimitOf(memberships: []const u8, one: Groups, two: Groups, own: ?u64) ?os.Limit {
    var least: ?os.Limit = null;
    var lines = std.mem.tokenizeScalar(u8, memberships, '\n');
    while (lines.next()) |line| {
        var parts = std.mem.splitScalar(u8, line, ':');
        const hierarchy = parts.next() orelse continue;
        const controllers = parts.next() orelse continue;
        const path = parts.rest();
        const groups = if (std.mem.eql(u8, hierarchy, "0"))
            two
        else if (hasWord(controllers, "memory"))
            one
        else
            continue;
        least = os.Limit.tighter(least, groups.tightest(path, own));
    }
    return least;
}

/// Where the two versions of control groups say what memory a group may use, and uses.
const Groups = struct {
    root: []const u8,
    limit: []const u8,
    used: []const u8,
    cache: []const u8,

    const one: Groups = .{
        .root = "/sys/fs/cgroup/memory",
        .limit = "memory.limit_in_bytes",
        .used = "memory.usage_in_bytes",
        .cache = "total_inactive_file ",
    };

    const two: Groups = .{
        .root = "/sys/fs/cgroup",
        .limit = "memory.max",
        .used = "memory.current",
        .cache = "inactive_file ",
    };

    /// A group's limit holds for all groups below it, so every ancestor is asked. In a container
    /// the path may be the host's, of which only the root can be seen: the container's own.
    fn tightest(groups: Groups, path: []const u8, own: ?u64) ?os.Limit {
        var least: ?os.Limit = null;
        var group = std.mem.trimEnd(u8, path, "/");
        while (true) {
            least = os.Limit.tighter(least, groups.limitOf(group, own));
            if (group.len == 0) return least;
            group = group[0 .. std.mem.lastIndexOfScalar(u8, group, '/') orelse 0];
        }
    }

    fn limitOf(groups: Groups, group: []const u8, own: ?u64) ?os.Limit {
        var buffer: [8192]u8 = undefined;
        // A group without a limit has "max" there, which is no number, or one that is larger than
        // any machine.
        const value = number(groups.read(group, groups.limit, &buffer)) orelse return null;
        if (value > unlimited) return null;
        const used = own orelse used: {
            const all = number(groups.read(group, groups.used, &buffer)) orelse return null;
            const cache = field(groups.read(group, "memory.stat", &buffer), groups.cache) orelse 0;
            break :used all -| cache;
        };
        return .{ .kind = .control_group, .value = value, .used = used };
    }

    const unlimited = 1 << 62;

    fn read(groups: Groups, group: []const u8, name: []const u8, buffer: []u8) []const u8 {
        var path: [linux.PATH_MAX]u8 = undefined;
        var end: usize = 0;
        for ([_][]const u8{ groups.root, group, "/", name, "\x00" }) |part| {
            if (part.len > path.len - end) return "";
            @memcpy(path[end..][0..part.len], part);
            end += part.len;
        }
        return readFile(path[0 .. end - 1 :0], buffer);
    }
};

/// The first bytes of a file of the kernel's, as many as the buffer holds; none if there is no
/// such file.
fn readFile(path: [*:0]const u8, buffer: []u8) []const u8 {
    var code: i64 = 0;
    const file = open(path, .read, &code) catch return "";
    defer close(file);
    const size = readAt(file, buffer, 0, &code) catch return "";
    return buffer[0..size];
}

/// The same, given in KiB, in bytes.
fn kibibytes(text: []const u8, name: []const u8) ?u64 {
    return (field(text, name) orelse return null) *| 1024;
}

/// The number after `name` at the start of a line.
fn field(text: []const u8, name: []const u8) ?u64 {
    var lines = std.mem.tokenizeScalar(u8, text, '\n');
    while (lines.next()) |line| {
        if (std.mem.startsWith(u8, line, name)) return number(line[name.len..]);
    }
    return null;
}

fn number(text: []const u8) ?u64 {
    var words = std.mem.tokenizeAny(u8, text, " \t\n");
    return std.fmt.parseInt(u64, words.next() orelse return null, 10) catch null;
}

fn hasWord(list: []const u8, word: []const u8) bool {
    var words = std.mem.tokenizeScalar(u8, list, ',');
    while (words.next()) |each| if (std.mem.eql(u8, each, word)) return true;
    return false;
}

// Address space ---------------------------------------------------------------------------------

pub fn reserve(size: usize, alignment: usize, code: *i64) os.Error![*]u8 {
    const base = try posix.reserve(size, alignment, posix.no_tag, code);
    // The page before it is to differ from the first slot as an invisible one would.
    var ignored: i64 = 0;
    const page_size = pageSize();
    posix.advise(base - page_size, page_size, linux.MADV.DONTDUMP, &ignored) catch {};
    return base;
}

pub fn reserveArena(size: usize, code: *i64) os.Error![*]u8 {
    return posix.reserve(size, os.arena_unit, posix.no_tag, code);
}

pub fn give(base: [*]u8, size: usize, code: *i64) os.Error!void {
    return posix.give(base, size, posix.no_tag, code);
}

/// The kernel merges neighbours that do not differ. A slot that core dumps leave out differs.
/// A hint, which a filter or a small kernel may refuse: they are one entry then.
pub fn carve(slot: os.Slot, _: *i64) os.Error!void {
    var ignored: i64 = 0;
    if (!slot.visible) {
        posix.advise(slot.base, slot.size, linux.MADV.DONTDUMP, &ignored) catch {};
    }
}

pub fn place(
    slot: os.Slot,
    file: File,
    size: usize,
    sharing: os.Sharing,
    code: *i64,
) os.Error!os.Placement {
    errdefer mend(slot);
    return posix.place(slot, file, size, sharing, code);
}

pub fn commit(slot: os.Slot, size: usize, code: *i64) os.Error!os.Placement {
    errdefer mend(slot);
    const placement = try posix.commit(slot, size, code);
    // A hint: the kernel may have been built without huge pages. It changes nothing for a smaller
    // range, or one that is not aligned.
    preferHugePages(placement);
    return placement;
}

pub fn restore(placement: os.Placement, code: *i64) os.Error!void {
    return empty(placement.slot, code);
}

fn empty(slot: os.Slot, code: *i64) os.Error!void {
    try posix.clear(slot, posix.no_tag, code);
    // Should the map have no entry left, it is merely merged with a neighbour.
    var ignored: i64 = 0;
    carve(slot, &ignored) catch {};
}

/// A mapping that the kernel refuses may have cut or taken away by then what it was to replace.
fn mend(slot: os.Slot) void {
    var ignored: i64 = 0;
    empty(slot, &ignored) catch {};
}

// Pages -----------------------------------------------------------------------------------------

const populate_read = 22;
const populate_write = 23;

/// Through a mapping that is aligned for it, and gone afterwards.
pub fn readFirstHugePage(file: File, size: u64) void {
    const huge_page_size = 2 << 20;
    if (size < huge_page_size) return;
    var ignored: i64 = 0;
    const base = posix.reserve(huge_page_size, huge_page_size, posix.no_tag, &ignored) catch return;
    defer posix.unreserve(base, huge_page_size);
    const slot: os.Slot = .{ .base = base, .size = huge_page_size, .visible = false };
    const placement = posix.place(slot, file, huge_page_size, .shared_read, &ignored) catch return;
    preferHugePages(placement);
    posix.advise(base, huge_page_size, populate_read, &ignored) catch {};
}

pub fn preferHugePages(placement: os.Placement) void {
    var ignored: i64 = 0;
    const advice = linux.MADV.HUGEPAGE;
    posix.advise(placement.slot.base, placement.mapped_size, advice, &ignored) catch {};
}

pub fn populate(placement: os.Placement, for_write: bool, code: *i64) os.Error!void {
    const write = for_write and placement.writable();
    const advice: c_int = if (write) populate_write else populate_read;
    posix.advise(placement.slot.base, placement.mapped_size, advice, code) catch |err| {
        // Kernels before 5.14 do not know it, and some have no advice at all.
        switch (@as(linux.E, @fromBackingInt(@intCast(code.*)))) {
            .INVAL, .NOSYS, .PERM => {},
            else => return err,
        }
        code.* = 0;
        if (placement.sharing == null) return posix.touch(placement, write);
        try bringIn(placement, write, code);
    };
}

/// Has the kernel touch each page of a file: what is gone is an error then, and no signal. It reads
/// a set of signals there, to do with it what it does not know, or adds 0 in one step, as it does
/// for locks of two words.
fn bringIn(placement: os.Placement, write: bool, code: *i64) os.Error!void {
    const wake_op = 5 | 128; // FUTEX_WAKE_OP, private
    const add_nothing = 1 << 28; // FUTEX_OP_ADD of 0
    const unknown_how = std.math.maxInt(u32);
    var offset: usize = 0;
    while (offset < placement.mapped_size) : (offset += pageSize()) {
        const page = @intFromPtr(placement.slot.base) + offset;
        const rc = if (write)
            linux.syscall6(.futex, page, wake_op, 0, 0, page, add_nothing)
        else
            linux.syscall4(.rt_sigprocmask, unknown_how, page, 0, @sizeOf(u64));
        if (linux.errno(rc) != .FAULT) continue;
        code.* = @backingInt(linux.E.FAULT);
        return error.System;
    }
}

pub const readAhead = posix.readAhead;

pub fn flush(placement: os.Placement, code: *i64) os.Error!void {
    if (placement.sharing == .shared_write) try posix.sync(placement, code);
}

/// Pages that a file stands behind are dropped; what would lose its bytes so is paged out.
pub fn evict(placement: os.Placement) void {
    const advice: c_int = switch (placement.sharing orelse .private_write) {
        .shared_read, .shared_write => linux.MADV.DONTNEED,
        .private_write => linux.MADV.PAGEOUT,
    };
    var ignored: i64 = 0;
    posix.advise(placement.slot.base, placement.mapped_size, advice, &ignored) catch {};
}

/// An entry of /proc/self/pagemap.
const PageEntry = packed struct(u64) {
    frame: u55,
    soft_dirty: bool,
    exclusive: bool,
    _: u4,
    file_or_shared: bool,
    swapped: bool,
    present: bool,
};

/// Reads the page map, whose cost is that of the range, and not smaps, whose cost is that of the
/// whole process. It also tells exactly what is asked: pages without a file behind them, where
/// smaps counts as private-dirty what a shared mapping wrote to its file's cache.
pub fn memoryUse(base: [*]const u8, size: usize, code: *i64) os.Error!os.Use {
    const pagemap = try open("/proc/self/pagemap", .read, code);
    defer close(pagemap);
    const page_size = pageSize();
    const end = std.mem.alignForward(usize, @intFromPtr(base) + size, page_size) / page_size;
    var page = @intFromPtr(base) / page_size;
    var use: os.Use = .{};
    var entries: [1024]PageEntry = undefined;
    while (page < end) {
        const wanted = std.mem.sliceAsBytes(entries[0..@min(entries.len, end - page)]);
        const got = try readAt(pagemap, wanted, page * @sizeOf(PageEntry), code);
        const count = got / @sizeOf(PageEntry);
        if (count == 0) break;
        for (entries[0..count]) |entry| {
            if (!entry.present) continue;
            use.resident += page_size;
            if (!entry.file_or_shared and entry.exclusive) use.private_dirty += page_size;
        }
        page += count;
    }
    const first = std.mem.alignBackward(usize, @intFromPtr(base), page_size);
    use.huge = hugeUse(pagemap, first, end * page_size);
    return use;
}

/// PAGEMAP_SCAN's argument.
const Scan = extern struct {
    size: u64 = @sizeOf(Scan),
    flags: u64 = 0,
    start: u64,
    end: u64,
    walk_end: u64 = 0,
    found: [*]Range,
    found_capacity: u64,
    pages_max: u64 = 0,
    inverted: u64 = 0,
    wanted: u64 = huge,
    any_wanted: u64 = 0,
    returned: u64 = huge,

    const huge = 1 << 6;
    const request = linux.IOCTL.IOWR('f', 16, Scan);
    const Range = extern struct { start: u64, end: u64, categories: u64 };
};

/// Bytes that one entry maps for a whole huge page. Kernels before 6.7 do not tell, and none are
/// counted.
fn hugeUse(pagemap: File, start: u64, end: u64) u64 {
    var ranges: [64]Scan.Range = undefined;
    var sum: u64 = 0;
    var at = start;
    while (at < end) {
        var scan: Scan = .{
            .start = at,
            .end = end,
            .found = &ranges,
            .found_capacity = ranges.len,
        };
        const rc = linux.ioctl(pagemap, Scan.request, @intFromPtr(&scan));
        switch (linux.errno(rc)) {
            .SUCCESS => for (ranges[0..rc]) |range| {
                sum += range.end - range.start;
            },
            .INTR => continue,
            else => return sum,
        }
        if (scan.walk_end <= at) return sum;
        at = scan.walk_end;
    }
    return sum;
}

/// The kernel says of a file that this process neither owns nor may write to that all of it is in
/// memory; then what is known is what this process has. That, too, where it does not say.
pub fn cached(placement: os.Placement, path: [:0]const u8, code: *i64) os.Error!u64 {
    const base = placement.slot.base;
    if (placement.sharing != null and !mayAskOf(path)) {
        return (try memoryUse(base, placement.mapped_size, code)).resident;
    }
    const page_size = pageSize();
    var pages: [4096]u8 = undefined;
    var count: u64 = 0;
    var offset: usize = 0;
    while (offset < placement.mapped_size) {
        const span = @min(placement.mapped_size - offset, pages.len * page_size);
        const rc = linux.mincore(base + offset, span, &pages);
        switch (linux.errno(rc)) {
            .SUCCESS => {},
            .AGAIN => continue,
            // An emulator's answer where a file ends within one of its pages, or a filter's.
            else => return (try memoryUse(base, placement.mapped_size, code)).resident,
        }
        for (pages[0 .. span / page_size]) |page| count += page & 1;
        offset += span;
    }
    return count * page_size;
}

fn mayAskOf(path: [:0]const u8) bool {
    const write_ok = 2;
    const rc = linux.faccessat(linux.AT.FDCWD, path, write_ok, 0);
    if (linux.errno(rc) == .SUCCESS) return true;
    var ignored: i64 = 0;
    const status = statusAt(linux.AT.FDCWD, path, 0, &ignored) catch return false;
    return status.uid == linux.geteuid();
}

// Faults ----------------------------------------------------------------------------------------

/// A system call without libc: what a sanitizer puts in place of its `mmap` is not for handlers.
pub fn zero(pages: []u8, offset: usize, writable: bool, code: *i64) os.Error!void {
    const from = std.mem.alignBackward(usize, offset, pageSize());
    const rest = pages[from..];
    const rc = linux.mmap(rest.ptr, rest.len, posix.protection(writable), posix.replacing, -1, 0);
    switch (linux.errno(rc)) {
        .SUCCESS => {},
        else => |errno| {
            code.* = @backingInt(errno);
            return error.System;
        },
    }
}

pub const catchFaults = signals.Signals(.{ .faultOf = faultOf, .wasSent = wasSent, .comesAgain = comesAgain }).catchFaults;

/// What a signal says of a page; null if it was sent, or if the program itself is at fault.
fn faultOf(signal: signals.Signal, info: *const signals.Info) ?os.Fault {
    const address_error = 2; // BUS_ADRERR: beyond the end of the file, or the device failed
    const object_error = 3; // BUS_OBJERR
    const memory_error = 4; // BUS_MCEERR_AR
    const not_mapped = 1; // SEGV_MAPERR: what some network file systems answer
    const errno: linux.E = switch (signal) {
        .BUS => switch (info.code) {
            address_error, object_error => .IO,
            memory_error => .HWPOISON,
            else => return null,
        },
        .SEGV => if (info.code == not_mapped) .FAULT else return null,
        else => return null,
    };
    return .{
        .address = @intFromPtr(info.fields.sigfault.addr),
        .code = @backingInt(errno),
    };
}

fn wasSent(info: *const signals.Info) bool {
    return info.code <= 0;
}

/// Codes of signals that the processor's trap for an instruction makes. Others of the kernel's, as
/// that of memory which is going to fail (BUS_MCEERR_AO), may come at any instruction.
fn comesAgain(signal: signals.Signal, info: *const signals.Info) bool {
    const kernel = 0x80; // SI_KERNEL: an address that no page can have
    return switch (signal) {
        .BUS => info.code >= 1 and info.code <= 4, // BUS_ADRALN to BUS_MCEERR_AR
        .SEGV => info.code == kernel or (info.code >= 1 and info.code <= 4), // to SEGV_PKUERR
        else => false,
    };
}

// Files -----------------------------------------------------------------------------------------

fn statusOf(file: File, code: *i64) os.Error!linux.Statx {
    return statusAt(file, "", linux.AT.EMPTY_PATH, code);
}

fn statusAt(folder: File, path: [*:0]const u8, flags: u32, code: *i64) os.Error!linux.Statx {
    var status: linux.Statx = undefined;
    const rc = linux.statx(folder, path, flags, .BASIC_STATS, &status);
    return switch (linux.errno(rc)) {
        .SUCCESS => status,
        // Kernels before 4.11 do not know it, and filters that are older than it refuse it.
        .NOSYS, .PERM => oldStatusAt(folder, path, flags, code),
        else => |errno| {
            code.* = @backingInt(errno);
            return error.System;
        },
    };
}

/// struct stat of the kernel, by where its fields stand.
const OldStatus = switch (builtin.cpu.arch) {
    .x86_64 => extern struct {
        dev: u64,
        ino: u64,
        nlink: u64,
        mode: u32,
        uid: u32,
        gid: u32,
        _0: u32,
        rdev: u64,
        size: i64,
        block_size: i64,
        blocks: i64,
        times: [3][2]i64,
        _1: [3]u64,
    },
    else => extern struct {
        dev: u64,
        ino: u64,
        mode: u32,
        nlink: u32,
        uid: u32,
        gid: u32,
        rdev: u64,
        _0: u64,
        size: i64,
        block_size: i32,
        _1: i32,
        blocks: i64,
        times: [3][2]i64,
        _2: [2]u32,
    },
};

fn oldStatusAt(folder: File, path: [*:0]const u8, flags: u32, code: *i64) os.Error!linux.Statx {
    var old: OldStatus = undefined;
    const at: usize = @bitCast(@as(isize, folder));
    const rc = linux.syscall4(.newfstatat, at, @intFromPtr(path), @intFromPtr(&old), flags);
    switch (linux.errno(rc)) {
        .SUCCESS => {},
        else => |errno| {
            code.* = @backingInt(errno);
            return error.System;
        },
    }
    var status: linux.Statx = std.mem.zeroes(linux.Statx);
    status.dev_major = @intCast((old.dev >> 8 & 0xfff) | (old.dev >> 32 & 0xfffff000));
    status.dev_minor = @intCast((old.dev & 0xff) | (old.dev >> 12 & 0xffffff00));
    status.ino = old.ino;
    status.mode = @intCast(old.mode);
    status.nlink = @intCast(old.nlink);
    status.uid = old.uid;
    status.gid = old.gid;
    status.size = @intCast(old.size);
    status.blocks = @intCast(old.blocks);
    status.mtime.sec = old.times[1][0];
    status.mtime.nsec = @intCast(old.times[1][1]);
    return status;
}

pub fn identify(file: File, code: *i64) os.Error!os.Identity {
    return identityOf(try statusOf(file, code));
}

fn identityOf(status: linux.Statx) os.Identity {
    return .{
        .device = device(status.dev_major, status.dev_minor),
        .inode = status.ino,
        .size = status.size,
        .mtime_ns = status.mtime.sec *| std.time.ns_per_s +| status.mtime.nsec,
        .regular = linux.S.ISREG(status.mode),
        .directory = linux.S.ISDIR(status.mode),
        .link = linux.S.ISLNK(status.mode),
        .links = status.nlink,
    };
}

/// The same number that `stat` of other programs shows.
fn device(major: u64, minor: u64) u64 {
    return (major & 0xfffff000) << 32 | (major & 0xfff) << 8 |
        (minor & 0xffffff00) << 12 | (minor & 0xff);
}

const block_size = 512;

fn missingOf(file: File, size: u64, code: *i64) os.Error!u64 {
    return size -| (try statusOf(file, code)).blocks *| block_size;
}

pub fn findGaps(file: File, size: u64, code: *i64) os.Error![]os.Gap {
    const missing = try missingOf(file, size, code);
    return collectGaps(file, size, missing) catch refusal(.NOMEM, code);
}

fn collectGaps(file: File, size: u64, missing: u64) error{OutOfMemory}![]os.Gap {
    var list: std.ArrayList(os.Gap) = .empty;
    errdefer list.deinit(heap);
    if (!try extents.findGaps(file, size, heap, &list)) {
        try posix.findHoles(file, size, missing, &list);
    }
    return list.toOwnedSlice(heap);
}

pub fn canFill(file: File, size: u64, gaps: []const os.Gap, code: *i64) os.Error!void {
    const missing = try missingOf(file, size, code);
    return posix.checkRoom(file, posix.needOf(missing, gaps, extents.canUnshare(file)), code);
}

/// How often a call that a signal interrupts is made again: on some kernels and file systems it has
/// then undone what it did, so that with a timer that is fast enough it never ends.
const interruptions_max = 8;

/// Of `fallocate`. Refused by a file system that cannot, or by a filter: see `isUnsupported`.
fn allocateBlocks(file: File, mode: u32, start: u64, end: u64) linux.E {
    for (0..interruptions_max) |_| {
        const rc = linux.fallocate(file, @bitCast(mode), @intCast(start), @intCast(end - start));
        const errno = linux.errno(rc);
        if (errno != .INTR) return errno;
    }
    return .INTR;
}

const falloc_keep_size = 1;
const falloc_punch_hole = 2;
const falloc_unshare_range = 0x40;

pub fn fill(file: File, gap: os.Gap, code: *i64) os.Error!void {
    const shared = gap.kind == .shared;
    const mode: u32 = falloc_keep_size | if (shared) @as(u32, falloc_unshare_range) else 0;
    const errno = allocateBlocks(file, mode, gap.start, gap.end);
    switch (errno) {
        .SUCCESS => {},
        .INTR => return posix.fillByWriting(file, gap, code),
        // Holes can be written. What is shared is not made another's by writing it, where the file
        // system writes every block anew.
        .OPNOTSUPP, .NOSYS, .PERM => if (!shared) return posix.fillByWriting(file, gap, code),
        .INVAL => if (!shared) return refusal(errno, code),
        else => return refusal(errno, code),
    }
}

fn refusal(errno: linux.E, code: *i64) os.Error {
    code.* = @backingInt(errno);
    return error.System;
}

pub fn unfill(file: File, gap: os.Gap) void {
    posix.emptyHole(file, gap, punchHole);
}

/// The last block of a file goes only if the hole reaches beyond the file's end.
fn punchHole(file: File, start: u64, end: u64) void {
    var ignored: i64 = 0;
    const status = statusOf(file, &ignored) catch return;
    const last = if (end >= status.size) std.mem.alignForward(u64, end, 64 << 10) else end;
    _ = allocateBlocks(file, falloc_keep_size | falloc_punch_hole, start, last);
}

pub fn identifyPath(path: [*:0]const u8, link: os.Link, code: *i64) os.Error!os.Identity {
    const flags: u32 = switch (link) {
        .itself => linux.AT.SYMLINK_NOFOLLOW,
        .followed => 0,
    };
    return identityOf(try statusAt(linux.AT.FDCWD, path, flags, code));
}

pub fn checkWritable(path: [*:0]const u8, code: *i64) os.Error!void {
    var buffer: [linux.PATH_MAX]u8 = undefined;
    const folder = try posix.folderOf(std.mem.span(path), &buffer, code);
    const itself = linux.AT.SYMLINK_NOFOLLOW;
    const file_status = try statusAt(linux.AT.FDCWD, path, itself, code);
    const folder_status = try statusAt(linux.AT.FDCWD, folder, 0, code);
    try posix.checkProtection(
        .{ .mode = file_status.mode, .owner = file_status.uid },
        .{ .mode = folder_status.mode, .owner = folder_status.uid },
        code,
    );
    const write_ok = 2;
    const errno = errno: {
        const effective = 0x200 | itself; // AT_EACCESS
        const errno = linux.errno(linux.faccessat(linux.AT.FDCWD, path, write_ok, effective));
        // Of older kernels, and of filters that do not know the call.
        if (errno != .NOSYS and errno != .PERM) break :errno errno;
        break :errno linux.errno(linux.faccessat(linux.AT.FDCWD, path, write_ok, 0));
    };
    if (errno == .SUCCESS) return;
    code.* = @backingInt(errno);
    return error.System;
}

pub fn create(path: [*:0]const u8, like: ?[*:0]const u8, code: *i64) os.Error!File {
    const other = like orelse return posix.create(path, posix.mode_usual, code);
    const status = try statusAt(linux.AT.FDCWD, other, linux.AT.SYMLINK_NOFOLLOW, code);
    const file = try posix.create(path, posix.mode_private, code);
    errdefer {
        close(file);
        remove(path);
    }
    attributes.copyNotes(other, file);
    const has_group = posix.giveTo(file, status.uid, status.gid);
    const mode = status.mode & 0o777;
    try posix.setMode(file, switch (attributes.copyAccess(other, file, has_group)) {
        .mode_alone => if (has_group) mode else posix.modeOfOthers(mode),
        .list_kept => mode,
        .list_lost => mode & 0o700,
    }, code);
    return file;
}

pub fn syncFolder(path: [:0]const u8, code: *i64) os.Error!void {
    return posix.syncFolder(path, syncFile, code);
}

pub fn allocate(file: File, start: u64, end: u64, code: *i64) os.Error!void {
    try posix.checkSizeLimit(end, code);
    if (start == end) return;
    const errno = allocateBlocks(file, 0, start, end);
    switch (errno) {
        // Not every file system can, nor every emulator.
        .SUCCESS, .OPNOTSUPP, .NOSYS, .PERM, .INTR => {},
        else => return refusal(errno, code),
    }
}

// Threads ---------------------------------------------------------------------------------------

pub fn futexWait(word: *const std.atomic.Value(u32), expected: u32, timeout_ns: ?u64) void {
    var time: linux.timespec = undefined;
    if (timeout_ns) |ns| {
        time = .{
            .sec = @intCast(ns / std.time.ns_per_s),
            .nsec = @intCast(ns % std.time.ns_per_s),
        };
    }
    const wait: linux.FUTEX_OP = .{ .cmd = .WAIT, .private = true };
    _ = linux.futex_4arg(word, wait, expected, if (timeout_ns != null) &time else null);
}

pub fn futexWakeAll(word: *const std.atomic.Value(u32)) void {
    wake(word, std.math.maxInt(i32));
}

pub fn futexWakeOne(word: *const std.atomic.Value(u32)) void {
    wake(word, 1);
}

fn wake(word: *const std.atomic.Value(u32), count: u32) void {
    _ = linux.futex_3arg(word, .{ .cmd = .WAKE, .private = true }, count);
}

const Membarrier = enum(u32) {
    query = 0,
    private_expedited = 1 << 3,
    register_private_expedited = 1 << 4,
};

fn membarrier(command: Membarrier) usize {
    return linux.syscall3(.membarrier, @backingInt(command), 0, 0);
}

/// What was granted at the start can be refused later: by a filter of system calls that the process
/// has put itself under since, for good, or for want of memory on kernels that allocate for it.
pub fn processBarrier(threads: []const std.atomic.Value(u64), code: *i64) os.Error!void {
    if (membarrier(.private_expedited) == 0) return;
    const registered = membarrier(.register_private_expedited) == 0;
    if (registered and membarrier(.private_expedited) == 0) return;
    return processors.visit(threads, code);
}

const Registration = enum(u8) { unknown, absent, registered };
var registration: std.atomic.Value(Registration) = .init(.unknown);

fn barrierRegistered() bool {
    if (registration.load(.monotonic) == .unknown) register();
    return registration.load(.monotonic) == .registered;
}

/// Two threads that come here at once find the same.
fn register() callconv(.c) void {
    const known = membarrier(.query);
    const has = linux.errno(known) == .SUCCESS and
        known & @backingInt(Membarrier.private_expedited) != 0 and
        membarrier(.register_private_expedited) == 0;
    registration.store(if (has) .registered else .absent, .monotonic);
}

/// Registered when the library is loaded: it takes microseconds then, and 7 to 16 ms once the
/// process has a second thread.
const register_at_load: *const fn () callconv(.c) void linksection(".init_array") = register;

comptime {
    // Exported so that it is kept, hidden so that it is no symbol of the library's.
    @export(&register_at_load, .{ .name = "memmgr_register_at_load", .visibility = .hidden });
}

const contract = @import("contract.zig");
const TempFile = @import("TempFile.zig");
const testing = std.testing;

test {
    _ = posix;
    _ = processors;
    _ = attributes;
    _ = extents;
}

/// A line of the process's map.
const MapEntry = struct { start: usize, end: usize, inode: u64, access: [4]u8 };

/// The entry that holds an address, if one does.
fn mapEntry(address: usize) !?MapEntry {
    const buffer = try testing.allocator.alloc(u8, 1 << 20);
    defer testing.allocator.free(buffer);
    var lines = std.mem.tokenizeScalar(u8, readFile("/proc/self/maps", buffer), '\n');
    while (lines.next()) |line| {
        var words = std.mem.tokenizeAny(u8, line, " -");
        const start = try std.fmt.parseInt(usize, words.next().?, 16);
        const end = try std.fmt.parseInt(usize, words.next().?, 16);
        if (address < start or address >= end) continue;
        // The access may begin with the separator.
        const access = line[std.mem.indexOfScalar(u8, line, ' ').? + 1 ..][0..4].*;
        var rest = std.mem.tokenizeScalar(u8, line, ' ');
        for (0..4) |_| _ = rest.next();
        const inode = try std.fmt.parseInt(u64, rest.next().?, 10);
        return .{ .start = start, .end = end, .inode = inode, .access = access };
    }
    return null;
}

test "every visible slot is an entry of the map by itself, empty, placed or committed" {
    if (contract.emulated()) return error.SkipZigTest;
    const room: contract.Room = try .init();
    defer room.deinit();
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    var code: i64 = 0;
    const size = room.slots[0].size;

    try expectEntries(room);
    const placed = try contract.place(room.slots[2], file.path, 5, .shared_read);
    const entry = (try mapEntry(@intFromPtr(room.slots[2].base))).?;
    try testing.expectEqual(pageSize(), entry.end - entry.start);
    try testing.expectEqualStrings("r--s", &entry.access);
    const opened = try os.open(file.path, .read, &code);
    defer os.close(opened);
    try testing.expectEqual((try os.identify(opened, &code)).inode, entry.inode);
    // Its neighbours on both sides come and go meanwhile.
    for ([_]usize{ 1, 3 }) |i| try contract.restore(try os.commit(room.slots[i], size, &code));
    try contract.restore(placed);
    try expectEntries(room);
    try contract.restore(try os.commit(room.slots[0], pageSize(), &code));
    try expectEntries(room);
}

fn expectEntries(room: contract.Room) !void {
    for (room.slots) |slot| {
        const entry = (try mapEntry(@intFromPtr(slot.base))).?;
        if (slot.visible) {
            try testing.expectEqual(@intFromPtr(slot.base), entry.start);
            try testing.expectEqual(slot.size, entry.end - entry.start);
        }
        try testing.expectEqualStrings("---p", &entry.access);
        try testing.expectEqual(0, entry.inode);
    }
}

test "a reservation given back leaves no address behind" {
    if (contract.emulated()) return error.SkipZigTest;
    var code: i64 = 0;
    const size = 64 << 20;
    const base = try os.reserve(size, 2 << 20, &code);
    // The page before it is its guard.
    try testing.expectEqualStrings("---p", &(try mapEntry(@intFromPtr(base) - 1)).?.access);
    os.unreserve(base, size);
    const start = @intFromPtr(base);
    for ([_]usize{ start - 1, start, start + size - 1 }) |address| {
        try testing.expectEqual(null, try mapEntry(address));
    }
}

test "the four kinds of memory are told apart to the page" {
    if (contract.emulated()) return error.SkipZigTest;
    const room: contract.Room = try .init();
    defer room.deinit();
    var code: i64 = 0;
    const page = pageSize();
    const bytes = try contract.pattern(3 * page);
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    const slot = room.slots[0];
    for (std.enums.values(os.Sharing)) |sharing| {
        const placement = try contract.place(slot, file.path, bytes.len, sharing);
        try testing.expectEqual(os.Use{}, try os.memoryUse(slot.base, slot.size, &code));
        try os.populate(placement, false, &code);
        try expectUse(slot, 3 * page, 0);
        if (placement.writable()) slot.base[page] +%= 1;
        try expectUse(slot, 3 * page, if (sharing == .private_write) page else 0);
        if (sharing != .private_write) {
            os.evict(placement);
            try expectUse(slot, 0, 0);
        }
        try contract.restore(placement);
    }
    const placement = try os.commit(slot, 2 * page, &code);
    try expectUse(slot, 0, 0);
    try os.populate(placement, true, &code);
    try expectUse(slot, 2 * page, 2 * page);
    // A range may begin and end anywhere.
    try testing.expectEqual(page, (try os.memoryUse(slot.base + page, page, &code)).resident);
    try contract.restore(placement);
}

fn expectUse(slot: os.Slot, resident: u64, private_dirty: u64) !void {
    var code: i64 = 0;
    const expected: os.Use = .{ .resident = resident, .private_dirty = private_dirty };
    try testing.expectEqual(expected, try os.memoryUse(slot.base, slot.size, &code));
}

test "populating what the file no longer has is an error and no signal" {
    if (contract.emulated()) return error.SkipZigTest;
    const room: contract.Room = try .init();
    defer room.deinit();
    const file: TempFile = try .createSparse(3 * pageSize());
    defer file.deinit();
    for ([_]bool{ false, true }) |for_write| {
        try file.resize(3 * pageSize());
        const placement =
            try contract.place(room.slots[0], file.path, 3 * pageSize(), .shared_write);
        try file.resize(1);
        var code: i64 = 0;
        try testing.expectError(error.System, os.populate(placement, for_write, &code));
        try testing.expectEqual(@backingInt(linux.E.FAULT), code);
        try contract.restore(placement);
    }
}

test "pages are brought in by the kernel where it does not take advice to, and change no byte" {
    if (contract.emulated()) return error.SkipZigTest;
    const room: contract.Room = try .init();
    defer room.deinit();
    const page = pageSize();
    const bytes = try contract.pattern(3 * page);
    defer testing.allocator.free(bytes);
    for (std.enums.values(os.Sharing)) |sharing| for ([_]bool{ false, true }) |for_write| {
        if (for_write and sharing == .shared_read) continue;
        const file: TempFile = try .create(bytes);
        defer file.deinit();
        const placement = try contract.place(room.slots[0], file.path, bytes.len, sharing);
        var code: i64 = 0;
        try bringIn(placement, for_write, &code);
        const private: u64 = if (for_write and sharing == .private_write) 3 * page else 0;
        try expectUse(room.slots[0], 3 * page, private);
        try testing.expectEqualSlices(u8, bytes, room.slots[0].base[0..bytes.len]);
        // What the file no longer has is an error and no signal.
        os.evict(placement);
        try file.resize(1);
        if (private > 0) {
            try contract.restore(placement);
            continue;
        }
        try testing.expectError(error.System, bringIn(placement, for_write, &code));
        try testing.expectEqual(@backingInt(linux.E.FAULT), code);
        try contract.restore(placement);
    };
}

test "a file is known as the same by the call that old kernels have" {
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    var code: i64 = 0;
    const opened = try open(file.path, .read, &code);
    defer close(opened);
    const new = try statusOf(opened, &code);
    const old = try oldStatusAt(opened, "", linux.AT.EMPTY_PATH, &code);
    try testing.expectEqual(identityOf(new), identityOf(old));
    for ([_][2]u64{
        .{ new.mode, old.mode }, .{ new.uid, old.uid },
        .{ new.gid, old.gid },   .{ new.blocks, old.blocks },
    }) |both| try testing.expectEqual(both[0], both[1]);
    const zero_device = try oldStatusAt(linux.AT.FDCWD, "/dev/zero", 0, &code);
    try testing.expect(!identityOf(zero_device).regular);
    try testing.expectError(error.System, oldStatusAt(linux.AT.FDCWD, "/nowhere", 0, &code));
    try testing.expectEqual(@backingInt(linux.E.NOENT), code);
}

test "the limit of a control group is found in a list of any length" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const folder = file.folder.dir;
    try folder.createDirPath(testing.io, "one/box");
    const limit = "one/box/memory.limit_in_bytes";
    try folder.writeFile(testing.io, .{ .sub_path = limit, .data = "5000\n" });
    var root: [std.fs.max_path_bytes]u8 = undefined;
    var one: Groups = .one;
    one.root = try std.mem.print(&root, "{s}/one", .{std.fs.path.dirname(file.path).?});
    var list: std.ArrayList(u8) = .empty;
    defer list.deinit(testing.allocator);
    for (0..100) |_| try list.appendSlice(testing.allocator, "3:cpuset:/abcdefghij" ++
        "/kubelet/kubepods/besteffort/pod/container/docker/again/and/again\n");
    try list.appendSlice(testing.allocator, "4:memory:/box\n5:pids:/");
    try testing.expect(list.items.len > 2 * 4096);
    try folder.writeFile(testing.io, .{ .sub_path = "list", .data = list.items });
    var path: [std.fs.max_path_bytes]u8 = undefined;
    const list_path = try std.mem.print(&path, "{s}/list\x00", .{std.fs.path.dirname(file.path).?});
    const found = groupLimitIn(list_path[0 .. list_path.len - 1 :0], one, .two, 0).?;
    try testing.expectEqual(5000, found.value);
}

test "the barrier is registered before anybody asks" {
    try testing.expect(registration.load(.monotonic) != .unknown);
}

test "files of the kernel are read by line and by word" {
    const text = "MemFree: 7 kB\nMemAvailable:   12345 kB\ninactive_file 99\nmax\n";
    try testing.expectEqual(12345, field(text, "MemAvailable:").?);
    try testing.expectEqual(99, field(text, "inactive_file ").?);
    try testing.expectEqual(null, field(text, "active_file "));
    try testing.expectEqual(null, number("max\n"));
    try testing.expectEqual(1 << 40, number("1099511627776\n").?);
    try testing.expectEqual(null, number("-1\n"));
    try testing.expectEqual(null, number(""));
    try testing.expect(hasWord("cpu,memory", "memory") and !hasWord("cpuset,memory2", "memory"));
}

test "what a control group has left is the least of its ancestors'" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const folder = file.folder.dir;
    const io = testing.io;
    const Level = struct { path: []const u8, max: []const u8, used: []const u8, stat: []const u8 };
    for ([_]Level{
        .{ .path = "", .max = "max\n", .used = "5000\n", .stat = "" },
        .{ .path = "a/", .max = "1000\n", .used = "900\n", .stat = "file 7\ninactive_file 300\n" },
        .{ .path = "a/b/", .max = "5000\n", .used = "4900\n", .stat = "inactive_file 600\n" },
        .{ .path = "a/over/", .max = "10\n", .used = "20\n", .stat = "" },
    }) |level| {
        if (level.path.len > 0) try folder.createDirPath(io, level.path);
        for (
            [_][]const u8{ "memory.max", "memory.current", "memory.stat" },
            [_][]const u8{ level.max, level.used, level.stat },
        ) |name, data| {
            var path: [100]u8 = undefined;
            const sub_path = try std.mem.print(&path, "{s}{s}", .{ level.path, name });
            try folder.writeFile(io, .{ .sub_path = sub_path, .data = data });
        }
    }
    var groups: Groups = .two;
    groups.root = std.fs.path.dirname(file.path).?;
    try testing.expectEqual(null, groups.tightest("/", null));
    for ([_]struct { []const u8, u64 }{
        .{ "/a", 400 },
        .{ "/a/b", 400 },
        .{ "/a/gone/below", 400 },
        .{ "/a/over", 0 },
    }) |expected| {
        try testing.expectEqual(expected[1], groups.tightest(expected[0], null).?.left());
    }
    // What the others use of it is not asked if only this process is meant.
    const own: os.Limit = .{ .kind = .control_group, .value = 1000, .used = 30 };
    try testing.expectEqual(own, groups.tightest("/a/b", 30));
}

test "R5.2 the tightest control group is found in both versions, and one without a limit is none" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const folder = file.folder.dir;
    for ([_][2][]const u8{
        .{ "one/memory.limit_in_bytes", "9223372036854771712\n" },
        .{ "one/box/memory.limit_in_bytes", "5000\n" },
        .{ "two/memory.max", "max\n" },
        .{ "two/box/memory.max", "4000\n" },
        .{ "two/box/inner/memory.max", "max\n" },
    }) |sample| {
        try folder.createDirPath(testing.io, std.fs.path.dirname(sample[0]).?);
        try folder.writeFile(testing.io, .{ .sub_path = sample[0], .data = sample[1] });
    }
    var roots: [2][std.fs.max_path_bytes]u8 = undefined;
    const parent = std.fs.path.dirname(file.path).?;
    var one: Groups = .one;
    one.root = try std.mem.print(&roots[0], "{s}/one", .{parent});
    var two: Groups = .two;
    two.root = try std.mem.print(&roots[1], "{s}/two", .{parent});
    for ([_]struct { []const u8, ?u64 }{
        .{ "", null },
        .{ "0::/\n", null },
        .{ "0::/box/inner\n", 4000 },
        .{ "9:name=systemd:/\n4:cpu,memory:/box\n", 5000 },
        .{ "4:memory:/host/path/that/is/not/here\n", null },
        .{ "5:cpuset:/box\n", null },
        .{ "4:memory:/box\n0::/box\n", 4000 },
        .{ "no colon\n4:memory:/box", 5000 },
    }) |sample| {
        const found = groupLimitOf(sample[0], one, two, 0);
        try testing.expectEqual(sample[1], if (found) |limit| limit.value else null);
    }
}

test "R5.2 the limit of memory is one that there is, and this process is within it" {
    if (contract.emulated()) return error.SkipZigTest;
    const limit = memoryLimit(0).?;
    try testing.expect(limit.kind.countsBytes() and limit.left() > 0 and limit.used > 0);
    try testing.expect(limit.value <= memoryAvailable().?.value or limit.kind != .memory);
}

test "R7.2 a mapping that the system refuses leaves the slot as it was" {
    if (contract.emulated()) return error.SkipZigTest;
    const room: contract.Room = try .init();
    defer room.deinit();
    const file: TempFile = try .createSparse(pageSize());
    defer file.deinit();
    var code: i64 = 0;
    var before: linux.rlimit = undefined;
    _ = linux.getrlimit(.DATA, &before);
    const read_only = try open(file.path, .read, &code);
    defer close(read_only);
    for (room.slots) |slot| {
        _ = linux.setrlimit(.DATA, &.{ .cur = pageSize(), .max = before.max });
        defer _ = linux.setrlimit(.DATA, &before);
        const page = pageSize();
        try testing.expectError(error.System, place(slot, read_only, page, .private_write, &code));
        try testing.expectError(error.System, place(slot, read_only, page, .shared_write, &code));
        try testing.expectError(error.System, commit(slot, page, &code));
    }
    try expectEntries(room);
}

test "R7.1 what is needed is compared with the limit that it would pass" {
    if (contract.emulated()) return error.SkipZigTest;
    try testing.expectEqual(null, shortOf(.{ .addresses = 1, .private = 1, .entries = 1 }));
    const entries = shortOf(.{ .entries = 1 << 40 }).?;
    try testing.expectEqual(.map_entries, entries.kind);
    try testing.expect(entries.used > 10 and entries.used < entries.value);
    if (builtin.cpu.arch == .x86_64) {
        try testing.expectEqual(.addressable, shortOf(.{ .addresses = 1 << 47 }).?.kind);
    }
}

test "R7.1, R9.3 the limit behind a code is told, with its value where it can be asked" {
    const files = exhausted(@backingInt(linux.E.MFILE), 0, "").?;
    try testing.expectEqual(.descriptors, files.kind);
    try testing.expect(files.value > 0 and files.left() == 0);
    try testing.expectEqual(.system_files, exhausted(@backingInt(linux.E.NFILE), 0, "").?.kind);
    const disk = exhausted(@backingInt(linux.E.NOSPC), 0, "/proc/self").?;
    try testing.expectEqual(.disk, disk.kind);
    const file: TempFile = try .create("x");
    defer file.deinit();
    try testing.expect(exhausted(@backingInt(linux.E.NOSPC), 0, file.path).?.value > 0);
    const quota = exhausted(@backingInt(linux.E.DQUOT), 0, file.path).?;
    try testing.expectEqual(.quota, quota.kind);
    try testing.expectEqual(0, quota.value);
    try testing.expectEqual(null, exhausted(@backingInt(linux.E.NOENT), 0, file.path));
}

test "R7.1, R9.3 how much may be promised is told in the way the system reckons" {
    const meminfo =
        \\MemTotal:        1000 kB
        \\SwapTotal:         24 kB
        \\CommitLimit:      512 kB
        \\Committed_AS:     500 kB
        \\
    ;
    const strict = commitLimitOf(2, meminfo).?;
    try testing.expectEqual(.commit, strict.kind);
    try testing.expectEqual(12 << 10, strict.left());
    const guessed = commitLimitOf(0, meminfo).?;
    try testing.expectEqual(.memory, guessed.kind);
    try testing.expectEqual(1024 << 10, guessed.left());
    try testing.expectEqual(null, commitLimitOf(1, meminfo));
    try testing.expectEqual(null, commitLimitOf(2, ""));
}

test "R7.2 a file with more holes than the disk has room for is refused and left as it is" {
    if (contract.emulated()) return error.SkipZigTest;
    var code: i64 = 0;
    const probe: TempFile = try .create("x");
    defer probe.deinit();
    const disk = exhausted(@backingInt(linux.E.NOSPC), 0, probe.path).?;
    const size = std.mem.alignForward(u64, disk.left() + (64 << 20), pageSize());
    // A file system may not have files of this size, even if they have no blocks.
    const file = TempFile.createSparse(size) catch return error.SkipZigTest;
    defer file.deinit();
    const opened = try open(file.path, .read_write, &code);
    defer close(opened);
    for ([_]u64{ size, pageSize() }) |wanted| {
        const gaps = try os.findGaps(opened, wanted, &code);
        defer os.heap.free(gaps);
        if (wanted == pageSize()) {
            try os.canFill(opened, wanted, gaps, &code);
            continue;
        }
        try testing.expectError(error.System, os.canFill(opened, wanted, gaps, &code));
        try testing.expectEqual(@backingInt(linux.E.NOSPC), code);
    }
    try testing.expectEqual(0, (try statusOf(opened, &code)).blocks);
}

test "device numbers are those that stat shows" {
    try testing.expectEqual(0xfd01, device(0xfd, 1));
    try testing.expectEqual(0x0001_2000_6783_459a, device(0x12345, 0x6789a));
}
