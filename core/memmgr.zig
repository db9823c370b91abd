//! memmgr for Zig programs, and the root of its tests: re-exports, no logic.

pub const Budget = @import("Budget.zig");
pub const Counters = @import("Counters.zig");
pub const Deadline = @import("Deadline.zig");
pub const Detail = @import("Detail.zig");
pub const Dimension = @import("Dimension.zig");
pub const Gate = @import("Gate.zig");
pub const Generation = @import("Generation.zig");
pub const Guard = @import("Guard.zig");
pub const Layers = @import("Layers.zig");
pub const Lock = @import("Lock.zig");
pub const Log = @import("Log.zig");
pub const Manager = @import("Manager.zig");
pub const Managers = @import("Managers.zig");
pub const MappedFiles = @import("MappedFiles.zig");
pub const Tracker = @import("Tracker.zig");
pub const dtype = @import("dtype.zig");
pub const formats = @import("formats.zig");
pub const os = @import("os.zig");
pub const threads = @import("threads.zig");

test {
    _ = Budget;
    _ = Counters;
    _ = Deadline;
    _ = Detail;
    _ = Dimension;
    _ = Gate;
    _ = Generation;
    _ = Guard;
    _ = Layers;
    _ = Lock;
    _ = Log;
    _ = Manager;
    _ = Managers;
    _ = MappedFiles;
    _ = Tracker;
    _ = dtype;
    _ = formats;
    _ = os;
    _ = threads;
    _ = @import("Dump.zig");
    _ = @import("libmemmgr.zig");
    _ = @import("testing/stress.zig");
}
