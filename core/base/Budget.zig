//! The exact count of bytes a manager has promised, under a limit.
//!
//! A charge is a compare-and-swap made *before* the system call that it pays for, and is moved
//! back if that call fails. So the count is never above the limit, not for an instant, and a
//! request is refused only for what is really charged, never for another request that is itself
//! too large (adding first and checking afterwards has both faults).
//!
//! Soft thresholds are shares of what the limit leaves beyond the regions, since those are charged
//! from the first moment. Each crossing is reported once; it must fall well below to count again.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("Detail.zig");

const Budget = @This();
const Atomic = std.atomic.Value;

/// Percent of the room above the regions, ascending.
pub const thresholds_percent = [_]u8{ 80, 95 };
/// A crossing counts again once the use has fallen this far below its threshold.
const hysteresis_percent = 10;

limit: u64,
/// Where the limit comes from: `budget` if it was given, or is the default.
limit_kind: os.Limit.Kind = .budget,
/// Charged when the manager opens: the room for everything else begins here.
floor: u64,
/// Uncharges what nobody needs.
relief: ?*const fn (budget: *Budget) void = null,
allocated: Atomic(u64) = .init(0),
peak: Atomic(u64) = .init(0),
refusals: Atomic(u64) = .init(0),
/// Thresholds that are crossed now.
crossed: Atomic(u32) = .init(0),

/// Charges `bytes`, or fails with requested, used and limit in `detail`. What can be relieved is,
/// before anything is refused.
pub fn charge(budget: *Budget, bytes: u64, detail: *Detail) error{LimitExceeded}!void {
    if (budget.tryCharge(bytes, detail)) return else |_| {}
    if (budget.relief) |relieve| relieve(budget);
    errdefer budget.countRefusal();
    try budget.tryCharge(bytes, detail);
}

pub fn countRefusal(budget: *Budget) void {
    _ = budget.refusals.fetchAdd(1, .monotonic);
}

/// Charges `bytes` if there is room now.
pub fn tryCharge(budget: *Budget, bytes: u64, detail: *Detail) error{LimitExceeded}!void {
    var used = budget.allocated.load(.monotonic);
    while (true) {
        try budget.checkAgainst(used, bytes, detail);
        used = budget.allocated.cmpxchgWeak(used, used + bytes, .monotonic, .monotonic) orelse break;
    }
    _ = budget.peak.fetchMax(used + bytes, .monotonic);
}

/// Fails as a charge of `bytes` would now, and charges nothing.
pub fn check(budget: *Budget, bytes: u64, detail: *Detail) error{LimitExceeded}!void {
    const used = budget.allocated.load(.monotonic);
    if (budget.checkAgainst(used, bytes, detail)) return else |_| {}
    if (budget.relief) |relieve| relieve(budget);
    return budget.checkAgainst(budget.allocated.load(.monotonic), bytes, detail);
}

fn checkAgainst(budget: *Budget, used: u64, bytes: u64, detail: *Detail) error{LimitExceeded}!void {
    if (bytes <= budget.limit - used) return;
    detail.requested = bytes;
    detail.used = used;
    detail.limit = budget.limit;
    detail.limit_kind = .budget;
    detail.reason = "the budget's limit is reached";
    return error.LimitExceeded;
}

pub fn uncharge(budget: *Budget, bytes: u64) void {
    const before = budget.allocated.fetchSub(bytes, .monotonic);
    std.debug.assert(before >= bytes);
    budget.fall();
}

pub fn resetPeak(budget: *Budget) void {
    budget.peak.store(budget.allocated.load(.monotonic), .monotonic);
}

/// The threshold in percent that was crossed upwards since the last look, if one was. Of several
/// threads that look at the same time, one is told.
pub fn crossing(budget: *Budget) ?u8 {
    var before = budget.crossed.load(.monotonic);
    while (true) {
        const now = budget.crossedAfter(before);
        if (now <= before) return null;
        before = budget.crossed.cmpxchgWeak(before, now, .monotonic, .monotonic) orelse
            return thresholds_percent[now - 1];
    }
}

/// Crossings downwards are noticed when they happen: nobody looks when the last view of a replaced
/// generation takes its charge with it.
fn fall(budget: *Budget) void {
    var before = budget.crossed.load(.monotonic);
    while (true) {
        const now = budget.crossedAfter(before);
        if (now >= before) return;
        before = budget.crossed.cmpxchgWeak(before, now, .monotonic, .monotonic) orelse return;
    }
}

