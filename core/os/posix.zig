//! What Linux and macOS share of the OS layer: files, mappings placed over reserved addresses,
//! thread exit.
//!
//! Everything goes through libc by declarations of our own, since the wrappers of Zig's standard
//! library take refusals that do happen (EINVAL, ENOMEM on a split) for impossible. A call that a
//! signal interrupted is made again, except `close`, after which the descriptor is gone.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");

const c = struct {
    extern "c" fn mmap(
        address: ?*anyopaque,
        size: usize,
        prot: PROT,
        flags: MAP,
        fd: c_int,
        offset: i64,
    ) *anyopaque;
    extern "c" fn munmap(address: *anyopaque, size: usize) c_int;
    extern "c" fn mprotect(address: *anyopaque, size: usize, prot: PROT) c_int;
    extern "c" fn madvise(address: *anyopaque, size: usize, advice: c_int) c_int;
    extern "c" fn mlock(address: *anyopaque, size: usize) c_int;
    extern "c" fn munlock(address: *anyopaque, size: usize) c_int;
    extern "c" fn msync(address: *anyopaque, size: usize, flags: c_int) c_int;
    extern "c" fn open(path: [*:0]const u8, flags: c_int, ...) c_int;
    extern "c" fn close(fd: c_int) c_int;
    extern "c" fn pread(fd: c_int, buffer: [*]u8, size: usize, offset: i64) isize;
    extern "c" fn pwrite(fd: c_int, buffer: [*]const u8, size: usize, offset: i64) isize;
    extern "c" fn lseek(fd: c_int, offset: i64, whence: c_int) i64;
    extern "c" fn fchmod(fd: c_int, mode: std.c.mode_t) c_int;
    extern "c" fn fchown(fd: c_int, owner: std.c.uid_t, group: std.c.gid_t) c_int;
    extern "c" fn geteuid() std.c.uid_t;
    extern "c" fn fsync(fd: c_int) c_int;
    extern "c" fn getrlimit(resource: c_int, limit: *Limit) c_int;
    extern "c" fn rename(from: [*:0]const u8, to: [*:0]const u8) c_int;
    extern "c" fn getcwd(buffer: [*]u8, size: usize) ?[*:0]u8;
    extern "c" fn unlink(path: [*:0]const u8) c_int;
    extern "c" fn statvfs(path: [*:0]const u8, out: *FileSystem) c_int;
    extern "c" fn fstatvfs(fd: c_int, out: *FileSystem) c_int;
    extern "c" fn pthread_key_create(
        key: *Key,
        destructor: *const fn (*anyopaque) callconv(.c) void,
    ) c_int;
    extern "c" fn pthread_key_delete(key: Key) c_int;
    extern "c" fn pthread_setspecific(key: Key, value: ?*const anyopaque) c_int;
    extern "c" fn pthread_setcancelstate(state: c_int, old: ?*c_int) c_int;
    extern "c" fn pthread_atfork(
        before: *const fn () callconv(.c) void,
        in_parent: *const fn () callconv(.c) void,
        in_child: *const fn () callconv(.c) void,
    ) c_int;
};

const MAP = std.c.MAP;
const PROT = std.c.PROT;
const Key = std.c.pthread_key_t;

pub const File = c_int;

pub const heap: std.mem.Allocator = std.heap.c_allocator;

/// The failure of the call just made: its errno, and the error to return.
pub fn refused(code: *i64) os.Error {
    code.* = std.c._errno().*;
    return error.System;
}

/// True if the call just made is to be made again.
pub fn interrupted() bool {
    return std.c._errno().* == @backingInt(std.c.E.INTR);
}

// Limits ----------------------------------------------------------------------------------------

/// A limit of the process's own; null: it has none.
pub fn resourceLimit(
    kind: os.Limit.Kind,
    resource: std.c.rlimit_resource,
    used: u64,
) ?os.Limit {
    var limit: std.c.rlimit = undefined;
    if (std.c.getrlimit(resource, &limit) != 0) return null;
    // Infinity is the largest number of 64 bits, or of 63.
    if (limit.cur >= std.math.maxInt(i64)) return null;
    return .{ .kind = kind, .value = limit.cur, .used = used };
}

/// Of codes that do not mean memory. Descriptors are numbered, so that all below the limit are in
/// use when none is to be had; how many files the system has open takes a descriptor to ask.
pub fn exhausted(code: i64, path: []const u8) ?os.Limit {
    return switch (code) {
        @backingInt(std.c.E.MFILE) => {
            var limit = resourceLimit(.descriptors, .NOFILE, 0) orelse return null;
            limit.used = limit.value;
            return limit;
        },
        @backingInt(std.c.E.NFILE) => .{ .kind = .system_files },
        @backingInt(std.c.E.NOSPC) => diskOf(path),
        // What the file system has left says nothing about it.
        @backingInt(std.c.E.DQUOT) => .{ .kind = .quota },
        @backingInt(std.c.E.FBIG) => resourceLimit(.file_size, .FSIZE, 0),
        else => null,
    };
}

