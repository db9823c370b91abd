//! The rules of structs that start with their size, so that they can grow.
//!
//! Fields are appended, never changed. A struct smaller than it was in the first release is no
//! such struct; a smaller one than today's is an older caller's, and what it lacks is zero; a
//! larger one is a newer caller's, and is fine if what is unknown here is zero. No more than
//! `struct_size` bytes of an output are written.

const std = @import("std");
const Detail = @import("../base.zig").Detail;
const types = @import("types.zig");

/// Sizes in the first release, which never change.
pub fn sizeFirst(comptime T: type) u32 {
    return switch (T) {
        types.Error => 5512,
        types.Capabilities => 40,
        types.DimensionSpec => 24,
        types.ManagerOptions => 56,
        types.Layer => 552,
        types.LoadOptions => 48,
        types.View => 56,
        types.Holder => 56,
        types.Write => 48,
        types.PoolStats => 80,
        types.PoolClass => 64,
        types.Stats => 112,
        types.DimensionStats => 4280,
        types.Memory => 56,
        types.SaveOptions => 40,
        types.Array => 296,
        types.VerifyOptions => 48,
        types.Verification => 96,
        types.Failure => 40,
        types.WarmOptions => 48,
        types.Warming => 48,
        types.Residency => 64,
        types.ScanOptions => 24,
        else => @compileError("not a sized struct: " ++ @typeName(T)),
    };
}

/// No struct will ever be larger. So a size that was never set, or a pointer to something else, is
/// seldom taken for a struct whose tail is to be looked at.
const size_max = 64 << 10;

pub fn check(comptime T: type, struct_size: u32, detail: *Detail) Detail.Error!void {
    if (struct_size > size_max) {
        detail.requested = struct_size;
        detail.limit = size_max;
        return detail.fail(error.InvalidArgument, "struct_size is larger than any struct: set " ++
            "it to sizeof, or use the _INIT macro");
    }
    if (struct_size >= sizeFirst(T)) return;
    detail.requested = struct_size;
    detail.limit = sizeFirst(T);
    return detail.fail(error.InvalidArgument, "struct_size is smaller than the struct: " ++
        "set it to sizeof, or use the _INIT macro");
}

/// A copy of a struct of the caller's in today's shape.
pub fn read(comptime T: type, source: *const T, detail: *Detail) Detail.Error!T {
    try check(T, source.struct_size, detail);
    try checkTail(T, source, detail);
    const bytes: [*]const u8 = @ptrCast(source);
    var copy = std.mem.zeroes(T);
    const known = @min(source.struct_size, @sizeOf(T));
    @memcpy(std.mem.asBytes(&copy)[0..known], bytes[0..known]);
    return copy;
}

fn checkTail(comptime T: type, source: *const T, detail: *Detail) Detail.Error!void {
    if (source.struct_size <= @sizeOf(T)) return;
    const bytes: [*]const u8 = @ptrCast(source);
    if (std.mem.allEqual(u8, bytes[@sizeOf(T)..source.struct_size], 0)) return;
    return detail.fail(error.InvalidArgument, "the struct has fields that this version of the " ++
        "library does not know");
}

/// An array of the caller's, whose elements are all of the size that the first one says.
pub fn Array(comptime T: type) type {
    return struct {
        const Self = @This();

        bytes: [*]const u8,
        stride: u32,

        pub fn of(first: *const T, detail: *Detail) Detail.Error!Self {
            const stride = first.struct_size;
            try check(T, stride, detail);
            if (stride % @alignOf(T) != 0) {
                return detail.fail(error.InvalidArgument, "struct_size is not the size of a " ++
                    "struct: it would misalign the next one of the array");
            }
            return .{ .bytes = @ptrCast(first), .stride = stride };
        }

        pub fn at(array: Self, index: usize) *const T {
            return @ptrCast(@alignCast(array.bytes + index * array.stride));
        }

        /// The same, of an array that the library fills.
        pub fn place(array: Self, index: usize) *T {
            return @constCast(array.at(index));
        }

        /// An element that is read: it must be of the array's size, and what is unknown zero.
        pub fn checkElement(array: Self, index: usize, detail: *Detail) Detail.Error!void {
            const element = array.at(index);
            if (element.struct_size != array.stride) {
                return detail.fail(error.InvalidArgument, "struct_size is not the same in all " ++
                    "structs of the array");
            }
            return checkTail(T, element, detail);
        }
    };
}

