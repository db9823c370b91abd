//! A named place of fixed capacity: who may do what when, the versions of its file, its pages.

pub const Dimension = @import("dimension/Dimension.zig");
pub const Generation = @import("dimension/Generation.zig");
pub const Held = @import("dimension/Held.zig");
pub const Residency = @import("dimension/Residency.zig");
pub const Room = @import("dimension/Room.zig");
pub const Warming = @import("dimension/Warming.zig");
pub const legal = @import("dimension/legal.zig");

test {
    _ = Dimension;
    _ = Generation;
    _ = Held;
    _ = Residency;
    _ = Room;
    _ = Warming;
    _ = legal;
}
