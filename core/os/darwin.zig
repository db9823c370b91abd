//! The OS layer on macOS, 11 and later.
//!
//! Only public libSystem functions are used, except for `__ulock_wait2` and `__ulock_wake` before
//! macOS 14.4, which has os_sync_wait_on_address in their place.

const std = @import("std");
const darwin = std.c;
const os = @import("../os.zig");
const posix = @import("posix.zig");
const signals = @import("signals.zig");

const c = struct {
    extern "c" fn fcntl(fd: c_int, command: c_int, ...) c_int;
    extern "c" fn mincore(address: [*]const u8, size: usize, vector: [*]Mincore) c_int;
    extern "c" fn clock_gettime_nsec_np(clock: darwin.clockid_t) u64;
    extern "c" fn pthread_threadid_np(thread: ?*anyopaque, id: *u64) c_int;
    extern "c" fn host_statistics64(
        host: darwin.mach_port_t,
        flavor: c_int,
        info: *VmStatistics64,
        count: *darwin.mach_msg_type_number_t,
    ) darwin.kern_return_t;
    extern "c" fn faccessat(folder: c_int, path: [*:0]const u8, mode: c_int, flags: c_int) c_int;
    extern "c" fn copyfile(
        from: [*:0]const u8,
        to: [*:0]const u8,
        state: ?*anyopaque,
        flags: u32,
    ) c_int;
    extern "c" fn acl_get_link_np(path: [*:0]const u8, kind: c_int) ?*anyopaque;
    extern "c" fn acl_init(count: c_int) ?*anyopaque;
    extern "c" fn acl_set_fd_np(fd: c_int, list: *anyopaque, kind: c_int) c_int;
    extern "c" fn acl_free(list: *anyopaque) c_int;
    extern "c" fn dlsym(handle: ?*anyopaque, name: [*:0]const u8) usize;
    extern "c" var vm_kernel_page_size: usize;
};

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
        .process_barrier = false,
        .atomic_placement = true,
        .codes_are_errno = true,
        .fault_guard = true,
        .huge_pages = false,
    };
}

pub fn nowNs() u64 {
    return c.clock_gettime_nsec_np(.UPTIME_RAW);
}

pub fn threadId() u64 {
    var id: u64 = 0;
    _ = c.pthread_threadid_np(null, &id);
    return id;
}

/// vm_statistics64 of <mach/vm_statistics.h>, up to what every supported version fills.
const VmStatistics64 = extern struct {
    free_count: u32,
    active_count: u32,
    inactive_count: u32,
    wire_count: u32,
    counters: [9]u64,
    purgeable_count: u32,
    speculative_count: u32,
    more_counters: [4]u64,
    compressor_page_count: u32,
    throttled_count: u32,
    external_page_count: u32,
    internal_page_count: u32,
    total_uncompressed_pages_in_compressor: u64,
};

pub fn memoryAvailable() ?os.Limit {
    const host_vm_info64 = 4;
    var statistics: VmStatistics64 = undefined;
    var count: darwin.mach_msg_type_number_t = @sizeOf(VmStatistics64) / @sizeOf(u32);
    // Each call of it takes a reference to the port, which is to be given back.
    const host = darwin.mach_host_self();
    defer _ = darwin.mach_port_deallocate(darwin.mach_task_self(), host);
    if (c.host_statistics64(host, host_vm_info64, &statistics, &count) != 0) return null;
    const pages = @as(u64, statistics.free_count) + statistics.inactive_count +
        statistics.purgeable_count;
    const available = pages * c.vm_kernel_page_size;
    const total = memorySize() orelse available;
    return .{ .kind = .memory, .value = total, .used = total -| available };
}

/// Pages that a process uses are not among those that count as available.
pub const memoryToSpare = memoryAvailable;

fn memorySize() ?u64 {
    var size: u64 = 0;
    var length: usize = @sizeOf(u64);
    return if (darwin.sysctlbyname("hw.memsize", &size, &length, null, 0) == 0) size else null;
}

/// The limits of a process are kept in name only.
pub fn memoryLimit(_: u64) ?os.Limit {
    return .{ .kind = .memory, .value = memorySize() orelse return null };
}

