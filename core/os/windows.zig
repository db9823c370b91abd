//! Windows, without libc: every function is of kernel32, or looked up in kernelbase and ntdll when
//! the process first needs one, so that a static library links with nothing more.
//!
//! A slot is made of placeholders (Windows 10 1803 and later): addresses that a view or memory
//! takes over in one step, and that are reserved again in the step that removes it. A placeholder
//! must be exactly as large as what replaces it, so a slot is split at the file's last page first.
//! Older systems, and Wine before 9, have none. There a slot is a plain reservation, given up just
//! before a view is mapped at its address; another thread may take that address in between, and
//! `Reservations` says how this is survived.

const std = @import("std");
const os = @import("../os.zig");
const win = @import("windows/kernel32.zig");

const Error = os.Error;
const Placement = os.Placement;

pub const File = *anyopaque;

pub const code_is_directory: i64 = win.error_directory_not_supported;
pub const code_not_mappable: i64 = win.error_bad_file_type;
pub const code_short_read: i64 = win.error_handle_eof;
pub const code_is_link: i64 = win.error_stopped_on_symlink;

/// The failure of the call just made: its code, and the error to return.
fn refused(code: *i64) Error {
    code.* = win.GetLastError();
    return error.System;
}

fn fail(code: *i64, why: u32) Error {
    code.* = why;
    return error.System;
}

// Machine ---------------------------------------------------------------------------------------

/// What does not change while the process runs; found out once.
const Machine = struct {
    page_size: usize,
    granularity: usize,
    ticks_per_second: u64,
    /// Wine's FlushProcessWriteBuffers returns without doing anything.
    wine: bool,
    placeholders: ?Placeholders,
    addresses: ?Addresses,
    prefetch: ?*const win.PrefetchVirtualMemory,
    code_of_status: ?*const win.RtlNtStatusToDosError,
    /// Where each thread keeps its exit hook's argument; null if the process has no room left.
    exit_index: ?u32,

    var once: ?*anyopaque = null;
    var found: Machine = undefined;

    fn get() *const Machine {
        _ = win.InitOnceExecuteOnce(&once, find, null, null);
        return &found;
    }

    fn find(_: *?*anyopaque, _: ?*anyopaque, _: ?*?*anyopaque) callconv(.winapi) win.Bool {
        var info: win.SystemInfo = undefined;
        win.GetSystemInfo(&info);
        var ticks_per_second: i64 = undefined;
        _ = win.QueryPerformanceFrequency(&ticks_per_second);
        const wine_get_version = lookUp("ntdll.dll", fn () callconv(.c) void, "wine_get_version");
        found = .{
            .page_size = info.page_size,
            .granularity = info.allocation_granularity,
            .ticks_per_second = @intCast(ticks_per_second),
            .wine = wine_get_version != null,
            .placeholders = Placeholders.find(info.allocation_granularity),
            .addresses = Addresses.find(),
            .prefetch = lookUp("kernel32.dll", win.PrefetchVirtualMemory, "PrefetchVirtualMemory"),
            .code_of_status = lookUp(
                "ntdll.dll",
                win.RtlNtStatusToDosError,
                "RtlNtStatusToDosError",
            ),
            .exit_index = findExitIndex(),
        };
        return 1;
    }

    fn lookUp(module: [*:0]const u8, comptime F: type, name: [*:0]const u8) ?*const F {
        const handle = win.GetModuleHandleA(module) orelse return null;
        return @ptrCast(@alignCast(win.GetProcAddress(handle, name)));
    }
};

pub fn pageSize() usize {
    return Machine.get().page_size;
}

pub fn granularity() usize {
    return Machine.get().granularity;
}

pub fn capabilities() os.Capabilities {
    const machine = Machine.get();
    return .{
        .process_barrier = !machine.wine,
        .atomic_placement = machine.placeholders != null,
        .codes_are_errno = false,
        // Without placeholders another thread could take the addresses in between.
        .fault_guard = machine.placeholders != null,
        .huge_pages = false,
    };
}

/// Physical memory that is free or holds what is on the disk anyway, or what this process may
/// still commit, whichever is less.
pub fn memoryAvailable() ?os.Limit {
    const status = memoryStatus() orelse return null;
    return os.Limit.tighter(.{
        .kind = .memory,
        .value = status.total_physical,
        .used = status.total_physical -| status.available_physical,
    }, commitLimit(status));
}

/// Pages in the working set of a process are not among those that count as available.
pub const memoryToSpare = memoryAvailable;

/// What a process has of physical memory can be taken back; what it has committed cannot.
pub fn memoryLimit(_: u64) ?os.Limit {
    const status = memoryStatus() orelse return null;
    const physical: os.Limit = .{ .kind = .memory, .value = status.total_physical };
    return os.Limit.tighter(physical, commitLimit(status));
}

fn memoryStatus() ?win.MemoryStatus {
    var status: win.MemoryStatus = .{};
    return if (win.GlobalMemoryStatusEx(&status) != 0) status else null;
}

fn commitLimit(status: win.MemoryStatus) os.Limit {
    return .{
        .kind = .commit,
        .value = status.total_commit,
        .used = status.total_commit -| status.available_commit,
    };
}

pub fn shortOf(need: os.Need) ?os.Limit {
    const status = memoryStatus() orelse return null;
    if (need.addresses > status.available_virtual) return .{
        .kind = .addressable,
        .value = status.total_virtual,
        .used = status.total_virtual -| status.available_virtual,
    };
    return if (need.private > status.available_commit) commitLimit(status) else null;
}

pub fn exhausted(code: i64, size: u64, _: []const u8) ?os.Limit {
    return switch (code) {
        win.error_commitment_limit => commitLimit(memoryStatus() orelse return null),
        win.error_not_enough_memory, win.error_out_of_memory => shortOf(.{
            .addresses = size,
            .private = size,
        }),
        win.error_working_set_quota => .{
            .kind = .locked_memory,
            .value = (WorkingSet.get() orelse return null).least,
        },
        win.error_too_many_open_files => .{ .kind = .descriptors },
        win.error_handle_disk_full, win.error_disk_full => .{ .kind = .disk },
        else => null,
    };
}

pub fn nowNs() u64 {
    var ticks: i64 = undefined;
    _ = win.QueryPerformanceCounter(&ticks);
    const count: u64 = @intCast(ticks);
    const per_second = Machine.get().ticks_per_second;
    // Seconds and their rest apart: the product of the whole count would need 128 bits.
    return count / per_second * std.time.ns_per_s +
        count % per_second * std.time.ns_per_s / per_second;
}

pub fn threadId() u64 {
    return win.GetCurrentThreadId();
}

pub fn describe(code: i64, buffer: []u8) []const u8 {
    var wide: [512]u16 = undefined;
    const flags = win.format_from_system | win.format_ignore_inserts |
        win.format_without_line_breaks;
    const id = std.math.cast(u32, code) orelse 0;
    const units = win.FormatMessageW(flags, null, id, 0, &wide, wide.len, null);
    if (units == 0) {
        const unknown = "unknown error";
        const fits = @min(unknown.len, buffer.len);
        @memcpy(buffer[0..fits], unknown[0..fits]);
        return buffer[0..fits];
    }
    var length: usize = 0;
    var text: std.unicode.Utf16LeIterator = .init(wide[0..units]);
    while (text.nextCodepoint() catch null) |point| {
        const bytes = std.unicode.utf8CodepointSequenceLength(point) catch unreachable;
        if (length + bytes > buffer.len) break;
        _ = std.unicode.utf8Encode(point, buffer[length..]) catch unreachable;
        length += bytes;
    }
    return std.mem.trimEnd(u8, buffer[0..length], " .\r\n");
}

