//! The dot products of rows with a query, for one processor: whatever the module it stands in is
//! compiled for.
//!
//! The library has this file several times, as modules of other targets (`instructions.zig`), so
//! it imports nothing that is compiled for another one and takes no vectors from, and gives none
//! to, who calls it. A row's elements are added up in the same order wherever the row stands: rows
//! that are the same have the same score.

const builtin = @import("builtin");
const std = @import("std");

/// Writes the dot products of rows of `dimensions` elements with the query: of `count` that follow
/// each other from any address on, and behind them of `count` that do `distance` bytes further on.
pub const Kernel = fn (
    rows: [*]const u8,
    distance: usize,
    count: usize,
    dimensions: usize,
    query: [*]const f32,
    scores: [*]f32,
) void;

const cpu = builtin.cpu;

/// Floats of a register.
const lanes = if (hasX86(.avx512f)) 16 else if (hasX86(.avx2)) 8 else 4;
/// Two registers hide what one addition waits for the one before it.
const width = 2 * lanes;
/// Rows that are read at once, far from each other: what is near one of them its processor reads
/// ahead by itself. With two it is at what memory gives, from SSE2 on and from 64 elements a row.
pub const streams = 2;
/// Elsewhere two roundings are cheaper than one that is emulated.
const multiplies_and_adds = hasX86(.fma) or cpu.arch == .aarch64;
const widens_halves = hasX86(.f16c) or cpu.arch == .aarch64;

fn hasX86(feature: std.Target.x86.Feature) bool {
    return cpu.arch == .x86_64 and std.Target.x86.featureSetHas(cpu.features, feature);
}

pub const scoreF32 = Rows(.f32).score;
pub const scoreF16 = Rows(.f16).score;
pub const scoreBf16 = Rows(.bf16).score;
pub const scoreI8 = Rows(.i8).score;

const Element = enum {
    f32,
    f16,
    bf16,
    i8,

    fn size(element: Element) comptime_int {
        return switch (element) {
            .f32 => 4,
            .f16, .bf16 => 2,
            .i8 => 1,
        };
    }
};

fn Rows(comptime element: Element) type {
    return struct {
        fn score(
            rows: [*]const u8,
            distance: usize,
            count: usize,
            dimensions: usize,
            query: [*]const f32,
            scores: [*]f32,
        ) void {
            const row_size = dimensions * element.size();
            for (0..count) |index| {
                var starts: [streams][*]const u8 = undefined;
                inline for (&starts, 0..) |*start, stream| {
                    start.* = rows + stream * distance + index * row_size;
                }
                const products = multiply(starts, dimensions, query);
                inline for (products, 0..) |product, stream| {
                    scores[stream * count + index] = product;
                }
            }
        }

        inline fn multiply(
            rows: [streams][*]const u8,
            dimensions: usize,
            query: [*]const f32,
        ) [streams]f32 {
            var sums: [streams]@Vector(width, f32) = @splat(@splat(0));
            var at: usize = 0;
            while (dimensions - at >= width) : (at += width) {
                const factors = loadQuery(width, query + at);
                inline for (&sums, rows) |*sum, row| add(width, sum, row, at, factors);
            }
            var products: [streams]f32 = undefined;
            inline for (&products, sums, rows) |*product, sum, row| {
                product.* = fold(width, sum, row, at, dimensions - at, query);
            }
            return products;
        }

        /// The sum of all lanes, and of the last elements, fewer than there are lanes: each time
        /// the lanes are halved, as many elements as are left of them join in.
        inline fn fold(
            comptime count: usize,
            sum: @Vector(count, f32),
            row: [*]const u8,
            start: usize,
            left: usize,
            query: [*]const f32,
        ) f32 {
            if (count == 1) return sum[0];
            const half = count / 2;
            var folded = @shuffle(f32, sum, undefined, numbers(half, 0)) +
                @shuffle(f32, sum, undefined, numbers(half, half));
            var at = start;
            if (left & half != 0) {
                add(half, &folded, row, at, loadQuery(half, query + at));
                at += half;
            }
            return fold(half, folded, row, at, left, query);
        }

        inline fn add(
            comptime count: usize,
            sum: *@Vector(count, f32),
            row: [*]const u8,
            at: usize,
            factors: @Vector(count, f32),
        ) void {
            const Vector = @Vector(count, f32);
            const elements = load(count, row + at * element.size());
            sum.* = if (multiplies_and_adds)
                @mulAdd(Vector, elements, factors, sum.*)
            else
                elements * factors + sum.*;
        }

        inline fn load(comptime count: usize, bytes: [*]const u8) @Vector(count, f32) {
            return switch (element) {
                .f32 => read(count, f32, bytes),
                .f16 => if (widens_halves)
                    read(count, f16, bytes)
                else
                    widen(count, read(count, u16, bytes)),
                .bf16 => @bitCast(@as(@Vector(count, u32), read(count, u16, bytes)) <<
                    @splat(16)),
                .i8 => @floatFromInt(@as(@Vector(count, i32), read(count, i8, bytes))),
            };
        }
    };
}

