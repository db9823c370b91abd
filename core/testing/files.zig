//! Saving and verifying what a dimension shows.

const std = @import("std");
const Detail = @import("../base.zig").Detail;
const Managers = @import("../manager.zig").Managers;
const Saver = @import("../files.zig").Saver;
const TempFile = @import("../os.zig").TempFile;

const testing = std.testing;

test "a dimension is saved as what it shows, and verified from what is there" {
    const file: TempFile = try .createNamed("a.safetensors", "");
    defer file.deinit();
    const copy = try std.mem.concatWithSentinel(testing.allocator, u8, &.{ file.path, ".copy" }, 0);
    defer testing.allocator.free(copy);
    var detail: Detail = .{};
    const first: [100]u8 = @splat(1);
    var arrays = [_]Saver.Array{
        .{
            .spec = .{ .name = "first", .dtype = .u8, .shape = &.{ 4, 25 }, .offset = 0, .length = 100 },
            .bytes = &first,
        },
        .{
            .spec = .{ .name = "second", .dtype = .i16, .shape = &.{2}, .offset = 0, .length = 4 },
            .bytes = "abcd",
        },
    };
    try Saver.saveArrays(file.path, &arrays, .{ .checksums = true }, &detail);
    const manager = try Managers.open(.{ .dimension_count = 1 }, &detail);
    const handle = manager.handle.load(.monotonic);
    defer manager.close(handle, .refuse, 0, &detail) catch unreachable;
    const dimension = &manager.dimensions()[0];
    try manager.load(dimension, handle, file.path, .{}, &detail);
    try testing.expectError(
        error.AlreadyLoaded,
        manager.save(dimension, handle, file.path, .{}, &detail),
    );
    try manager.save(dimension, handle, copy, .{ .checksums = true }, &detail);
    try manager.reload(dimension, handle, copy, .{ .mode = .ram }, &detail);
    const good = try manager.verify(dimension, handle, .{ .checksums = true }, &detail);
    try testing.expectEqual(0, @as(u32, @bitCast(good.changes)));
    try testing.expectEqual(2, good.checked_count);
}
