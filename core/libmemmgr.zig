//! The root of the C library: its panic policy and the only export block.
//!
//! Every function of the header is exported here, and nothing else is (`tests/package` compares).
//! The shims stand in `c_api/`, one file for each banner of the header.

const builtin = @import("builtin");
const std = @import("std");
const capabilities = @import("c_api/capabilities.zig");
const dimension = @import("c_api/dimension.zig");
const failure = @import("c_api/failure.zig");
const interrupt = @import("c_api/interrupt.zig");
const log = @import("c_api/log.zig");
const manager = @import("c_api/manager.zig");
const pool = @import("c_api/pool.zig");
const residency = @import("c_api/residency.zig");
const save = @import("c_api/save.zig");
const scan = @import("c_api/scan.zig");
const stats = @import("c_api/stats.zig");
const status = @import("c_api/status.zig");
const target = @import("os.zig").target;
const verify = @import("c_api/verify.zig");
const view = @import("c_api/view.zig");
const write = @import("c_api/write.zig");

/// The default handler would print, and pull 300 KB of formatting and foreign symbols into every
/// program that links the library. Release builds check arguments themselves and never get here.
pub const panic = if (builtin.is_test)
    std.debug.FullPanic(std.debug.defaultPanic)
else
    std.debug.FullPanic(trap);

fn trap(_: []const u8, _: ?usize) noreturn {
    @trap();
}

/// The header's structs and constants.
pub const types = @import("c_api/types.zig");

/// Their functions are named as in the header.
pub const shims = .{
    capabilities, dimension, failure, interrupt, log, manager, pool, residency, save, scan, stats,
    status,       verify,    view,    write,
};

/// The scan's kernels for newer processors, which are modules of build.zig's: AVX2, AVX-512.
pub const wider_kernels = if (@import("root") == @This() and builtin.cpu.arch == .x86_64)
    .{ @import("kernels_avx2"), @import("kernels_avx512") }
else
    null;

comptime {
    // First: for another target it is the one error.
    target.check();
    for (shims) |shim| {
        for (@typeInfo(shim).@"struct".decl_names) |name| {
            if (std.mem.startsWith(u8, name, "memmgr_")) {
                @export(&@field(shim, name), .{ .name = name });
            }
        }
    }
}

test {
    _ = @import("c_api/Call.zig");
    _ = @import("c_api/error_text.zig");
    _ = @import("c_api/sized.zig");
    _ = capabilities;
    _ = dimension;
    _ = failure;
    _ = interrupt;
    _ = log;
    _ = manager;
    _ = pool;
    _ = residency;
    _ = save;
    _ = scan;
    _ = stats;
    _ = status;
    _ = verify;
    _ = view;
    _ = write;
}