/// struct statvfs, up to what is read.
const FileSystem = extern struct {
    block_size: c_ulong,
    fragment_size: c_ulong,
    block_count: Blocks,
    free_count: Blocks,
    /// Without those that are kept for root.
    available_count: Blocks,
    rest: [128]u8,

    const Blocks = if (builtin.os.tag == .linux) u64 else u32;

    /// As it is for this user.
    fn limit(system: *const FileSystem) os.Limit {
        const unit: u64 = system.fragment_size;
        const left = if (c.geteuid() == 0) system.free_count else system.available_count;
        return .{
            .kind = .disk,
            .value = unit *| system.block_count,
            .used = unit *| (system.block_count -| left),
        };
    }
};

fn diskOf(path: []const u8) os.Limit {
    var buffer: [std.c.PATH_MAX]u8 = undefined;
    var system: FileSystem = undefined;
    const unknown: os.Limit = .{ .kind = .disk };
    if (path.len == 0 or path.len >= buffer.len) return unknown;
    @memcpy(buffer[0..path.len], path);
    buffer[path.len] = 0;
    return if (c.statvfs(buffer[0..path.len :0], &system) == 0) system.limit() else unknown;
}

/// Fails if the disk has less free than `needed` bytes.
pub fn checkRoom(file: File, needed: u64, code: *i64) os.Error!void {
    if (needed == 0) return;
    var system: FileSystem = undefined;
    // Some file systems do not count blocks.
    if (c.fstatvfs(file, &system) != 0 or system.block_count == 0) return;
    if (needed <= system.limit().left()) return;
    code.* = @backingInt(std.c.E.NOSPC);
    return error.System;
}

// Address space ---------------------------------------------------------------------------------

/// What anonymous memory has instead of a file's descriptor. On macOS it can also be a tag, and
/// neighbours with other tags are not merged.
pub const no_tag: c_int = -1;

pub fn pageSize() usize {
    return std.heap.pageSize();
}

pub fn map(
    address: ?[*]u8,
    size: usize,
    prot: PROT,
    flags: MAP,
    fd: c_int,
    code: *i64,
) os.Error![*]u8 {
    const mapped = c.mmap(address, size, prot, flags, fd, 0);
    if (@intFromPtr(mapped) == std.math.maxInt(usize)) return refused(code);
    return @ptrCast(mapped);
}

/// A reservation has a page of its own before it, so that no foreign mapping can merge with its
/// first slot, or run into it.
pub fn reserve(size: usize, alignment: usize, tag: c_int, code: *i64) os.Error![*]u8 {
    const guard = pageSize();
    const total = std.math.add(usize, size, guard + alignment) catch {
        code.* = @backingInt(std.c.E.NOMEM);
        return error.System;
    };
    const flags: MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
    const start = try map(null, total, .{}, flags, tag, code);
    const first = std.mem.alignForward(usize, @intFromPtr(start) + guard, alignment);
    const base: [*]u8 = @ptrFromInt(first);
    const front = @intFromPtr(base) - guard - @intFromPtr(start);
    if (front > 0) unmap(start, front);
    unmap(base + size, total - front - guard - size);
    return base;
}

pub fn unreserve(base: [*]u8, size: usize) void {
    unmap(base - pageSize(), pageSize() + size);
}

/// An unmapping that cuts into no mapping of others can fail only where the map has no entry left
/// for a split; the addresses then stay reserved, which costs nothing else.
fn unmap(base: [*]u8, size: usize) void {
    _ = c.munmap(base, size);
}

/// Puts a reservation without access over a whole slot, whatever stood there.
pub fn clear(slot: os.Slot, tag: c_int, code: *i64) os.Error!void {
    const flags: MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED = true };
    _ = try map(slot.base, slot.size, .{}, flags, tag, code);
}

pub fn protection(writable: bool) PROT {
    return .{ .READ = true, .WRITE = writable };
}

/// For zeroed memory in place of what stands there.
pub const replacing: MAP = .{
    .TYPE = .PRIVATE,
    .ANONYMOUS = true,
    .NORESERVE = true,
    .FIXED = true,
};

pub fn place(
    slot: os.Slot,
    file: File,
    size: usize,
    sharing: os.Sharing,
    code: *i64,
) os.Error!os.Placement {
    std.debug.assert(size > 0 and size <= slot.size);
    const prot = protection(sharing != .shared_read);
    const flags: MAP = .{
        .TYPE = switch (sharing) {
            .shared_read, .shared_write => .SHARED,
            .private_write => .PRIVATE,
        },
        .FIXED = true,
    };
    _ = try map(slot.base, size, prot, flags, file, code);
    return .{
        .slot = slot,
        .mapped_size = std.mem.alignForward(usize, size, pageSize()),
        .sharing = sharing,
    };
}