pub fn isMemoryCode(code: i64) bool {
    return switch (code) {
        win.error_not_enough_memory,
        win.error_out_of_memory,
        win.error_no_system_resources,
        win.error_working_set_quota,
        win.error_commitment_limit,
        win.error_not_enough_quota,
        // A slot's addresses were taken by another thread: see `Reservations`.
        win.error_invalid_address,
        => true,
        else => false,
    };
}

pub fn isSpaceCode(code: i64) bool {
    return switch (code) {
        win.error_handle_disk_full,
        win.error_disk_full,
        win.error_file_too_large,
        win.error_disk_quota_exceeded,
        => true,
        else => false,
    };
}

pub fn isMissingCode(code: i64) bool {
    return code == win.error_file_not_found or code == win.error_path_not_found;
}

pub fn isExistsCode(code: i64) bool {
    return code == win.error_file_exists or code == win.error_already_exists;
}

pub fn isFaultCode(code: i64) bool {
    return switch (code) {
        win.error_noaccess, win.error_swaperror, win.error_invalid_user_buffer => true,
        else => false,
    };
}

// Address space ---------------------------------------------------------------------------------

/// Slots of placeholders. An empty slot is one placeholder, or two where what stood there ended:
/// it is made to fit by what comes next, so that emptying it is a single step.
const Placeholders = struct {
    alloc: *const win.VirtualAlloc2,
    map: *const win.MapViewOfFile3,
    unmap: *const win.UnmapViewOfFile2,

    const protection = win.page_noaccess;

    /// Wine 8 exports all three, and refuses the flags.
    fn find(size: usize) ?Placeholders {
        const dll = "kernelbase.dll";
        const found: Placeholders = .{
            .alloc = Machine.lookUp(dll, win.VirtualAlloc2, "VirtualAlloc2") orelse return null,
            .map = Machine.lookUp(dll, win.MapViewOfFile3, "MapViewOfFile3") orelse return null,
            .unmap = Machine.lookUp(dll, win.UnmapViewOfFile2, "UnmapViewOfFile2") orelse
                return null,
        };
        var code: i64 = undefined;
        const probe = found.reserve(size, size, &code) catch return null;
        release(probe, size, protection);
        return found;
    }

    fn reserve(api: Placeholders, size: usize, alignment: usize, code: *i64) Error![*]u8 {
        var where: win.AddressRequirements = .{ .alignment = alignment };
        var parameter: win.ExtendedParameter = .{ .pointer = &where };
        const flags = win.mem_reserve | win.mem_reserve_placeholder;
        return api.alloc(win.this_process, null, size, flags, protection, &parameter, 1) orelse
            refused(code);
    }

    fn carve(slot: os.Slot, code: *i64) Error!void {
        const around = regionAt(slot.base);
        const before = around.before(slot.base);
        // Splitting off nothing, or all there is, would be refused.
        if (before > 0) try split(around.allocation, before, code);
        if (around.size > slot.size) split(slot.base, slot.size, code) catch |err| {
            var ignored: i64 = undefined;
            if (before > 0) coalesce(around.allocation, before + around.size, &ignored) catch {};
            return err;
        };
    }

    fn place(api: Placeholders, slot: os.Slot, view: View, code: *i64) Error!void {
        try fit(slot, view.size, code);
        // First the whole section: Wine refuses its size rounded up to the page, which is what
        // Windows' documentation asks for.
        for ([_]usize{ 0, view.size }) |size| {
            const base = api.map(
                view.section,
                win.this_process,
                slot.base,
                0,
                size,
                win.mem_replace_placeholder,
                view.protection(),
                null,
                0,
            );
            if (base != null) return;
        }
        return refused(code);
    }

    fn commit(api: Placeholders, slot: os.Slot, size: usize, code: *i64) Error!void {
        try fit(slot, size, code);
        const flags = win.mem_replace_placeholder | win.mem_reserve | win.mem_commit;
        const protect = win.page_readwrite;
        _ = api.alloc(win.this_process, slot.base, size, flags, protect, null, 0) orelse
            return refused(code);
    }

    fn restore(api: Placeholders, placement: os.Placement, code: *i64) Error!void {
        const base = placement.slot.base;
        const region = regionAt(base);
        // `zero` has emptied it and could not go on.
        if (region.state == win.mem_reserve) return;
        if (region.type == win.mem_private) return split(base, placement.mapped_size, code);
        if (api.unmap(win.this_process, base, win.mem_preserve_placeholder) == 0)
            return refused(code);
    }

    /// Takes two calls. In between other threads find nothing at the address, and try again.
    fn zero(api: Placeholders, pages: []u8, writable: bool, code: *i64) Error!void {
        const emptied = if (regionAt(pages.ptr).type == win.mem_private)
            win.VirtualFree(pages.ptr, pages.len, win.mem_release | win.mem_preserve_placeholder)
        else
            api.unmap(win.this_process, pages.ptr, win.mem_preserve_placeholder);
        // Another thread was faster.
        if (emptied == 0) return;
        const flags = win.mem_replace_placeholder | win.mem_reserve | win.mem_commit;
        const protect: u32 = if (writable) win.page_readwrite else win.page_readonly;
        _ = api.alloc(win.this_process, pages.ptr, pages.len, flags, protect, null, 0) orelse
            return refused(code);
    }

    /// Makes the first placeholder of an empty slot exactly this large.
    fn fit(slot: os.Slot, size: usize, code: *i64) Error!void {
        const first = regionAt(slot.base).size;
        if (first == size) return;
        if (first < slot.size) try coalesce(slot.base, slot.size, code);
        if (size < slot.size) try split(slot.base, size, code);
    }

    /// Makes a placeholder of a part of one, or of memory.
    fn split(base: [*]u8, size: usize, code: *i64) Error!void {
        if (win.VirtualFree(base, size, win.mem_release | win.mem_preserve_placeholder) == 0)
            return refused(code);
    }

    fn coalesce(base: [*]u8, size: usize, code: *i64) Error!void {
        if (win.VirtualFree(base, size, win.mem_release | win.mem_coalesce_placeholders) == 0)
            return refused(code);
    }
};

