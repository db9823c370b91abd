//! Shims of the header's banners "Layer" and "View": the read path.
//!
//! `memmgr_view_acquire` and `memmgr_view_release` do what almost every call needs in a handful of
//! loads, compares and one plain store, and call nothing. Whatever does not fit that is the last
//! thing they do: another function, which starts over, waits if it must and explains itself.

const std = @import("std");
const os = @import("../os.zig");
const Dimension = @import("../dimension.zig").Dimension;
const Gate = @import("../gate.zig").Gate;
const Layers = @import("../formats.zig").Layers;
const Manager = @import("../manager.zig").Manager;
const Managers = @import("../manager.zig").Managers;
const Tracker = @import("../gate.zig").Tracker;
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_view_acquire(
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    return acquireFast(.wait, handle, index, offset, length, view_out, error_out);
}

pub fn memmgr_view_try_acquire(
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    return acquireFast(.refuse, handle, index, offset, length, view_out, error_out);
}

/// What a reader does about a writer in the way. `pass` is for who looks at no byte of the file: its
/// layers are the same meanwhile.
const OnWriter = enum { wait, refuse, pass };

inline fn acquireFast(
    comptime on_writer: OnWriter,
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
    error_out: ?*types.Error,
) i32 {
    const slow = Slow(on_writer).acquire;
    const out = view_out orelse return slow(handle, index, offset, length, null, error_out);
    const manager = Managers.memoryOf(@intFromPtr(handle)) orelse
        return slow(handle, index, offset, length, out, error_out);
    const is_plain = out.struct_size >= @sizeOf(types.View) and
        index < manager.reach.load(.monotonic);
    if (!is_plain) return slow(handle, index, offset, length, out, error_out);
    const gate = &manager.dimensionAt(index).gate;
    const word = gate.look() orelse return slow(handle, index, offset, length, out, error_out);
    // Between two looks at the same word: what is this handle's memory here is so at both, since
    // no word of one manager is one of the next.
    if (manager.handle.load(.acquire) != @intFromPtr(handle)) {
        return slow(handle, index, offset, length, out, error_out);
    }
    const row = manager.counters.own() orelse
        return slow(handle, index, offset, length, out, error_out);

    row.move(.in, index, word.slot);
    const slot = &gate.slots[word.slot];
    // What the slot shows is looked at only inside.
    if (!gate.confirm(word) or offset > slot.size or length > slot.size - offset) {
        const place: Place = .{ .dimension = @intCast(index), .slot = word.slot };
        return Slow(on_writer).acquireAgain(handle, place, offset, length, out, error_out);
    }
    fill(out, handle, index, slot.base, offset, length, word);
    return 0;
}

/// In one word: no more arguments than registers.
const Place = packed struct(u32) { dimension: u31, slot: u1 };

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
    out.token = .{ @intFromPtr(handle), @as(u64, @bitCast(Token{ .slot = word.slot })) };
}

/// The second word of a view's token.
const Token = packed struct(u64) {
    /// So that a zeroed view is not one of slot 0.
    held: bool = true,
    zero: u2 = 0,
    /// Where the gate's word has it.
    slot: u1,
    /// Of the manager, when the view was acquired.
    forks: u28 = 0,
    ticket: Tracker.Ticket = 0,

    /// One of a view that is neither tracked nor of a process that was forked.
    inline fn isPlain(token: Token) bool {
        return token == Token{ .slot = token.slot };
    }

    fn isOurs(token: Token) bool {
        return token == Token{ .slot = token.slot, .forks = token.forks, .ticket = token.ticket };
    }
};

fn Slow(comptime on_writer: OnWriter) type {
    return struct {
        /// Leaves what should not have been entered, and starts over.
        noinline fn acquireAgain(
            handle: ?*types.Manager,
            place: Place,
            offset: u64,
            length: u64,
            view_out: ?*types.View,
            error_out: ?*types.Error,
        ) i32 {
            const manager = Managers.memoryOf(@intFromPtr(handle)).?;
            const index: u32 = place.dimension;
            manager.dimensionAt(index).leave(&manager.counters, index, place.slot);
            return @This().acquire(handle, index, offset, length, view_out, error_out);
        }

        noinline fn acquire(
            handle: ?*types.Manager,
            index: u32,
            offset: u64,
            length: u64,
            view_out: ?*types.View,
            error_out: ?*types.Error,
        ) i32 {
            var call: Call = .begin(.acquire, error_out);
            return call.end(acquireRange(
                &call,
                on_writer,
                handle,
                index,
                offset,
                length,
                view_out,
            ));
        }
    };
}

