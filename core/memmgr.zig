//! memmgr for Zig programs, and the root of its tests: re-exports, no logic.

pub const AtomicFile = @import("AtomicFile.zig");
pub const Budget = @import("Budget.zig");
pub const Checksum = @import("Checksum.zig");
pub const Counters = @import("Counters.zig");
pub const Deadline = @import("Deadline.zig");
pub const Detail = @import("Detail.zig");
pub const Dimension = @import("Dimension.zig");
pub const Gate = @import("Gate.zig");
pub const Generation = @import("Generation.zig");
pub const Layers = @import("Layers.zig");
pub const Lock = @import("Lock.zig");
pub const Log = @import("Log.zig");
pub const Manager = @import("Manager.zig");
pub const Managers = @import("Managers.zig");
pub const MappedFiles = @import("MappedFiles.zig");
pub const Progress = @import("Progress.zig");
pub const Saver = @import("Saver.zig");
pub const Tracker = @import("Tracker.zig");
pub const Verification = @import("Verification.zig");
pub const dtype = @import("dtype.zig");
pub const formats = @import("formats.zig");
pub const os = @import("os.zig");
pub const threads = @import("threads.zig");

test {
    _ = AtomicFile;
    _ = Budget;
    _ = Checksum;
    _ = Counters;
    _ = Deadline;
    _ = Detail;
    _ = Dimension;
    _ = Gate;
    _ = Generation;
    _ = Layers;
    _ = Lock;
    _ = Log;
    _ = Manager;
    _ = Managers;
    _ = MappedFiles;
    _ = Progress;
    _ = Saver;
    _ = Tracker;
    _ = Verification;
    _ = dtype;
    _ = formats;
    _ = os;
    _ = threads;
    _ = @import("Dump.zig");
    _ = @import("libmemmgr.zig");
    _ = @import("testing/stress.zig");
}
