//! The header of an .npy file, as NumPy writes it: version 1.0, padded so that the data begins at
//! a multiple of 64.

const std = @import("std");
const dtypes = @import("dtype.zig");
const formats = @import("../formats.zig");
const npy = @import("npy.zig");
const Detail = @import("../base.zig").Detail;
const Layers = @import("Layers.zig");

pub const data_alignment = 64;

/// 32 extents of 20 digits and what stands round them, rounded up.
pub const size_max = 1024;

/// The header of a layer, in `buffer`; null if the format has no name for its elements.
pub fn write(layer: Layers.Layer, buffer: *[size_max]u8) ?[]const u8 {
    var writer: std.Io.Writer = .fixed(buffer);
    const descr = descrOf(layer.dtype) orelse return null;
    writeAll(&writer, descr, layer) catch unreachable; // it is as large as it can become
    std.mem.writeInt(u16, buffer[8..10], @intCast(writer.end - 10), .little);
    return writer.buffered();
}

fn writeAll(
    writer: *std.Io.Writer,
    descr: []const u8,
    layer: Layers.Layer,
) std.Io.Writer.Error!void {
    try writer.writeAll(npy.magic ++ "\x01\x00\x00\x00");
    try writer.print("{{'descr': '{s}', 'fortran_order': {s}, 'shape': (", .{
        descr,
        if (layer.order == .fortran) "True" else "False",
    });
    for (layer.shape, 0..) |extent, axis| {
        try writer.print("{s}{d}", .{ if (axis == 0) "" else ", ", extent });
    }
    try writer.writeAll(if (layer.shape.len == 1) ",), }" else "), }");
    const end = std.mem.alignForward(usize, writer.end + 1, data_alignment);
    try writer.splatByteAll(' ', end - writer.end - 1);
    try writer.writeByte('\n');
}

fn descrOf(dtype: dtypes.Dtype) ?[]const u8 {
    return switch (dtype) {
        .bool => "|b1",
        .u8 => "|u1",
        .i8 => "|i1",
        .u16 => "<u2",
        .i16 => "<i2",
        .f16 => "<f2",
        .u32 => "<u4",
        .i32 => "<i4",
        .f32 => "<f4",
        .u64 => "<u8",
        .i64 => "<i8",
        .f64 => "<f8",
        .c64 => "<c8",
        .c128 => "<c16",
        .@"opaque", .bf16 => null,
        .f8_e4m3, .f8_e5m2, .f8_e8m0, .f8_e4m3fnuz, .f8_e5m2fnuz => null,
        .f6_e2m3, .f6_e3m2, .f4 => null,
    };
}

const testing = std.testing;

test "what is written is read as what it was, of every type that the format names" {
    var named: usize = 0;
    for (std.enums.values(dtypes.Dtype)) |dtype| {
        for ([_][]const u64{ &.{}, &.{3}, &.{ 2, 0 }, &.{ 1, 2, 3 } }) |shape| {
            for (std.enums.values(Layers.Order)) |order| {
                const length = Layers.product(dtypes.bits(dtype), shape).? / 8;
                var buffer: [size_max + 6 * 16]u8 = @splat(0);
                const header = write(.{
                    .name = npy.layer_name,
                    .dtype = dtype,
                    .order = order,
                    .shape = shape,
                    .offset = 0,
                    .length = length,
                }, buffer[0..size_max]) orelse continue;
                named += 1;
                try testing.expectEqual(0, header.len % data_alignment);
                const file = buffer[0 .. header.len + length];
                var detail: Detail = .{};
                var layers = try npy.read(testing.allocator, formats.fromBytes(file), &detail);
                defer layers.deinit(testing.allocator);
                const layer = layers.items[0];
                try testing.expectEqual(dtype, layer.dtype);
                try testing.expectEqual(order, layer.order);
                try testing.expectEqual(header.len, layer.offset);
                try testing.expectEqualSlices(u64, shape, layer.shape);
            }
        }
    }
    try testing.expectEqual(14 * 4 * 2, named);
}

test "the largest header fits" {
    const shape: [Layers.rank_max]u64 = @splat(std.math.maxInt(u64));
    var buffer: [size_max]u8 = undefined;
    const header = write(.{
        .name = npy.layer_name,
        .dtype = .c128,
        .order = .fortran,
        .shape = &shape,
        .offset = 0,
        .length = 0,
    }, &buffer).?;
    try testing.expectEqual('\n', header[header.len - 1]);
}