fn acquireRange(
    call: *Call,
    on_writer: OnWriter,
    handle: ?*types.Manager,
    index: u32,
    offset: u64,
    length: u64,
    view_out: ?*types.View,
) Call.Error!void {
    const out = try call.output(types.View, view_out);
    const reader: Reader = try .enterAs(on_writer, call, handle, index);
    errdefer reader.leave();
    const slot = &reader.dimension.gate.slots[reader.word.slot];
    if (offset > slot.size or length > slot.size - offset) {
        call.detail.requested = offset;
        call.detail.used = length;
        call.detail.limit = slot.size;
        return call.detail.fail(error.OutOfBounds, "the range is not within what is loaded");
    }
    fill(out, handle, index, slot.base, offset, length, reader.word);
    reader.stamp(out, null);
}

/// A thread inside a generation.
const Reader = struct {
    manager: *Manager,
    dimension: *Dimension,
    word: Gate.Word,
    pinned: bool,

    fn enter(call: *Call, handle: ?*types.Manager, index: u32) Call.Error!Reader {
        return enterAs(.wait, call, handle, index);
    }

    fn enterAs(
        on_writer: OnWriter,
        call: *Call,
        handle: ?*types.Manager,
        index: u32,
    ) Call.Error!Reader {
        const target = try call.open(handle);
        const dimension = try call.dimension(target, index);
        const entered: ?Gate.Word = switch (on_writer) {
            .wait => try target.manager.enter(dimension, target.handle, &call.detail),
            .refuse => try target.manager.enterNow(dimension, target.handle, &call.detail),
            .pass => try target.manager.tryEnter(dimension, target.handle, &call.detail),
        };
        return .{
            .manager = target.manager,
            .dimension = dimension,
            .word = entered orelse try dimension.pin(target.handle, &call.detail),
            .pinned = entered == null,
        };
    }

    fn leave(reader: Reader) void {
        const dimension = reader.dimension;
        if (reader.pinned) return dimension.leavePinned(reader.word);
        dimension.leave(dimension.shared.counters, dimension.index, reader.word.slot);
    }

    /// What the view's release has to know.
    fn stamp(reader: Reader, view: *types.View, layer: ?u32) void {
        const token: Token = .{
            .slot = reader.word.slot,
            .forks = @truncate(reader.manager.forks.load(.monotonic)),
            .ticket = if (reader.manager.tracking.load(.monotonic)) reader.manager.tracker.add(.{
                .dimension = view.dimension,
                .generation = view.generation,
                .offset = view.offset,
                .length = view.length,
                .layer = layer,
            }) else 0,
        };
        view.token[1] = @bitCast(token);
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
    const out = try call.output(types.Layer, layer_out);
    const text = try layerName(call, name);
    const reader: Reader = try .enterAs(.pass, call, handle, index);
    defer reader.leave();
    reader.describe(out, try reader.find(call, text));
}

/// The name of the layer that the call is about from now on.
fn layerName(call: *Call, name: ?[*:0]const u8) Call.Error![]const u8 {
    const text = std.mem.span(name orelse return call.invalid("name is NULL"));
    call.detail.setLayerName(text);
    return text;
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
    const out = try call.output(types.Layer, layer_out);
    const reader: Reader = try .enterAs(.pass, call, handle, dimension);
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
    const out = try call.output(types.View, view_out);
    const described = if (layer_out != null) try call.output(types.Layer, layer_out) else null;
    const text = try layerName(call, name);
    const reader: Reader = try .enter(call, handle, dimension);
    errdefer reader.leave();
    const index = try reader.find(call, text);
    if (described) |pointer| reader.describe(pointer, index);
    const layer = &reader.layers().items[index];
    fill(out, handle, dimension, reader.base(), layer.offset, layer.length, reader.word);
    reader.stamp(out, index);
}

pub fn memmgr_view_release(
    handle: ?*types.Manager,
    view: ?*types.View,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    const slow = releaseSlow;
    const held = view orelse return slow(handle, view, error_out);
    const token: Token = @bitCast(held.token[1]);
    const index = held.dimension;
    const is_plain = held.struct_size >= @sizeOf(types.View) and
        held.token[0] == @intFromPtr(handle) and token.isPlain();
    if (!is_plain) return slow(handle, view, error_out);
    const manager = Managers.find(@intFromPtr(handle)) orelse return slow(handle, view, error_out);
    if (index >= manager.reach.load(.monotonic)) return slow(handle, view, error_out);
    const row = manager.counters.own() orelse return slow(handle, view, error_out);

    clear(held);
    row.move(.out, index, token.slot);
    const dimension = manager.dimensionAt(index);
    const drain = dimension.gate.drainOf(token.slot);
    return if (drain.any()) releaseAwaited(dimension, drain) else 0;
}

inline fn clear(view: *types.View) void {
    view.data = null;
    view.length = 0;
    view.token = .{ 0, 0 };
}

/// Somebody waits for the slot that the caller has left.
noinline fn releaseAwaited(dimension: *Dimension, drain: Gate.Drain) i32 {
    dimension.afterLeaving(drain);
    return 0;
}

/// A view that is tracked or of a process that was forked, the thread's first move in this manager,
/// or an error.
noinline fn releaseSlow(
    manager: ?*types.Manager,
    view: ?*types.View,
    error_out: ?*types.Error,
) i32 {
    var call: Call = .begin(.release, error_out);
    return call.end(release(&call, manager, view));
}

fn release(call: *Call, handle: ?*types.Manager, view: ?*types.View) Call.Error!void {
    const held = try call.held(types.View, view);
    if (held.token[0] == 0) return call.invalid("the view is not held");
    if (held.token[0] != @intFromPtr(handle)) {
        return call.invalid("the view is one of another manager");
    }
    const token: Token = @bitCast(held.token[1]);
    const index = held.dimension;
    const manager = Managers.find(@intFromPtr(handle)) orelse
        return call.invalid("the view is not one that this manager gave");
    if (!token.isOurs() or index >= manager.dimensions().len) {
        return call.invalid("the view is not one that this manager gave");
    }
    const forks = manager.forks.load(.monotonic);
    if (token.forks > forks) return call.invalid("the view is not one that this manager gave");
    clear(held);
    // One of a parent process: what it was of stays.
    if (token.forks < forks) return;
    manager.tracker.remove(token.ticket);
    manager.dimensionAt(index).leave(&manager.counters, index, token.slot);
}

pub fn memmgr_holders_get(
    manager: ?*types.Manager,
    dimension: u32,
    holders: ?[*]types.Holder,
    capacity: usize,
    count_out: ?*usize,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    if (count_out) |out| out.* = 0;
    return call.end(getHolders(&call, manager, dimension, holders, capacity, count_out));
}

fn getHolders(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    holders: ?[*]types.Holder,
    capacity: usize,
    count_out: ?*usize,
) Call.Error!void {
    const target = try call.open(handle);
    const out = count_out orelse return call.invalid("count_out is NULL");
    if (index != types.none) _ = try call.dimension(target, index);
    if (holders == null and capacity != 0) return call.invalid("holders is NULL");
    var list: HolderList = .{ .now_ns = os.nowNs() };
    if (capacity > 0) {
        list.array = try .of(&holders.?[0], &call.detail);
        list.capacity = capacity;
    }
    const filter = if (index == types.none) null else index;
    target.manager.tracker.each(filter, &list, HolderList.add);
    out.* = list.count;
}

const HolderList = struct {
    array: sized.Array(types.Holder) = undefined,
    capacity: usize = 0,
    count: usize = 0,
    now_ns: u64,

    fn add(list: *HolderList, ticket: Tracker.Ticket, holder: Tracker.Holder) void {
        defer list.count += 1;
        if (list.count >= list.capacity) return;
        const out = list.array.place(list.count);
        out.struct_size = list.array.stride;
        sized.write(types.Holder, out, .{
            .dimension = holder.dimension,
            .layer = holder.layer orelse types.none,
            .ticket = ticket,
            .generation = holder.generation,
            .offset = holder.offset,
            .length = holder.length,
            .thread = holder.thread,
            .age_ns = list.now_ns -| holder.since_ns,
        });
    }
};