/// Makes a struct of the caller's, which was checked, one with nothing in it.
pub fn clear(comptime T: type, out: *T) void {
    const struct_size = out.struct_size;
    const bytes: [*]u8 = @ptrCast(out);
    @memset(bytes[0..@min(struct_size, @sizeOf(T))], 0);
    out.struct_size = struct_size;
}

/// Fills a struct of the caller's that was checked.
pub fn write(comptime T: type, out: *T, value: T) void {
    const known = @min(out.struct_size, @sizeOf(T));
    const bytes: [*]u8 = @ptrCast(out);
    @memcpy(bytes[0..known], std.mem.asBytes(&value)[0..known]);
    out.struct_size = known;
}

/// Copies text into a fixed field, cut at a character's edge if it must be, and ends it.
pub fn writeText(field: []u8, text: []const u8) void {
    var len = @min(text.len, field.len - 1);
    if (len < text.len) {
        while (len > 0 and text[len] & 0xc0 == 0x80) len -= 1;
    }
    @memmove(field[0..len], text[0..len]);
    @memset(field[len..], 0);
}

/// The same, cut at its front: of a path the end says more.
pub fn writePath(field: []u8, path: []const u8) void {
    var from = path.len -| (field.len - 1);
    if (from > 0) {
        while (from < path.len and path[from] & 0xc0 == 0x80) from += 1;
    }
    writeText(field, path[from..]);
}

test "sized: no struct is smaller than it was in the first release" {
    inline for (.{
        types.Error,     types.Capabilities, types.DimensionSpec,  types.ManagerOptions,
        types.Layer,     types.LoadOptions,  types.View,           types.Write,
        types.Stats,     types.Memory,       types.DimensionStats, types.Holder,
        types.PoolStats, types.PoolClass,
    }) |T| try std.testing.expect(@sizeOf(T) >= sizeFirst(T));
}

test "sized: a struct below its first size is refused, a larger one only if its tail is not zero" {
    var detail: Detail = .{};
    var options: extern struct { known: types.LoadOptions, tail: [8]u8 } = .{
        .known = .{ .mode = 2 },
        .tail = @splat(0),
    };
    const first = sizeFirst(types.LoadOptions);
    options.known.struct_size = first - 1;
    try std.testing.expectError(
        error.InvalidArgument,
        read(types.LoadOptions, &options.known, &detail),
    );
    for ([_]u32{ first, @sizeOf(types.LoadOptions), @sizeOf(@TypeOf(options)) }) |size| {
        options.known.struct_size = size;
        const copy = try read(types.LoadOptions, &options.known, &detail);
        try std.testing.expectEqual(2, copy.mode);
    }
    options.tail[7] = 1;
    try std.testing.expectError(
        error.InvalidArgument,
        read(types.LoadOptions, &options.known, &detail),
    );
}

test "sized: a size that no struct has is refused before the tail is looked at" {
    var detail: Detail = .{};
    var options: types.LoadOptions = .{ .struct_size = size_max + 1 };
    for ([_]u32{ size_max + 1, std.math.maxInt(u32) }) |size| {
        options.struct_size = size;
        try std.testing.expectError(
            error.InvalidArgument,
            read(types.LoadOptions, &options, &detail),
        );
        try std.testing.expectError(
            error.InvalidArgument,
            Array(types.LoadOptions).of(&options, &detail),
        );
        try std.testing.expectEqual(size, detail.requested);
        try std.testing.expectEqual(size_max, detail.limit);
    }
}

test "sized: an output is written no further than its size" {
    var stats: types.Stats = .{ .refusals = 77 };
    stats.struct_size = @offsetOf(types.Stats, "refusals");
    write(types.Stats, &stats, .{ .loads = 5, .refusals = 6 });
    try std.testing.expectEqual(5, stats.loads);
    try std.testing.expectEqual(77, stats.refusals);
    try std.testing.expectEqual(@offsetOf(types.Stats, "refusals"), stats.struct_size);
}

test "sized: text is cut between characters, a path at its front" {
    var field: [6]u8 = undefined;
    writeText(&field, "abcdé");
    try std.testing.expectEqualStrings("abcd", std.mem.sliceTo(&field, 0));
    writePath(&field, "é/abcd");
    try std.testing.expectEqualStrings("/abcd", std.mem.sliceTo(&field, 0));
    writePath(&field, "aébcd");
    try std.testing.expectEqualStrings("ébcd"[0..5], std.mem.sliceTo(&field, 0));
}
