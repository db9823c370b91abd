//! Shims of the header's banners "Layer" and "View": the read path.
//!
//! `memmgr_view_acquire` and `memmgr_view_release` do what almost every call needs in a handful of
//! loads, compares and one plain store; whatever does not fit that goes to a second function that
//! starts over, waits if it must and explains itself.

const std = @import("std");
const os = @import("../os.zig");
const Dimension = @import("../Dimension.zig");
const Gate = @import("../Gate.zig");
const Layers = @import("../Layers.zig");
const Managers = @import("../Managers.zig");
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_view_acquire(
    manager: ?*types.Manager,
    dimension: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    if (acquireFast(manager, dimension, offset, length, view_out)) return 0;
    return acquireSlow(manager, dimension, offset, length, view_out, error_out);
}

inline fn acquireFast(
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
) bool {
    const out = view_out orelse return false;
    if (out.struct_size < @sizeOf(types.View)) return false;
    const manager = Managers.find(@intFromPtr(handle)) orelse return false;
    if (index >= manager.dimension_count.load(.monotonic)) return false;
    const dimension = &manager.all_dimensions[index];
    const counters = &manager.counters;
    const word = dimension.tryEnter(counters, index) orelse return false;
    const slot = &dimension.gate.slots[word.slot];
    const fits = offset <= slot.size and length <= slot.size - offset;
    // The memory may have become another manager's between the first look and the entry.
    if (!fits or manager.handle.load(.acquire) != @intFromPtr(handle)) {
        dimension.leave(counters, index, word.slot);
        return false;
    }
    fill(out, handle, index, slot.base, offset, length, word);
    return true;
}

inline fn fill(
    out: *types.View,
    handle: ?*types.Manager,
    index: u32,
    base: [*]u8,
    offset: u64,
    length: u64,
    word: Gate.Word,
) void {
    out.dimension = index;
    out.data = base + offset;
    out.length = length;
    out.offset = offset;
    out.generation = word.generation;
    out.token = .{ @intFromPtr(handle), tokenOf(word.slot) };
}

/// Never 0, so that a zeroed view is not one of slot 0.
inline fn tokenOf(slot: u1) u64 {
    return 1 + @as(u64, slot);
}

inline fn slotOf(token: u64) ?u1 {
    return switch (token) {
        1 => 0,
        2 => 1,
        else => null,
    };
}

fn acquireSlow(
    manager: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
    error_out: ?*types.Error,
) i32 {
    @branchHint(.cold);
    var call: Call = .begin(.acquire, error_out);
    return call.end(acquire(&call, manager, index, offset, length, view_out));
}

fn acquire(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
) Call.Error!void {
    const out = try emptied(call, view_out);
    const reader: Reader = try .enter(call, handle, index);
    errdefer reader.leave();
    const slot = &reader.dimension.gate.slots[reader.word.slot];
    if (offset > slot.size or length > slot.size - offset) {
        call.detail.requested = offset;
        call.detail.used = length;
        call.detail.limit = slot.size;
        return call.detail.fail(error.OutOfBounds, "the range is not within what is loaded");
    }
    fill(out, handle, index, slot.base, offset, length, reader.word);
}

/// A view that is ready to be filled: if that fails, it is the empty view.
fn emptied(call: *Call, view_out: ?*types.View) Call.Error!*types.View {
    const out = try call.output(types.View, view_out);
    out.* = .{ .struct_size = out.struct_size };
    return out;
}

/// A thread inside a generation.
const Reader = struct {
    dimension: *Dimension,
    word: Gate.Word,

    fn enter(call: *Call, handle: ?*types.Manager, index: u32) Call.Error!Reader {
        const target = try call.open(handle);
        const dimension = try call.dimension(target, index);
        const reader: Reader = .{
            .dimension = dimension,
            .word = try dimension.enter(&call.detail),
        };
        errdefer reader.leave();
        try target.manager.checkOpen(target.handle, &call.detail);
        return reader;
    }

    fn leave(reader: Reader) void {
        const dimension = reader.dimension;
        dimension.leave(dimension.shared.counters, dimension.index, reader.word.slot);
    }

    fn layers(reader: Reader) *const Layers {
        return &reader.dimension.inside(reader.word).layers;
    }

    fn base(reader: Reader) [*]u8 {
        return reader.dimension.gate.slots[reader.word.slot].base;
    }

    fn find(reader: Reader, call: *Call, name: []const u8) Call.Error!u32 {
        return reader.layers().find(name) orelse
            call.detail.fail(error.UnknownLayer, "no layer has this name");
    }

    fn describe(reader: Reader, out: *types.Layer, index: u32) void {
        const layer = &reader.layers().items[index];
        const address = @intFromPtr(reader.base()) + layer.offset;
        var value: types.Layer = .{
            .index = index,
            .dtype = @backingInt(layer.dtype),
            .order = @backingInt(layer.order),
            .rank = @intCast(layer.shape.len),
            .alignment = @intCast(@min(address & (~address +% 1), os.pageSize())),
            .offset = layer.offset,
            .length = layer.length,
        };
        @memcpy(value.shape[0..layer.shape.len], layer.shape);
        sized.writeText(&value.name, layer.name);
        sized.write(types.Layer, out, value);
    }
};