/// The system does not say how near it is to refusing, nor how much is locked.
pub fn shortOf(need: os.Need) ?os.Limit {
    const limit = posix.resourceLimit(.locked_memory, .MEMLOCK, 0) orelse return null;
    return if (need.locked > limit.left()) limit else null;
}

pub fn exhausted(code: i64, _: u64, path: []const u8) ?os.Limit {
    return posix.exhausted(code, path);
}

// Address space ---------------------------------------------------------------------------------

/// Anonymous memory carries a tag in place of a descriptor, in its highest byte; neighbours with
/// different tags stay apart in the map. 240 and 241 are the first two left to applications.
const visible_tag: c_int = @bitCast(@as(u32, 240 << 24));
const invisible_tag: c_int = @bitCast(@as(u32, 241 << 24));

fn tagOf(slot: os.Slot) c_int {
    return if (slot.visible) visible_tag else invisible_tag;
}

pub fn reserve(size: usize, alignment: usize, code: *i64) os.Error![*]u8 {
    return posix.reserve(size, alignment, invisible_tag, code);
}

pub fn reserveArena(size: usize, code: *i64) os.Error![*]u8 {
    return posix.reserve(size, os.arena_unit, invisible_tag, code);
}

pub fn give(base: [*]u8, size: usize, code: *i64) os.Error!void {
    return posix.give(base, size, invisible_tag, code);
}

pub fn carve(slot: os.Slot, code: *i64) os.Error!void {
    return posix.clear(slot, tagOf(slot), code);
}

/// `msync` does not make the device write, which takes a descriptor: a second one is kept.
pub fn place(
    slot: os.Slot,
    file: File,
    size: usize,
    sharing: os.Sharing,
    code: *i64,
) os.Error!os.Placement {
    const flush_file: ?File = if (sharing == .shared_write) try duplicate(file, code) else null;
    errdefer if (flush_file) |second| close(second);
    errdefer mend(slot);
    var placement = try posix.place(slot, file, size, sharing, code);
    placement.flush_file = flush_file;
    return placement;
}

pub fn commit(slot: os.Slot, size: usize, code: *i64) os.Error!os.Placement {
    errdefer mend(slot);
    return posix.commit(slot, size, code);
}

/// A mapping that is refused may have taken away by then what it was to replace.
fn mend(slot: os.Slot) void {
    var ignored: i64 = 0;
    carve(slot, &ignored) catch {};
}

fn duplicate(file: File, code: *i64) os.Error!File {
    const second = c.fcntl(file, darwin.F.DUPFD_CLOEXEC, @as(c_int, 0));
    return if (second < 0) posix.refused(code) else second;
}

pub fn restore(placement: os.Placement, code: *i64) os.Error!void {
    try posix.clear(placement.slot, tagOf(placement.slot), code);
    if (placement.flush_file) |file| close(file);
}

// Pages -----------------------------------------------------------------------------------------

/// Files stand on pages of one size only.
pub fn preferHugePages(_: os.Placement) void {}

pub fn readFirstHugePage(_: File, _: u64) void {}

pub fn populate(placement: os.Placement, for_write: bool, code: *i64) os.Error!void {
    try posix.advise(placement.slot.base, placement.mapped_size, darwin.MADV.WILLNEED, code);
    posix.touch(placement, for_write and placement.writable());
}

pub const readAhead = posix.readAhead;

pub fn flush(placement: os.Placement, code: *i64) os.Error!void {
    const file = placement.flush_file orelse return;
    try posix.sync(placement, code);
    try syncFile(file, code);
}

/// On macOS this only moves pages to where the system takes them first: no byte can be lost.
pub fn evict(placement: os.Placement) void {
    var ignored: i64 = 0;
    const advice = darwin.MADV.DONTNEED;
    posix.advise(placement.slot.base, placement.mapped_size, advice, &ignored) catch {};
}

/// A byte of mincore's answer. `anonymous`: no file stands behind the page.
const Mincore = packed struct(u8) {
    present: bool,
    referenced: bool,
    modified: bool,
    referenced_by_other: bool,
    modified_by_other: bool,
    paged_out: bool,
    copied: bool,
    anonymous: bool,
};

