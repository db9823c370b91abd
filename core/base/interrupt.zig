//! Whether a call that waits or takes long is to end: one function of the process's is asked.
//!
//! It is asked with no lock held, on the thread of the call: in a wait between two sleeps, in long
//! work between two pieces, and not more often than the interval, since the function may have to
//! wait for a lock of its own. It may call anything of the library. So whoever asks has to expect
//! that everything but what it holds as its own has changed when the function returns, and that a
//! call within the function meets what it holds (`Dimension.refuseOwnWait`).

const std = @import("std");
const os = @import("../os.zig");
const Deadline = @import("Deadline.zig");
const Detail = @import("Detail.zig");

const Atomic = std.atomic.Value;

/// True: the call is to end.
pub const Hook = *const fn () bool;

/// Bytes of long work between two looks.
pub const piece_size = 16 << 20;

/// Between two questions to one thread. Tests set it to 0, so that every look is a question.
pub var interval_ns: u64 = 100 * std.time.ns_per_ms;

var hook: Atomic(?Hook) = .init(null);
/// Counts the hooks that were set: a thread asks a new one at its first look.
var serial: Atomic(u32) = .init(0);
threadlocal var asked_serial: u32 = 0;
threadlocal var due_ns: u64 = 0;

/// Null: nobody is asked, and no sleep ends for it.
pub fn set(new: ?Hook) void {
    hook.store(new, .release);
    _ = serial.fetchAdd(1, .monotonic);
}

/// Fails if the call is to end. Between two questions it costs a look at the clock.
pub fn check(detail: *Detail) Detail.Error!void {
    const ask = hook.load(.acquire) orelse return;
    if (leftNs() != 0) return;
    asked_serial = serial.load(.monotonic);
    const ends = ask();
    due_ns = os.nowNs() +| interval_ns;
    if (!ends) return;
    detail.code = 0;
    return detail.fail(error.Cancelled, "the interrupt function asked for it to end");
}

/// Until the next question.
fn leftNs() u64 {
    return if (asked_serial == serial.load(.monotonic)) due_ns -| os.nowNs() else 0;
}

/// Sleeps while `word.*` is `expected`, until the deadline or the next question; the caller looks
/// again. `expected` was loaded before the caller looked at what it waits for.
pub fn sleep(
    word: *const Atomic(u32),
    expected: u32,
    deadline: Deadline,
    detail: *Detail,
) Detail.Error!void {
    try check(detail);
    const left = deadline.leftNs();
    if (hook.load(.monotonic) == null) return os.futexWait(word, expected, left);
    os.futexWait(word, expected, @min(left orelse std.math.maxInt(u64), leftNs()));
    try check(detail);
}

/// The parts of a placement for system calls that take long, with a look before each.
pub const Pieces = struct {
    placement: os.Placement,
    size: usize = piece_size,
    done: usize = 0,

    pub fn next(pieces: *Pieces, detail: *Detail) Detail.Error!?os.Placement {
        if (pieces.done >= pieces.placement.mapped_size) return null;
        try check(detail);
        defer pieces.done += pieces.size;
        return pieces.placement.part(pieces.done, pieces.size);
    }
};

test "interrupt: nobody is asked until a hook is set, and one that says so ends the call" {
    const Counter = struct {
        var asked: u32 = 0;
        var ends_at: u32 = 0;

        fn ask() bool {
            asked += 1;
            return asked == ends_at;
        }
    };
    var detail: Detail = .{};
    try check(&detail);
    set(Counter.ask);
    defer set(null);
    // A new hook is asked at the first look, and then not before the interval is over.
    try check(&detail);
    try check(&detail);
    try std.testing.expectEqual(1, Counter.asked);
    const interval = interval_ns;
    interval_ns = 0;
    defer interval_ns = interval;
    set(Counter.ask);
    Counter.ends_at = 3;
    try check(&detail);
    try std.testing.expectError(error.Cancelled, check(&detail));
    try check(&detail);
    try std.testing.expectEqual(4, Counter.asked);
}

test "interrupt: a sleep without a deadline ends when a hook is to be asked" {
    const Ender = struct {
        var asked: u32 = 0;

        fn ask() bool {
            asked += 1;
            return asked == 3;
        }
    };
    set(Ender.ask);
    defer set(null);
    const interval = interval_ns;
    interval_ns = std.time.ns_per_ms;
    defer interval_ns = interval;
    const word: Atomic(u32) = .init(7);
    var detail: Detail = .{};
    while (true) sleep(&word, 7, .forever, &detail) catch |err| {
        try std.testing.expectEqual(error.Cancelled, err);
        break;
    };
    try std.testing.expectEqual(3, Ender.asked);
}
