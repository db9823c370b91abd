//! Shims of the header's banner "Dimension".

const std = @import("std");
const os = @import("../os.zig");
const Dimension = @import("../dimension.zig").Dimension;
const Generation = @import("../dimension.zig").Generation;
const Layers = @import("../formats.zig").Layers;
const Residency = @import("../dimension.zig").Residency;
const dtypes = @import("../formats.zig").dtype;
const formats = @import("../formats.zig");
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_dtype_name(dtype: u32) callconv(.c) [*:0]const u8 {
    return dtypes.name(std.enums.fromInt(dtypes.Dtype, dtype) orelse return "unknown");
}

pub fn memmgr_dtype_bits(dtype: u32) callconv(.c) u32 {
    return dtypes.bits(std.enums.fromInt(dtypes.Dtype, dtype) orelse return 0);
}

pub fn memmgr_dimension_find(
    manager: ?*types.Manager,
    name: ?[*:0]const u8,
    dimension_out: ?*u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.find, error_out);
    if (dimension_out) |out| out.* = 0;
    return call.end(find(&call, manager, name, dimension_out));
}

fn find(
    call: *Call,
    manager: ?*types.Manager,
    name: ?[*:0]const u8,
    dimension_out: ?*u32,
) Call.Error!void {
    const target = try call.open(manager);
    const out = dimension_out orelse return call.invalid("dimension_out is NULL");
    const text = std.mem.span(name orelse return call.invalid("name is NULL"));
    out.* = try target.manager.findDimension(target.handle, text, &call.detail);
}

pub fn memmgr_dimension_load(
    manager: ?*types.Manager,
    dimension: u32,
    path: ?[*:0]const u8,
    options: ?*const types.LoadOptions,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.load, error_out);
    return call.end(load(&call, manager, dimension, path, options));
}

pub fn memmgr_dimension_reload(
    manager: ?*types.Manager,
    dimension: u32,
    path: ?[*:0]const u8,
    options: ?*const types.LoadOptions,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.reload, error_out);
    return call.end(load(&call, manager, dimension, path, options));
}

fn load(
    call: *Call,
    manager: ?*types.Manager,
    index: u32,
    path: ?[*:0]const u8,
    options: ?*const types.LoadOptions,
) Call.Error!void {
    const target = try call.open(manager);
    const dimension = try call.dimension(target, index);
    const file = std.mem.span(path orelse return call.invalid("path is NULL"));
    const given: types.LoadOptions = if (options) |pointer|
        try sized.read(types.LoadOptions, pointer, &call.detail)
    else
        .{};
    if (given.flags & ~types.load_huge_pages != 0) {
        return call.invalid("flags has bits that this version of the library does not know");
    }
    const specs = try readLayers(call, &given);
    defer os.heap.free(specs);
    const core: Generation.Options = .{
        .mode = try call.member(Generation.Mode, given.mode, "mode is no MEMMGR_MODE_…"),
        .prefetch = try call.member(
            Generation.Prefetch,
            given.prefetch,
            "prefetch is no MEMMGR_PREFETCH_…",
        ),
        .huge_pages = given.flags & types.load_huge_pages != 0,
        .format = try call.member(formats.Format, given.format, "format is no MEMMGR_FORMAT_…"),
        .manifest = if (given.manifest) |manifest| std.mem.span(manifest) else null,
        .layers = specs,
    };
    if (call.detail.operation == .load) {
        try target.manager.load(dimension, target.handle, file, core, &call.detail);
    } else {
        try target.manager.reload(dimension, target.handle, file, core, &call.detail);
    }
}

pub fn memmgr_dimension_would_fit(
    manager: ?*types.Manager,
    dimension: u32,
    path: ?[*:0]const u8,
    size: u64,
    mode: u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.load, error_out);
    return call.end(wouldFit(&call, manager, dimension, path, size, mode));
}