/// Slots of plain reservations, which cannot be split or replaced, only given up and made again.
/// While addresses are given up, another thread's allocation may land there. Ours carry a mark, so
/// that such an allocation is noticed, and neither overwritten nor released. The step is tried a
/// few times, since many allocations are short; then it fails with ERROR_INVALID_ADDRESS, and the
/// slot stays as usable as before: whatever is done with it next takes the addresses back once
/// they are free.
const Reservations = struct {
    const attempts = 16;
    /// The mark: nobody else reserves memory that is not there in order to read it.
    const protection = win.page_readonly;

    fn reserve(size: usize, alignment: usize, code: *i64) Error![*]u8 {
        for (0..attempts) |_| {
            // A larger reservation shows where aligned addresses are free.
            const all = size +| alignment;
            const room = win.VirtualAlloc(null, all, win.mem_reserve, protection) orelse
                return refused(code);
            _ = win.VirtualFree(room, 0, win.mem_release);
            const base = std.mem.alignForward(usize, @intFromPtr(room), alignment);
            if (hold(@ptrFromInt(base), size)) return @ptrFromInt(base);
        }
        return refused(code);
    }

    fn carve(slot: os.Slot, code: *i64) Error!void {
        const around = regionAt(slot.base);
        const before = around.before(slot.base);
        const all = before + around.size;
        if (all == slot.size) return;
        for (0..attempts) |attempt| {
            release(around.allocation, all, protection);
            if (hold(around.allocation, before) and hold(slot.base, slot.size) and
                hold(slot.base + slot.size, around.size - slot.size)) return;
            win.Sleep(@intCast(attempt));
        }
        release(around.allocation, all, protection);
        _ = hold(around.allocation, all);
        return fail(code, win.error_invalid_address);
    }

    fn place(slot: os.Slot, view: View, code: *i64) Error!void {
        // A view occupies addresses up to the granularity.
        const used = std.mem.alignForward(usize, view.size, granularity());
        for (0..attempts) |attempt| {
            code.* = win.error_invalid_address;
            if (isOurs(slot)) {
                release(slot.base, slot.size, protection);
                if (win.MapViewOfFileEx(view.section, view.access(), 0, 0, 0, slot.base) != null) {
                    _ = hold(slot.base + used, slot.size - used);
                    return;
                }
                code.* = win.GetLastError();
                _ = hold(slot.base, slot.size);
                if (code.* != win.error_invalid_address) break;
            }
            win.Sleep(@intCast(attempt));
        }
        return error.System;
    }

    /// Commits inside of the reservation, which is made whole first if a view has left it in two.
    fn commit(slot: os.Slot, size: usize, code: *i64) Error!void {
        for (0..attempts) |attempt| {
            const first = regionAt(slot.base);
            if (first.isReserved(protection) and first.size == slot.size) break;
            if (isOurs(slot)) {
                release(slot.base, slot.size, protection);
                if (hold(slot.base, slot.size)) break;
            }
            win.Sleep(@intCast(attempt));
        } else return fail(code, win.error_invalid_address);
        _ = win.VirtualAlloc(slot.base, size, win.mem_commit, win.page_readwrite) orelse
            return refused(code);
    }

    fn restore(placement: os.Placement, code: *i64) Error!void {
        const base = placement.slot.base;
        const size = placement.mapped_size;
        if (placement.sharing == null) {
            if (win.VirtualFree(base, size, win.mem_decommit) == 0) return refused(code);
        } else {
            if (win.UnmapViewOfFile(base) == 0) return refused(code);
            _ = hold(base, std.mem.alignForward(usize, size, granularity()));
        }
    }

    fn hold(base: [*]u8, size: usize) bool {
        return size == 0 or win.VirtualAlloc(base, size, win.mem_reserve, protection) != null;
    }

    /// Nobody else's, that is: what was lost and is free again counts.
    fn isOurs(slot: os.Slot) bool {
        var walk: Walk = .over(slot.base, slot.size);
        while (walk.next()) |region| {
            if (region.state != win.mem_free and !region.isReserved(protection)) return false;
        }
        return true;
    }
};

/// A section of a file, to be mapped whole.
const View = struct {
    section: *anyopaque,
    /// Rounded up to the page.
    size: usize,
    sharing: os.Sharing,

    fn protection(view: View) u32 {
        return sectionProtection(view.sharing);
    }

    fn access(view: View) u32 {
        return switch (view.sharing) {
            .shared_read => win.file_map_read,
            .shared_write => win.file_map_write,
            .private_write => win.file_map_copy,
        };
    }
};

fn sectionProtection(sharing: os.Sharing) u32 {
    return switch (sharing) {
        .shared_read => win.page_readonly,
        .shared_write => win.page_readwrite,
        .private_write => win.page_writecopy,
    };
}

/// The regions of a range, in order, the first one from the start of the range.
const Walk = struct {
    position: usize,
    end: usize,

    fn over(base: [*]const u8, size: usize) Walk {
        return .{ .position = @intFromPtr(base), .end = @intFromPtr(base) + size };
    }

    fn next(walk: *Walk) ?win.Region {
        if (walk.position >= walk.end) return null;
        const region = regionAt(@ptrFromInt(walk.position));
        walk.position += region.size;
        return region;
    }
};

fn regionAt(address: [*]const u8) win.Region {
    var region: win.Region = undefined;
    // It fails only for addresses that no program can have.
    std.debug.assert(win.VirtualQuery(address, &region, @sizeOf(win.Region)) != 0);
    return region;
}

/// Releases what of a range is reserved with our protection; nothing of ours stands there.
fn release(base: [*]u8, size: usize, protection: u32) void {
    var walk: Walk = .over(base, size);
    while (walk.next()) |region| {
        if (!region.isReserved(protection)) continue;
        _ = win.VirtualFree(region.allocation, 0, win.mem_release);
    }
}

pub fn reserve(size: usize, alignment: usize, code: *i64) Error![*]u8 {
    return if (Machine.get().placeholders) |api|
        api.reserve(size, alignment, code)
    else
        Reservations.reserve(size, alignment, code);
}

pub fn unreserve(base: [*]u8, size: usize) void {
    const placeholders = Machine.get().placeholders != null;
    release(base, size, if (placeholders) Placeholders.protection else Reservations.protection);
}

pub fn carve(slot: os.Slot, code: *i64) Error!void {
    return if (Machine.get().placeholders != null)
        Placeholders.carve(slot, code)
    else
        Reservations.carve(slot, code);
}

pub fn place(
    slot: os.Slot,
    file: File,
    size: usize,
    sharing: os.Sharing,
    code: *i64,
) Error!Placement {
    std.debug.assert(size > 0 and size <= slot.size);
    // A section larger than its file would make the file grow.
    const file_size = (try identify(file, code)).size;
    if (file_size < size) return fail(code, win.error_handle_eof);
    const flush_file = if (sharing == .shared_write) try duplicate(file, code) else null;
    errdefer if (flush_file) |other| close(other);
    const view: View = .{
        .section = win.CreateFileMappingW(
            file,
            null,
            sectionProtection(sharing),
            @truncate(size >> 32),
            @truncate(size),
            null,
        ) orelse return refused(code),
        .size = std.mem.alignForward(usize, size, pageSize()),
        .sharing = sharing,
    };
    // The view keeps the section, and the section the file.
    defer close(view.section);
    try if (Machine.get().placeholders) |api|
        api.place(slot, view, code)
    else
        Reservations.place(slot, view, code);
    return .{
        .slot = slot,
        .mapped_size = view.size,
        .sharing = sharing,
        .flush_file = flush_file,
    };
}

pub fn commit(slot: os.Slot, size: usize, code: *i64) Error!Placement {
    std.debug.assert(size > 0 and size <= slot.size);
    const mapped_size = std.mem.alignForward(usize, size, pageSize());
    try if (Machine.get().placeholders) |api|
        api.commit(slot, mapped_size, code)
    else
        Reservations.commit(slot, mapped_size, code);
    return .{ .slot = slot, .mapped_size = mapped_size, .sharing = null };
}

pub fn restore(placement: Placement, code: *i64) Error!void {
    try if (Machine.get().placeholders) |api|
        api.restore(placement, code)
    else
        Reservations.restore(placement, code);
    if (placement.flush_file) |file| close(file);
}

pub fn reserveArena(size: usize, code: *i64) Error![*]u8 {
    return win.VirtualAlloc(null, size, win.mem_reserve, win.page_noaccess) orelse refused(code);
}

pub fn unreserveArena(base: [*]u8, _: usize) void {
    _ = win.VirtualFree(base, 0, win.mem_release);
}

pub fn take(base: [*]u8, size: usize, code: *i64) Error!void {
    _ = win.VirtualAlloc(base, size, win.mem_commit, win.page_readwrite) orelse
        return refused(code);
}

pub fn renew(base: [*]u8, size: usize, code: *i64) Error!void {
    try give(base, size, code);
    try take(base, size, code);
}

pub fn give(base: [*]u8, size: usize, code: *i64) Error!void {
    if (win.VirtualFree(base, size, win.mem_decommit) == 0) return refused(code);
}

pub fn permanent(size: usize, code: *i64) Error![*]u8 {
    return win.VirtualAlloc(null, size, win.mem_reserve | win.mem_commit, win.page_readwrite) orelse
        refused(code);
}

