//! memmgr for Zig programs, and the root of its tests: re-exports, no logic.

pub const AtomicFile = @import("files.zig").AtomicFile;
pub const Budget = @import("base.zig").Budget;
pub const Checksum = @import("formats.zig").Checksum;
pub const Counters = @import("gate.zig").Counters;
pub const Deadline = @import("base.zig").Deadline;
pub const Detail = @import("base.zig").Detail;
pub const Dimension = @import("dimension.zig").Dimension;
pub const Gate = @import("gate.zig").Gate;
pub const Generation = @import("dimension.zig").Generation;
pub const Guard = @import("Guard.zig");
pub const Layers = @import("formats.zig").Layers;
pub const Lock = @import("base.zig").Lock;
pub const Log = @import("base.zig").Log;
pub const Manager = @import("manager.zig").Manager;
pub const Managers = @import("manager.zig").Managers;
pub const MappedFiles = @import("base.zig").MappedFiles;
pub const Pool = @import("Pool.zig");
pub const Progress = @import("base.zig").Progress;
pub const Residency = @import("dimension.zig").Residency;
pub const Saver = @import("files.zig").Saver;
pub const Scan = @import("Scan.zig");
pub const Shared = @import("gate.zig").Shared;
pub const Tracker = @import("gate.zig").Tracker;
pub const Verification = @import("files.zig").Verification;
pub const Warming = @import("dimension.zig").Warming;
pub const dtype = @import("formats.zig").dtype;
pub const fork = @import("base.zig").fork;
pub const formats = @import("formats.zig");
pub const interrupt = @import("base.zig").interrupt;
pub const legal = @import("dimension.zig").legal;
pub const os = @import("os.zig");
pub const threads = @import("gate.zig").threads;

comptime {
    os.target.check();
}

test {
    // First: after faults Wine 10 fails an assertion of its own when large ranges are reserved.
    _ = @import("testing/failures.zig");
    _ = @import("base.zig");
    _ = @import("dimension.zig");
    _ = @import("files.zig");
    _ = @import("gate.zig");
    _ = @import("manager.zig");
    _ = Guard;
    _ = Pool;
    _ = Scan;
    _ = formats;
    _ = os;
    _ = @import("libmemmgr.zig");
    _ = @import("testing/files.zig");
    _ = @import("testing/guard.zig");
    _ = @import("testing/manager.zig");
    _ = @import("testing/pool.zig");
    _ = @import("testing/states.zig");
    _ = @import("testing/stress.zig");
    _ = @import("testing/warming.zig");
}
