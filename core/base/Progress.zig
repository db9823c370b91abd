//! How far a long operation is: told between its chunks to whoever asked, who may stop it.

const std = @import("std");
const Detail = @import("Detail.zig");
const interrupt = @import("interrupt.zig");

const Progress = @This();

/// False stops the operation.
pub const Function = *const fn (context: ?*anyopaque, done: u64, total: u64) bool;

function: ?Function = null,
context: ?*anyopaque = null,
/// In bytes.
done: u64 = 0,
total: u64 = 0,

/// Before the first chunk.
pub fn begin(progress: *Progress, total: u64, detail: *Detail) Detail.Error!void {
    progress.done = 0;
    progress.total = total;
    return progress.advance(0, detail);
}

/// Fails also if the call is to end for another reason.
pub fn advance(progress: *Progress, size: u64, detail: *Detail) Detail.Error!void {
    if (progress.tell(size)) return interrupt.check(detail);
    return detail.fail(error.Cancelled, "the progress function asked for it to stop");
}

/// False if whoever is told asks for the operation to stop.
pub fn tell(progress: *Progress, size: u64) bool {
    progress.done += size;
    const function = progress.function orelse return true;
    return function(progress.context, progress.done, progress.total);
}

test "progress is told from nothing to all, and stops what it is told of" {
    const Watcher = struct {
        seen: [4]u64 = undefined,
        count: usize = 0,
        stop_at: u64,

        fn hear(context: ?*anyopaque, done: u64, total: u64) bool {
            const watcher: *@This() = @ptrCast(@alignCast(context.?));
            std.debug.assert(total == 10);
            watcher.seen[watcher.count] = done;
            watcher.count += 1;
            return done < watcher.stop_at;
        }
    };
    var watcher: Watcher = .{ .stop_at = 10 };
    var progress: Progress = .{ .function = Watcher.hear, .context = &watcher };
    var detail: Detail = .{};
    try progress.begin(10, &detail);
    try progress.advance(4, &detail);
    try std.testing.expectError(error.Cancelled, progress.advance(6, &detail));
    try std.testing.expectEqualSlices(u64, &.{ 0, 4, 10 }, watcher.seen[0..watcher.count]);
    var silent: Progress = .{};
    try silent.begin(10, &detail);
    try silent.advance(10, &detail);
}