fn wouldFit(
    call: *Call,
    manager: ?*types.Manager,
    index: u32,
    path: ?[*:0]const u8,
    size: u64,
    mode: u32,
) Call.Error!void {
    const target = try call.open(manager);
    const dimension = try call.dimension(target, index);
    if ((path == null) == (size == 0)) return call.invalid("want a path or a size, one of the two");
    const candidate: Generation.Candidate = if (path) |text|
        .{ .path = std.mem.span(text) }
    else
        .{ .size = size };
    const how = try call.member(Generation.Mode, mode, "mode is no MEMMGR_MODE_…");
    try dimension.wouldFit(target.handle, candidate, how, &call.detail);
}

/// The caller's layers as core reads them: names and shapes stay the caller's.
fn readLayers(call: *Call, given: *const types.LoadOptions) Call.Error![]Layers.Spec {
    if (given.layer_count == 0) return &.{};
    const first = given.layers orelse {
        return call.invalid("layers is NULL, but layer_count is not 0");
    };
    const layers: sized.Array(types.Layer) = try .of(&first[0], &call.detail);
    const specs = os.heap.alloc(Layers.Spec, given.layer_count) catch {
        const size = std.math.mul(usize, given.layer_count, @sizeOf(Layers.Spec));
        return call.detail.refused(size catch std.math.maxInt(u64), "cannot allocate memory " ++
            "for the description of the layers");
    };
    errdefer os.heap.free(specs);
    for (specs, 0..) |*spec, index| {
        try layers.checkElement(index, &call.detail);
        const layer = layers.at(index);
        if (layer.rank > types.rank_max) return call.invalid("a layer has at most 32 axes");
        if (std.mem.findScalar(u8, &layer.name, 0) == null) {
            return call.invalid("a layer's name does not end with NUL");
        }
        spec.* = .{
            .name = std.mem.sliceTo(&layer.name, 0),
            .dtype = try call.member(dtypes.Dtype, layer.dtype, "dtype is no MEMMGR_DTYPE_…"),
            .order = try call.member(Layers.Order, layer.order, "order is no MEMMGR_ORDER_…"),
            .shape = layer.shape[0..layer.rank],
            .offset = layer.offset,
            .length = layer.length,
        };
    }
    return specs;
}

pub fn memmgr_dimension_unload(
    manager: ?*types.Manager,
    dimension: u32,
    on_views: u32,
    timeout_ns: i64,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.unload, error_out);
    return call.end(unload(&call, manager, dimension, .region, on_views, timeout_ns));
}

pub fn memmgr_dimension_deallocate(
    manager: ?*types.Manager,
    dimension: u32,
    on_views: u32,
    timeout_ns: i64,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.deallocate, error_out);
    return call.end(unload(&call, manager, dimension, .nothing, on_views, timeout_ns));
}

fn unload(
    call: *Call,
    manager: ?*types.Manager,
    index: u32,
    keep: Dimension.Keep,
    on_views: u32,
    timeout_ns: i64,
) Call.Error!void {
    const target = try call.open(manager);
    const dimension = try call.dimension(target, index);
    const how = try call.member(Dimension.OnViews, on_views, "on_views is no MEMMGR_ON_VIEWS_…");
    const timeout = try call.timeoutNs(timeout_ns);
    try target.manager.unload(dimension, target.handle, keep, how, timeout, &call.detail);
}

pub fn memmgr_dimension_flush(
    manager: ?*types.Manager,
    dimension: u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.flush, error_out);
    return call.end(flush(&call, manager, dimension));
}

fn flush(call: *Call, manager: ?*types.Manager, index: u32) Call.Error!void {
    const target = try call.open(manager);
    const dimension = try call.dimension(target, index);
    try dimension.flush(target.handle, &call.detail);
}

pub fn memmgr_dimension_evict(
    manager: ?*types.Manager,
    dimension: u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.evict, error_out);
    return call.end(evict(&call, manager, dimension));
}

fn evict(call: *Call, manager: ?*types.Manager, index: u32) Call.Error!void {
    const target = try call.open(manager);
    const dimension = try call.dimension(target, index);
    try Residency.evict(dimension, target.handle, &call.detail);
}
