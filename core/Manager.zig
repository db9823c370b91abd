//! The one object a process opens: N dimensions, one address range, one budget.
//!
//! It owns what the dimensions share and decides nothing about any single one. Its memory is
//! permanent (`Managers`); its address range goes with the last tenant: the open manager itself is
//! one, and every generation in a slot, so a manager that was closed with views held lasts until
//! the last of them is released.

const std = @import("std");
const os = @import("os.zig");
const Budget = @import("Budget.zig");
const Counters = @import("Counters.zig");
const Deadline = @import("Deadline.zig");
const Detail = @import("Detail.zig");
const Dimension = @import("Dimension.zig");
const Gate = @import("Gate.zig");
const Generation = @import("Generation.zig");
const Lock = @import("Lock.zig");
const Log = @import("Log.zig");
const Managers = @import("Managers.zig");

const Manager = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;

pub const dimension_count_max = 65536;
pub const dimension_count_default = 14;
pub const capacity_default = 20 << 20;
pub const pool_limit_default = 64 << 20;
pub const read_timeout_ns_default = std.time.ns_per_s;

/// Slots of this size or more are aligned to it, so that large pages can map them.
const large_page_size = 2 << 20;
/// No slot is larger: sums of slots then fit 64 bits, whatever is asked for.
const capacity_max = 1 << 46;

pub const Spec = struct {
    /// Null: by position, D01 being the first.
    name: ?[]const u8 = null,
    /// 0: the manager's.
    capacity: u64 = 0,
};

pub const Options = struct {
    dimension_count: u32 = dimension_count_default,
    /// Asked for the dimension of each index; the answer is copied.
    spec: *const fn (context: ?*const anyopaque, index: u32) Spec = unnamed,
    spec_context: ?*const anyopaque = null,
    capacity: u64 = capacity_default,
    /// Null: all regions + the largest capacity once more + `pool_limit`.
    limit: ?u64 = null,
    pool_limit: u64 = pool_limit_default,
    read_timeout_ns: ?u64 = read_timeout_ns_default,
    populate: bool = false,
    gate_atomic: bool = false,

    fn unnamed(_: ?*const anyopaque, _: u32) Spec {
        return .{};
    }
};

/// 0 while nobody may find it.
handle: Atomic(u64),
serial: Atomic(u64),
index: u10,
/// Was given back, and can be taken by `Managers` for the next.
free: Atomic(bool),
dimension_capacity: u32,
all_dimensions: []Dimension,

counters: Counters,
shared: Dimension.Shared,
budget: Budget,
pool_limit: u64,
dimension_count: u32,
/// All slots; null before they are reserved.
range: ?[]u8,
/// Open addressing from name to index + 1; 0 is free.
name_table: []u32,
/// Serialises closing.
closing: Lock,
closed: Atomic(bool),
loads: Atomic(u64),
reloads: Atomic(u64),
unloads: Atomic(u64),

/// True if it can be used for the next manager: nobody is late any more.
pub fn isFree(manager: *Manager) bool {
    if (!manager.free.load(.acquire)) return false;
    for (manager.all_dimensions[0..manager.dimension_count]) |*dimension| {
        if (!dimension.isQuiet()) return false;
    }
    return true;
}

pub fn dimensions(manager: *Manager) []Dimension {
    return manager.all_dimensions[0..manager.dimension_count];
}

// Opening ---------------------------------------------------------------------------------------

pub fn open(options: Options, detail: *Detail) Error!*Manager {
    if (options.dimension_count == 0 or options.dimension_count > dimension_count_max) {
        detail.requested = options.dimension_count;
        detail.limit = dimension_count_max;
        return detail.fail(error.InvalidArgument, "a manager has 1 to 65536 dimensions");
    }
    const layout = try Layout.of(&options, detail);
    const limit = options.limit orelse
        layout.charged +| layout.capacity_largest +| options.pool_limit;
    if (layout.charged > limit) {
        detail.requested = layout.charged;
        detail.limit = limit;
        return detail.fail(error.LimitExceeded, "the regions alone are more than the limit");
    }
    if (options.populate) try Generation.checkMemory(layout.charged, detail);

    const manager = try Managers.take(options.dimension_count, detail);
    errdefer manager.giveBack();
    manager.begin(&options, limit, layout);
    manager.budget.charge(layout.charged, detail) catch unreachable; // it was looked at above
    const base = os.reserve(layout.reserved, layout.alignment, &detail.code) catch {
        return detail.refused(layout.reserved, "cannot reserve address space for the regions");
    };
    manager.range = base[0..layout.reserved];
    try manager.addDimensions(&options, detail);
    if (options.populate) for (manager.dimensions()) |*dimension| try dimension.populate(detail);

    manager.handle.store(manager.dimensions()[0].owner, .release);
    manager.log(.open, layout.charged);
    manager.reportPressure();
    return manager;
}

