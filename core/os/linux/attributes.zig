//! What Linux keeps of a file beside its mode: the access control list, and notes of its users.
//!
//! A file with a list has the list's mask where others have the rights of their group. So the mode
//! alone would give the group what the list withholds, and a list that a folder gives to its new
//! files wakes up with the mode.

const std = @import("std");
const os = @import("../../os.zig");
const posix = @import("../posix.zig");

const linux = std.os.linux;
const File = posix.File;

const access_list = "system.posix_acl_access";
const user_prefix = "user.";

/// No list of names and no value is longer (XATTR_LIST_MAX, XATTR_SIZE_MAX).
const size_max = 64 << 10;

/// What became of who may do what with a file.
pub const Access = enum {
    /// The mode says all there is to say.
    mode_alone,
    /// The new file has the old one's list.
    list_kept,
    /// The old file's list, or what the folder gave to the new one, could not be dealt with.
    list_lost,
};

/// Gives a new file the access control list of another one, or takes away the one that its folder
/// gave it. `may_keep`: the new file has the group that the list is about. Before the new file gets
/// its mode.
pub fn copyAccess(from: [*:0]const u8, to: File, may_keep: bool) Access {
    const buffer = posix.heap.alloc(u8, size_max) catch return .list_lost;
    defer posix.heap.free(buffer);
    const got = linux.lgetxattr(from, access_list, buffer.ptr, buffer.len);
    switch (linux.errno(got)) {
        .SUCCESS => {
            const set = may_keep and linux.errno(
                linux.fsetxattr(to, access_list, buffer.ptr, got, 0),
            ) == .SUCCESS;
            return if (set) .list_kept else .list_lost;
        },
        .NODATA, .OPNOTSUPP, .NOSYS => {},
        else => return .list_lost,
    }
    return switch (linux.errno(linux.fremovexattr(to, access_list))) {
        .SUCCESS, .NODATA, .OPNOTSUPP, .NOSYS => .mode_alone,
        else => .list_lost,
    };
}

/// Copies what users have attached to a file, as far as they may read it and the new file has room.
pub fn copyNotes(from: [*:0]const u8, to: File) void {
    const names = posix.heap.alloc(u8, size_max) catch return;
    defer posix.heap.free(names);
    const names_size = linux.llistxattr(from, names.ptr, names.len);
    if (linux.errno(names_size) != .SUCCESS or names_size == 0) return;
    const value = posix.heap.alloc(u8, size_max) catch return;
    defer posix.heap.free(value);
    var rest: []u8 = names[0..names_size];
    while (std.mem.findScalar(u8, rest, 0)) |end| {
        const name = rest[0..end :0];
        rest = rest[end + 1 ..];
        if (!std.mem.startsWith(u8, name, user_prefix)) continue;
        const size = linux.lgetxattr(from, name, value.ptr, value.len);
        if (linux.errno(size) != .SUCCESS) continue;
        _ = linux.fsetxattr(to, name, value.ptr, size, 0);
    }
}

const testing = std.testing;
const TempFile = @import("../TempFile.zig");

/// A list as the kernel takes it: version 2, then entries of tag, rights and number.
const List = struct {
    const unnamed = 0xffff_ffff;

    fn of(comptime entries: []const [3]u32) [4 + 8 * entries.len]u8 {
        var bytes: [4 + 8 * entries.len]u8 = undefined;
        std.mem.writeInt(u32, bytes[0..4], 2, .little);
        inline for (entries, 0..) |entry, i| {
            const at = 4 + 8 * i;
            std.mem.writeInt(u16, bytes[at..][0..2], entry[0], .little);
            std.mem.writeInt(u16, bytes[at + 2 ..][0..2], entry[1], .little);
            std.mem.writeInt(u32, bytes[at + 4 ..][0..4], entry[2], .little);
        }
        return bytes;
    }

    /// Owner, user 1111, group, mask, others.
    fn withMask(comptime named: u16, comptime group: u16, comptime mask: u16) [44]u8 {
        return of(&.{
            .{ 0x01, 6, unnamed },    .{ 0x02, named, 1111 }, .{ 0x04, group, unnamed },
            .{ 0x10, mask, unnamed }, .{ 0x20, 0, unnamed },
        });
    }
};

test "a new file has the list of the one it is like, and none that its folder gives it" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const name = try std.mem.concatWithSentinel(testing.allocator, u8, &.{ file.path, "2" }, 0);
    defer testing.allocator.free(name);
    const folder = try testing.allocator.dupeSentinel(u8, std.fs.path.dirname(file.path).?, 0);
    defer testing.allocator.free(folder);
    const list = List.withMask(6, 0, 6);
    const set = linux.setxattr(file.path, access_list, &list, list.len, 0);
    if (linux.errno(set) == .OPNOTSUPP) return error.SkipZigTest; // the folder has no such lists
    try testing.expectEqual(.SUCCESS, linux.errno(set));
    for ([_][*:0]const u8{ "user.origin", "user.empty" }, [_][]const u8{ "audited", "" }) |key, text| {
        const noted = linux.setxattr(file.path, key, text.ptr, text.len, 0);
        try testing.expectEqual(.SUCCESS, linux.errno(noted));
    }
    // What the folder gives to every new file: it lets a user of that name write.
    const given = List.withMask(6, 7, 7);
    const default = linux.setxattr(folder, "system.posix_acl_default", &given, given.len, 0);
    try testing.expectEqual(.SUCCESS, linux.errno(default));

    var code: i64 = 0;
    var found: [256]u8 = undefined;
    {
        const created = try os.create(name, file.path, &code);
        defer os.remove(name);
        defer os.close(created);
        const size = linux.fgetxattr(created, access_list, &found, found.len);
        try testing.expectEqualSlices(u8, &list, found[0..size]);
        const note = linux.fgetxattr(created, "user.origin", &found, found.len);
        try testing.expectEqualStrings("audited", found[0..note]);
        try testing.expectEqual(0, linux.fgetxattr(created, "user.empty", &found, found.len));
    }
    // Of a file without a list, neither the list nor the note.
    try testing.expectEqual(.SUCCESS, linux.errno(linux.removexattr(file.path, access_list)));
    try testing.expectEqual(.SUCCESS, linux.errno(linux.chmod(file.path, 0o640)));
    const created = try os.create(name, file.path, &code);
    defer os.remove(name);
    defer os.close(created);
    const none = linux.fgetxattr(created, access_list, &found, found.len);
    try testing.expectEqual(.NODATA, linux.errno(none));
}

test "where a list cannot be kept, only the owner keeps rights" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const list = List.withMask(6, 0, 6);
    const set = linux.setxattr(file.path, access_list, &list, list.len, 0);
    if (linux.errno(set) == .OPNOTSUPP) return error.SkipZigTest; // the folder has no such lists
    const other: TempFile = try .create("");
    defer other.deinit();
    var code: i64 = 0;
    const opened = try os.open(other.path, .read_write, &code);
    defer os.close(opened);
    try testing.expectEqual(.list_lost, copyAccess(file.path, opened, false));
    try testing.expectEqual(.list_kept, copyAccess(file.path, opened, true));
}
