//! Shims of the header's banner "Interrupt": core's question to the caller's function.

const std = @import("std");
const os = @import("../os.zig");
const Lock = @import("../base.zig").Lock;
const Call = @import("Call.zig");
const fork = @import("../base.zig").fork;
const interrupt = @import("../base.zig").interrupt;
const types = @import("types.zig");

const Atomic = std.atomic.Value;
const Function = *const types.InterruptFunction;

/// Held while the function is replaced.
var lock: Lock = .{};
/// Together with `user`, which changes only while the function is null and nobody is inside.
var function: Atomic(?Function) = .init(null);
var user: ?*anyopaque = null;
/// Calls of the function that may be under way.
var inside_count: Atomic(u32) = .init(0);
/// Those of the calling thread: the function may call what asks it again.
threadlocal var inside: u32 = 0;

pub fn memmgr_interrupt_set(
    new: ?Function,
    new_user: ?*anyopaque,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.interrupt, error_out);
    return call.end(set(&call, new, new_user));
}

fn set(call: *Call, new: ?Function, new_user: ?*anyopaque) Call.Error!void {
    if (inside > 0) return call.invalid("the interrupt function cannot replace itself");
    try fork.join(&.{onFork}, &call.detail);
    lock.lock();
    defer lock.unlock();
    interrupt.set(null);
    function.store(null, .seq_cst);
    while (true) {
        const count = inside_count.load(.seq_cst);
        if (count == 0) break;
        os.futexWait(&inside_count, count, null);
    }
    user = new_user;
    function.store(new, .seq_cst);
    if (new != null) interrupt.set(ask);
}

/// In the child nobody but the calling thread is in here.
fn onFork(stage: os.ForkStage) void {
    if (stage != .in_child) return;
    lock = .{};
    inside_count.store(inside, .seq_cst);
}

fn ask() bool {
    inside += 1;
    _ = inside_count.fetchAdd(1, .seq_cst);
    defer {
        inside -= 1;
        if (inside_count.fetchSub(1, .seq_cst) == 1) os.futexWakeAll(&inside_count);
    }
    const current = function.load(.seq_cst) orelse return false;
    return current(user) != 0;
}
