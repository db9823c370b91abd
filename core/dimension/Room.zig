//! Room on the disk for every byte of a file that is to be written to through a mapping, where a
//! full disk would be a signal.
//!
//! Taken in pieces, so that whoever waits can be asked between them. If it cannot be taken whole,
//! what was taken is given back: the holes are holes again, unless somebody has written to them.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const interrupt = @import("../base.zig").interrupt;

const Room = @This();

file: os.File,
gaps: []const os.Gap,
/// Gaps of which something may have been taken.
begun_count: usize = 0,

const refusal = "cannot give the file's holes room on the disk";

/// What is taken at a time.
pub const piece_size = 64 << 20;

/// Ends with `keep` or `giveBack`. The file stays open meanwhile.
pub fn take(file: os.File, size: u64, detail: *Detail) Detail.Error!Room {
    const gaps = os.findGaps(file, size, &detail.code) catch {
        return detail.fileRefused(size, refusal);
    };
    var room: Room = .{ .file = file, .gaps = gaps };
    errdefer room.giveBack();
    errdefer detail.ask();
    os.canFill(file, size, gaps, &detail.code) catch return detail.fileRefused(size, refusal);
    for (gaps, 1..) |gap, count| {
        room.begun_count = count;
        var piece = gap;
        while (piece.start < gap.end) : (piece.start = piece.end) {
            try interrupt.check(detail);
            piece.end = @min(piece.start + piece_size, gap.end);
            os.fill(file, piece, &detail.code) catch return detail.fileRefused(size, refusal);
        }
    }
    return room;
}

/// Fails as `take` would, as far as it can be told without taking anything.
pub fn check(file: os.File, size: u64, detail: *Detail) Detail.Error!void {
    const gaps = os.findGaps(file, size, &detail.code) catch {
        return detail.fileRefused(size, refusal);
    };
    defer os.heap.free(gaps);
    os.canFill(file, size, gaps, &detail.code) catch return detail.fileRefused(size, refusal);
}

pub fn keep(room: Room) void {
    os.heap.free(room.gaps);
}

pub fn giveBack(room: Room) void {
    for (room.gaps[0..room.begun_count]) |gap| os.unfill(room.file, gap);
    os.heap.free(room.gaps);
}

const testing = std.testing;
const TempFile = @import("../os.zig").TempFile;

fn sizeOfGaps(file: os.File, size: u64) !u64 {
    var code: i64 = 0;
    const gaps = try os.findGaps(file, size, &code);
    defer os.heap.free(gaps);
    var sum: u64 = 0;
    for (gaps) |gap| sum += gap.end - gap.start;
    return sum;
}

test "room that cannot be taken whole is given back to the byte, and what was there stays" {
    const size = 3 * piece_size;
    const file: TempFile = try .createSparse(size);
    defer file.deinit();
    defer os.simulated.clear();
    var code: i64 = 0;
    const opened = try os.open(file.path, .read_write, &code);
    defer os.close(opened);
    try os.writeAt(opened, "data", piece_size + 4711, &code);
    const before = try sizeOfGaps(opened, size);
    if (before < 2 * piece_size) return error.SkipZigTest; // the file system makes no holes
    // The first look, then each piece: the holes before and behind the data are two.
    for (0..5) |after| {
        var detail: Detail = .{};
        os.simulated.failNext(.fill, if (@import("builtin").os.tag == .windows) 112 else 28, .{
            .after = after,
        });
        try testing.expectError(error.DiskFull, take(opened, size, &detail));
        os.simulated.clear();
        try testing.expectEqual(size, detail.requested);
        try testing.expectEqual(before, try sizeOfGaps(opened, size));
    }
    var detail: Detail = .{};
    try check(opened, size, &detail);
    try testing.expectEqual(before, try sizeOfGaps(opened, size));
    (try take(opened, size, &detail)).giveBack();
    try testing.expectEqual(before, try sizeOfGaps(opened, size));
    var found: [4]u8 = undefined;
    try testing.expectEqual(4, try os.readAt(opened, &found, piece_size + 4711, &code));
    try testing.expectEqualStrings("data", &found);
}

test "an interrupted call takes no room" {
    const Ask = struct {
        fn yes() bool {
            return true;
        }
    };
    const file: TempFile = try .createSparse(2 * piece_size);
    defer file.deinit();
    var code: i64 = 0;
    const opened = try os.open(file.path, .read_write, &code);
    defer os.close(opened);
    const before = try sizeOfGaps(opened, 2 * piece_size);
    interrupt.set(Ask.yes);
    defer interrupt.set(null);
    var detail: Detail = .{};
    if (before > 0) {
        try testing.expectError(error.Cancelled, take(opened, 2 * piece_size, &detail));
    }
    try testing.expectEqual(before, try sizeOfGaps(opened, 2 * piece_size));
}
