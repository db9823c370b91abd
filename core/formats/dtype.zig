//! Element types of layers: their values are the header's MEMMGR_DTYPE_…, their names those that
//! safetensors writes.

const std = @import("std");

/// `opaque` is bytes that mean something only to whoever wrote them.
pub const Dtype = enum(u32) {
    @"opaque" = 0,
    bool = 1,
    u8 = 2,
    i8 = 3,
    u16 = 4,
    i16 = 5,
    f16 = 6,
    bf16 = 7,
    u32 = 8,
    i32 = 9,
    f32 = 10,
    u64 = 11,
    i64 = 12,
    f64 = 13,
    c64 = 14,
    c128 = 15,
    f8_e4m3 = 16,
    f8_e5m2 = 17,
    f8_e8m0 = 18,
    f8_e4m3fnuz = 19,
    f8_e5m2fnuz = 20,
    f6_e2m3 = 21,
    f6_e3m2 = 22,
    f4 = 23,
};

/// Bits of one element, 0 for `opaque`.
pub fn bits(dtype: Dtype) u32 {
    return switch (dtype) {
        .@"opaque" => 0,
        .f4 => 4,
        .f6_e2m3, .f6_e3m2 => 6,
        .bool, .u8, .i8 => 8,
        .f8_e4m3, .f8_e5m2, .f8_e8m0, .f8_e4m3fnuz, .f8_e5m2fnuz => 8,
        .u16, .i16, .f16, .bf16 => 16,
        .u32, .i32, .f32 => 32,
        .u64, .i64, .f64, .c64 => 64,
        .c128 => 128,
    };
}

/// "F32"; the upper case of the tag, which is how safetensors spells all of them.
pub fn name(dtype: Dtype) [:0]const u8 {
    return switch (dtype) {
        inline else => |tag| comptime blk: {
            var upper = @tagName(tag)[0..@tagName(tag).len :0].*;
            for (&upper) |*letter| letter.* = std.ascii.toUpper(letter.*);
            const final = upper;
            break :blk &final;
        },
    };
}

/// The type of that name; none is called "OPAQUE".
pub fn fromName(text: []const u8) ?Dtype {
    return by_name.get(text);
}

const by_name: std.StaticStringMap(Dtype) = .initComptime(pairs: {
    const all = std.enums.values(Dtype)[1..];
    var pairs: [all.len]struct { []const u8, Dtype } = undefined;
    for (&pairs, all) |*pair, dtype| pair.* = .{ name(dtype), dtype };
    break :pairs pairs;
});

test "every type is found by its own name, except OPAQUE" {
    for (std.enums.values(Dtype)) |dtype| {
        const found = fromName(name(dtype));
        try std.testing.expectEqual(if (dtype == .@"opaque") null else dtype, found);
        try std.testing.expectEqual(dtype == .@"opaque", bits(dtype) == 0);
    }
    try std.testing.expectEqualStrings("F8_E4M3FNUZ", name(.f8_e4m3fnuz));
    try std.testing.expectEqualStrings("OPAQUE", name(.@"opaque"));
    try std.testing.expectEqual(null, fromName("f32"));
    try std.testing.expectEqual(null, fromName(""));
}