/// Sizes and places of the slots, worked out before anything is taken.
const Layout = struct {
    charged: u64 = 0,
    reserved: u64 = 0,
    alignment: usize,
    capacity_largest: u64 = 0,

    fn of(options: *const Options, detail: *Detail) Error!Layout {
        var layout: Layout = .{ .alignment = os.granularity() };
        for (0..options.dimension_count) |index| {
            const spec = options.spec(options.spec_context, @intCast(index));
            const capacity = try capacityOf(options, spec, detail);
            layout.charged += capacity;
            layout.reserved += 2 * slotSize(capacity);
            layout.capacity_largest = @max(layout.capacity_largest, capacity);
            layout.alignment = @max(layout.alignment, slotAlignment(capacity));
        }
        return layout;
    }

    fn capacityOf(options: *const Options, spec: Spec, detail: *Detail) Error!u64 {
        const asked = if (spec.capacity != 0) spec.capacity else options.capacity;
        if (asked == 0 or asked > capacity_max) {
            detail.requested = asked;
            detail.limit = capacity_max;
            return detail.fail(error.InvalidArgument, "a capacity is 1 byte to 64 TiB");
        }
        return std.mem.alignForward(u64, asked, os.pageSize());
    }

    fn slotAlignment(capacity: u64) usize {
        return if (capacity >= large_page_size) large_page_size else os.granularity();
    }

    fn slotSize(capacity: u64) u64 {
        return std.mem.alignForward(u64, capacity, slotAlignment(capacity));
    }
};

fn begin(manager: *Manager, options: *const Options, limit: u64, layout: Layout) void {
    manager.closed.store(false, .monotonic);
    manager.dimension_count = 0;
    manager.range = null;
    manager.name_table = &.{};
    manager.pool_limit = options.pool_limit;
    manager.budget = .{ .limit = limit, .floor = layout.charged };
    manager.counters.asymmetric = os.capabilities().process_barrier and !options.gate_atomic;
    manager.shared = .{
        .counters = &manager.counters,
        .budget = &manager.budget,
        .read_timeout_ns = options.read_timeout_ns,
        .tenants = .init(1),
        .last_out = lastOut,
    };
    manager.loads.store(0, .monotonic);
    manager.reloads.store(0, .monotonic);
    manager.unloads.store(0, .monotonic);
}

fn addDimensions(manager: *Manager, options: *const Options, detail: *Detail) Error!void {
    const count = options.dimension_count;
    const handle = Managers.nextHandle(manager);
    const name_table_size = std.math.ceilPowerOfTwoAssert(usize, 2 * @as(usize, count));
    manager.name_table = os.heap.alloc(u32, name_table_size) catch {
        return detail.refused(name_table_size * @sizeOf(u32), "cannot allocate memory for names");
    };
    @memset(manager.name_table, 0);
    var cursor = manager.range.?.ptr;
    // Slots of one alignment after the other would pack tighter; the order of the dimensions is
    // worth more to whoever reads a process map.
    for (0..count) |position| {
        const index: u32 = @intCast(position);
        const spec = options.spec(options.spec_context, index);
        const capacity = Layout.capacityOf(options, spec, detail) catch unreachable; // as before
        const size = Layout.slotSize(capacity);
        // Of the two only the region is visible: so the process map shows each region by itself.
        const slots: [2]os.Slot = .{
            .{ .base = cursor, .size = size, .visible = true },
            .{ .base = cursor + size, .size = size, .visible = false },
        };
        cursor += 2 * size;
        var buffer: [16]u8 = undefined;
        const name = spec.name orelse
            std.fmt.bufPrint(&buffer, "D{d:0>2}", .{index + 1}) catch unreachable; // 16 do
        detail.dimension = index;
        detail.dimension_name = name;
        try checkName(name, detail);
        for (slots) |slot| {
            os.carve(slot, &detail.code) catch {
                return detail.refused(slot.size, "cannot divide the reserved address space");
            };
        }
        const dimension = &manager.all_dimensions[index];
        dimension.init(handle, index, name, capacity, slots, &manager.shared);
        manager.dimension_count = index + 1;
        try manager.addName(dimension, detail);
    }
    detail.dimension = Detail.none;
    detail.dimension_name = "";
}