pub fn memmgr_layer_find(
    manager: ?*types.Manager,
    dimension: u32,
    name: ?[*:0]const u8,
    layer_out: ?*types.Layer,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.find, error_out);
    return call.end(findLayer(&call, manager, dimension, name, layer_out));
}

fn findLayer(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    name: ?[*:0]const u8,
    layer_out: ?*types.Layer,
) Call.Error!void {
    const out = try emptiedLayer(call, layer_out);
    const text = try layerName(call, name);
    const reader: Reader = try .enter(call, handle, index);
    defer reader.leave();
    reader.describe(out, try reader.find(call, text));
}

/// The name of the layer that the call is about from now on.
fn layerName(call: *Call, name: ?[*:0]const u8) Call.Error![]const u8 {
    const text = std.mem.span(name orelse return call.invalid("name is NULL"));
    call.detail.setLayerName(text);
    return text;
}

fn emptiedLayer(call: *Call, layer_out: ?*types.Layer) Call.Error!*types.Layer {
    const out = try call.output(types.Layer, layer_out);
    const struct_size = out.struct_size;
    sized.write(types.Layer, out, .{});
    out.struct_size = struct_size;
    return out;
}

pub fn memmgr_layer_at(
    manager: ?*types.Manager,
    dimension: u32,
    index: u32,
    layer_out: ?*types.Layer,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.find, error_out);
    return call.end(layerAt(&call, manager, dimension, index, layer_out));
}

fn layerAt(
    call: *Call,
    handle: ?*types.Manager,
    dimension: u32,
    index: u32,
    layer_out: ?*types.Layer,
) Call.Error!void {
    const out = try emptiedLayer(call, layer_out);
    const reader: Reader = try .enter(call, handle, dimension);
    defer reader.leave();
    if (index >= reader.layers().items.len) {
        call.detail.layer = index;
        return call.detail.fail(error.UnknownLayer, "no layer has this index");
    }
    reader.describe(out, index);
}

pub fn memmgr_layer_acquire(
    manager: ?*types.Manager,
    dimension: u32,
    name: ?[*:0]const u8,
    layer_out: ?*types.Layer,
    view_out: ?*types.View,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.acquire, error_out);
    return call.end(acquireLayer(&call, manager, dimension, name, layer_out, view_out));
}

fn acquireLayer(
    call: *Call,
    handle: ?*types.Manager,
    dimension: u32,
    name: ?[*:0]const u8,
    layer_out: ?*types.Layer,
    view_out: ?*types.View,
) Call.Error!void {
    const out = try emptied(call, view_out);
    const described = if (layer_out != null) try emptiedLayer(call, layer_out) else null;
    const text = try layerName(call, name);
    const reader: Reader = try .enter(call, handle, dimension);
    errdefer reader.leave();
    const index = try reader.find(call, text);
    if (described) |pointer| reader.describe(pointer, index);
    const layer = &reader.layers().items[index];
    fill(out, handle, dimension, reader.base(), layer.offset, layer.length, reader.word);
}

pub fn memmgr_view_release(
    manager: ?*types.Manager,
    view: ?*types.View,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    if (releaseFast(manager, view)) return 0;
    return releaseRefused(manager, view, error_out);
}

inline fn releaseFast(handle: ?*types.Manager, view: ?*types.View) bool {
    const held = view orelse return false;
    if (held.struct_size < @sizeOf(types.View)) return false;
    if (held.token[0] != @intFromPtr(handle)) return false;
    const slot = slotOf(held.token[1]) orelse return false;
    const manager = Managers.find(@intFromPtr(handle)) orelse return false;
    if (held.dimension >= manager.dimension_count.load(.monotonic)) return false;
    const index = held.dimension;
    held.data = null;
    held.length = 0;
    held.token = .{ 0, 0 };
    manager.all_dimensions[index].leave(&manager.counters, index, slot);
    return true;
}

fn releaseRefused(
    manager: ?*types.Manager,
    view: ?*types.View,
    error_out: ?*types.Error,
) i32 {
    @branchHint(.cold);
    var call: Call = .begin(.release, error_out);
    return call.end(explainRelease(&call, manager, view));
}

fn explainRelease(call: *Call, handle: ?*types.Manager, view: ?*types.View) Call.Error!void {
    const held = try call.output(types.View, view);
    if (held.token[0] == 0) return call.invalid("the view is not held");
    if (held.token[0] != @intFromPtr(handle)) {
        return call.invalid("the view is one of another manager");
    }
    _ = call.lookUp(handle) catch {};
    return call.invalid("the view is not one that this manager gave");
}
