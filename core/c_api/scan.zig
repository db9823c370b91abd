//! Shims of the header's banner "Scan".

const std = @import("std");
const Residency = @import("../dimension.zig").Residency;
const Scan = @import("../Scan.zig");
const Call = @import("Call.zig");
const save = @import("save.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_scan_topk(
    manager: ?*types.Manager,
    dimension: u32,
    layer: ?[*:0]const u8,
    query: ?[*]const f32,
    query_length: usize,
    k: usize,
    options: ?*const types.ScanOptions,
    rows_out: ?[*]u64,
    scores_out: ?[*]f32,
    count_out: ?*usize,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.scan, error_out);
    if (count_out) |out| out.* = 0;
    var core: Scan.Options = .{
        .layer = if (layer) |name| std.mem.span(name) else null,
        .query = if (query) |floats| floats[0..query_length] else &.{},
        .rows_out = if (rows_out) |rows| rows[0..k] else &.{},
        .scores_out = if (scores_out) |scores| scores[0..k] else &.{},
    };
    return call.end(topk(&call, manager, dimension, options, k, count_out, &core));
}

/// What is NULL came as nothing.
fn topk(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    options: ?*const types.ScanOptions,
    k: usize,
    count_out: ?*usize,
    core: *Scan.Options,
) Call.Error!void {
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    if (core.layer) |name| call.detail.setLayerName(name);
    const out = count_out orelse return call.invalid("count_out is NULL");
    if (core.query.len == 0) return call.invalid("the query is NULL, or has no elements");
    if (core.rows_out.len != k or core.scores_out.len != k) {
        return call.invalid("rows_out or scores_out is NULL, but k is not 0");
    }
    const given: types.ScanOptions = if (options) |pointer|
        try sized.read(types.ScanOptions, pointer, &call.detail)
    else
        .{};
    core.instructions = try call.member(
        Scan.Instructions,
        given.instructions,
        "instructions is no MEMMGR_INSTRUCTIONS_…",
    );
    var listener: save.Listener = .{ .function = given.progress, .user = given.user };
    core.progress = listener.progress();
    out.* = try target.manager.scan(dimension, target.handle, core.*, &call.detail);
}

pub fn memmgr_scan_ahead(
    manager: ?*types.Manager,
    dimension: u32,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.scan, error_out);
    return call.end(ahead(&call, manager, dimension));
}

fn ahead(call: *Call, manager: ?*types.Manager, index: u32) Call.Error!void {
    const target = try call.open(manager);
    const dimension = try call.dimension(target, index);
    try Residency.readAhead(dimension, target.handle, &call.detail);
}