fn checkName(name: []const u8, detail: *Detail) Error!void {
    const valid = name.len > 0 and name.len <= Dimension.name_size_max and
        std.unicode.utf8ValidateSlice(name) and std.mem.findScalar(u8, name, 0) == null;
    if (valid) return;
    // It would not be fit to be quoted.
    detail.dimension_name = "";
    return detail.fail(error.InvalidArgument, "a dimension's name is 1 to 63 bytes of UTF-8");
}

fn addName(manager: *Manager, dimension: *Dimension, detail: *Detail) Error!void {
    const mask = manager.name_table.len - 1;
    var place = std.hash.Wyhash.hash(0, dimension.name()) & mask;
    while (manager.name_table[place] != 0) : (place = (place + 1) & mask) {
        const other = &manager.all_dimensions[manager.name_table[place] - 1];
        if (std.mem.eql(u8, other.name(), dimension.name())) {
            return detail.fail(error.InvalidArgument, "two dimensions have the same name");
        }
    }
    manager.name_table[place] = dimension.index + 1;
}

/// Index of the dimension with a name.
pub fn findDimension(manager: *Manager, handle: u64, name: []const u8, detail: *Detail) Error!u32 {
    // The table goes with the manager: it is read under a lock that closing takes too.
    manager.closing.lock();
    defer manager.closing.unlock();
    try manager.checkOpen(handle, detail);
    const mask = manager.name_table.len - 1;
    var place = std.hash.Wyhash.hash(0, name) & mask;
    while (manager.name_table[place] != 0) : (place = (place + 1) & mask) {
        const index = manager.name_table[place] - 1;
        if (std.mem.eql(u8, manager.all_dimensions[index].name(), name)) return index;
    }
    detail.dimension_name = name;
    return detail.fail(error.UnknownDimension, "no dimension has this name");
}

pub fn checkOpen(manager: *Manager, handle: u64, detail: *Detail) Error!void {
    const is_open = manager.handle.load(.acquire) == handle and !manager.closed.load(.acquire);
    if (!is_open) return detail.fail(error.InvalidAccess, "the manager was closed");
}

// Closing ---------------------------------------------------------------------------------------

pub fn close(
    manager: *Manager,
    handle: u64,
    on_views: Dimension.OnViews,
    timeout_ns: ?u64,
    detail: *Detail,
) Error!void {
    manager.closing.lock();
    defer manager.closing.unlock();
    try manager.checkOpen(handle, detail);
    if (on_views != .@"defer") try manager.awaitViews(on_views, timeout_ns, detail);
    manager.closed.store(true, .release);
    for (manager.dimensions()) |*dimension| dimension.close(detail);
    manager.log(.close, 0);
    manager.shared.moveOut(1);
}

/// All dimensions are shut before the first is looked at, so that the answer is one for all; if
/// it is no, all are opened again.
fn awaitViews(
    manager: *Manager,
    on_views: Dimension.OnViews,
    timeout_ns: ?u64,
    detail: *Detail,
) Error!void {
    const states = os.heap.alloc(Gate.State, manager.dimension_count) catch {
        return detail.refused(manager.dimension_count, "cannot allocate memory to close with");
    };
    defer os.heap.free(states);
    const deadline: Deadline = .in(switch (on_views) {
        .refuse => Dimension.transient_ns,
        .wait, .@"defer" => timeout_ns,
    });
    var shut: u32 = 0;
    errdefer for (manager.dimensions()[0..shut], states[0..shut]) |*dimension, state| {
        dimension.revertClose(state);
    };
    for (manager.dimensions()) |*dimension| {
        states[shut] = dimension.beginClose(on_views, deadline) orelse {
            return inTheWay(dimension, 1, on_views, detail);
        };
        shut += 1;
    }
    manager.counters.barrier();
    for (manager.dimensions()) |*dimension| {
        const views = dimension.drainToClose(deadline);
        if (views != 0) return inTheWay(dimension, views, on_views, detail);
    }
}

