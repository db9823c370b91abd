//! Shims of the header's banner "Manager".

const std = @import("std");
const Dimension = @import("../Dimension.zig");
const Manager = @import("../Manager.zig");
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
        types.open_poison | types.open_guard_pages;
    if (given.flags & ~known != 0) {
        return call.invalid("flags has bits that this version of the library does not know");
    }
    var core: Manager.Options = .{
        .populate = given.flags & types.open_populate != 0,
        .gate_atomic = given.flags & types.open_gate_atomic != 0,
        .track_views = given.flags & types.open_track_views != 0,
        .poison = given.flags & types.open_poison != 0,
        .guard_pages = given.flags & types.open_guard_pages != 0,
    };
    if (given.dimension_count != 0) core.dimension_count = given.dimension_count;
    if (given.capacity != 0) core.capacity = given.capacity;
    if (given.limit != 0) core.limit = given.limit;
    if (given.pool_limit != 0) core.pool_limit = given.pool_limit;
    if (given.read_timeout_ns != 0) {
        core.read_timeout_ns = try call.timeoutNs(given.read_timeout_ns);
    }
    var specs: Specs = undefined;
    if (given.dimensions) |first| {
        if (given.dimension_count == 0) {
            return call.invalid("dimensions is given, but dimension_count is 0");
        }
        specs = .{ .first = first, .stride = first[0].struct_size };
        try specs.check(call, given.dimension_count);
        core.spec = Specs.at;
        core.spec_context = &specs;
    }
    const manager = try Manager.open(core, &call.detail);
    out.* = @ptrFromInt(manager.handle.load(.monotonic));
}

/// An array of the caller's, whose elements may be of an older or a newer size.
const Specs = struct {
    first: [*]const types.DimensionSpec,
    stride: u32,

    fn pointer(specs: *const Specs, index: u32) *const types.DimensionSpec {
        const bytes: [*]const u8 = @ptrCast(specs.first);
        return @ptrCast(@alignCast(bytes + @as(usize, index) * specs.stride));
    }

    fn check(specs: *const Specs, call: *Call, count: u32) Call.Error!void {
        if (specs.stride % @alignOf(types.DimensionSpec) != 0) {
            return call.invalid("dimensions[0].struct_size is not the size of the struct");
        }
        for (0..count) |index| {
            const spec = specs.pointer(@intCast(index));
            _ = try sized.read(types.DimensionSpec, spec, &call.detail);
            if (spec.struct_size != specs.stride) {
                return call.invalid("dimensions[…].struct_size is not the same in all of them");
            }
        }
    }

    fn at(context: ?*const anyopaque, index: u32) Manager.Spec {
        const specs: *const Specs = @ptrCast(@alignCast(context.?));
        const spec = specs.pointer(index);
        return .{
            .name = if (spec.name) |name| std.mem.span(name) else null,
            .capacity = spec.capacity,
        };
    }
};

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