pub fn memoryUse(base: [*]const u8, size: usize, code: *i64) os.Error!os.Use {
    const page_size = pageSize();
    var pages: [4096]Mincore = undefined;
    var use: os.Use = .{};
    var offset: usize = 0;
    while (offset < size) {
        const span = @min(size - offset, pages.len * page_size);
        if (c.mincore(base + offset, span, &pages) != 0) return posix.refused(code);
        for (pages[0 .. std.math.divCeil(usize, span, page_size) catch unreachable]) |page| {
            if (!page.present) continue;
            use.resident += page_size;
            if (page.anonymous and page.modified) use.private_dirty += page_size;
        }
        offset += span;
    }
    return use;
}

/// What is asked about a file's pages is whether the system has them, whoever uses them.
pub fn cached(placement: os.Placement, _: [:0]const u8, code: *i64) os.Error!u64 {
    return (try memoryUse(placement.slot.base, placement.mapped_size, code)).resident;
}

// Faults ----------------------------------------------------------------------------------------

/// libSystem's `mmap` is the system call and nothing else.
pub fn zero(pages: []u8, offset: usize, writable: bool, code: *i64) os.Error!void {
    const from = std.mem.alignBackward(usize, offset, pageSize());
    const prot = posix.protection(writable);
    _ = try posix.map(pages.ptr + from, pages.len - from, prot, posix.replacing, posix.no_tag, code);
}

pub const catchFaults = signals.Signals(.{ .faultOf = faultOf, .wasSent = wasSent, .comesAgain = comesAgain }).catchFaults;

/// What a signal says of a page; null if it was sent. A store to a page that may only be read is
/// the same SIGBUS as a page that cannot be read.
fn faultOf(signal: signals.Signal, info: *const signals.Info) ?os.Fault {
    const not_mapped = 1; // SEGV_MAPERR
    if (wasSent(info)) return null;
    const errno: darwin.E = switch (signal) {
        .BUS => .IO,
        .SEGV => if (info.code == not_mapped) .FAULT else return null,
        else => return null,
    };
    return .{ .address = @intFromPtr(info.addr), .code = @backingInt(errno) };
}

fn comesAgain(_: signals.Signal, info: *const signals.Info) bool {
    return !wasSent(info);
}

fn wasSent(info: *const signals.Info) bool {
    const user = 0x10001; // SI_USER, the first of those that are sent
    return info.code <= 0 or info.code >= user;
}

// Files -----------------------------------------------------------------------------------------

pub fn identify(file: File, code: *i64) os.Error!os.Identity {
    var status: darwin.Stat = undefined;
    if (darwin.fstat(file, &status) != 0) return posix.refused(code);
    return identityOf(status);
}

fn identityOf(status: darwin.Stat) os.Identity {
    const mtime = status.mtime();
    return .{
        .device = @as(u32, @bitCast(status.dev)),
        .inode = status.ino,
        .size = @intCast(status.size),
        .mtime_ns = mtime.sec *| std.time.ns_per_s +| mtime.nsec,
        .regular = darwin.S.ISREG(status.mode),
        .directory = darwin.S.ISDIR(status.mode),
        .link = darwin.S.ISLNK(status.mode),
        .links = status.nlink,
    };
}

pub fn findGaps(file: File, size: u64, code: *i64) os.Error![]os.Gap {
    const missing = try missingBytes(file, size, code);
    return collectGaps(file, size, missing) catch {
        code.* = @backingInt(darwin.E.NOMEM);
        return error.System;
    };
}

fn collectGaps(file: File, size: u64, missing: u64) error{OutOfMemory}![]os.Gap {
    var list: std.ArrayList(os.Gap) = .empty;
    errdefer list.deinit(heap);
    try posix.findHoles(file, size, missing, &list);
    return list.toOwnedSlice(heap);
}

pub fn canFill(file: File, size: u64, gaps: []const os.Gap, code: *i64) os.Error!void {
    const missing = try missingBytes(file, size, code);
    return posix.checkRoom(file, posix.needOf(missing, gaps, false), code);
}

/// F_PREALLOCATE only gives blocks behind a file's end, so holes are written.
pub const fill = posix.fillByWriting;

pub fn unfill(file: File, gap: os.Gap) void {
    posix.emptyHole(file, gap, punchHole);
}

fn punchHole(file: File, start: u64, end: u64) void {
    const Hole = extern struct { flags: u32 = 0, reserved: u32 = 0, offset: i64, length: i64 };
    const punch = 99; // F_PUNCHHOLE
    const hole: Hole = .{ .offset = @intCast(start), .length = @intCast(end - start) };
    _ = c.fcntl(file, punch, &hole);
}

