//! A moment until which to wait: made once from a timeout, so that waiting in several steps does
//! not add up.

const std = @import("std");
const os = @import("../os.zig");

const Deadline = @This();

/// Of the monotonic clock; null is never.
at_ns: ?u64,

pub const forever: Deadline = .{ .at_ns = null };

/// `timeout_ns` null waits for ever, 0 not at all.
pub fn in(timeout_ns: ?u64) Deadline {
    const timeout = timeout_ns orelse return forever;
    // Without a timeout the clock need not be asked: 0 has passed.
    return .{ .at_ns = if (timeout == 0) 0 else os.nowNs() +| timeout };
}

/// Nanoseconds left: 0 if it has passed, null if it never does.
pub fn leftNs(deadline: Deadline) ?u64 {
    const at_ns = deadline.at_ns orelse return null;
    return if (at_ns == 0) 0 else at_ns -| os.nowNs();
}

pub fn passed(deadline: Deadline) bool {
    return deadline.leftNs() == 0;
}

/// The one of two that passes first.
pub fn earlier(deadline: Deadline, other: Deadline) Deadline {
    const at_ns = deadline.at_ns orelse return other;
    return .{ .at_ns = @min(at_ns, other.at_ns orelse at_ns) };
}

test "Deadline: of two, the one that passes first" {
    const late: Deadline = in(std.time.ns_per_hour);
    try std.testing.expectEqual(late.at_ns, late.earlier(.forever).at_ns);
    try std.testing.expectEqual(late.at_ns, forever.earlier(late).at_ns);
    try std.testing.expect(late.earlier(in(0)).passed());
}

test "Deadline: zero has passed at once, null never" {
    try std.testing.expect(in(0).passed());
    try std.testing.expect(!in(null).passed());
    try std.testing.expectEqual(null, in(null).leftNs());
    try std.testing.expect(!in(std.time.ns_per_hour).passed());
    try std.testing.expect(in(std.math.maxInt(u64)).leftNs().? > std.time.ns_per_hour);
}
