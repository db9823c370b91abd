//! Who is inside of a slot, and how the rare side finds out.

pub const Counters = @import("gate/Counters.zig");
pub const Gate = @import("gate/Gate.zig");
pub const Shared = @import("gate/Shared.zig");
pub const Tracker = @import("gate/Tracker.zig");
pub const threads = @import("gate/threads.zig");

test {
    _ = Counters;
    _ = Gate;
    _ = Shared;
    _ = Tracker;
    _ = threads;
}