fn missingBytes(file: File, size: u64, code: *i64) os.Error!u64 {
    var status: darwin.Stat = undefined;
    if (darwin.fstat(file, &status) != 0) return posix.refused(code);
    const block_size = 512;
    return size -| @as(u64, @intCast(status.blocks)) *| block_size;
}

fn statusAt(path: [*:0]const u8, link: os.Link, code: *i64) os.Error!darwin.Stat {
    var status: darwin.Stat = undefined;
    const flags: u32 = switch (link) {
        .itself => darwin.AT.SYMLINK_NOFOLLOW,
        .followed => 0,
    };
    if (darwin.fstatat(darwin.AT.FDCWD, path, &status, flags) != 0) return posix.refused(code);
    return status;
}

pub fn identifyPath(path: [*:0]const u8, link: os.Link, code: *i64) os.Error!os.Identity {
    return identityOf(try statusAt(path, link, code));
}

pub fn checkWritable(path: [*:0]const u8, code: *i64) os.Error!void {
    var buffer: [std.c.PATH_MAX]u8 = undefined;
    const folder = try posix.folderOf(std.mem.span(path), &buffer, code);
    const file_status = try statusAt(path, .itself, code);
    const folder_status = try statusAt(folder, .followed, code);
    try posix.checkProtection(
        .{ .mode = file_status.mode, .owner = file_status.uid },
        .{ .mode = folder_status.mode, .owner = folder_status.uid },
        code,
    );
    const write_ok = 2;
    const effective = 0x10; // AT_EACCESS
    if (c.faccessat(darwin.AT.FDCWD, path, write_ok, effective) != 0) return posix.refused(code);
}

pub fn create(path: [*:0]const u8, like: ?[*:0]const u8, code: *i64) os.Error!File {
    const other = like orelse return posix.create(path, posix.mode_usual, code);
    const status = try statusAt(other, .itself, code);
    const file = try posix.create(path, posix.mode_private, code);
    errdefer {
        close(file);
        remove(path);
    }
    const notes_alone = 1 << 2 | 1 << 18 | 1 << 19; // COPYFILE_XATTR, COPYFILE_NOFOLLOW_…
    _ = c.copyfile(other, path, null, notes_alone);
    const has_group = posix.giveTo(file, status.uid, status.gid);
    const mode = status.mode & 0o777;
    const usual = if (has_group) mode else posix.modeOfOthers(mode);
    // An access control list may withhold what the mode gives.
    try posix.setMode(file, if (copyAccess(other, file)) usual else mode & 0o700, code);
    return file;
}

/// Gives a new file the access control list of another one, or none in place of what its folder
/// gave it. False: it could not be.
fn copyAccess(from: [*:0]const u8, to: File) bool {
    const extended = 0x100; // ACL_TYPE_EXTENDED
    const list = c.acl_get_link_np(from, extended) orelse empty: {
        const errno = std.c._errno().*;
        if (isOfOtherSystem(errno)) return true;
        if (errno != @backingInt(darwin.E.NOENT)) return false;
        break :empty c.acl_init(0) orelse return false;
    };
    defer _ = c.acl_free(list);
    return c.acl_set_fd_np(to, list, extended) == 0 or isOfOtherSystem(std.c._errno().*);
}

pub fn syncFolder(path: [:0]const u8, code: *i64) os.Error!void {
    return posix.syncFolder(path, syncFile, code);
}

/// fstore_t of <sys/fcntl.h>.
const Preallocation = extern struct {
    flags: c_uint = allocate_all,
    mode: c_int = from_end_of_file,
    offset: i64 = 0,
    length: i64,
    allocated: i64 = 0,

    const allocate_all = 4;
    const from_end_of_file = 3;
};

pub fn allocate(file: File, start: u64, end: u64, code: *i64) os.Error!void {
    try posix.checkSizeLimit(end, code);
    var request: Preallocation = .{ .length = @intCast(end - start) };
    while (c.fcntl(file, darwin.F.PREALLOCATE, &request) == -1) {
        if (posix.interrupted()) continue;
        const err = posix.refused(code);
        if (posix.isSpaceCode(code.*)) return err;
        // A file system that cannot.
        code.* = 0;
        return;
    }
}

