//! Shims of the header's banner "Stats".

const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Dump = @import("../manager.zig").Dump;
const Gate = @import("../gate.zig").Gate;
const Call = @import("Call.zig");
const capabilities = @import("capabilities.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_stats_get(
    manager: ?*types.Manager,
    stats_out: ?*types.Stats,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(get(&call, manager, stats_out));
}

fn get(call: *Call, handle: ?*types.Manager, stats_out: ?*types.Stats) Call.Error!void {
    const out = try call.output(types.Stats, stats_out);
    const target = try call.open(handle);
    const manager = target.manager;
    var value: types.Stats = .{
        .dimension_count = @intCast(manager.dimensions().len),
        .gate = @backingInt(capabilities.gateOf(manager.counters.asymmetric.load(.monotonic))),
        .allocated = manager.budget.allocated.load(.monotonic),
        .peak = manager.budget.peak.load(.monotonic),
        .limit = manager.budget.limit,
        .pool_limit = manager.pool_limit,
        .reserved = manager.reserved(),
        .loads = manager.loads.load(.monotonic),
        .reloads = manager.reloads.load(.monotonic),
        .unloads = manager.unloads.load(.monotonic),
        .refusals = manager.budget.refusals.load(.monotonic),
        .limit_kind = @backingInt(manager.budget.limit_kind),
    };
    for (manager.dimensions()) |*dimension| {
        try dimension.describe(target.handle, &call.detail, &value, addUp);
    }
    sized.write(types.Stats, out, value);
}

fn addUp(total: *types.Stats, _: *Dimension, stats: Dimension.Stats) void {
    total.mapped += stats.mapped;
    total.views += stats.views + stats.retiring_views;
    total.loaded_count += @intFromBool(stats.current != null);
}

pub fn memmgr_stats_reset_peak(
    manager: ?*types.Manager,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(resetPeak(&call, manager));
}

fn resetPeak(call: *Call, handle: ?*types.Manager) Call.Error!void {
    const target = try call.open(handle);
    target.manager.budget.resetPeak();
}

pub fn memmgr_dimension_stats_get(
    manager: ?*types.Manager,
    dimension: u32,
    stats_out: ?*types.DimensionStats,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(getDimension(&call, manager, dimension, stats_out));
}

fn getDimension(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    stats_out: ?*types.DimensionStats,
) Call.Error!void {
    const out = try call.output(types.DimensionStats, stats_out);
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    try dimension.describe(target.handle, &call.detail, out, writeDimension);
}

fn writeDimension(
    out: *types.DimensionStats,
    dimension: *Dimension,
    stats: Dimension.Stats,
) void {
    var value: types.DimensionStats = .{
        .dimension = dimension.index,
        .state = @backingInt(stateOf(stats.state)),
        .address = stats.address,
        .capacity = stats.capacity,
        .charged = stats.charged,
        .views = stats.views,
        .retiring_views = stats.retiring_views,
    };
    sized.writeText(&value.name, dimension.name());
    if (stats.current) |generation| {
        value.mode = @backingInt(generation.options.mode);
        value.prefetch = @backingInt(generation.options.prefetch);
        if (generation.options.huge_pages) value.load_flags |= types.load_huge_pages;
        value.format = @backingInt(generation.format);
        value.layer_count = @intCast(generation.layers.items.len);
        value.generation = generation.number;
        value.generation_address = stats.current_address;
        value.file_size = generation.size;
        value.file_device = generation.identity.device;
        value.file_inode = generation.identity.inode;
        value.file_mtime_ns = generation.identity.mtime_ns;
        sized.writePath(&value.file_name, generation.path);
    }
    sized.write(types.DimensionStats, out, value);
}

fn stateOf(state: Gate.State) types.State {
    return switch (state) {
        .empty => .empty,
        .open => .loaded,
        .blocked => .writing,
        .unloading, .closed => .unloading,
        .deallocated => .deallocated,
        .faulted => .faulted,
    };
}

pub fn memmgr_memory_get(
    manager: ?*types.Manager,
    dimension: u32,
    memory_out: ?*types.Memory,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(getMemory(&call, manager, dimension, memory_out));
}

fn getMemory(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    memory_out: ?*types.Memory,
) Call.Error!void {
    const out = try call.output(types.Memory, memory_out);
    const target = try call.open(handle);
    const memory = if (index == types.none)
        try target.manager.memory(target.handle, &call.detail)
    else memory: {
        const dimension = try call.dimension(target, index);
        break :memory try dimension.memory(target.handle, &call.detail);
    };
    sized.write(types.Memory, out, .{
        .dimension = index,
        .reserved = memory.reserved,
        .mapped = memory.mapped,
        .resident = if (memory.use) |use| use.resident else types.unknown,
        .private_dirty = if (memory.use) |use| use.private_dirty else types.unknown,
        .huge = if (memory.use) |use| use.huge else types.unknown,
        .locked = memory.locked,
    });
}

pub fn memmgr_dump_json(
    manager: ?*types.Manager,
    buffer: ?[*]u8,
    capacity: usize,
    length_out: ?*usize,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    if (length_out) |out| out.* = 0;
    return call.end(dump(&call, manager, buffer, capacity, length_out));
}

fn dump(
    call: *Call,
    handle: ?*types.Manager,
    buffer: ?[*]u8,
    capacity: usize,
    length_out: ?*usize,
) Call.Error!void {
    const target = try call.open(handle);
    if (buffer == null and capacity != 0) return call.invalid("buffer is NULL");
    const room: []u8 = if (buffer) |pointer| pointer[0..capacity -| 1] else &.{};
    const length = try Dump.write(target.manager, target.handle, room, &call.detail);
    if (length_out) |out| out.* = length;
    if (buffer == null) return;
    if (length > room.len) {
        call.detail.requested = length + 1;
        call.detail.limit = capacity;
        return call.invalid("the buffer is too small for the state");
    }
    buffer.?[length] = 0;
}