// Pages -----------------------------------------------------------------------------------------

/// Files stand on pages of one size only.
pub fn preferHugePages(_: Placement) void {}

pub fn readFirstHugePage(_: File, _: u64) void {}

/// The system is asked for all pages at once, so that it reads in large pieces; then each is
/// touched. Another thread's write to the same byte must not be lost, so that the touch which
/// makes a page writable is one atomic step. It compares, since compilers drop the atomic addition
/// of nothing; where the byte differs by then, another thread has made the page writable.
pub fn populate(placement: Placement, for_write: bool, _: *i64) Error!void {
    prefetch(placement);
    const pages = placement.slot.base[0..placement.mapped_size];
    const writes = for_write and placement.writable();
    var offset: usize = 0;
    while (offset < pages.len) : (offset += pageSize()) {
        const byte = @as(*volatile u8, &pages[offset]).*;
        if (writes) _ = @cmpxchgStrong(u8, &pages[offset], byte, byte, .monotonic, .monotonic);
    }
}

pub fn readAhead(placement: Placement) void {
    if (placement.sharing != null) prefetch(placement);
}

/// Begins to read; the older systems wait to be asked page by page.
fn prefetch(placement: Placement) void {
    const call = Machine.get().prefetch orelse return;
    const base = placement.slot.base;
    const range: win.MemoryRange = .{ .base = base, .size = placement.mapped_size };
    _ = call(win.this_process, 1, &range, 0);
}

/// The view's pages go to the system's cache of the file, and that to the device.
pub fn flush(placement: Placement, code: *i64) Error!void {
    const file = placement.flush_file orelse return;
    if (win.FlushViewOfFile(placement.slot.base, placement.mapped_size) == 0) return refused(code);
    if (win.FlushFileBuffers(file) == 0) return refused(code);
}

/// Unlocking pages that are not locked removes them from the working set, and fails by design. They
/// stay in the system's memory until that is wanted for something else.
pub fn evict(placement: Placement) void {
    _ = win.VirtualUnlock(placement.slot.base, placement.mapped_size);
}

/// How much memory a process has for sure, of which it may lock nearly all, and at most.
const WorkingSet = struct {
    least: usize,
    most: usize,

    fn get() ?WorkingSet {
        var set: WorkingSet = undefined;
        const known = win.GetProcessWorkingSetSize(win.this_process, &set.least, &set.most);
        return if (known != 0) set else null;
    }

    fn grow(set: WorkingSet, size: usize) bool {
        const least = set.least +| size;
        const most = @max(set.most, least +| size);
        return win.SetProcessWorkingSetSize(win.this_process, least, most) != 0;
    }
};

/// A process may lock what its smallest working set has room for: that grows with what is locked,
/// and stays as large. Another thread may set it in between, so it is tried a few times.
pub fn lock(placement: Placement, code: *i64) Error!void {
    const attempts = 4;
    // What the system needs of the working set for itself.
    const overhead = 1 << 20;
    for (0..attempts) |_| {
        if (win.VirtualLock(placement.slot.base, placement.mapped_size) != 0) return;
        code.* = win.GetLastError();
        if (code.* != win.error_working_set_quota) break;
        const set = WorkingSet.get() orelse break;
        if (!set.grow(placement.mapped_size + overhead)) break;
    }
    return error.System;
}

pub fn unlock(placement: Placement) void {
    _ = win.VirtualUnlock(placement.slot.base, placement.mapped_size);
}

/// Resident is what is in the working set. Private and dirty is what of that no other process could
/// share: pages of memory, and those of a view that were copied when written to.
pub fn memoryUse(base: [*]const u8, size: usize, code: *i64) Error!os.Use {
    const page_size = pageSize();
    var use: os.Use = .{};
    var pages: [128]win.WorkingSetPage = undefined;
    var walk: Walk = .over(base, size);
    while (true) {
        var position = walk.position;
        const region = walk.next() orelse return use;
        if (region.state != win.mem_commit) continue;
        const end = @min(walk.position, walk.end);
        while (position < end) {
            const count: usize = @min(pages.len, (end - position) / page_size);
            for (pages[0..count]) |*page| {
                page.address = position;
                position += page_size;
            }
            const bytes: u32 = @intCast(count * @sizeOf(win.WorkingSetPage));
            if (win.K32QueryWorkingSetEx(win.this_process, &pages, bytes) == 0)
                return refused(code);
            for (pages[0..count]) |page| {
                if (!page.valid) continue;
                use.resident += page_size;
                if (!page.shared) use.private_dirty += page_size;
            }
        }
    }
}

/// What else of a file is in memory, Windows does not tell.
pub fn cached(placement: Placement, _: [:0]const u8, code: *i64) Error!u64 {
    return (try memoryUse(placement.slot.base, placement.mapped_size, code)).resident;
}

// Faults ----------------------------------------------------------------------------------------

var fault_hook: std.atomic.Value(?os.FaultHook) = .init(null);
var fault_handler: ?*anyopaque = null;

/// The module stays loaded: `findExitIndex` sees to it.
pub fn catchFaults(hook: os.FaultHook, code: *i64) Error!void {
    fault_hook.store(hook, .release);
    const first = 1;
    const handler = win.AddVectoredExceptionHandler(first, onException) orelse return refused(code);
    if (fault_handler) |earlier| _ = win.RemoveVectoredExceptionHandler(earlier);
    fault_handler = handler;
}

fn onException(exception: *win.ExceptionPointers) callconv(.winapi) i32 {
    const last_error = win.GetLastError();
    defer win.SetLastError(last_error);
    const record = exception.record;
    const code: u32 = switch (record.status) {
        win.status_in_page_error => codeOf(@truncate(record.parameters[2])),
        win.status_access_violation => 0,
        else => return win.exception_continue_search,
    };
    const fault: os.Fault = .{ .address = record.parameters[1], .code = code };
    const healed = fault_hook.load(.acquire).?(fault);
    return if (healed) win.exception_continue_execution else win.exception_continue_search;
}

fn codeOf(status: u32) u32 {
    const convert = Machine.get().code_of_status orelse return win.error_swaperror;
    return convert(status);
}

/// What is mapped is replaced as a whole.
pub fn zero(pages: []u8, _: usize, writable: bool, code: *i64) Error!void {
    const api = Machine.get().placeholders orelse return fail(code, win.error_not_supported);
    return api.zero(pages, writable, code);
}

// Files -----------------------------------------------------------------------------------------

/// Shares everything, as files are shared elsewhere, and opens directories, so that `identify` can
/// tell them. Whoever serves a pipe of that name does not learn who we are.
pub fn open(path: [*:0]const u8, access: os.Access, code: *i64) Error!File {
    const room = try fullPath(path, code);
    defer heap.free(room);
    const file = win.CreateFileW(
        extended(room),
        switch (access) {
            .read => win.generic_read,
            .read_write => win.generic_read | win.generic_write,
        },
        win.file_share_read | win.file_share_write | win.file_share_delete,
        null,
        win.open_existing,
        win.file_flag_backup_semantics | win.security_sqos_present | win.security_anonymous,
        null,
    );
    return if (file == win.invalid_handle) refused(code) else file.?;
}

/// Room before a full path for the prefix that lifts the limit of 260 characters.
const prefix_room = 7;

