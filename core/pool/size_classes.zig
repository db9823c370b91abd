//! The sizes of blocks: 16 bytes apart up to 128, then eight to a doubling up to 64 KiB. So a block
//! is at most an eighth of it larger than what was asked for, or 15 bytes, which its alignment
//! costs: that is more below 113.

const std = @import("std");

pub const count = 80;
pub const size_max = 64 << 10;
/// Of every block.
pub const alignment_min = 16;
/// The class of what is no block of a pool: it comes straight from spans.
pub const large = count;

/// The smallest class with room for `size`, which is at most `size_max`.
pub fn of(size: usize) u32 {
    return number(size) - 1;
}

/// One more than the class, as states of blocks have it.
pub inline fn number(size: usize) u8 {
    return table[(size + alignment_min - 1) / alignment_min];
}

/// One load from a table costs less than half of working it out.
const table = table: {
    @setEvalBranchQuota(100_000);
    var numbers: [size_max / alignment_min + 1]u8 = undefined;
    for (&numbers, 0..) |*each, index| each.* = workOut(index * alignment_min) + 1;
    break :table numbers;
};

fn workOut(size: usize) u8 {
    const last = size -| 1;
    // Below 128 the steps are those of the doubling that begins there.
    const power = 63 - @clz(last | 128);
    return @intCast((@as(usize, power - 7) << 3) + (last >> @intCast(power - 3)));
}

/// The smallest class with room for `size` in which every block is aligned, provided the slab is.
pub fn ofAligned(size: usize, alignment: usize) u32 {
    var class = of(size);
    while (sizeOf(class) % alignment != 0) class += 1;
    return class;
}

pub inline fn sizeOf(class: u32) u32 {
    if (class < 8) return (class + 1) * 16;
    return ((class & 7) + 9) << @intCast((class >> 3) + 3);
}

/// Blocks that a magazine of this class holds. Of large ones fewer: what threads keep at hand is
/// memory that is used for nothing.
pub fn roundsOf(class: u32) u32 {
    return std.math.clamp(rounds_bytes / sizeOf(class), 8, rounds_max);
}

pub const rounds_max = 254;
const rounds_bytes = 256 << 10;

test "R6.3 size_classes: every size up to 64 KiB has the smallest class that holds it" {
    var class: u32 = 0;
    for (0..size_max + 1) |size| {
        if (size > sizeOf(class)) class += 1;
        try std.testing.expectEqual(class, of(size));
        // Up to 112 bytes the alignment alone can cost more.
        if (size > 112) try std.testing.expect((sizeOf(class) - size) * 8 <= sizeOf(class));
    }
    try std.testing.expectEqual(count - 1, class);
    try std.testing.expectEqual(size_max, sizeOf(class));
}

test "size_classes: blocks of an alignment's class are multiples of it" {
    var alignment: usize = 16;
    while (alignment <= size_max) : (alignment *= 2) {
        for ([_]usize{ 1, 17, 100, 129, 5000, size_max }) |size| {
            const block_size = sizeOf(ofAligned(size, alignment));
            try std.testing.expect(block_size >= size and block_size % alignment == 0);
        }
    }
}
