//! Shims of the header's banner "Manager".

const std = @import("std");
const Dimension = @import("../dimension.zig").Dimension;
const Manager = @import("../manager.zig").Manager;
const Managers = @import("../manager.zig").Managers;
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_manager_open(
    options: ?*const types.ManagerOptions,
    manager_out: ?*?*types.Manager,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.open, error_out);
    if (manager_out) |out| out.* = null;
    return call.end(open(&call, options, manager_out));
}

fn open(
    call: *Call,
    options: ?*const types.ManagerOptions,
    manager_out: ?*?*types.Manager,
) Call.Error!void {
    const out = manager_out orelse return call.invalid("manager_out is NULL");
    const given: types.ManagerOptions = if (options) |pointer|
        try sized.read(types.ManagerOptions, pointer, &call.detail)
    else
        .{};
    const known = types.open_populate | types.open_gate_atomic | types.open_track_views |
        types.open_poison | types.open_guard_pages |
        types.open_fault_guard | types.open_limit_auto;
    if (given.flags & ~known != 0) {
        return call.invalid("flags has bits that this version of the library does not know");
    }
    var core: Manager.Options = .{
        .populate = given.flags & types.open_populate != 0,
        .gate_atomic = given.flags & types.open_gate_atomic != 0,
        .track_views = given.flags & types.open_track_views != 0,
        .poison = given.flags & types.open_poison != 0,
        .guard_pages = given.flags & types.open_guard_pages != 0,
        .guard = given.flags & types.open_fault_guard != 0,
        .limit_auto = given.flags & types.open_limit_auto != 0,
    };
    if (given.dimension_count != 0) core.dimension_count = given.dimension_count;
    if (given.capacity != 0) core.capacity = given.capacity;
    if (given.limit != 0) core.limit = given.limit;
    if (core.limit_auto and core.limit != null) {
        return call.invalid("limit and MEMMGR_OPEN_LIMIT_AUTO exclude each other");
    }
    if (given.pool_limit != 0) core.pool_limit = given.pool_limit;
    if (given.read_timeout_ns != 0) {
        core.read_timeout_ns = try call.timeoutNs(given.read_timeout_ns);
    }
    var specs: sized.Array(types.DimensionSpec) = undefined;
    if (given.dimensions) |first| {
        if (given.dimension_count == 0) {
            return call.invalid("dimensions is given, but dimension_count is 0");
        }
        specs = try .of(&first[0], &call.detail);
        // A count that is refused below says nothing about how many there are.
        const count = @min(given.dimension_count, types.dimensions_max);
        for (0..count) |index| try specs.checkElement(index, &call.detail);
        core.spec = specAt;
        core.spec_context = &specs;
    }
    const manager = try Managers.open(core, &call.detail);
    out.* = @ptrFromInt(manager.handle.load(.monotonic));
}

fn specAt(context: ?*const anyopaque, index: u32) Manager.Spec {
    const specs: *const sized.Array(types.DimensionSpec) = @ptrCast(@alignCast(context.?));
    const spec = specs.at(index);
    return .{
        .name = if (spec.name) |name| std.mem.span(name) else null,
        .capacity = spec.capacity,
    };
}

pub fn memmgr_manager_close(
    manager: ?*types.Manager,
    on_views: u32,
    timeout_ns: i64,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.close, error_out);
    return call.end(close(&call, manager, on_views, timeout_ns));
}

fn close(
    call: *Call,
    manager: ?*types.Manager,
    on_views: u32,
    timeout_ns: i64,
) Call.Error!void {
    if (manager == null) return;
    const target = try call.open(manager);
    const how = try call.member(Dimension.OnViews, on_views, "on_views is no MEMMGR_ON_VIEWS_…");
    const timeout = try call.timeoutNs(timeout_ns);
    try target.manager.close(target.handle, how, timeout, &call.detail);
}