/// The full path of one in UTF-8, behind `prefix_room`. The caller frees it.
fn fullPath(path: [*:0]const u8, code: *i64) Error![]u16 {
    const utf8 = win.code_page_utf8;
    const strict = win.invalid_is_error;
    const units = win.MultiByteToWideChar(utf8, strict, path, -1, null, 0);
    if (units == 0) return refused(code);
    const given = heap.alloc(u16, @intCast(units)) catch
        return fail(code, win.error_not_enough_memory);
    defer heap.free(given);
    _ = win.MultiByteToWideChar(utf8, strict, path, -1, given.ptr, units);
    const needed = win.GetFullPathNameW(given.ptr, 0, null, null);
    if (needed == 0) return refused(code);
    const room = heap.alloc(u16, prefix_room + needed) catch
        return fail(code, win.error_not_enough_memory);
    errdefer heap.free(room);
    const length = win.GetFullPathNameW(given.ptr, needed, room.ptr + prefix_room, null);
    if (length == 0) return refused(code);
    // The current directory, changed by another thread, has made it longer.
    if (length >= needed) return fail(code, win.error_not_enough_memory);
    return room;
}

pub fn absolutePath(path: [:0]const u8, room: []u8) ?[]const u8 {
    // A drive's root and a server say where they are; \\folder and C:folder do not.
    if (path.len >= 3 and path[1] == ':' and isSeparator(path[2])) return null;
    if (path.len >= 2 and isSeparator(path[0]) and isSeparator(path[1])) return null;
    var code: i64 = 0;
    const wide = fullPath(path, &code) catch return null;
    defer heap.free(wide);
    const full = std.mem.sliceTo(wide[prefix_room..], 0);
    // No unit of UTF-16 is longer than three bytes.
    if (3 * full.len > room.len) return null;
    const length = std.unicode.utf16LeToUtf8(room, full) catch return null;
    return room[0..length];
}

fn isSeparator(byte: u8) bool {
    return byte == '\\' or byte == '/';
}

/// Where a full path starts once its prefix is written before it: `\\?\C:\` or `\\?\UNC\server\`.
/// The path of a device has one of its own.
fn extended(room: []u16) [*:0]const u16 {
    const path = room[prefix_room..];
    const start = if (startsWith(path, "\\\\?\\") or startsWith(path, "\\\\.\\"))
        prefix_room
    else if (startsWith(path, "\\\\"))
        // Over the first of the two.
        write(room, 1, "\\\\?\\UNC")
    else
        write(room, prefix_room - 4, "\\\\?\\");
    return @ptrCast(room[start..].ptr);
}

fn startsWith(path: []const u16, comptime start: []const u8) bool {
    return std.mem.startsWith(u16, path, std.unicode.utf8ToUtf16LeStringLiteral(start));
}

fn write(room: []u16, start: usize, comptime prefix: []const u8) usize {
    @memcpy(room[start..][0..prefix.len], std.unicode.utf8ToUtf16LeStringLiteral(prefix));
    return start;
}

pub fn close(file: File) void {
    _ = win.CloseHandle(file);
}

fn duplicate(file: File, code: *i64) Error!File {
    var other: *anyopaque = undefined;
    const process = win.this_process;
    const options = win.duplicate_same_access;
    if (win.DuplicateHandle(process, file, process, &other, 0, 0, options) == 0)
        return refused(code);
    return other;
}

pub fn identify(file: File, code: *i64) Error!os.Identity {
    if (win.GetFileType(file) != win.file_type_disk) return .{};
    const info = try information(file, code);
    const directory = info.attributes & win.file_attribute_directory != 0;
    const index = join(info.index_high, info.index_low);
    // ReFS has numbers of 128 bits, of which those of 64 are not enough to tell files apart.
    var id: win.FileId = .{ .volume = 0, .low = index, .high = 0 };
    const has_id =
        win.GetFileInformationByHandleEx(file, win.file_id_info, &id, @sizeOf(win.FileId)) != 0;
    return .{
        .device = info.volume,
        .inode = if (has_id) id.low else index,
        .inode_high = if (has_id) id.high else 0,
        .links = info.links,
        .size = info.size(),
        .mtime_ns = unixNs(join(info.write_time.high, info.write_time.low)),
        .regular = !directory,
        .directory = directory,
    };
}

fn information(file: File, code: *i64) Error!win.FileInformation {
    var info: win.FileInformation = undefined;
    if (win.GetFileInformationByHandle(file, &info) == 0) return refused(code);
    return info;
}

/// From units of 100 ns since 1601.
fn unixNs(file_time: u64) i64 {
    const at_1970 = 116_444_736_000_000_000;
    return (@as(i64, @bitCast(file_time)) -% at_1970) *| 100;
}

fn join(high: u32, low: u32) u64 {
    return @as(u64, high) << 32 | low;
}

pub fn readAt(file: File, buffer: []u8, offset: u64, code: *i64) Error!usize {
    const once_max = 1 << 30;
    var done: usize = 0;
    while (done < buffer.len) {
        const rest = buffer[done..];
        var overlapped: win.Overlapped = .at(offset +| done);
        var got: u32 = 0;
        const count: u32 = @intCast(@min(rest.len, once_max));
        if (win.ReadFile(file, rest.ptr, count, &got, &overlapped) == 0) {
            if (win.GetLastError() == win.error_handle_eof) break;
            return refused(code);
        }
        if (got == 0) break;
        done += got;
    }
    return done;
}

/// Only sparse files have holes.
pub fn findGaps(file: File, size: u64, code: *i64) Error![]os.Gap {
    const info = try information(file, code);
    var list: std.ArrayList(os.Gap) = .empty;
    errdefer list.deinit(heap);
    if (info.attributes & win.file_attribute_sparse != 0) {
        // The file is not to grow.
        try findHoles(file, @min(size, info.size()), &list, code);
    }
    return list.toOwnedSlice(heap) catch fail(code, win.error_not_enough_memory);
}

fn findHoles(file: File, end: u64, list: *std.ArrayList(os.Gap), code: *i64) Error!void {
    var position: u64 = 0;
    var complete = false;
    while (!complete) {
        const rest: win.AllocatedRange = .{ .offset = position, .length = end - position };
        var ranges: [32]win.AllocatedRange = undefined;
        var bytes: u32 = 0;
        complete = win.DeviceIoControl(
            file,
            win.fsctl_query_allocated_ranges,
            &rest,
            @sizeOf(win.AllocatedRange),
            &ranges,
            @sizeOf(@TypeOf(ranges)),
            &bytes,
            null,
        ) != 0;
        if (!complete and win.GetLastError() != win.error_more_data) return refused(code);
        for (ranges[0 .. bytes / @sizeOf(win.AllocatedRange)]) |range| {
            try addHole(list, position, range.offset, code);
            position = range.offset + range.length;
        }
    }
    try addHole(list, position, end, code);
}

fn addHole(list: *std.ArrayList(os.Gap), start: u64, end: u64, code: *i64) Error!void {
    if (start >= end) return;
    list.append(heap, .{ .start = start, .end = end }) catch
        return fail(code, win.error_not_enough_memory);
}

/// What is missing is found out by writing it.
pub fn canFill(_: File, _: u64, _: []const os.Gap, _: *i64) Error!void {}

/// Written over with the zeros they read as; nobody else may write to the file meanwhile.
pub fn fill(file: File, gap: os.Gap, code: *i64) Error!void {
    return writeZeros(file, gap.start, gap.end, code);
}

/// Zeros that are set so take no room in a sparse file.
pub fn unfill(file: File, gap: os.Gap) void {
    const range: win.ZeroRange = .{ .start = gap.start, .end = gap.end };
    var bytes: u32 = 0;
    const size = @sizeOf(win.ZeroRange);
    const set = win.fsctl_set_zero_data;
    _ = win.DeviceIoControl(file, set, &range, size, null, 0, &bytes, null);
}

fn writeZeros(file: File, start: u64, end: u64, code: *i64) Error!void {
    const zeros: [2048]u8 = @splat(0);
    var position = start;
    while (position < end) {
        const size = @min(end - position, zeros.len);
        try writeAt(file, zeros[0..size], position, code);
        position += size;
    }
}

