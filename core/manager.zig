//! What dimensions share, the managers of the process, and their description.

pub const Dump = @import("manager/Dump.zig");
pub const Manager = @import("manager/Manager.zig");
pub const Managers = @import("manager/Managers.zig");

test {
    _ = Dump;
    _ = Manager;
    _ = Managers;
}