/// `fsync` alone leaves the bytes in the device's own cache, and lets it write them in any order.
pub fn syncFile(file: File, code: *i64) os.Error!void {
    while (c.fcntl(file, darwin.F.FULLFSYNC) == -1) {
        if (posix.interrupted()) continue;
        const err = posix.refused(code);
        // Network file systems do not have it, and do in `fsync` what they can.
        if (!isOfOtherSystem(code.*)) return err;
        code.* = 0;
        return posix.syncFile(file, code);
    }
}

/// A file system that does not have what was asked for says so in one of these ways.
fn isOfOtherSystem(code: i64) bool {
    return switch (code) {
        @backingInt(darwin.E.OPNOTSUPP), // ENOTSUP as well
        102, // EOPNOTSUPP of its own
        @backingInt(darwin.E.NOTTY),
        @backingInt(darwin.E.INVAL),
        => true,
        else => false,
    };
}

// Threads ---------------------------------------------------------------------------------------

/// <os/os_sync_wait_on_address.h>. The size is that of the word; flags of 0: of this process alone.
const sync = struct {
    const Wait = fn (*const anyopaque, u64, usize, u32) callconv(.c) c_int;
    const WaitTimed = fn (*const anyopaque, u64, usize, u32, u32, u64) callconv(.c) c_int;
    const Wake = fn (*const anyopaque, usize, u32) callconv(.c) c_int;

    /// OS_CLOCK_MACH_ABSOLUTE_TIME; the timeout is in nanoseconds nonetheless.
    const clock = 32;

    /// A function of this system's, looked up once; null before macOS 14.4.
    fn find(comptime F: type, comptime name: [:0]const u8) ?*const F {
        const unasked = std.math.maxInt(usize);
        const cell = struct {
            const key = name;
            var address: std.atomic.Value(usize) = .init(unasked);
        };
        var address = cell.address.load(.monotonic);
        if (address == unasked) {
            const default: ?*anyopaque = @ptrFromInt(@as(usize, @bitCast(@as(isize, -2))));
            address = c.dlsym(default, cell.key);
            cell.address.store(address, .monotonic);
        }
        return @ptrFromInt(address);
    }
};

pub fn futexWait(word: *const std.atomic.Value(u32), expected: u32, timeout_ns: ?u64) void {
    const errno = std.c._errno().*;
    defer std.c._errno().* = errno;
    // 0 means for ever to the one, and nothing to the other.
    const timeout = if (timeout_ns) |ns| @max(ns, 1) else 0;
    const size = @sizeOf(u32);
    if (timeout_ns == null) {
        if (sync.find(sync.Wait, "os_sync_wait_on_address")) |wait| {
            _ = wait(word, expected, size, 0);
            return;
        }
    } else if (sync.find(sync.WaitTimed, "os_sync_wait_on_address_with_timeout")) |wait| {
        _ = wait(word, expected, size, 0, sync.clock, timeout);
        return;
    }
    const operation: darwin.UL = .{ .op = .COMPARE_AND_WAIT, .NO_ERRNO = true };
    _ = darwin.__ulock_wait2(operation, word, expected, timeout, 0);
}

pub fn futexWakeAll(word: *const std.atomic.Value(u32)) void {
    wake(word, "os_sync_wake_by_address_all", true);
}

pub fn futexWakeOne(word: *const std.atomic.Value(u32)) void {
    wake(word, "os_sync_wake_by_address_any", false);
}

fn wake(word: *const std.atomic.Value(u32), comptime name: [:0]const u8, all: bool) void {
    const errno = std.c._errno().*;
    defer std.c._errno().* = errno;
    if (sync.find(sync.Wake, name)) |wakeUp| {
        // That nobody waits is a failure too.
        while (wakeUp(word, @sizeOf(u32), 0) < 0 and posix.interrupted()) {}
        return;
    }
    const operation: darwin.UL = .{ .op = .COMPARE_AND_WAIT, .WAKE_ALL = all, .NO_ERRNO = true };
    while (darwin.__ulock_wake(operation, word, 0) == -@as(c_int, @backingInt(darwin.E.INTR))) {}
}

/// Not called: no capability says that there is one.
pub fn processBarrier(_: []const std.atomic.Value(u64), _: *i64) os.Error!void {
    unreachable;
}
