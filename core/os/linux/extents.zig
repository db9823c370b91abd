//! Where a file's bytes stand on the disk, as far as the file system says (FS_IOC_FIEMAP).
//!
//! It knows more than SEEK_HOLE: blocks that were taken and not written yet are not holes, and
//! blocks that another file shares are not this file's to write to.

const std = @import("std");
const os = @import("../../os.zig");
const posix = @import("../posix.zig");

const linux = std.os.linux;
const File = posix.File;

const once_max = 32;

/// struct fiemap with room for some struct fiemap_extent.
const Map = extern struct {
    start: u64,
    length: u64,
    flags: u32 = 0,
    mapped_count: u32 = 0,
    count: u32 = once_max,
    reserved: u32 = 0,
    extents: [once_max]Extent = undefined,

    const Extent = extern struct {
        logical: u64,
        physical: u64,
        length: u64,
        reserved64: [2]u64,
        flags: u32,
        reserved: [3]u32,

        const last = 0x1;
        const shared = 0x2000;
    };
};

const fs_ioc_fiemap = linux.IOCTL.IOWR('f', 11, extern struct {
    start: u64,
    length: u64,
    flags: u32,
    mapped_count: u32,
    count: u32,
    reserved: u32,
});

/// Adds a file's gaps. False: the file system, or a filter, does not answer, and nothing is added.
pub fn findGaps(
    file: File,
    size: u64,
    gpa: std.mem.Allocator,
    list: *std.ArrayList(os.Gap),
) error{OutOfMemory}!bool {
    var position: u64 = 0;
    while (position < size) {
        var map: Map = .{ .start = position, .length = size - position };
        switch (linux.errno(linux.ioctl(file, fs_ioc_fiemap, @intFromPtr(&map)))) {
            .SUCCESS => {},
            .INTR => continue,
            else => {
                list.clearRetainingCapacity();
                return false;
            },
        }
        for (map.extents[0..@min(map.mapped_count, once_max)]) |extent| {
            const start = @min(@max(extent.logical, position), size);
            const end = @min(extent.logical +| extent.length, size);
            if (start > position) try list.append(gpa, .{ .start = position, .end = start });
            if (end <= start) continue;
            if (extent.flags & Map.Extent.shared != 0) {
                try list.append(gpa, .{ .start = start, .end = end, .kind = .shared });
            }
            position = end;
        }
        const ended = map.mapped_count == 0 or
            map.extents[@min(map.mapped_count, once_max) - 1].flags & Map.Extent.last != 0;
        if (!ended) continue;
        if (position < size) try list.append(gpa, .{ .start = position, .end = size });
        return true;
    }
    return true;
}

/// Whether the file system makes shared blocks a file's own: XFS does, btrfs does not.
pub fn canUnshare(file: File) bool {
    const magic_of_xfs = 0x58465342;
    // struct statfs begins with the kind, a long.
    var status: [32]u64 = undefined;
    const rc = linux.syscall2(.fstatfs, @as(u32, @bitCast(file)), @intFromPtr(&status));
    return linux.errno(rc) == .SUCCESS and @as(*const c_long, @ptrCast(&status)).* == magic_of_xfs;
}

const testing = std.testing;
const TempFile = @import("../TempFile.zig");

test "holes are told, and blocks that were taken are none" {
    const size = 8 << 20;
    const file: TempFile = try .createSparse(size);
    defer file.deinit();
    var code: i64 = 0;
    const opened = try os.open(file.path, .read_write, &code);
    defer os.close(opened);
    // More of them than are told at once.
    for (0..40) |i| try os.writeAt(opened, "data", i * 128 << 10, &code);
    try os.fill(opened, .{ .start = 7 << 20, .end = size }, &code);
    var list: std.ArrayList(os.Gap) = .empty;
    defer list.deinit(testing.allocator);
    if (!try findGaps(opened, size, testing.allocator, &list)) return error.SkipZigTest; // it cannot
    try testing.expectEqual(40, list.items.len);
    for (list.items, 0..) |gap, i| {
        try testing.expectEqual(.hole, gap.kind);
        try testing.expectEqual(0, (gap.start - (i * 128 << 10) -% os.pageSize()) % os.pageSize());
        const next: u64 = if (i == 39) 7 << 20 else (i + 1) * 128 << 10;
        try testing.expectEqual(next, gap.end);
    }
}