pub fn commit(slot: os.Slot, size: usize, code: *i64) os.Error!os.Placement {
    std.debug.assert(size > 0 and size <= slot.size);
    const flags: MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .FIXED = true };
    _ = try map(slot.base, size, protection(true), flags, no_tag, code);
    return .{
        .slot = slot,
        .mapped_size = std.mem.alignForward(usize, size, pageSize()),
        .sharing = null,
    };
}

pub fn take(base: [*]u8, size: usize, code: *i64) os.Error!void {
    if (c.mprotect(base, size, .{ .READ = true, .WRITE = true }) != 0) return refused(code);
}

pub fn renew(base: [*]u8, size: usize, code: *i64) os.Error!void {
    const flags: MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true, .FIXED = true };
    _ = try map(base, size, .{ .READ = true, .WRITE = true }, flags, no_tag, code);
}

/// A fresh mapping takes the memory away on every system, where advice does on some.
pub fn give(base: [*]u8, size: usize, tag: c_int, code: *i64) os.Error!void {
    return clear(.{ .base = base, .size = size, .visible = false }, tag, code);
}

pub fn permanent(size: usize, code: *i64) os.Error![*]u8 {
    const flags: MAP = .{ .TYPE = .PRIVATE, .ANONYMOUS = true, .NORESERVE = true };
    return map(null, size, protection(true), flags, no_tag, code);
}

// Pages -----------------------------------------------------------------------------------------

pub fn advise(base: [*]u8, size: usize, advice: c_int, code: *i64) os.Error!void {
    while (c.madvise(base, size, advice) != 0) {
        if (!interrupted()) return refused(code);
    }
}

pub fn readAhead(placement: os.Placement) void {
    if (placement.sharing == null) return;
    var ignored: i64 = 0;
    const advice = std.posix.MADV.WILLNEED;
    advise(placement.slot.base, placement.mapped_size, advice, &ignored) catch {};
}

/// Brings pages in by reading, or by reading and writing back, one byte of each. Another thread's
/// write to the same byte must not be lost, so that the writing is one atomic step.
pub fn touch(placement: os.Placement, write: bool) void {
    var offset: usize = 0;
    while (offset < placement.mapped_size) : (offset += pageSize()) {
        const byte = &placement.slot.base[offset];
        const value = @as(*volatile u8, byte).*;
        // An atomic OR of 0 would do, but is optimised away.
        if (write) _ = @cmpxchgStrong(u8, byte, value, value, .monotonic, .monotonic);
    }
}

pub fn lock(placement: os.Placement, code: *i64) os.Error!void {
    if (c.mlock(placement.slot.base, placement.mapped_size) != 0) return refused(code);
}

pub fn unlock(placement: os.Placement) void {
    _ = c.munlock(placement.slot.base, placement.mapped_size);
}

pub fn sync(placement: os.Placement, code: *i64) os.Error!void {
    while (c.msync(placement.slot.base, placement.mapped_size, std.c.MSF.SYNC) != 0) {
        if (!interrupted()) return refused(code);
    }
}

// Files -----------------------------------------------------------------------------------------

pub const code_is_directory: i64 = @backingInt(std.c.E.ISDIR);
pub const code_not_mappable: i64 = @backingInt(std.c.E.NODEV);
pub const code_short_read: i64 = @backingInt(std.c.E.IO);

/// Not blocking, since opening a pipe would otherwise wait for its other end. It means nothing for
/// a regular file.
pub fn open(path: [*:0]const u8, access: os.Access, code: *i64) os.Error!File {
    const flags: std.c.O = .{
        .ACCMODE = switch (access) {
            .read => .RDONLY,
            .read_write => .RDWR,
        },
        .NONBLOCK = true,
        .NOCTTY = true,
        .CLOEXEC = true,
    };
    while (true) {
        const fd = c.open(path, @bitCast(flags));
        if (fd >= 0) return fd;
        if (!interrupted()) return refused(code);
    }
}

pub fn close(file: File) void {
    _ = c.close(file);
}

pub fn readAt(file: File, buffer: []u8, offset: u64, code: *i64) os.Error!usize {
    // macOS refuses more than 2 GiB at once.
    const once_max = 1 << 30;
    var done: usize = 0;
    while (done < buffer.len) {
        const rest = buffer[done..];
        const position = std.math.cast(i64, offset +| done) orelse return done;
        const got = c.pread(file, rest.ptr, @min(rest.len, once_max), position);
        if (got == 0) break;
        if (got > 0) done += @intCast(got) else if (!interrupted()) return refused(code);
    }
    return done;
}

// New files -------------------------------------------------------------------------------------

pub const code_is_link: i64 = @backingInt(std.c.E.LOOP);

/// Creates a file where nothing has that name. `mode`: what the process does not give all its files
/// is not given to this one.
pub fn create(path: [*:0]const u8, mode: std.c.mode_t, code: *i64) os.Error!File {
    const flags: std.c.O = .{
        .ACCMODE = .RDWR,
        .CREAT = true,
        .EXCL = true,
        .NOFOLLOW = true,
        .NOCTTY = true,
        .CLOEXEC = true,
    };
    while (true) {
        const fd = c.open(path, @bitCast(flags), @as(c_uint, mode));
        if (fd >= 0) return fd;
        if (!interrupted()) return refused(code);
    }
}

