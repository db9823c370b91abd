//! The best rows of those that were offered, in room that the caller gives.
//!
//! A row is better if its score is higher, or as high and its index lower. A score that is no
//! number is worse than any that is one. The room is a heap with the worst row on top, so that most
//! rows are turned away by one comparison.

const std = @import("std");

const Best = @This();

rows: []u64,
/// As many as rows.
scores: []f32,
count: usize = 0,

const Candidate = struct {
    row: u64,
    score: f32,

    fn isBetter(candidate: Candidate, other: Candidate) bool {
        if (candidate.score > other.score) return true;
        if (candidate.score < other.score) return false;
        const is_number = candidate.score == candidate.score;
        if (is_number != (other.score == other.score)) return is_number;
        return candidate.row < other.row;
    }
};

/// Rows that follow each other.
pub fn offer(best: *Best, first_row: u64, scores: []const f32) void {
    if (best.rows.len == 0) return;
    const group = 8;
    var at: usize = 0;
    while (at < scores.len) : (at += group) {
        const end = @min(at + group, scores.len);
        if (end - at == group and best.turnsAway(group, scores[at..][0..group].*)) continue;
        for (scores[at..end], first_row + at..) |score, row| {
            best.offerOne(.{ .row = row, .score = score });
        }
    }
}

inline fn turnsAway(best: *const Best, comptime count: usize, scores: @Vector(count, f32)) bool {
    if (best.count < best.rows.len) return false;
    // Of what is no number this is false.
    return @reduce(.And, scores < @as(@Vector(count, f32), @splat(best.scores[0])));
}

fn offerOne(best: *Best, candidate: Candidate) void {
    if (best.count < best.rows.len) {
        best.count += 1;
        best.rise(best.count - 1, candidate);
    } else if (candidate.isBetter(best.get(0))) {
        best.sink(0, candidate);
    }
}

/// Puts the rows in order, the best one first. Nothing is offered any more.
pub fn sort(best: *Best) void {
    const count = best.count;
    while (best.count > 1) {
        const worst = best.get(0);
        best.count -= 1;
        best.sink(0, best.get(best.count));
        best.set(best.count, worst);
    }
    best.count = count;
}

/// Places a candidate at `start`, or above it where it is worse than what stands there.
fn rise(best: *Best, start: usize, candidate: Candidate) void {
    var at = start;
    while (at > 0) {
        const above = (at - 1) / 2;
        if (!best.get(above).isBetter(candidate)) break;
        best.set(at, best.get(above));
        at = above;
    }
    best.set(at, candidate);
}

/// The same, below it where it is better than what stands there.
fn sink(best: *Best, start: usize, candidate: Candidate) void {
    var at = start;
    while (2 * at + 1 < best.count) {
        var below = 2 * at + 1;
        if (below + 1 < best.count and best.get(below).isBetter(best.get(below + 1))) below += 1;
        if (!candidate.isBetter(best.get(below))) break;
        best.set(at, best.get(below));
        at = below;
    }
    best.set(at, candidate);
}

inline fn get(best: *const Best, at: usize) Candidate {
    return .{ .row = best.rows[at], .score = best.scores[at] };
}

inline fn set(best: *Best, at: usize, candidate: Candidate) void {
    best.rows[at] = candidate.row;
    best.scores[at] = candidate.score;
}

fn expectBest(scores: []const f32, room: usize, expected: []const u64) !void {
    var rows: [16]u64 = undefined;
    var kept: [16]f32 = undefined;
    var best: Best = .{ .rows = rows[0..room], .scores = kept[0..room] };
    best.offer(0, scores);
    best.sort();
    try std.testing.expectEqualSlices(u64, expected, rows[0..best.count]);
    for (rows[0..best.count], kept[0..best.count]) |row, score| {
        try std.testing.expectEqual(@as(u32, @bitCast(scores[row])), @as(u32, @bitCast(score)));
    }
}

test "the best rows come out in order, of equal ones the first, and all if there are few" {
    try expectBest(&.{ 1, 5, 3, 5, 2, 5, 0, -1, 4, 5 }, 3, &.{ 1, 3, 5 });
    try expectBest(&.{ 1, 5, 3 }, 16, &.{ 1, 2, 0 });
    try expectBest(&.{ 1, 5, 3 }, 0, &.{});
    try expectBest(&.{}, 4, &.{});
    try expectBest(&@as([40]f32, @splat(7)), 4, &.{ 0, 1, 2, 3 });
    try expectBest(&.{ 0.0, -0.0, 0.0 }, 2, &.{ 0, 1 });
}

test "what is no number comes after everything else" {
    const nan = std.math.nan(f32);
    const inf = std.math.inf(f32);
    try expectBest(&.{ nan, -inf, inf, 1, nan }, 4, &.{ 2, 3, 1, 0 });
    try expectBest(&.{ nan, nan, nan, nan, nan, nan, nan, nan, nan }, 2, &.{ 0, 1 });
    try expectBest(&.{ nan, nan, nan, nan, nan, nan, nan, nan, -inf }, 2, &.{ 8, 0 });
    try expectBest(&.{ 1, 2, nan, nan, nan, nan, nan, nan, nan, 3 }, 2, &.{ 9, 1 });
}

test "any rows in any room come out as if all were sorted" {
    var random: std.Random.DefaultPrng = .init(1);
    var scores: [300]f32 = undefined;
    for (0..200) |_| {
        const count = random.random().uintAtMost(usize, scores.len);
        const room = random.random().uintAtMost(usize, 16);
        for (scores[0..count]) |*score| {
            score.* = switch (random.random().uintLessThan(u8, 12)) {
                0 => std.math.nan(f32),
                else => |number| @floatFromInt(number),
            };
        }
        var sorted: [300]Candidate = undefined;
        for (sorted[0..count], scores[0..count], 0..) |*each, score, row| {
            each.* = .{ .row = row, .score = score };
        }
        std.mem.sort(Candidate, sorted[0..count], {}, struct {
            fn lessThan(_: void, a: Candidate, b: Candidate) bool {
                return a.isBetter(b);
            }
        }.lessThan);
        var expected: [16]u64 = undefined;
        for (expected[0..@min(room, count)], sorted[0..@min(room, count)]) |*row, each| {
            row.* = each.row;
        }
        try expectBest(scores[0..count], room, expected[0..@min(room, count)]);
    }
}
