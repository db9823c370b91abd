//! What every room above needs: errors, budget, locks, waits, the log, and forks.

pub const Budget = @import("base/Budget.zig");
pub const Deadline = @import("base/Deadline.zig");
pub const Detail = @import("base/Detail.zig");
pub const Lock = @import("base/Lock.zig");
pub const Log = @import("base/Log.zig");
pub const MappedFiles = @import("base/MappedFiles.zig");
pub const Progress = @import("base/Progress.zig");
pub const escape = @import("base/escape.zig");
pub const fork = @import("base/fork.zig");
pub const interrupt = @import("base/interrupt.zig");

test {
    _ = Budget;
    _ = Deadline;
    _ = Detail;
    _ = Lock;
    _ = Log;
    _ = MappedFiles;
    _ = Progress;
    _ = escape;
    _ = fork;
    _ = interrupt;
}