/// The modes of files that a process makes: for all, and for itself alone.
pub const mode_usual: std.c.mode_t = 0o666;
pub const mode_private: std.c.mode_t = 0o600;

/// Gives a file its owner and group, as far as this user may give one away; true if it has the
/// group.
pub fn giveTo(file: File, owner: std.c.uid_t, group: std.c.gid_t) bool {
    const unchanged = std.math.maxInt(std.c.uid_t);
    return c.fchown(file, owner, group) == 0 or c.fchown(file, unchanged, group) == 0;
}

/// Rights of a group that a file could not be given go no further than everybody's.
pub fn modeOfOthers(mode: std.c.mode_t) std.c.mode_t {
    return mode & (0o707 | (mode & 0o007) << 3);
}

pub fn setMode(file: File, mode: std.c.mode_t, code: *i64) os.Error!void {
    while (c.fchmod(file, mode) != 0) {
        if (!interrupted()) return refused(code);
    }
}

/// What a user sees of a file who is to replace it.
pub const Protection = struct { mode: std.c.mode_t, owner: std.c.uid_t };

/// That somebody may write to a file, and that its folder does not let only its owner, or that of
/// the folder, replace it.
pub fn checkProtection(file: Protection, folder: Protection, code: *i64) os.Error!void {
    const sticky = 0o1000;
    const user = c.geteuid();
    const why: std.c.E = if (file.mode & 0o222 == 0)
        .ACCES
    else if (folder.mode & sticky != 0 and user != 0 and user != file.owner and user != folder.owner)
        .PERM
    else
        return;
    code.* = @backingInt(why);
    return error.System;
}

/// The folder that a name is in, in `buffer`.
pub fn folderOf(path: []const u8, buffer: *[std.c.PATH_MAX]u8, code: *i64) os.Error![:0]const u8 {
    const folder = std.fs.path.dirname(path) orelse ".";
    if (folder.len >= buffer.len) {
        code.* = @backingInt(std.c.E.NAMETOOLONG);
        return error.System;
    }
    @memcpy(buffer[0..folder.len], folder);
    buffer[folder.len] = 0;
    return buffer[0..folder.len :0];
}

const Limit = extern struct { current: u64, maximum: u64 };

/// A file beyond the process's limit of file sizes would be a signal, which ends a process that
/// does not expect it.
pub fn checkSizeLimit(size: u64, code: *i64) os.Error!void {
    const file_size = 1;
    var limit: Limit = undefined;
    if (c.getrlimit(file_size, &limit) != 0 or size <= limit.current) return;
    code.* = @backingInt(std.c.E.FBIG);
    return error.System;
}

pub fn writeAt(file: File, bytes: []const u8, offset: u64, code: *i64) os.Error!void {
    // macOS refuses more than 2 GiB at once.
    const once_max = 1 << 30;
    var done: usize = 0;
    while (done < bytes.len) {
        const rest = bytes[done..];
        const position = std.math.cast(i64, offset +| done) orelse {
            code.* = @backingInt(std.c.E.FBIG);
            return error.System;
        };
        const n = c.pwrite(file, rest.ptr, @min(rest.len, once_max), position);
        if (n >= 0) done += @intCast(n) else if (!interrupted()) return refused(code);
    }
}

pub fn syncFile(file: File, code: *i64) os.Error!void {
    while (c.fsync(file) != 0) {
        if (!interrupted()) return refused(code);
    }
}

pub fn rename(from: [*:0]const u8, to: [*:0]const u8, code: *i64) os.Error!void {
    while (c.rename(from, to) != 0) {
        if (!interrupted()) return refused(code);
    }
}

pub fn absolutePath(path: [:0]const u8, room: []u8) ?[]const u8 {
    if (path.len == 0 or path[0] == '/') return null;
    const folder = std.mem.span(c.getcwd(room.ptr, room.len) orelse return null);
    // Linux says so of one that is outside of this process's root.
    if (folder.len == 0 or folder[0] != '/') return null;
    const start = if (folder.len == 1) 1 else folder.len + 1;
    if (start + path.len > room.len) return null;
    room[start - 1] = '/';
    @memcpy(room[start..][0..path.len], path);
    return room[0 .. start + path.len];
}

/// `sync_file`: the system's own, which waits for the device.
pub fn syncFolder(
    path: [:0]const u8,
    sync_file: fn (file: File, code: *i64) os.Error!void,
    code: *i64,
) os.Error!void {
    var buffer: [std.c.PATH_MAX]u8 = undefined;
    const folder = try folderOf(path, &buffer, code);
    const file = open(folder, .read, code) catch |err| {
        // One may put files into a folder without being allowed to look into it.
        if (!isOne(code.*, &.{ .ACCES, .PERM })) return err;
        code.* = 0;
        var ignored: i64 = 0;
        const itself = open(path, .read, &ignored) catch return;
        defer close(itself);
        return sync_file(itself, code);
    };
    defer close(file);
    sync_file(file, code) catch |err| {
        // Some file systems keep names without being asked, and say that they cannot be.
        if (code.* != @backingInt(std.c.E.INVAL)) return err;
        code.* = 0;
    };
}

