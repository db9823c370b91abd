//! What happened, beside Zig's error values, which carry no payload.
//!
//! A `Detail` is made on the stack of the call that came in from C, handed down by pointer, and
//! filled by whoever notices the failure; `c_api/error.zig` turns it into words once. Core never
//! formats text.

const std = @import("std");
const os = @import("../os.zig");

const Detail = @This();

/// Mirrors MEMMGR_OPERATION_… of the header.
pub const Operation = enum(u32) {
    none = 0,
    open = 1,
    close = 2,
    find = 3,
    load = 4,
    reload = 5,
    unload = 6,
    deallocate = 7,
    acquire = 8,
    release = 9,
    write = 10,
    flush = 11,
    evict = 12,
    stats = 13,
    log = 14,
    retire = 15,
    pressure = 16,
    alloc = 17,
    resize = 18,
    free = 19,
    trim = 20,
    grow = 21,
    save = 22,
    verify = 23,
    inject = 24,
    warm = 25,
    lock = 26,
    unlock = 27,
    scan = 28,
    interrupt = 29,
};

/// Every failure that core knows, one member a status (`c_api/status.zig` is the table).
pub const Error = error{
    InvalidArgument,
    LimitExceeded,
    AllocationRefused,
    AlreadyLoaded,
    NotLoaded,
    UnknownDimension,
    UnknownLayer,
    OutOfBounds,
    ViewsHeld,
    WaitTimeout,
    InvalidAccess,
    FileAccess,
    BadFormat,
    Faulted,
    PoolCorruption,
    DiskFull,
    Cancelled,
};

pub const none: u32 = std.math.maxInt(u32);

operation: Operation = .none,
dimension: u32 = none,
layer: u32 = none,
views: u64 = 0,
/// The system's own code; 0 if the system was not the reason.
code: i64 = 0,
requested: u64 = 0,
used: u64 = 0,
limit: u64 = 0,
/// Which limit `requested`, `used` and `limit` are about, in its own unit.
limit_kind: os.Limit.Kind = .none,
/// What `ask` has to find out yet.
question: enum { none, code, heap } = .none,
/// Where in the file, for `BadFormat` and `Faulted`.
offset: u64 = 0,
/// Why, in a few words that need no formatting: "header is longer than the file". Static.
reason: []const u8 = "",
/// Borrowed from the caller's arguments or from memory that outlives the call.
dimension_name: []const u8 = "",
layer_name: []const u8 = "",
file_name: []const u8 = "",
/// Where the functions below keep what they were given.
dimension_name_storage: [63]u8 = undefined,
layer_name_storage: [255]u8 = undefined,
/// The caller's error, since it is too long for the stack. Empty: nobody wants to know.
file_name_storage: []u8 = &.{},

/// `return detail.fail(error.BadFormat, "…")`. Which limit is behind a refused call is for `ask`:
/// the caller may hold locks.
pub fn fail(detail: *Detail, err: Error, reason: []const u8) Error {
    detail.reason = reason;
    if (detail.code != 0 and detail.limit_kind == .none) detail.question = .code;
    return err;
}

/// Finds out which limit a call was refused for. It reads files of the system's, which takes long
/// and may run into limits itself, so no lock is held. Called at the end of every call from C, and
/// before anything is given back that would hide the limit.
pub fn ask(detail: *Detail) void {
    defer detail.question = .none;
    if (detail.limit_kind != .none) return;
    const limit = switch (detail.question) {
        .none => null,
        .code => os.exhausted(detail.code, detail.requested, detail.file_name),
        .heap => os.shortOf(.{ .private = detail.requested, .entries = 1 }),
    } orelse return;
    if (!limit.kind.countsBytes()) detail.requested = 1;
    detail.setLimit(limit);
}

/// What would be refused, and is not asked for.
pub fn exceeds(
    detail: *Detail,
    requested: u64,
    limit: os.Limit,
    err: Error,
    reason: []const u8,
) Error {
    detail.requested = if (limit.kind.countsBytes()) requested else 1;
    detail.setLimit(limit);
    return detail.fail(err, reason);
}

/// What another attempt is not to be told with: the reason of the one before.
pub fn forget(detail: *Detail) void {
    detail.code = 0;
    detail.requested = 0;
    detail.used = 0;
    detail.limit = 0;
    detail.limit_kind = .none;
    detail.reason = "";
}

fn setLimit(detail: *Detail, limit: os.Limit) void {
    detail.used = limit.used;
    detail.limit = limit.value;
    detail.limit_kind = limit.kind;
}

/// A refused system call on memory or addresses. The heap leaves no code: some C libraries ask the
/// system for every few blocks, so which limit stopped it is asked of the system.
pub fn refused(detail: *Detail, requested: u64, reason: []const u8) Error {
    if (detail.code == 0 and detail.limit_kind == .none) detail.question = .heap;
    detail.requested = requested;
    return detail.fail(error.AllocationRefused, reason);
}

