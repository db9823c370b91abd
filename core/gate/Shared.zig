//! What all dimensions of a manager and its pools share, and who still needs it.
//!
//! The open manager is a tenant, every generation in a slot is one more, and so are the pools while
//! a closed manager has live blocks. Whoever takes the last tenant out gives the manager back.

const std = @import("std");
const Budget = @import("../base.zig").Budget;
const Counters = @import("Counters.zig");
const Tracker = @import("Tracker.zig");

const Shared = @This();

counters: *Counters,
budget: *Budget,
/// Null if nobody asked to keep track.
tracker: ?*Tracker,
read_timeout_ns: ?u64,
/// Faults of what is loaded are caught.
guarded: bool,
tenants: std.atomic.Value(u32),
/// Called by whoever takes the last tenant out.
last_out: *const fn (shared: *Shared) void,

/// False if the last one has left already.
pub fn moveIn(shared: *Shared) bool {
    var count = shared.tenants.load(.monotonic);
    while (count != 0) {
        count = shared.tenants.cmpxchgWeak(count, count + 1, .acquire, .monotonic) orelse
            return true;
    }
    return false;
}

pub fn moveOut(shared: *Shared, count: u32) void {
    if (count == 0) return;
    if (shared.tenants.fetchSub(count, .seq_cst) == count) shared.last_out(shared);
}