fn numbers(comptime count: usize, comptime first: i32) @Vector(count, i32) {
    var list: [count]i32 = undefined;
    for (&list, first..) |*number, value| number.* = @intCast(value);
    return list;
}

inline fn loadQuery(comptime count: usize, query: [*]const f32) @Vector(count, f32) {
    return read(count, f32, @ptrCast(query));
}

inline fn read(comptime count: usize, comptime T: type, bytes: [*]const u8) @Vector(count, T) {
    return @as(*align(1) const @Vector(count, T), @ptrCast(bytes)).*;
}

/// Floats of 16 bits for a processor that does not know them. What is too small to be normal there
/// is so by a subtraction of normal numbers: others may be taken for zero here.
inline fn widen(comptime count: usize, halves: @Vector(count, u16)) @Vector(count, f32) {
    const Bits = @Vector(count, u32);
    const Floats = @Vector(count, f32);
    const bits: Bits = halves;
    const magnitude = (bits & @as(Bits, @splat(0x7fff))) << @splat(13);
    const normal = magnitude + @as(Bits, @splat(112 << 23));
    const not_finite = magnitude + @as(Bits, @splat(224 << 23));
    const smallest: Floats = @splat(0x1p-14);
    const small: Bits = @bitCast(@as(Floats, @bitCast(magnitude + @as(Bits, @splat(113 << 23)))) -
        smallest);
    const large = @select(u32, magnitude < @as(Bits, @splat(31 << 23)), normal, not_finite);
    const wide = @select(u32, magnitude < @as(Bits, @splat(1 << 23)), small, large);
    return @bitCast(wide | (bits & @as(Bits, @splat(0x8000))) << @splat(16));
}

test "a float of 16 bits is widened to the same number, whatever the processor knows" {
    for (0..1 << 16) |bits| {
        const half: u16 = @intCast(bits);
        const expected: f32 = @as(f16, @bitCast(half));
        const found = widen(1, .{half})[0];
        if (std.math.isNan(expected)) {
            try std.testing.expect(std.math.isNan(found));
        } else {
            try std.testing.expectEqual(@as(u32, @bitCast(expected)), @as(u32, @bitCast(found)));
        }
    }
}

test "a row's score is its dot product, of any length, at any address, wherever it stands" {
    const longest = 3 * width + 1;
    const rows_max = 3 * streams;
    var query: [longest]f32 = undefined;
    for (&query, 0..) |*factor, index| factor.* = @floatFromInt(@as(i32, @intCast(index % 7)) - 3);
    var bytes: [1 + rows_max * longest * 4]u8 = undefined;
    inline for (.{ .f32, .f16, .bf16, .i8 }) |element| {
        const size = comptime @as(Element, element).size();
        for (1..longest + 1) |dimensions| for ([_]usize{ 1, 2, 3 }) |part| {
            const count = part * streams;
            var expected: [rows_max]f32 = @splat(0);
            for (0..count) |row| for (0..dimensions) |at| {
                const number: i8 = @intCast(@as(i32, @intCast((row * 5 + at * 3) % 11)) - 5);
                const float: f32 = @floatFromInt(number);
                const pattern: [size]u8 = switch (@as(Element, element)) {
                    .f32 => @bitCast(float),
                    .f16 => @bitCast(@as(f16, @floatCast(float))),
                    .bf16 => @as([4]u8, @bitCast(float))[2..4].*,
                    .i8 => @bitCast(number),
                };
                bytes[1 + (row * dimensions + at) * size ..][0..size].* = pattern;
                expected[row] += float * query[at];
            };
            var scores: [rows_max]f32 = undefined;
            const distance = part * dimensions * size;
            Rows(element).score(bytes[1..].ptr, distance, part, dimensions, &query, &scores);
            try std.testing.expectEqualSlices(f32, expected[0..count], scores[0..count]);
        };
    }
}
