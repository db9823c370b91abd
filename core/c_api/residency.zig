//! Shims of the header's banner "Residency".

const Residency = @import("../dimension.zig").Residency;
const Warming = @import("../dimension.zig").Warming;
const Call = @import("Call.zig");
const save = @import("save.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_dimension_warm(
    manager: ?*types.Manager,
    dimension: u32,
    options: ?*const types.WarmOptions,
    warming_out: ?*types.Warming,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.warm, error_out);
    return call.end(warm(&call, manager, dimension, options, warming_out));
}

fn warm(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    options: ?*const types.WarmOptions,
    warming_out: ?*types.Warming,
) Call.Error!void {
    const out = try call.output(types.Warming, warming_out);
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    const given: types.WarmOptions = if (options) |pointer|
        try sized.read(types.WarmOptions, pointer, &call.detail)
    else
        .{};
    var listener: save.Listener = .{ .function = given.progress, .user = given.user };
    const found: Warming = try .run(dimension, target.handle, .{
        .bytes_per_second = orNull(given.bytes_per_second),
        .budget = orNull(given.budget),
        .timeout_ns = if (given.timeout_ns == 0) null else try call.timeoutNs(given.timeout_ns),
        .progress = listener.progress(),
    }, &call.detail);
    sized.write(types.Warming, out, .{
        .stop = @backingInt(found.stop),
        .limit_kind = @backingInt(found.limit),
        .generation = found.generation,
        .size = found.size,
        .warm = found.warm,
        .read = found.read,
    });
}

fn orNull(value: u64) ?u64 {
    return if (value == 0) null else value;
}

pub fn memmgr_dimension_lock(
    manager: ?*types.Manager,
    dimension: u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.lock, error_out);
    return call.end(lock(&call, manager, dimension));
}

fn lock(call: *Call, handle: ?*types.Manager, index: u32) Call.Error!void {
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    try Residency.lock(dimension, target.handle, &call.detail);
}

pub fn memmgr_dimension_unlock(
    manager: ?*types.Manager,
    dimension: u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.unlock, error_out);
    return call.end(unlock(&call, manager, dimension));
}

fn unlock(call: *Call, handle: ?*types.Manager, index: u32) Call.Error!void {
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    try Residency.unlock(dimension, target.handle, &call.detail);
}

pub fn memmgr_residency_get(
    manager: ?*types.Manager,
    dimension: u32,
    offset: u64,
    length: u64,
    residency_out: ?*types.Residency,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(getResidency(&call, manager, dimension, offset, length, residency_out));
}

fn getResidency(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    residency_out: ?*types.Residency,
) Call.Error!void {
    const out = try call.output(types.Residency, residency_out);
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    const wanted = orNull(length);
    const found: Residency = try .of(dimension, target.handle, offset, wanted, &call.detail);
    sized.write(types.Residency, out, .{
        .dimension = index,
        .generation = found.generation,
        .offset = found.offset,
        .length = found.length,
        .resident = if (found.use) |use| use.resident else types.unknown,
        .cached = found.cached orelse types.unknown,
        .huge = if (found.use) |use| use.huge else types.unknown,
        .locked = found.locked,
    });
}