// New files -------------------------------------------------------------------------------------

/// Without any access to its bytes, which need not be this user's.
pub fn identifyPath(path: [*:0]const u8, link: os.Link, code: *i64) Error!os.Identity {
    const room = try fullPath(path, code);
    defer heap.free(room);
    const reparse_flag: u32 = switch (link) {
        .itself => win.file_flag_open_reparse_point,
        .followed => 0,
    };
    const flags = win.file_flag_backup_semantics | reparse_flag;
    const share = win.file_share_read | win.file_share_write | win.file_share_delete;
    const file = win.CreateFileW(extended(room), 0, share, null, win.open_existing, flags, null);
    if (file == win.invalid_handle) return refused(code);
    defer close(file.?);
    var identity = try identify(file.?, code);
    var tag: win.AttributeTag = undefined;
    const tag_size = @sizeOf(win.AttributeTag);
    const class = win.file_attribute_tag_info;
    if (win.GetFileInformationByHandleEx(file.?, class, &tag, tag_size) != 0 and
        (tag.tag == win.reparse_tag_symlink or tag.tag == win.reparse_tag_mount_point))
    {
        identity.link = true;
        identity.regular = false;
    }
    return identity;
}

/// A file that is read-only cannot be replaced by renaming, which is not to be found out at the end.
pub fn checkWritable(path: [*:0]const u8, code: *i64) Error!void {
    const room = try fullPath(path, code);
    defer heap.free(room);
    const attributes = win.GetFileAttributesW(extended(room));
    if (attributes == win.invalid_file_attributes) return refused(code);
    if (attributes & win.file_attribute_readonly != 0) return fail(code, win.error_access_denied);
}

pub fn create(path: [*:0]const u8, _: ?[*:0]const u8, code: *i64) Error!File {
    const room = try fullPath(path, code);
    defer heap.free(room);
    const file = win.CreateFileW(
        extended(room),
        win.generic_read | win.generic_write,
        win.file_share_read | win.file_share_delete,
        null,
        win.create_new,
        win.file_attribute_normal,
        null,
    );
    return if (file == win.invalid_handle) refused(code) else file.?;
}

/// A file that is not sparse gets its blocks with its size.
pub fn allocate(file: File, _: u64, end: u64, code: *i64) Error!void {
    const bytes: i64 = @intCast(end);
    const class = win.file_end_of_file_info;
    if (win.SetFileInformationByHandle(file, class, &bytes, @sizeOf(i64)) == 0) return refused(code);
}

pub fn writeAt(file: File, bytes: []const u8, offset: u64, code: *i64) Error!void {
    const once_max = 1 << 30;
    var done: usize = 0;
    while (done < bytes.len) {
        const rest = bytes[done..];
        var overlapped: win.Overlapped = .at(offset +| done);
        var written: u32 = 0;
        const count: u32 = @intCast(@min(rest.len, once_max));
        if (win.WriteFile(file, rest.ptr, count, &written, &overlapped) == 0) return refused(code);
        done += written;
    }
}

pub fn syncFile(file: File, code: *i64) Error!void {
    if (win.FlushFileBuffers(file) == 0) return refused(code);
}

/// Not by ReplaceFile, which takes two steps and can leave neither of the two under the name. While
/// another thread gives a file that name, and while a scanner of new files looks at one, the answer
/// is no for a moment, so it is tried a few times.
pub fn rename(from: [*:0]const u8, to: [*:0]const u8, code: *i64) Error!void {
    const from_room = try fullPath(from, code);
    defer heap.free(from_room);
    const to_room = try fullPath(to, code);
    defer heap.free(to_room);
    const flags = win.movefile_replace_existing | win.movefile_write_through;
    const attempts = 16;
    for (1..attempts + 1) |attempt| {
        if (win.MoveFileExW(extended(from_room), extended(to_room), flags) != 0) return;
        const why = win.GetLastError();
        const passing = why == win.error_access_denied or why == win.error_sharing_violation;
        if (!passing or attempt == attempts) return fail(code, why);
        win.Sleep(@intCast(attempt));
    }
}

/// Windows lacks a call for it: `rename` asks for its own waiting (MOVEFILE_WRITE_THROUGH), which
/// Microsoft promises only of a move that is a copy and a deletion. The bytes are on the disk by
/// then; the name is when the file system writes its own log.
pub fn syncFolder(_: [:0]const u8, _: *i64) Error!void {}

pub fn remove(path: [*:0]const u8) void {
    var code: i64 = 0;
    const room = fullPath(path, &code) catch return;
    defer heap.free(room);
    _ = win.DeleteFileW(extended(room));
}

// Threads ---------------------------------------------------------------------------------------

/// Waiting on an address, of Windows 8 and later.
const Addresses = struct {
    wait: *const win.WaitOnAddress,
    wakeAll: *const win.WakeByAddress,
    wakeOne: *const win.WakeByAddress,

    fn find() ?Addresses {
        const dll = "kernelbase.dll";
        return .{
            .wait = Machine.lookUp(dll, win.WaitOnAddress, "WaitOnAddress") orelse return null,
            .wakeAll = Machine.lookUp(dll, win.WakeByAddress, "WakeByAddressAll") orelse
                return null,
            .wakeOne = Machine.lookUp(dll, win.WakeByAddress, "WakeByAddressSingle") orelse
                return null,
        };
    }
};

pub fn futexWait(word: *const std.atomic.Value(u32), expected: u32, timeout_ns: ?u64) void {
    const milliseconds: u32 = if (timeout_ns) |ns|
        // Rounded up, so that who waits for a short time does not spin. The largest one means for
        // ever.
        @intCast(@min(ns / std.time.ns_per_ms + 1, win.infinite - 1))
    else
        win.infinite;
    if (Machine.get().addresses) |api| {
        _ = api.wait(word, &expected, @sizeOf(u32), milliseconds);
    } else {
        win.Sleep(1);
    }
}

pub fn futexWakeAll(word: *const std.atomic.Value(u32)) void {
    if (Machine.get().addresses) |api| api.wakeAll(word);
}

pub fn futexWakeOne(word: *const std.atomic.Value(u32)) void {
    if (Machine.get().addresses) |api| api.wakeOne(word);
}

pub fn processBarrier(_: []const std.atomic.Value(u64), _: *i64) os.Error!void {
    win.FlushProcessWriteBuffers();
}

var exit_hook: std.atomic.Value(?*const fn (argument: usize) void) = .init(null);

pub fn atThreadExit(hook: *const fn (argument: usize) void, argument: usize) bool {
    exit_hook.store(hook, .release);
    const index = Machine.get().exit_index orelse return false;
    // A thread whose value is null is not called.
    return win.FlsSetValue(index, @ptrFromInt(argument + 1)) != 0;
}

/// Processes are not forked here.
/// The module pins itself where it first asks to be called when threads end.
pub fn stayLoaded() void {}

pub fn atFork(_: *const fn (stage: os.ForkStage) void) bool {
    return true;
}

/// Threads are not cancelled here.
pub const Cancellation = void;

pub fn holdCancellation() Cancellation {}

pub fn releaseCancellation(_: Cancellation) void {}

fn callExitHook(value: ?*anyopaque) callconv(.winapi) void {
    exit_hook.load(.acquire).?(@intFromPtr(value) - 1);
}

/// From here on threads call this module when they end, so that it must never be unloaded.
fn findExitIndex() ?u32 {
    const index = win.FlsAlloc(callExitHook);
    if (index == win.fls_out_of_indexes) return null;
    var module: *anyopaque = undefined;
    const flags = win.get_module_from_address | win.get_module_pin;
    _ = win.GetModuleHandleExW(flags, @ptrCast(&callExitHook), &module);
    return index;
}