pub fn remove(path: [*:0]const u8) void {
    _ = c.unlink(path);
}

// Holes -----------------------------------------------------------------------------------------

const seek_data: c_int = if (builtin.os.tag == .linux) 3 else 4;
const seek_hole: c_int = if (builtin.os.tag == .linux) 4 else 3;

/// Adds the holes that the file system shows. `missing`: bytes that it counts as not there; if it
/// shows no hole nonetheless, they can be anywhere.
pub fn findHoles(
    file: File,
    size: u64,
    missing: u64,
    list: *std.ArrayList(os.Gap),
) error{OutOfMemory}!void {
    const end: i64 = @intCast(size);
    var hole = c.lseek(file, 0, seek_hole);
    while (hole >= 0 and hole < end) {
        const hole_end = dataAfter(file, hole, end);
        try list.append(heap, .{ .start = @intCast(hole), .end = @intCast(hole_end) });
        hole = c.lseek(file, hole_end, seek_hole);
    }
    if (list.items.len > 0 or missing == 0) return;
    try list.append(heap, .{ .start = 0, .end = size, .kind = .unknown });
}

/// No data after a hole is ENXIO: the hole is the rest.
fn dataAfter(file: File, position: i64, end: i64) i64 {
    const data = c.lseek(file, position, seek_data);
    return if (data < 0) end else @min(data, end);
}

/// How much of the disk filling the gaps may take: each of the two numbers alone can be too large,
/// since blocks that were never written look like holes, and compressed ones as if missing.
pub fn needOf(missing: u64, gaps: []const os.Gap, shared_counts: bool) u64 {
    var holes: u64 = 0;
    var shared: u64 = 0;
    for (gaps) |gap| switch (gap.kind) {
        .hole, .unknown => holes += gap.end - gap.start,
        .shared => shared += gap.end - gap.start,
    };
    return @min(missing, holes) + if (shared_counts) shared else 0;
}

/// Gives back what of a hole still reads as zeros: others may have written to it. What was not
/// written to still looks like a hole.
pub fn emptyHole(
    file: File,
    gap: os.Gap,
    punch: fn (file: File, start: u64, end: u64) void,
) void {
    if (gap.kind != .hole) return;
    const end: i64 = @intCast(gap.end);
    var position: i64 = @intCast(gap.start);
    while (position < end) {
        const data = dataAfter(file, position, end);
        if (data > position) punch(file, @intCast(position), @intCast(data));
        if (data == end) return;
        const hole = c.lseek(file, data, seek_hole);
        position = if (hole < 0) end else @min(hole, end);
        emptyZeros(file, @intCast(data), @intCast(position), punch);
    }
}

fn emptyZeros(
    file: File,
    start: u64,
    end: u64,
    punch: fn (file: File, start: u64, end: u64) void,
) void {
    var buffer: [16 * 1024]u8 = undefined;
    var position = start;
    var ignored: i64 = 0;
    while (position < end) {
        const part = buffer[0..@intCast(@min(end - position, buffer.len))];
        const got = readAt(file, part, position, &ignored) catch return;
        if (got == 0) return;
        if (std.mem.allEqual(u8, part[0..got], 0)) punch(file, position, position + got);
        position += got;
    }
}

/// Writes a part of a file as it is. Nobody else may write to it meanwhile.
pub fn fillByWriting(file: File, gap: os.Gap, code: *i64) os.Error!void {
    return writeBack(file, @intCast(gap.start), @intCast(gap.end), code);
}

fn writeBack(file: File, start: i64, end: i64, code: *i64) os.Error!void {
    var buffer: [16 * 1024]u8 = undefined;
    var position = start;
    while (position < end) {
        const size: usize = @intCast(@min(end - position, buffer.len));
        const got = try readAt(file, buffer[0..size], @intCast(position), code);
        // The file has become shorter, and is not to be made longer.
        if (got == 0) return;
        try writeAt(file, buffer[0..got], @intCast(position), code);
        position += @intCast(got);
    }
}

// Codes -----------------------------------------------------------------------------------------

/// The variant that POSIX describes: glibc gives the plain name to another one, and musl has both
/// names for this one.
const strerror_r = @extern(
    *const fn (code: c_int, buffer: [*]u8, size: usize) callconv(.c) c_int,
    .{ .name = if (builtin.os.tag == .linux) "__xpg_strerror_r" else "strerror_r" },
);

pub fn describe(code: i64, buffer: []u8) []const u8 {
    if (buffer.len == 0) return "";
    buffer[0] = 0;
    // What is no errno gets the text for unknown ones; what does not fit is cut.
    _ = strerror_r(std.math.cast(c_int, code) orelse -1, buffer.ptr, buffer.len);
    const text = std.mem.sliceTo(buffer, 0);
    return std.mem.trimEnd(u8, text, ".");
}

