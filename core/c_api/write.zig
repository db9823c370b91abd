//! Shims of the header's banner "Write".

const os = @import("../os.zig");
const Call = @import("Call.zig");
const types = @import("types.zig");

pub fn memmgr_write_begin(
    manager: ?*types.Manager,
    dimension: u32,
    flags: u32,
    timeout_ns: i64,
    write_out: ?*types.Write,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.write, error_out);
    return call.end(begin(&call, manager, dimension, flags, timeout_ns, write_out));
}

fn begin(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    flags: u32,
    timeout_ns: i64,
    write_out: ?*types.Write,
) Call.Error!void {
    const out = try call.output(types.Write, write_out);
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    if (flags & ~types.write_any_thread != 0) {
        return call.invalid("flags has bits that this version of the library does not know");
    }
    const timeout = try call.timeoutNs(timeout_ns);
    const any_thread = flags & types.write_any_thread != 0;
    const thread = if (any_thread) 0 else os.threadId();
    const got = try dimension.beginWrite(target.handle, thread, timeout, &call.detail);
    out.dimension = index;
    out.data = got.base;
    out.length = got.size;
    out.generation = got.generation;
    const forks: u28 = @truncate(target.manager.forks.load(.monotonic));
    out.token = .{ target.handle, @bitCast(Token{ .slot = got.slot, .forks = forks }) };
}

/// The second word of a write's token.
const Token = packed struct(u64) {
    /// So that a zeroed write is not one of slot 0.
    held: bool = true,
    slot: u1,
    /// Of the manager, when the write was begun.
    forks: u28,
    zero: u34 = 0,

    fn isOurs(token: Token, forks: u32) bool {
        const same = Token{ .slot = token.slot, .forks = token.forks };
        return token == same and token.forks <= forks;
    }
};

pub fn memmgr_write_end(
    manager: ?*types.Manager,
    write: ?*types.Write,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.write, error_out);
    return call.end(end(&call, manager, write));
}

fn end(call: *Call, handle: ?*types.Manager, write: ?*types.Write) Call.Error!void {
    const held = try call.held(types.Write, write);
    if (held.token[0] == 0) return call.invalid("the write was not begun, or has ended");
    if (held.token[0] != @intFromPtr(handle)) {
        return call.invalid("the write is one of another manager");
    }
    const target = try call.lookUp(handle);
    const dimension = try call.dimension(target, held.dimension);
    const token: Token = @bitCast(held.token[1]);
    const forks = target.manager.forks.load(.monotonic);
    if (!token.isOurs(forks)) return call.invalid("the write is not one that this manager began");
    const outcome = if (token.forks == forks)
        dimension.endWrite(target.handle, os.threadId(), token.slot, held.generation, &call.detail)
    else {}; // one of a parent process is ended there
    outcome catch |err| switch (err) {
        // It has ended all the same.
        error.Faulted => {},
        else => return err,
    };
    held.data = null;
    held.length = 0;
    held.token = .{ 0, 0 };
    return outcome;
}
