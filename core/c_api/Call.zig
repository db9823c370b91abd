//! One call that came in from C: finds what its handle means, and turns its outcome into a status.
//!
//! Every shim is a pair: the exported function makes a `Call` and ends it with the result of a
//! private function, which returns core's closed error set.

const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Manager = @import("../manager.zig").Manager;
const Managers = @import("../manager.zig").Managers;
const os = @import("../os.zig");
const error_text = @import("error_text.zig");
const sized = @import("sized.zig");
const status = @import("status.zig");
const types = @import("types.zig");

const Call = @This();

detail: Detail,
error_out: ?*types.Error,
/// What the thread's system calls were for before this call came to its dimension.
subject_before: ?u64 = null,
/// Whether the thread could be cancelled before this call.
cancellation: os.Cancellation,

pub const Error = Detail.Error;

/// A manager, and the handle it was found under.
pub const Target = struct {
    manager: *Manager,
    handle: u64,
};

/// A thread that is cancelled is so after the call: within it, it may hold a lock or have a
/// dimension half loaded, and much that a call does is a place where threads are cancelled.
pub fn begin(operation: Detail.Operation, error_out: ?*types.Error) Call {
    return .{
        .detail = .{
            .operation = operation,
            .file_name_storage = if (error_out) |out| error_text.fileNameOf(out) else &.{},
        },
        .error_out = error_out,
        .cancellation = os.holdCancellation(),
    };
}

pub fn end(call: *Call, outcome: Error!void) i32 {
    const result = if (outcome) |_| types.Status.ok else |err| call.refuse(err);
    call.leave();
    return @backingInt(result);
}

fn leave(call: *Call) void {
    if (call.subject_before) |subject| os.simulated.restoreSubject(subject);
    os.releaseCancellation(call.cancellation);
}

noinline fn refuse(call: *Call, err: Error) types.Status {
    const code = status.of(err);
    if (call.error_out) |out| {
        call.detail.ask();
        error_text.write(out, code, &call.detail);
    }
    return code;
}

/// The same for a function that returns a block.
pub fn endPointer(call: *Call, outcome: Error![*]u8) ?*anyopaque {
    const block = outcome catch |err| {
        _ = call.end(err);
        return null;
    };
    call.leave();
    return block;
}

/// The manager of a handle, also if it was closed and has views left.
pub fn lookUp(call: *Call, handle: ?*types.Manager) Error!Target {
    const value: u64 = @intFromPtr(handle);
    if (value == 0) return call.invalid("manager is NULL");
    const manager = Managers.find(value) orelse {
        if (Managers.wasOpen(value)) {
            return call.detail.fail(error.InvalidAccess, "the manager was closed");
        }
        return call.invalid("manager is not a handle of this library");
    };
    return .{ .manager = manager, .handle = value };
}

pub fn open(call: *Call, handle: ?*types.Manager) Error!Target {
    const target = try call.lookUp(handle);
    try target.manager.checkOpen(target.handle, &call.detail);
    return target;
}

/// The dimension of an index; the call is about it from now on.
pub fn dimension(call: *Call, target: Target, index: u32) Error!*Dimension {
    const dimensions = target.manager.dimensions();
    if (index >= dimensions.len) {
        call.detail.requested = index;
        call.detail.limit = dimensions.len;
        return call.detail.fail(error.UnknownDimension, "no dimension has this index");
    }
    const found = &dimensions[index];
    call.detail.dimension = index;
    call.detail.dimension_name = found.name();
    call.subject_before = os.simulated.setSubject(found.name());
    return found;
}

pub fn invalid(call: *Call, reason: []const u8) Error {
    return call.detail.fail(error.InvalidArgument, reason);
}

/// Null is for ever.
pub fn timeoutNs(call: *Call, timeout_ns: i64) Error!?u64 {
    if (timeout_ns == types.forever) return null;
    if (timeout_ns < 0) {
        return call.invalid("a timeout is 0 or more nanoseconds, or MEMMGR_FOREVER");
    }
    return @intCast(timeout_ns);
}

/// A value that names a member of an enum.
pub fn member(call: *Call, comptime T: type, value: u32, reason: []const u8) Error!T {
    return @import("std").enums.fromInt(T, value) orelse call.invalid(reason);
}

/// A struct of the caller's that the library fills. It is empty until then.
pub fn output(call: *Call, comptime T: type, out: ?*T) Error!*T {
    const checked = try call.held(T, out);
    sized.clear(T, checked);
    return checked;
}

/// A struct of the caller's that the library filled before.
pub fn held(call: *Call, comptime T: type, pointer: ?*T) Error!*T {
    const checked = pointer orelse return call.invalid("a struct is NULL");
    try sized.check(T, checked.struct_size, &call.detail);
    return checked;
}