pub fn isMemoryCode(code: i64) bool {
    return isOne(code, &.{ .NOMEM, .AGAIN });
}

pub fn isSpaceCode(code: i64) bool {
    return isOne(code, &.{ .NOSPC, .DQUOT, .FBIG });
}

/// A name in a folder that is none is missing too.
pub fn isMissingCode(code: i64) bool {
    return isOne(code, &.{ .NOENT, .NOTDIR });
}

pub fn isExistsCode(code: i64) bool {
    return isOne(code, &.{.EXIST});
}

pub fn isFaultCode(code: i64) bool {
    return isOne(code, &.{.FAULT});
}

fn isOne(code: i64, known: []const std.c.E) bool {
    for (known) |each| if (code == @backingInt(each)) return true;
    return false;
}

// Threads ---------------------------------------------------------------------------------------

/// The key plus one; 0 until there is one.
var exit_key: std.atomic.Value(u64) = .init(0);
var exit_hook: std.atomic.Value(?*const fn (argument: usize) void) = .init(null);

pub fn atThreadExit(hook: *const fn (argument: usize) void, argument: usize) bool {
    exit_hook.store(hook, .release);
    const key = exitKey() orelse return false;
    // A thread whose value is null has no destructor called.
    return c.pthread_setspecific(key, @ptrFromInt(argument + 1)) == 0;
}

fn exitKey() ?Key {
    const known = exit_key.load(.acquire);
    if (known != 0) return @intCast(known - 1);
    var key: Key = undefined;
    if (c.pthread_key_create(&key, callExitHook) != 0) return null;
    const other = exit_key.cmpxchgStrong(0, @as(u64, key) + 1, .acq_rel, .acquire) orelse
        return key;
    _ = c.pthread_key_delete(key);
    return @intCast(other - 1);
}

fn callExitHook(value: *anyopaque) callconv(.c) void {
    // One that was cancelled has not met a place to end at yet, if it ended by itself.
    const cancellation = holdCancellation();
    defer releaseCancellation(cancellation);
    exit_hook.load(.acquire).?(@intFromPtr(value) - 1);
}

/// What pthread_setcancelstate calls the state.
pub const Cancellation = c_int;

const cancel_disable: Cancellation = if (builtin.os.tag == .macos) 0 else 1;

pub fn holdCancellation() Cancellation {
    var before: Cancellation = cancel_disable;
    _ = c.pthread_setcancelstate(cancel_disable, &before);
    return before;
}

/// Not a place to end at: if the thread was cancelled meanwhile, it ends at the next one.
pub fn releaseCancellation(before: Cancellation) void {
    if (before != cancel_disable) _ = c.pthread_setcancelstate(before, null);
}

/// What dladdr fills in.
const Place = extern struct {
    file: ?[*:0]const u8,
    base: ?*anyopaque,
    symbol: ?[*:0]const u8,
    address: ?*anyopaque,
};
const FindPlace = fn (address: *const anyopaque, found: *Place) callconv(.c) c_int;
const OpenLibrary = fn (path: [*:0]const u8, mode: std.c.RTLD) callconv(.c) ?*anyopaque;

var stays_loaded: std.atomic.Value(bool) = .init(false);

pub fn stayLoaded() void {
    if (stays_loaded.load(.monotonic)) return;
    // Weak, since an older libc has them in a library of their own, and a static program needs
    // neither. Variables, since Zig takes a weak symbol's address for one that is never null.
    var find_place = @extern(?*const FindPlace, .{ .name = "dladdr", .linkage = .weak });
    var open_library = @extern(?*const OpenLibrary, .{ .name = "dlopen", .linkage = .weak });
    _ = .{ &find_place, &open_library };
    var found: Place = undefined;
    if (find_place != null and open_library != null and find_place.?(&callExitHook, &found) != 0) {
        // Loaded already, so that nothing is; the handle is kept for good. The program itself has
        // no name that is found here, and is never unloaded.
        const mode: std.c.RTLD = .{ .NOW = true, .NOLOAD = true, .NODELETE = true };
        if (found.file) |file| _ = open_library.?(file, mode);
    }
    stays_loaded.store(true, .monotonic);
}

var fork_hook: std.atomic.Value(?*const fn (stage: os.ForkStage) void) = .init(null);

pub fn atFork(hook: *const fn (stage: os.ForkStage) void) bool {
    fork_hook.store(hook, .release);
    return c.pthread_atfork(callBefore, callInParent, callInChild) == 0;
}

fn callBefore() callconv(.c) void {
    callForkHook(.before);
}

fn callInParent() callconv(.c) void {
    callForkHook(.in_parent);
}

fn callInChild() callconv(.c) void {
    callForkHook(.in_child);
}

fn callForkHook(stage: os.ForkStage) void {
    const cancellation = holdCancellation();
    defer releaseCancellation(cancellation);
    fork_hook.load(.acquire).?(stage);
}

