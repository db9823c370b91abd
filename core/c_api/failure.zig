//! Shims of the header's banner "Failure": the switch of `os/simulated.zig` for programs.

const std = @import("std");
const os = @import("../os.zig");
const Dimension = @import("../dimension.zig").Dimension;
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_call_name(call: u32) callconv(.c) [*:0]const u8 {
    return @tagName(std.enums.fromInt(types.Call, call) orelse return "unknown");
}

pub fn memmgr_failure_inject(
    failure: ?*const types.Failure,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.inject, error_out);
    return call.end(inject(&call, failure));
}

fn inject(call: *Call, failure: ?*const types.Failure) Call.Error!void {
    const pointer = failure orelse return call.invalid("failure is NULL");
    const given = try sized.read(types.Failure, pointer, &call.detail);
    const which = try called(call, given.call);
    // Codes of this size are what every system has.
    if (given.system_code <= 0 or given.system_code > std.math.maxInt(i32)) {
        return call.invalid("system_code is no code of the system's");
    }
    const name = if (given.dimension) |text| std.mem.span(text) else null;
    if (name) |text| if (text.len == 0 or text.len > Dimension.name_size_max) {
        return call.invalid("a dimension's name is 1 to 63 bytes of UTF-8");
    };
    os.simulated.failNext(which, given.system_code, .{
        .after = given.after,
        .times = if (given.count == 0) 1 else given.count,
        .dimension = name,
    });
}

pub fn memmgr_failure_count(
    which: u32,
    calls_out: ?*u64,
    failures_out: ?*u64,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.inject, error_out);
    if (calls_out) |out| out.* = 0;
    if (failures_out) |out| out.* = 0;
    return call.end(count(&call, which, calls_out, failures_out));
}

fn count(call: *Call, which: u32, calls_out: ?*u64, failures_out: ?*u64) Call.Error!void {
    const counted = try called(call, which);
    if (calls_out) |out| out.* = os.simulated.calls(counted);
    if (failures_out) |out| out.* = os.simulated.failures(counted);
}

pub fn memmgr_failure_clear(which: u32, error_out: ?*types.Error) callconv(.c) i32 {
    var call: Call = .begin(.inject, error_out);
    return call.end(clear(&call, which));
}

fn clear(call: *Call, which: u32) Call.Error!void {
    if (which == 0) return os.simulated.clear();
    os.simulated.clearCall(try called(call, which));
}

fn called(call: *Call, which: u32) Call.Error!types.Call {
    return call.member(types.Call, which, "call is no MEMMGR_CALL_…");
}