/// How many thresholds count as crossed now, if `before` of them did.
fn crossedAfter(budget: *Budget, before: u32) u32 {
    const room = budget.limit - budget.floor;
    const used = budget.allocated.load(.monotonic) -| budget.floor;
    var now: u32 = 0;
    for (thresholds_percent, 0..) |percent, index| {
        const was_crossed = index < before;
        const edge = if (was_crossed) percent - hysteresis_percent else percent;
        if (room > 0 and used > 0 and used >= room / 100 * edge) now = @intCast(index + 1);
    }
    return now;
}

test "R5.2 Budget: a charge that would pass the limit is refused and changes nothing" {
    var budget: Budget = .{ .limit = 100, .floor = 0 };
    var detail: Detail = .{};
    try budget.charge(60, &detail);
    try std.testing.expectError(error.LimitExceeded, budget.charge(41, &detail));
    try std.testing.expectEqual(41, detail.requested);
    try std.testing.expectEqual(60, detail.used);
    try std.testing.expectEqual(100, detail.limit);
    try std.testing.expectEqual(60, budget.allocated.load(.monotonic));
    try budget.charge(40, &detail);
    try std.testing.expectError(
        error.LimitExceeded,
        budget.charge(std.math.maxInt(u64), &detail),
    );
    try std.testing.expectEqual(2, budget.refusals.load(.monotonic));
}

test "R5.3, R5.4 Budget: uncharging is exact and the peak stays until it is reset" {
    var budget: Budget = .{ .limit = 100, .floor = 0 };
    var detail: Detail = .{};
    try budget.charge(70, &detail);
    budget.uncharge(50);
    try std.testing.expectEqual(20, budget.allocated.load(.monotonic));
    try std.testing.expectEqual(70, budget.peak.load(.monotonic));
    budget.resetPeak();
    try std.testing.expectEqual(20, budget.peak.load(.monotonic));
}

test "R7.4 Budget: a threshold is reported once per crossing, with hysteresis" {
    var budget: Budget = .{ .limit = 1100, .floor = 100 };
    var detail: Detail = .{};
    try budget.charge(100, &detail);
    try std.testing.expectEqual(null, budget.crossing());
    try budget.charge(800, &detail);
    try std.testing.expectEqual(80, budget.crossing());
    try std.testing.expectEqual(null, budget.crossing());
    budget.uncharge(50);
    try std.testing.expectEqual(null, budget.crossing());
    try budget.charge(50, &detail);
    try std.testing.expectEqual(null, budget.crossing());
    budget.uncharge(200);
    try std.testing.expectEqual(null, budget.crossing());
    try budget.charge(360, &detail);
    try std.testing.expectEqual(95, budget.crossing());
}

test "R7.4 Budget: a crossing counts again after a fall that nobody looked at" {
    var budget: Budget = .{ .limit = 1000, .floor = 0 };
    var detail: Detail = .{};
    for (0..3) |_| {
        try budget.charge(900, &detail);
        try std.testing.expectEqual(80, budget.crossing());
        budget.uncharge(900);
    }
    // Not one that stays close to the threshold.
    try budget.charge(900, &detail);
    try std.testing.expectEqual(80, budget.crossing());
    budget.uncharge(150);
    try budget.charge(150, &detail);
    try std.testing.expectEqual(null, budget.crossing());
}

test "R5.2 Budget: a check answers as a charge would, and charges nothing" {
    var budget: Budget = .{ .limit = 100, .floor = 0 };
    var detail: Detail = .{};
    try budget.check(100, &detail);
    try std.testing.expectError(error.LimitExceeded, budget.check(101, &detail));
    try std.testing.expectEqual(os.Limit.Kind.budget, detail.limit_kind);
    try std.testing.expectEqual(0, budget.allocated.load(.monotonic));
    try std.testing.expectEqual(0, budget.refusals.load(.monotonic));
}

test "R5.1 Budget: threads that race for it never pass the limit, nor lose a byte" {
    // Each thread charges and uncharges odd amounts; whoever sees more than the limit says so.
    const Racer = struct {
        budget: Budget = .{ .limit = 1000, .floor = 0 },
        passed: Atomic(u32) = .init(0),

        fn run(racer: *@This(), amount: u64) void {
            for (0..20_000) |_| {
                var detail: Detail = .{};
                racer.budget.charge(amount, &detail) catch continue;
                if (racer.budget.allocated.load(.monotonic) > 1000) _ = racer.passed.fetchAdd(1, .monotonic);
                racer.budget.uncharge(amount);
            }
        }
    };
    var racer: Racer = .{};
    var threads: [4]std.Thread = undefined;
    for (&threads, 0..) |*thread, index| {
        thread.* = try std.Thread.spawn(.{}, Racer.run, .{ &racer, 301 + 77 * index });
    }
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(0, racer.passed.load(.monotonic));
    try std.testing.expectEqual(0, racer.budget.allocated.load(.monotonic));
    try std.testing.expect(racer.budget.peak.load(.monotonic) <= 1000);
}