fn inTheWay(
    dimension: *Dimension,
    views: u64,
    on_views: Dimension.OnViews,
    detail: *Detail,
) Error {
    detail.dimension = dimension.index;
    detail.dimension_name = dimension.name();
    detail.views = views;
    return switch (on_views) {
        .refuse => detail.fail(error.ViewsHeld, "views are held"),
        .wait, .@"defer" => detail.fail(error.WaitTimeout, "views are still held"),
    };
}

/// The last tenant has left, on whatever thread.
fn lastOut(shared: *Dimension.Shared) void {
    const manager: *Manager = @fieldParentPtr("shared", shared);
    manager.giveBack();
}

/// Gives the address range back, and the memory to the next manager. Also of one that did not
/// open to the end.
fn giveBack(manager: *Manager) void {
    manager.handle.store(0, .release);
    for (manager.dimensions()) |*dimension| {
        var detail: Detail = .{};
        dimension.restorePopulated(&detail) catch {};
        dimension.deinit();
    }
    if (manager.range) |range| os.unreserve(range.ptr, range.len);
    manager.range = null;
    os.heap.free(manager.name_table);
    manager.name_table = &.{};
    manager.free.store(true, .release);
}

// Dimensions ------------------------------------------------------------------------------------

pub fn load(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    path: [:0]const u8,
    options: Generation.Options,
    detail: *Detail,
) Error!void {
    defer manager.reportPressure();
    dimension.load(handle, path, options, detail) catch |err| return manager.refusal(err, detail);
    _ = manager.loads.fetchAdd(1, .monotonic);
}

pub fn reload(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    path: [:0]const u8,
    options: Generation.Options,
    detail: *Detail,
) Error!void {
    defer manager.reportPressure();
    dimension.reload(handle, path, options, detail) catch |err| return manager.refusal(err, detail);
    _ = manager.reloads.fetchAdd(1, .monotonic);
}

pub fn unload(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    keep: Dimension.Keep,
    on_views: Dimension.OnViews,
    timeout_ns: ?u64,
    detail: *Detail,
) Error!void {
    try dimension.unload(handle, keep, on_views, timeout_ns, detail);
    _ = manager.unloads.fetchAdd(1, .monotonic);
    _ = manager.budget.crossing();
}

// Describing ------------------------------------------------------------------------------------

/// Bytes of address space.
pub fn reserved(manager: *const Manager) u64 {
    return if (manager.range) |range| range.len else 0;
}

/// The four numbers of all dimensions together.
pub fn memory(manager: *Manager, handle: u64, detail: *Detail) Error!Dimension.Memory {
    var total: Dimension.Memory = .{};
    const range = range: {
        manager.closing.lock();
        defer manager.closing.unlock();
        try manager.checkOpen(handle, detail);
        break :range manager.range.?;
    };
    total.reserved = range.len;
    for (manager.dimensions()) |*dimension| {
        try dimension.describe(handle, detail, &total, Dimension.Memory.addMapped);
    }
    total.use = os.memoryUse(range.ptr, range.len, &detail.code) catch {
        return detail.refused(0, "cannot ask the system what is in memory");
    };
    return total;
}

// Log -------------------------------------------------------------------------------------------

fn log(manager: *Manager, operation: Detail.Operation, bytes: u64) void {
    manager.logAt(.debug, operation, bytes, 0);
}

fn logAt(
    manager: *Manager,
    level: Log.Level,
    operation: Detail.Operation,
    bytes: u64,
    threshold_percent: u8,
) void {
    Log.write(.{
        .level = level,
        .operation = operation,
        .bytes = bytes,
        .allocated = manager.budget.allocated.load(.monotonic),
        .limit = manager.budget.limit,
        .threshold_percent = threshold_percent,
    });
}

/// One warning for each soft threshold that was crossed.
fn reportPressure(manager: *Manager) void {
    const percent = manager.budget.crossing() orelse return;
    manager.logAt(.warning, .pressure, 0, percent);
}

/// The warning comes before the caller learns of the refusal.
fn refusal(manager: *Manager, err: Error, detail: *const Detail) Error {
    if (err == error.LimitExceeded) manager.logAt(.warning, .pressure, detail.requested, 0);
    return err;
}
