//! Shims of the header's banner "Save".

const std = @import("std");
const os = @import("../os.zig");
const Layers = @import("../formats.zig").Layers;
const Progress = @import("../base.zig").Progress;
const Saver = @import("../files.zig").Saver;
const dtypes = @import("../formats.zig").dtype;
const formats = @import("../formats.zig");
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

/// A progress function of the caller's, as core calls it. Stays where it is.
pub const Listener = struct {
    function: ?*const types.ProgressFunction,
    user: ?*anyopaque,

    pub fn progress(listener: *Listener) Progress {
        if (listener.function == null) return .{};
        return .{ .function = tell, .context = listener };
    }

    fn tell(context: ?*anyopaque, done: u64, total: u64) bool {
        const listener: *Listener = @ptrCast(@alignCast(context.?));
        return listener.function.?(done, total, listener.user) == 0;
    }
};

pub fn memmgr_array_save(
    path: ?[*:0]const u8,
    arrays: ?[*]const types.Array,
    count: usize,
    options: ?*const types.SaveOptions,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.save, error_out);
    return call.end(saveArrays(&call, path, arrays, count, options));
}

fn saveArrays(
    call: *Call,
    path: ?[*:0]const u8,
    arrays: ?[*]const types.Array,
    count: usize,
    options: ?*const types.SaveOptions,
) Call.Error!void {
    const file = std.mem.span(path orelse return call.invalid("path is NULL"));
    const given = try read(call, options);
    var listener: Listener = .{ .function = given.progress, .user = given.user };
    const core = try optionsOf(call, &given, &listener);
    const list = try readArrays(call, arrays, count);
    defer os.heap.free(list);
    try Saver.saveArrays(file, list, core, &call.detail);
}

/// The caller's arrays as core reads them: names, shapes and bytes stay the caller's.
fn readArrays(
    call: *Call,
    arrays: ?[*]const types.Array,
    count: usize,
) Call.Error![]Saver.Array {
    if (count == 0) return &.{};
    const first = arrays orelse return call.invalid("arrays is NULL, but count is not 0");
    const structs: sized.Array(types.Array) = try .of(&first[0], &call.detail);
    const list = os.heap.alloc(Saver.Array, count) catch {
        return call.detail.refused(0, "cannot allocate memory for the description of the arrays");
    };
    errdefer os.heap.free(list);
    for (list, 0..) |*each, index| {
        try structs.checkElement(index, &call.detail);
        const array = structs.at(index);
        if (array.rank > types.rank_max) return call.invalid("an array has at most 32 axes");
        var spec: Layers.Spec = .{
            .name = std.mem.span(array.name orelse return call.invalid("an array's name is NULL")),
            .dtype = try call.member(dtypes.Dtype, array.dtype, "dtype is no MEMMGR_DTYPE_…"),
            .order = try call.member(Layers.Order, array.order, "order is no MEMMGR_ORDER_…"),
            .shape = array.shape[0..array.rank],
            .offset = 0,
            .length = array.length,
        };
        if (spec.settle(std.math.maxInt(u64))) |reason| {
            call.detail.setLayerName(spec.name);
            return call.invalid(reason);
        }
        if (array.data == null and spec.length > 0) {
            call.detail.setLayerName(spec.name);
            return call.invalid("an array's data is NULL");
        }
        const nothing: [*]const u8 = "";
        each.* = .{
            .spec = spec,
            .bytes = if (array.data) |data| @ptrCast(data) else nothing,
        };
    }
    return list;
}

pub fn memmgr_dimension_save(
    manager: ?*types.Manager,
    dimension: u32,
    path: ?[*:0]const u8,
    options: ?*const types.SaveOptions,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.save, error_out);
    return call.end(saveDimension(&call, manager, dimension, path, options));
}

fn saveDimension(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    path: ?[*:0]const u8,
    options: ?*const types.SaveOptions,
) Call.Error!void {
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    const file = std.mem.span(path orelse return call.invalid("path is NULL"));
    const given = try read(call, options);
    var listener: Listener = .{ .function = given.progress, .user = given.user };
    const core = try optionsOf(call, &given, &listener);
    try target.manager.save(dimension, target.handle, file, core, &call.detail);
}

fn read(call: *Call, options: ?*const types.SaveOptions) Call.Error!types.SaveOptions {
    const given = options orelse return .{};
    return sized.read(types.SaveOptions, given, &call.detail);
}

fn optionsOf(
    call: *Call,
    given: *const types.SaveOptions,
    listener: *Listener,
) Call.Error!Saver.Options {
    if (given.flags & ~types.save_checksums != 0) {
        return call.invalid("flags has bits that this version of the library does not know");
    }
    return .{
        .format = try call.member(formats.Format, given.format, "format is no MEMMGR_FORMAT_…"),
        .manifest = if (given.manifest) |manifest| std.mem.span(manifest) else null,
        .checksums = given.flags & types.save_checksums != 0,
        .progress = listener.progress(),
    };
}