const contract = @import("contract.zig");
const TempFile = @import("TempFile.zig");

test "devices and pipes open at once and are known as what they are" {
    const mkfifo = @extern(
        *const fn (path: [*:0]const u8, mode: std.c.mode_t) callconv(.c) c_int,
        .{ .name = "mkfifo" },
    );
    const file: TempFile = try .create("");
    defer file.deinit();
    const fifo = try std.mem.concatWithSentinel(
        std.testing.allocator,
        u8,
        &.{ file.path, ".fifo" },
        0,
    );
    defer std.testing.allocator.free(fifo);
    try std.testing.expectEqual(0, mkfifo(fifo, 0o600));
    for ([_][*:0]const u8{ fifo, "/dev/null", "/dev/zero" }) |path| {
        var code: i64 = 0;
        const opened = try os.open(path, .read, &code);
        defer os.close(opened);
        const identity = try os.identify(opened, &code);
        try std.testing.expect(!identity.regular and !identity.directory);
    }
}

test "codes are errno values" {
    var code: i64 = 0;
    try std.testing.expectError(error.System, os.reserve(1 << 48, os.granularity(), &code));
    try std.testing.expectEqual(@backingInt(std.c.E.NOMEM), code);
    try std.testing.expect(os.isMemoryCode(code));
    const overflowing = std.math.maxInt(usize) - os.pageSize();
    try std.testing.expectError(error.System, os.reserve(overflowing, os.granularity(), &code));
    try std.testing.expect(os.isMemoryCode(code));
    try std.testing.expectError(error.System, os.open("/dev/null/x", .read, &code));
    try std.testing.expectEqual(@backingInt(std.c.E.NOTDIR), code);
    try std.testing.expectError(error.System, os.identify(-1, &code));
    try std.testing.expectEqual(@backingInt(std.c.E.BADF), code);
}

test "what cannot be mapped is refused and the slot stays empty" {
    const room: contract.Room = try .init();
    defer room.deinit();
    const size = pageSize();
    const file: TempFile = try .createSparse(size);
    defer file.deinit();
    var code: i64 = 0;
    const opened = try os.open(file.path, .read, &code);
    defer os.close(opened);
    // The file is not open for writing.
    const refusal = os.place(room.slots[0], opened, size, .shared_write, &code);
    try std.testing.expectError(error.System, refusal);
    try std.testing.expectEqual(@backingInt(std.c.E.ACCES), code);
    try contract.restore(try os.place(room.slots[0], opened, size, .shared_read, &code));
}

test "holes are written without a change to the bytes around them" {
    const size = 400_000;
    const expected = try std.testing.allocator.alloc(u8, size);
    defer std.testing.allocator.free(expected);
    const actual = try std.testing.allocator.alloc(u8, size);
    defer std.testing.allocator.free(actual);
    // By system call, by the holes that the file system shows, and by writing all of it back as
    // where it shows none.
    for ([_]enum { fill, holes, all }{ .fill, .holes, .all }) |way| {
        const file: TempFile = try .createSparse(size);
        defer file.deinit();
        var code: i64 = 0;
        const opened = try os.open(file.path, .read_write, &code);
        defer os.close(opened);
        @memset(expected, 0);
        for ([_]usize{ 0, 100_001, size - 1 }) |offset| {
            expected[offset] = 'b';
            try std.testing.expectEqual(1, c.pwrite(opened, "b", 1, @intCast(offset)));
        }
        try std.testing.expect(hasHole(opened, size));
        switch (way) {
            .fill, .holes => {
                const gaps = try os.findGaps(opened, size, &code);
                defer os.heap.free(gaps);
                for (gaps) |gap| {
                    try if (way == .fill)
                        os.fill(opened, gap, &code)
                    else
                        fillByWriting(opened, gap, &code);
                }
            },
            .all => try writeBack(opened, 0, size, &code),
        }
        // Blocks that are allocated but not written may still be shown as a hole.
        if (way != .fill) try std.testing.expect(!hasHole(opened, size));
        try std.testing.expectEqual(size, try os.readAt(opened, actual, 0, &code));
        try std.testing.expectEqualSlices(u8, expected, actual);
    }
}

fn hasHole(file: File, size: i64) bool {
    return c.lseek(file, 0, seek_hole) < size;
}