// Heap ------------------------------------------------------------------------------------------

/// The process's own heap, which every thread may use and no unloading of a module takes away.
pub const heap: std.mem.Allocator = .{
    .ptr = undefined,
    .vtable = &.{
        .alloc = heapAlloc,
        .resize = std.mem.Allocator.noResize,
        .remap = std.mem.Allocator.noRemap,
        .free = heapFree,
    },
};

/// Of every block the heap gives.
const heap_alignment = 16;

fn heapAlloc(_: *anyopaque, size: usize, alignment: std.mem.Alignment, _: usize) ?[*]u8 {
    const process_heap = win.GetProcessHeap();
    if (alignment.toByteUnits() <= heap_alignment) return win.HeapAlloc(process_heap, 0, size);
    const room = size +| alignment.toByteUnits();
    const block = win.HeapAlloc(process_heap, 0, room) orelse return null;
    // There is room between the two for what `heapFree` needs: both are multiples of 16.
    const address = alignment.forward(@intFromPtr(block) + 1);
    const memory: [*]u8 = @ptrFromInt(address);
    blockBefore(memory).* = block;
    return memory;
}

fn heapFree(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, _: usize) void {
    const plain = alignment.toByteUnits() <= heap_alignment;
    _ = win.HeapFree(win.GetProcessHeap(), 0, if (plain) memory.ptr else blockBefore(memory.ptr).*);
}

fn blockBefore(memory: [*]u8) *[*]u8 {
    return @ptrCast(@alignCast(memory - @sizeOf(usize)));
}

// Tests -----------------------------------------------------------------------------------------

const testing = std.testing;
const TempFile = @import("TempFile.zig");

/// Two slots of plain reservations, which systems with placeholders can have as well.
const ReservedRoom = struct {
    slots: [2]os.Slot,

    const slot_size = 4 << 16;

    fn init() !ReservedRoom {
        var code: i64 = 0;
        const base = try Reservations.reserve(2 * slot_size, slot_size, &code);
        var room: ReservedRoom = undefined;
        for (&room.slots, 0..) |*slot, i| {
            slot.* = .{ .base = base + i * slot_size, .size = slot_size, .visible = true };
            try Reservations.carve(slot.*, &code);
        }
        return room;
    }

    fn deinit(room: ReservedRoom) void {
        release(room.slots[0].base, 2 * slot_size, Reservations.protection);
    }
};

fn placeReserved(slot: os.Slot, path: [*:0]const u8, size: usize, code: *i64) !Placement {
    const file = try open(path, .read, code);
    defer close(file);
    const view: View = .{
        .section = win.CreateFileMappingW(
            file,
            null,
            win.page_readonly,
            0,
            @intCast(size),
            null,
        ) orelse return refused(code),
        .size = std.mem.alignForward(usize, size, pageSize()),
        .sharing = .shared_read,
    };
    defer close(view.section);
    try Reservations.place(slot, view, code);
    return .{ .slot = slot, .mapped_size = view.size, .sharing = .shared_read };
}

fn isFree(base: [*]u8, size: usize) bool {
    var walk: Walk = .over(base, size);
    while (walk.next()) |region| {
        if (region.state != win.mem_free) return false;
    }
    return true;
}

test "without placeholders, files of any size follow each other in a slot, and memory them" {
    const room: ReservedRoom = try .init();
    const bytes: [ReservedRoom.slot_size]u8 = @splat('x');
    const file: TempFile = try .create(&bytes);
    defer file.deinit();
    var code: i64 = 0;
    const other = try placeReserved(room.slots[1], file.path, bytes.len, &code);
    for ([_]usize{ 1, bytes.len, 4096, 65536, 65537, bytes.len - 1, 1 }) |size| {
        const placement = try placeReserved(room.slots[0], file.path, size, &code);
        try testing.expectEqualSlices(u8, bytes[0..size], room.slots[0].base[0..size]);
        try Reservations.restore(placement, &code);

        try Reservations.commit(room.slots[0], placement.mapped_size, &code);
        const memory = room.slots[0].base[0..placement.mapped_size];
        try testing.expect(std.mem.allEqual(u8, memory, 0));
        @memset(memory, 1);
        var committed = placement;
        committed.sharing = null;
        try Reservations.restore(committed, &code);
    }
    try testing.expectEqualSlices(u8, &bytes, room.slots[1].base[0..bytes.len]);
    try Reservations.restore(other, &code);
    room.deinit();
    try testing.expect(isFree(room.slots[0].base, 2 * ReservedRoom.slot_size));
}

test "without placeholders, addresses that another thread took stay its own until it is done" {
    const room: ReservedRoom = try .init();
    defer room.deinit();
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    const slot = room.slots[0];
    const middle = slot.base + granularity();
    release(slot.base, slot.size, Reservations.protection);
    const flags = win.mem_reserve | win.mem_commit;
    const foreign = win.VirtualAlloc(middle, 1, flags, win.page_readwrite).?;
    foreign[0] = 'f';

    var code: i64 = 0;
    try testing.expectError(error.System, placeReserved(slot, file.path, 5, &code));
    try testing.expectEqual(win.error_invalid_address, code);
    try testing.expect(isMemoryCode(code));
    code = 0;
    try testing.expectError(error.System, Reservations.commit(slot, slot.size, &code));
    try testing.expectEqual(win.error_invalid_address, code);
    room.deinit();
    try testing.expectEqual('f', foreign[0]);

    try testing.expect(win.VirtualFree(foreign, 0, win.mem_release) != 0);
    const placement = try placeReserved(slot, file.path, 5, &code);
    try testing.expectEqualStrings("bytes", slot.base[0..5]);
    try Reservations.restore(placement, &code);
}

test "without placeholders, slots survive a thread that reserves and releases all the time" {
    const room: ReservedRoom = try .init();
    defer room.deinit();
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    var stop: std.atomic.Value(bool) = .init(false);
    const thread = try std.Thread.spawn(.{}, struct {
        fn run(end: *std.atomic.Value(bool), slot: os.Slot) void {
            while (!end.load(.monotonic)) {
                // Exactly there, so that it meets every gap that there is.
                const taken = win.VirtualAlloc(slot.base, 1, win.mem_reserve, win.page_readwrite);
                if (taken) |base| _ = win.VirtualFree(base, 0, win.mem_release);
            }
        }
    }.run, .{ &stop, room.slots[0] });
    defer thread.join();
    defer stop.store(true, .monotonic);
    for (0..200) |_| {
        var code: i64 = 0;
        if (placeReserved(room.slots[0], file.path, 5, &code)) |placement| {
            try testing.expectEqualStrings("bytes", room.slots[0].base[0..5]);
            try Reservations.restore(placement, &code);
        } else |_| try testing.expectEqual(win.error_invalid_address, code);
    }
}

test "a reservation given back leaves no address behind, however its slots were used" {
    var code: i64 = 0;
    const size = 4 * granularity();
    const base = try reserve(2 * size, granularity(), &code);
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    for (0..2) |i| {
        const slot: os.Slot = .{ .base = base + i * size, .size = size, .visible = true };
        try carve(slot, &code);
        const handle = try open(file.path, .read, &code);
        defer close(handle);
        try restore(try place(slot, handle, 5, .private_write, &code), &code);
        if (i == 1) try restore(try commit(slot, size, &code), &code);
    }
    unreserve(base, 2 * size);
    try testing.expect(isFree(base, 2 * size));
}