/// A refused operation on a file: memory or room that ran out is not the file's fault, and a page
/// that cannot be read is another file's.
pub fn fileRefused(detail: *Detail, requested: u64, reason: []const u8) Error {
    if (os.isMemoryCode(detail.code)) return detail.refused(requested, reason);
    if (os.isFaultCode(detail.code)) return detail.fail(error.Faulted, reason);
    if (!os.isSpaceCode(detail.code)) return detail.fail(error.FileAccess, reason);
    detail.requested = requested;
    return detail.fail(error.DiskFull, reason);
}

/// A page of the file that could not be read.
pub fn faulted(detail: *Detail, offset: u64, code: i64) Error {
    detail.offset = offset;
    detail.code = code;
    return detail.fail(error.Faulted, "a page of the file could not be read: it was cut short, " ++
        "or its device failed");
}

/// For a valid name whose memory goes before the detail does.
pub fn setDimensionName(detail: *Detail, name: []const u8) void {
    @memcpy(detail.dimension_name_storage[0..name.len], name);
    detail.dimension_name = detail.dimension_name_storage[0..name.len];
}

/// The memory of the file's name goes before the detail does. Of a long one the end is kept.
pub fn keepFileName(detail: *Detail) void {
    const name = detail.file_name;
    const end = name[name.len - @min(name.len, detail.file_name_storage.len) ..];
    @memmove(detail.file_name_storage[0..end.len], end);
    detail.file_name = detail.file_name_storage[0..end.len];
}

/// For a name whose memory goes before the detail does. Cut to 255 bytes, between characters; a
/// name that is not UTF-8 is left out.
pub fn setLayerName(detail: *Detail, name: []const u8) void {
    if (!std.unicode.utf8ValidateSlice(name)) return;
    var length = @min(name.len, detail.layer_name_storage.len);
    // 0b10… is inside a character.
    while (length < name.len and name[length] & 0xc0 == 0x80) length -= 1;
    @memcpy(detail.layer_name_storage[0..length], name[0..length]);
    detail.layer_name = detail.layer_name_storage[0..length];
}

test "a file's name is kept by value, of a long one its end, and none without a place for it" {
    var storage: [4095]u8 = undefined;
    var detail: Detail = .{ .file_name_storage = &storage };
    var name = "a.npy".*;
    detail.file_name = &name;
    detail.keepFileName();
    @memset(&name, '-');
    try std.testing.expectEqualStrings("a.npy", detail.file_name);
    const long: [5000]u8 = @splat('x');
    detail.file_name = long ++ "/a.npy";
    detail.keepFileName();
    try std.testing.expectEqual(4095, detail.file_name.len);
    try std.testing.expectEqualStrings("x/a.npy", detail.file_name[4095 - 7 ..]);
    detail.file_name_storage = &.{};
    detail.keepFileName();
    try std.testing.expectEqualStrings("", detail.file_name);
}

test "the limit behind a refusal is asked for once, by whoever holds no lock" {
    if (!os.capabilities().codes_are_errno) return error.SkipZigTest;
    const too_many_files = 24; // EMFILE of Linux and macOS
    var detail: Detail = .{ .code = too_many_files };
    try std.testing.expectEqual(error.FileAccess, detail.fileRefused(0, "cannot open it"));
    try std.testing.expectEqual(.none, detail.limit_kind);
    detail.ask();
    try std.testing.expectEqual(.descriptors, detail.limit_kind);
    try std.testing.expectEqual(1, detail.requested);
    const limit = detail.limit;
    try std.testing.expect(limit > 0);
    detail.limit = 7;
    detail.ask();
    try std.testing.expectEqual(7, detail.limit);
    // The heap refuses without a code.
    detail = .{};
    try std.testing.expectEqual(error.AllocationRefused, detail.refused(1 << 60, "no memory"));
    try std.testing.expectEqual(.none, detail.limit_kind);
    try std.testing.expectEqual(1 << 60, detail.requested);
}

test "a layer's name is kept by value, cut between characters, and left out if it is not text" {
    var detail: Detail = .{};
    var name = "weights".*;
    detail.setLayerName(&name);
    @memset(&name, '-');
    try std.testing.expectEqualStrings("weights", detail.layer_name);
    detail.setLayerName("\xff");
    try std.testing.expectEqualStrings("weights", detail.layer_name);
    // 254 bytes and a character of two.
    const long: [254]u8 = @splat('x');
    detail.setLayerName(long ++ "ü");
    try std.testing.expectEqualStrings(&long, detail.layer_name);
    detail.setLayerName(long ++ "y" ++ long);
    try std.testing.expectEqualStrings(long ++ "y", detail.layer_name);
}