test "a hole is emptied again, except of what others wrote to it" {
    const size = 4 << 20;
    for ([_]bool{ false, true }) |written| {
        const file: TempFile = try .createSparse(size + 1);
        defer file.deinit();
        var code: i64 = 0;
        const opened = try os.open(file.path, .read_write, &code);
        defer os.close(opened);
        try os.writeAt(opened, "data", 1 << 20, &code);
        const before = try os.findGaps(opened, size + 1, &code);
        defer os.heap.free(before);
        if (before.len == 0 or before[0].kind != .hole) return error.SkipZigTest; // it has none
        for (before) |gap| {
            try if (written) fillByWriting(opened, gap, &code) else os.fill(opened, gap, &code);
        }
        try os.writeAt(opened, "theirs", 3 << 20, &code);
        for (before) |gap| os.unfill(opened, gap);
        var found: [6]u8 = undefined;
        try std.testing.expectEqual(6, try os.readAt(opened, &found, 3 << 20, &code));
        try std.testing.expectEqualStrings("theirs", &found);
        const after = try os.findGaps(opened, size + 1, &code);
        defer os.heap.free(after);
        var left: u64 = 0;
        for (before) |gap| left += gap.end - gap.start;
        for (after) |gap| left -= gap.end - gap.start;
        try std.testing.expect(left <= 64 << 10);
    }
}

const Link = struct {
    extern "c" fn symlink(target: [*:0]const u8, path: [*:0]const u8) c_int;
    extern "c" fn chmod(path: [*:0]const u8, mode: std.c.mode_t) c_int;

    fn name(file: TempFile, suffix: []const u8) ![:0]u8 {
        return std.mem.concatWithSentinel(std.testing.allocator, u8, &.{ file.path, suffix }, 0);
    }
};

test "a link is known as one, and nothing is created through it" {
    const file: TempFile = try .create("bytes");
    defer file.deinit();
    const link = try Link.name(file, ".link");
    defer std.testing.allocator.free(link);
    for ([_][:0]const u8{ file.path, "nowhere" }) |target| {
        try std.testing.expectEqual(0, Link.symlink(target, link));
        defer os.remove(link);
        var code: i64 = 0;
        const itself = try os.identifyPath(link, .itself, &code);
        try std.testing.expect(itself.link and !itself.regular);
        try std.testing.expectError(error.System, os.create(link, null, &code));
        try std.testing.expect(os.isExistsCode(code));
        const followed = os.identifyPath(link, .followed, &code);
        if (target.ptr == file.path.ptr) {
            try std.testing.expectEqual(5, (try followed).size);
        } else {
            try std.testing.expectError(error.System, followed);
            try std.testing.expect(os.isMissingCode(code));
        }
    }
}

test "a new file has the permissions of the one it is like, and never those that run it" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const name = try Link.name(file, ".new");
    defer std.testing.allocator.free(name);
    for ([_]std.c.mode_t{ 0o600, 0o640, 0o444, 0o777, 0o4755 }) |mode| {
        try std.testing.expectEqual(0, Link.chmod(file.path, mode));
        var code: i64 = 0;
        const created = try os.create(name, file.path, &code);
        defer os.remove(name);
        defer os.close(created);
        try std.testing.expectEqual(mode & 0o777, try modeOf(created));
    }
}

fn modeOf(file: File) !u32 {
    const stat = try std.Io.File.stat(.{ .handle = file, .flags = .{ .nonblocking = false } }, std.testing.io);
    return @as(u32, @intCast(stat.permissions.toMode())) & 0o7777;
}

test "bytes of a mapping that are gone are an error of the write and no signal" {
    if (contract.emulated()) return error.SkipZigTest;
    const room: contract.Room = try .init();
    defer room.deinit();
    const file: TempFile = try .createSparse(2 * pageSize());
    defer file.deinit();
    const placement = try contract.place(room.slots[0], file.path, 2 * pageSize(), .shared_read);
    try file.resize(pageSize());
    const name = try Link.name(file, ".new");
    defer std.testing.allocator.free(name);
    var code: i64 = 0;
    const created = try os.create(name, null, &code);
    defer os.remove(name);
    defer os.close(created);
    const bytes = placement.slot.base[0 .. 2 * pageSize()];
    try std.testing.expectError(error.System, os.writeAt(created, bytes, 0, &code));
    try std.testing.expect(os.isFaultCode(code));
    try contract.restore(placement);
}

test "a file beyond the limit of file sizes is refused before the system sends a signal" {
    const setrlimit = @extern(
        *const fn (resource: c_int, limit: *const Limit) callconv(.c) c_int,
        .{ .name = "setrlimit" },
    );
    var old: Limit = undefined;
    try std.testing.expectEqual(0, c.getrlimit(1, &old));
    try std.testing.expectEqual(0, setrlimit(1, &.{ .current = 4096, .maximum = old.maximum }));
    defer _ = setrlimit(1, &old);
    var code: i64 = 0;
    try checkSizeLimit(4096, &code);
    try std.testing.expectError(error.System, checkSizeLimit(4097, &code));
    try std.testing.expect(os.isSpaceCode(code));
}

test "touching brings pages in and changes no byte" {
    const room: contract.Room = try .init();
    defer room.deinit();
    const bytes = try contract.pattern(2 * pageSize());
    defer std.testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    for ([_]bool{ false, true }) |write| {
        const placement = try contract.place(room.slots[0], file.path, bytes.len, .private_write);
        touch(placement, write);
        const mapped = room.slots[0].base[0..bytes.len];
        try std.testing.expectEqualSlices(u8, bytes, mapped);
        try contract.restore(placement);
    }
}