test "mapping more than a file has is an error and does not make it grow" {
    var code: i64 = 0;
    const size = granularity();
    const base = try reserve(size, size, &code);
    defer unreserve(base, size);
    const slot: os.Slot = .{ .base = base, .size = size, .visible = true };
    try carve(slot, &code);
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    const handle = try open(file.path, .read_write, &code);
    defer close(handle);
    try testing.expectError(error.System, place(slot, handle, 6, .shared_write, &code));
    try testing.expectEqual(win.error_handle_eof, code);
    try testing.expectEqual(5, (try identify(handle, &code)).size);
    try restore(try place(slot, handle, 5, .shared_write, &code), &code);
}

test "a page that cannot be read is healed by the hook, and the instruction tried again" {
    if (!capabilities().fault_guard) return error.SkipZigTest;
    const Hook = struct {
        var pages: []u8 = undefined;
        var faults: [4]os.Fault = undefined;
        var count: usize = 0;
        fn heal(fault: os.Fault) bool {
            faults[count] = fault;
            count += 1;
            if (fault.address < @intFromPtr(pages.ptr) or count == faults.len) return false;
            var ignored: i64 = 0;
            zero(pages, 0, false, &ignored) catch return false;
            return true;
        }
    };
    var code: i64 = 0;
    const size = granularity();
    const base = try reserve(size, size, &code);
    defer unreserve(base, size);
    const slot: os.Slot = .{ .base = base, .size = size, .visible = true };
    try carve(slot, &code);
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    const handle = try open(file.path, .read, &code);
    defer close(handle);
    const placement = try place(slot, handle, 5, .shared_read, &code);
    Hook.pages = base[0..placement.mapped_size];
    try catchFaults(Hook.heal, &code);
    try catchFaults(Hook.heal, &code);

    const device_error = 0xc0000185;
    const parameters = [_]usize{ 0, @intFromPtr(base) + 3, device_error };
    win.SetLastError(7);
    win.RaiseException(win.status_in_page_error, 0, parameters.len, &parameters);
    try testing.expectEqual(7, win.GetLastError());
    try testing.expectEqual(1, Hook.count);
    const io_device = 1117;
    const expected: os.Fault = .{ .address = parameters[1], .code = io_device };
    try testing.expectEqual(expected, Hook.faults[0]);
    try testing.expect(std.mem.allEqual(u8, Hook.pages, 0));

    // Between the two calls of `zero` a thread finds nothing there.
    try restore(placement, &code);
    try testing.expectEqual(win.mem_reserve, regionAt(base).state);
    const violation = [_]usize{ 0, @intFromPtr(base) };
    const before = Hook.count;
    win.RaiseException(win.status_access_violation, 0, violation.len, &violation);
    try testing.expectEqual(before + 1, Hook.count);
    try testing.expectEqual(0, Hook.faults[before].code);
}

test "paths longer than 260 characters are opened, and those that are not UTF-8 refused" {
    const file: TempFile = try .createNamed(&@as([250]u8, @splat('n')), "bytes");
    defer file.deinit();
    try testing.expect(file.path.len > 260);
    var code: i64 = 0;
    close(try open(file.path, .read, &code));
    try testing.expectError(error.System, open("\xff", .read, &code));
    try testing.expect(code != 0);
}

test "full paths get the prefix of their kind" {
    const cases = [_][2][]const u8{
        .{ "C:\\a", "\\\\?\\C:\\a" },
        .{ "\\\\server\\share\\a", "\\\\?\\UNC\\server\\share\\a" },
        .{ "\\\\.\\NUL", "\\\\.\\NUL" },
        .{ "\\\\?\\C:\\a", "\\\\?\\C:\\a" },
    };
    for (cases) |case| {
        var room: [64]u16 = undefined;
        const units = try std.unicode.utf8ToUtf16Le(room[prefix_room..], case[0]);
        room[prefix_room + units] = 0;
        const path = std.mem.span(extended(&room));
        var buffer: [64]u8 = undefined;
        const length = try std.unicode.utf16LeToUtf8(&buffer, path);
        try testing.expectEqualStrings(case[1], buffer[0..length]);
    }
}

test "a device opens and is known as none of our files" {
    var code: i64 = 0;
    const device = try open("NUL", .read, &code);
    defer close(device);
    try testing.expectEqual(os.Identity{}, try identify(device, &code));
}

test "times count from 1970" {
    try testing.expectEqual(0, unixNs(116_444_736_000_000_000));
    try testing.expectEqual(1_700_000_000_123_456_700, unixNs(133_444_736_001_234_567));
    // Before 1678 there is no 64-bit number of nanoseconds.
    try testing.expectEqual(std.math.minInt(i64), unixNs(0));
}

test "pages of memory, of a file and those copied from one are told apart" {
    var code: i64 = 0;
    const page = pageSize();
    const size = granularity();
    const base = try reserve(size, size, &code);
    defer unreserve(base, size);
    const slot: os.Slot = .{ .base = base, .size = size, .visible = true };
    try carve(slot, &code);

    const memory = try commit(slot, 3 * page, &code);
    try populate(memory, true, &code);
    try testing.expectEqual(
        os.Use{ .resident = 3 * page, .private_dirty = 3 * page },
        try memoryUse(base, size, &code),
    );
    try restore(memory, &code);

    const bytes: [3 << 12]u8 = @splat('x');
    const file: TempFile = try .create(&bytes);
    defer file.deinit();
    const handle = try open(file.path, .read, &code);
    defer close(handle);
    const view = try place(slot, handle, bytes.len, .private_write, &code);
    try populate(view, false, &code);
    try testing.expectEqual(
        os.Use{ .resident = bytes.len },
        try memoryUse(base, size, &code),
    );
    base[0] = 'y';
    try testing.expectEqual(
        os.Use{ .resident = bytes.len, .private_dirty = page },
        try memoryUse(base, size, &code),
    );
    try restore(view, &code);
}

test "holes of a sparse file get their blocks" {
    const fsctl_set_sparse = 0x900c4;
    const size = 1 << 20;
    const temp: TempFile = try .createSparse(size);
    defer temp.deinit();
    var code: i64 = 0;
    const file = try open(temp.path, .read_write, &code);
    defer close(file);
    var bytes: u32 = 0;
    _ = win.DeviceIoControl(file, fsctl_set_sparse, null, 0, null, 0, &bytes, null);
    const info = try information(file, &code);
    if (info.attributes & win.file_attribute_sparse == 0) return error.SkipZigTest;
    var overlapped: win.Overlapped = .at(size / 2);
    try testing.expect(win.WriteFile(file, "x", 1, &bytes, &overlapped) != 0);

    const gaps = try findGaps(file, size, &code);
    defer heap.free(gaps);
    for (gaps) |gap| try fill(file, gap, &code);
    const all: win.AllocatedRange = .{ .offset = 0, .length = size };
    var range: win.AllocatedRange = undefined;
    const query = win.fsctl_query_allocated_ranges;
    const length = @sizeOf(win.AllocatedRange);
    try testing.expect(
        win.DeviceIoControl(file, query, &all, length, &range, length, &bytes, null) != 0,
    );
    try testing.expectEqual(all, range);
    var byte: [1]u8 = undefined;
    try testing.expectEqual(1, try readAt(file, &byte, size / 2, &code));
    try testing.expectEqual('x', byte[0]);
}

test "the heap aligns as asked, and every byte of a block is there" {
    inline for (.{ 1, 16, 32, 4096 }) |bytes| {
        const alignment: std.mem.Alignment = comptime .fromByteUnits(bytes);
        for ([_]usize{ 1, 100, 100_000 }) |size| {
            const block = try heap.alignedAlloc(u8, alignment, size);
            defer heap.free(block);
            try testing.expect(alignment.check(@intFromPtr(block.ptr)));
            @memset(block, 0xa5);
        }
    }
}
