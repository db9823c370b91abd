//! The one object a process opens: N dimensions, one address range, one budget.
//!
//! It owns what the dimensions share and decides nothing about any single one. Its memory is
//! permanent (`Managers`); its address range goes with the last tenant: the open manager itself is
//! one, and every generation in a slot, so a manager that was closed with views held lasts until
//! the last of them is released.

const std = @import("std");
const os = @import("../os.zig");
const Budget = @import("../base.zig").Budget;
const Counters = @import("../gate.zig").Counters;
const Deadline = @import("../base.zig").Deadline;
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Gate = @import("../gate.zig").Gate;
const Generation = @import("../dimension.zig").Generation;
const Guard = @import("../Guard.zig");
const Held = @import("../dimension.zig").Held;
const Lock = @import("../base.zig").Lock;
const Log = @import("../base.zig").Log;
const Pool = @import("../Pool.zig");
const Saver = @import("../files.zig").Saver;
const Scan = @import("../Scan.zig");
const Shared = @import("../gate.zig").Shared;
const Tracker = @import("../gate.zig").Tracker;
const Verification = @import("../files.zig").Verification;

const Manager = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;

pub const dimension_count_max = 65536;
pub const dimension_count_default = 14;
pub const capacity_default = 20 << 20;
pub const pool_limit_default = 64 << 20;
pub const read_timeout_ns_default = std.time.ns_per_s;

/// Of more dimensions the regions are not told apart in the process's map, where each of them would
/// be two of the few entries that a process has.
const visible_count_max = 4096;

/// Slots of this size or more are aligned to it, so that large pages can map them.
pub const large_page_size = 2 << 20;
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
    /// In place of `limit`: what the tightest limit of the system leaves this process.
    limit_auto: bool = false,
    pool_limit: u64 = pool_limit_default,
    read_timeout_ns: ?u64 = read_timeout_ns_default,
    populate: bool = false,
    gate_atomic: bool = false,
    track_views: bool = false,
    poison: bool = false,
    guard_pages: bool = false,
    guard: bool = false,

    fn unnamed(_: ?*const anyopaque, _: u32) Spec {
        return .{};
    }
};

/// 0 while nobody may find it.
handle: Atomic(u64),
/// Dimensions that may be entered and left without a further question: all, or none where views
/// are tracked or may be those of a parent process. Set before `handle` is.
reach: Atomic(u32),
serial: Atomic(u64),
index: u10,
/// Was given back, and can be taken by `Managers` for the next.
free: Atomic(bool),
dimension_capacity: u32,

counters: Counters,
/// Views are entered in `tracker`. Atomic as `dimension_count` is.
tracking: Atomic(bool),
/// Forks between the process that opened it and this one. Views of less are inherited.
forks: Atomic(u32),
/// During a fork: dimensions whose locks are held.
forking_count: u32,
tracker: Tracker,
shared: Shared,
budget: Budget,
pool: Pool,
pool_limit: u64,
/// Atomic because a reader of a closed manager may still look.
dimension_count: Atomic(u32),
/// All slots; null before they are reserved.
range: ?[]u8,
/// Open addressing from name to index + 1; 0 is free.
name_table: []u32,
/// Held while `name_table` or `range` is looked at or goes away.
tables: Lock,
closed: Atomic(bool),
loads: Atomic(u64),
reloads: Atomic(u64),
unloads: Atomic(u64),

/// True if it can be used for the next manager: nobody is late any more.
pub fn isFree(manager: *Manager) bool {
    if (!manager.free.load(.acquire)) return false;
    for (manager.dimensions()) |*dimension| {
        if (!dimension.isQuiet()) return false;
    }
    return true;
}

pub fn dimensions(manager: *Manager) []Dimension {
    return manager.dimensionsAt()[0..manager.dimension_count.load(.monotonic)];
}

/// They stand behind the manager in the same memory.
inline fn dimensionsAt(manager: *Manager) [*]Dimension {
    return @ptrFromInt(@intFromPtr(manager) + dimensions_offset);
}

const dimensions_offset = std.mem.alignForward(usize, @sizeOf(Manager), @alignOf(Dimension));

/// Memory for a manager with room for so many dimensions.
pub fn memorySize(capacity: u32) usize {
    return dimensions_offset + capacity * @sizeOf(Dimension);
}

/// One that the caller knows to be.
pub inline fn dimensionAt(manager: *Manager, index: u32) *Dimension {
    return &manager.dimensionsAt()[index];
}

/// What a caller holds: which manager in the process's table, and which of those that had the place.
/// `tag` keeps it from being 0 and from looking like an aligned address.
pub const Handle = packed struct(u64) {
    tag: bool = true,
    index: u10,
    serial: u53,
};

/// The handle under which a manager that was taken will be found once it stores it.
fn nextHandle(manager: *Manager) u64 {
    const serial = manager.serial.load(.monotonic) + 1;
    manager.serial.store(serial, .release);
    const handle: Handle = .{ .index = manager.index, .serial = @intCast(serial) };
    return @bitCast(handle);
}

// Opening ---------------------------------------------------------------------------------------

/// What opening takes, worked out and checked before anything is taken.
pub const Plan = struct {
    layout: Layout,
    limit: os.Limit,

    pub fn of(options: *const Options, detail: *Detail) Error!Plan {
        if (options.dimension_count == 0 or options.dimension_count > dimension_count_max) {
            detail.requested = options.dimension_count;
            detail.limit = dimension_count_max;
            return detail.fail(error.InvalidArgument, "a manager has 1 to 65536 dimensions");
        }
        if (options.pool_limit > Pool.limit_max) {
            detail.requested = options.pool_limit;
            detail.limit = Pool.limit_max;
            return detail.fail(error.InvalidArgument, "the limit of the pools is at most 32 GiB");
        }
        const layout = try Layout.of(options, detail);
        const limit = limitOf(options, layout);
        if (layout.charged > limit.left()) {
            const reason = "the regions alone are more than the limit";
            return detail.exceeds(layout.charged, limit, error.LimitExceeded, reason);
        }
        if (options.populate) try Generation.checkMemory(layout.charged, detail);
        if (options.guard) try Guard.install(detail);
        return .{ .layout = layout, .limit = limit };
    }

    fn limitOf(options: *const Options, layout: Layout) os.Limit {
        if (options.limit_auto) if (os.memoryLimit(layout.uncharged(options))) |limit| return limit;
        const default = layout.charged +| layout.capacity_largest +| options.pool_limit;
        return .{ .kind = .budget, .value = options.limit orelse default };
    }
};

/// In memory that `Managers` has taken for it; on failure that is given back.
pub fn open(manager: *Manager, options: *const Options, plan: Plan, detail: *Detail) Error!void {
    // Not given back before the last tenant is out: who closes what stood there before may have
    // moved in, and finds only now that he is late.
    errdefer manager.shared.moveOut(1);
    errdefer detail.ask();
    const layout = plan.layout;
    manager.begin(options, plan.limit.left(), plan.limit.kind, layout);
    manager.budget.charge(layout.charged, detail) catch unreachable; // the plan has looked at it
    const base = os.reserve(layout.reserved, layout.alignment, &detail.code) catch {
        return detail.refused(layout.reserved, "cannot reserve address space for the regions");
    };
    manager.range = base[0..layout.reserved];
    try manager.addDimensions(options, detail);
    if (options.populate) for (manager.dimensions()) |*dimension| try dimension.populate(detail);

    manager.reach.store(if (options.track_views) 0 else options.dimension_count, .monotonic);
    manager.handle.store(manager.dimensions()[0].owner, .release);
    manager.log(.open, layout.charged);
    manager.reportPressure();
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

    /// Bytes of addresses that are needed and not charged: the second slots, what the pools have
    /// beyond their limit, and our own tables.
    fn uncharged(layout: Layout, options: *const Options) u64 {
        const pools = Pool.addressesOf(options.pool_limit) -| options.pool_limit;
        const tables = memorySize(@max(options.dimension_count, 16)) + (1 << 20);
        return layout.reserved - layout.charged + 2 * layout.alignment + pools + tables;
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

fn begin(
    manager: *Manager,
    options: *const Options,
    limit: u64,
    limit_kind: os.Limit.Kind,
    layout: Layout,
) void {
    manager.closed.store(false, .monotonic);
    manager.reach.store(0, .monotonic);
    manager.dimension_count.store(0, .monotonic);
    manager.range = null;
    manager.name_table = &.{};
    manager.pool_limit = options.pool_limit;
    manager.budget = .{
        .limit = limit,
        .limit_kind = limit_kind,
        .floor = layout.charged,
        .relief = relieve,
    };
    manager.counters.setAsymmetric(os.capabilities().process_barrier and !options.gate_atomic);
    manager.tracking.store(options.track_views, .monotonic);
    manager.forks.store(0, .monotonic);
    manager.tracker.begin();
    manager.shared = .{
        .counters = &manager.counters,
        .tracker = if (options.track_views) &manager.tracker else null,
        .budget = &manager.budget,
        .read_timeout_ns = options.read_timeout_ns,
        .guarded = options.guard,
        .tenants = .init(1),
        .last_out = lastOut,
    };
    manager.loads.store(0, .monotonic);
    manager.reloads.store(0, .monotonic);
    manager.unloads.store(0, .monotonic);
}

fn addDimensions(manager: *Manager, options: *const Options, detail: *Detail) Error!void {
    const count = options.dimension_count;
    const handle = manager.nextHandle();
    manager.pool.begin(handle, &manager.shared, .{
        .limit = options.pool_limit,
        .asymmetric = manager.counters.asymmetric.load(.monotonic),
        .poison = options.poison,
        .guard_pages = options.guard_pages,
    });
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
            .{ .base = cursor, .size = size, .visible = count <= visible_count_max },
            .{ .base = cursor + size, .size = size, .visible = false },
        };
        cursor += 2 * size;
        var buffer: [16]u8 = undefined;
        const name = spec.name orelse
            std.fmt.bufPrint(&buffer, "D{d:0>2}", .{index + 1}) catch unreachable; // 16 do
        detail.dimension = index;
        try checkName(name, detail);
        detail.setDimensionName(name);
        for (slots) |slot| {
            os.carve(slot, &detail.code) catch {
                return detail.refused(slot.size, "cannot divide the reserved address space");
            };
        }
        const dimension = manager.dimensionAt(index);
        dimension.init(handle, index, name, capacity, slots, &manager.shared);
        manager.dimension_count.store(index + 1, .release);
        try manager.addName(dimension, detail);
    }
    detail.dimension = Detail.none;
    detail.dimension_name = "";
}

fn checkName(name: []const u8, detail: *Detail) Error!void {
    const valid = name.len > 0 and name.len <= Dimension.name_size_max and
        std.unicode.utf8ValidateSlice(name) and std.mem.findScalar(u8, name, 0) == null;
    if (valid) return;
    return detail.fail(error.InvalidArgument, "a dimension's name is 1 to 63 bytes of UTF-8");
}

fn addName(manager: *Manager, dimension: *Dimension, detail: *Detail) Error!void {
    const mask = manager.name_table.len - 1;
    var place = std.hash.Wyhash.hash(0, dimension.name()) & mask;
    while (manager.name_table[place] != 0) : (place = (place + 1) & mask) {
        const other = manager.dimensionAt(manager.name_table[place] - 1);
        if (std.mem.eql(u8, other.name(), dimension.name())) {
            return detail.fail(error.InvalidArgument, "two dimensions have the same name");
        }
    }
    manager.name_table[place] = dimension.index + 1;
}

/// Index of the dimension with a name.
pub fn findDimension(manager: *Manager, handle: u64, name: []const u8, detail: *Detail) Error!u32 {
    manager.tables.lock();
    defer manager.tables.unlock();
    try manager.checkOpen(handle, detail);
    const mask = manager.name_table.len - 1;
    var place = std.hash.Wyhash.hash(0, name) & mask;
    while (manager.name_table[place] != 0) : (place = (place + 1) & mask) {
        const index = manager.name_table[place] - 1;
        if (std.mem.eql(u8, manager.dimensionAt(index).name(), name)) return index;
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
    // Whoever closes is a tenant: another thread that does not wait may close under this one.
    if (!manager.shared.moveIn()) return detail.fail(error.InvalidAccess, "the manager was closed");
    defer manager.shared.moveOut(1);
    try manager.checkOpen(handle, detail);
    if (on_views != .@"defer") {
        try manager.awaitViewsAndClose(on_views, timeout_ns, detail);
    } else try manager.markClosed(detail);
    const begun = on_views != .@"defer";
    var given: u64 = 0;
    for (manager.dimensions()) |*dimension| given += dimension.close(begun);
    for (manager.dimensions()) |*dimension| dimension.finishSwept();
    manager.pool.close();
    manager.logPool();
    manager.log(.close, given);
    manager.shared.moveOut(1);
}

/// One of several that close at the same time does it.
fn markClosed(manager: *Manager, detail: *Detail) Error!void {
    if (!manager.closed.swap(true, .acq_rel)) return;
    return detail.fail(error.InvalidAccess, "the manager was closed");
}

/// All dimensions are shut before the first is looked at, so that the answer is one for all; if
/// it is no, all are opened again.
fn awaitViewsAndClose(
    manager: *Manager,
    on_views: Dimension.OnViews,
    timeout_ns: ?u64,
    detail: *Detail,
) Error!void {
    const deadline: Deadline = .in(switch (on_views) {
        .refuse => Dimension.transient_ns,
        .wait, .@"defer" => timeout_ns,
    });
    if (on_views == .refuse) for (manager.dimensions()) |*dimension| {
        detail.dimension = dimension.index;
        detail.dimension_name = dimension.name();
        try dimension.beforeClose(deadline, detail);
    };
    detail.dimension = Detail.none;
    detail.dimension_name = "";
    var shut: u32 = 0;
    errdefer {
        for (manager.dimensions()[0..shut]) |*dimension| dimension.revertClose();
        for (manager.dimensions()) |*dimension| dimension.finishSwept();
    }
    for (manager.dimensions()) |*dimension| {
        if (!try dimension.beginClose(on_views, deadline, detail)) {
            return inTheWay(dimension, 1, on_views, detail);
        }
        shut += 1;
    }
    manager.counters.barrier(&detail.code) catch return Dimension.refuseBarrier(detail);
    // A look: it may meet readers that are about to be refused.
    const end: Deadline = if (on_views == .refuse) .in(Dimension.transient_ns) else deadline;
    for (manager.dimensions()) |*dimension| {
        const views = try dimension.drainToClose(end, detail);
        if (views != 0) return inTheWay(dimension, views, on_views, detail);
    }
    try manager.markClosed(detail);
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
fn lastOut(shared: *Shared) void {
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
    manager.pool.deinit();
    manager.tables.lock();
    if (manager.range) |range| os.unreserve(range.ptr, range.len);
    manager.range = null;
    os.heap.free(manager.name_table);
    manager.name_table = &.{};
    manager.tables.unlock();
    manager.tracker.deinit();
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
    defer manager.report();
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
    defer manager.report();
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
}

// Blocks ----------------------------------------------------------------------------------------

/// A block, and what is to be logged about it.
pub fn allocBlock(
    manager: *Manager,
    handle: u64,
    request: Pool.Request,
    detail: *Detail,
) Error![*]u8 {
    defer manager.report();
    const block = manager.pool.alloc(handle, request, detail) catch |err|
        return manager.refusal(err, detail);
    manager.log(.alloc, request.size);
    return block;
}

/// Blocks of one size, all or none.
pub fn allocBlocks(
    manager: *Manager,
    handle: u64,
    size: usize,
    blocks: []?*anyopaque,
    detail: *Detail,
) Error!void {
    defer manager.report();
    manager.pool.allocBatch(handle, size, blocks, detail) catch |err|
        return manager.refusal(err, detail);
    for (blocks) |_| manager.log(.alloc, size);
}

pub fn resizeBlock(
    manager: *Manager,
    handle: u64,
    block: *anyopaque,
    size: usize,
    detail: *Detail,
) Error![*]u8 {
    defer manager.report();
    const resized = manager.pool.resize(handle, block, size, detail) catch |err|
        return manager.refusal(err, detail);
    manager.log(.resize, size);
    return resized;
}

pub fn freeBlock(manager: *Manager, handle: u64, block: *anyopaque, detail: *Detail) Error!void {
    if (!Log.isOn(.debug)) return manager.pool.free(handle, block, detail);
    const size = try manager.pool.sizeOf(handle, block, detail);
    // The manager may go with its last block.
    const record = manager.event(.free, size);
    try manager.pool.free(handle, block, detail);
    Log.write(record);
}

pub fn trim(manager: *Manager, handle: u64, detail: *Detail) Error!u64 {
    try manager.checkOpen(handle, detail);
    defer manager.report();
    return manager.pool.trim(handle, detail);
}

fn relieve(budget: *Budget) void {
    const manager: *Manager = @fieldParentPtr("budget", budget);
    manager.pool.relieve();
}

/// What the pools took from the budget and gave back since the last look.
fn logPool(manager: *Manager) void {
    const spans = &manager.pool.spans;
    const counts = [_]*Atomic(u64){ &spans.given, &spans.grown };
    for (counts, [_]Detail.Operation{ .trim, .grow }) |count, operation| {
        if (count.load(.monotonic) == 0) continue;
        const bytes = count.swap(0, .monotonic);
        if (bytes > 0) manager.log(operation, bytes);
    }
    const doubles = spans.doubles.load(.monotonic);
    if (doubles == spans.doubles_logged.load(.monotonic)) return;
    const logged = spans.doubles_logged.swap(doubles, .monotonic);
    if (doubles > logged) manager.logAt(.@"error", .free, doubles - logged, 0);
}

/// With no lock held: what a call did to the pools, and to the distance from the limit.
fn report(manager: *Manager) void {
    manager.logPool();
    manager.reportPressure();
}

// Files -----------------------------------------------------------------------------------------

/// Saves what a dimension shows now; it is held as by a view meanwhile, so writers stay out.
pub fn save(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    path: [:0]const u8,
    options: Saver.Options,
    detail: *Detail,
) Error!void {
    const word = try manager.enter(dimension, handle, detail);
    const generation = dimension.inside(word);
    const guard = &dimension.guards[word.slot];
    var own: Held = .{ .dimension = dimension, .slot = word.slot };
    own.begin();
    const outcome = Saver.saveGeneration(path, generation, guard, options, detail);
    own.end();
    const record = dimension.event(.save, generation.size, path);
    // Its function may wait for views.
    dimension.leave(&manager.counters, dimension.index, word.slot);
    try outcome;
    Log.write(record);
}

/// Fills the room of the options with the best rows of a layer; returns how many there are.
pub fn scan(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    options: Scan.Options,
    detail: *Detail,
) Error!usize {
    const word = try manager.enter(dimension, handle, detail);
    defer dimension.leave(&manager.counters, dimension.index, word.slot);
    var own: Held = .{ .dimension = dimension, .slot = word.slot };
    own.begin();
    defer own.end();
    return Scan.run(dimension.inside(word), &dimension.guards[word.slot], options, detail);
}

/// What has become of the file that a dimension was loaded from.
pub fn verify(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    options: Verification.Options,
    detail: *Detail,
) Error!Verification {
    while (true) {
        const known = try dimension.knownFile(handle, detail);
        defer os.heap.free(known.path);
        if (!options.checksums) return Verification.run(known, null, options, detail);
        const word = try manager.enter(dimension, handle, detail);
        defer dimension.leave(&manager.counters, dimension.index, word.slot);
        var own: Held = .{ .dimension = dimension, .slot = word.slot };
        own.begin();
        defer own.end();
        const generation = dimension.inside(word);
        // Otherwise there was a reload in between.
        if (generation.number == known.generation) {
            return Verification.run(known, generation, options, detail);
        }
    }
}

/// Lets the caller into what is loaded, as a reader.
pub fn enter(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    detail: *Detail,
) Error!Gate.Word {
    return manager.stay(dimension, handle, try dimension.enter(detail), detail);
}

/// The same for who cannot wait.
pub fn enterNow(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    detail: *Detail,
) Error!Gate.Word {
    return manager.stay(dimension, handle, try dimension.enterNow(detail), detail);
}

/// Leaves again if the memory has become another manager's since the handle was looked at.
/// Null: somebody is in the way, or has to say why nobody gets in.
pub fn tryEnter(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    detail: *Detail,
) Error!?Gate.Word {
    const word = dimension.tryEnter(&manager.counters, dimension.index) orelse return null;
    return try manager.stay(dimension, handle, word, detail);
}

fn stay(
    manager: *Manager,
    dimension: *Dimension,
    handle: u64,
    word: Gate.Word,
    detail: *Detail,
) Error!Gate.Word {
    errdefer dimension.leave(&manager.counters, dimension.index, word.slot);
    try manager.checkOpen(handle, detail);
    return word;
}

// Forking ---------------------------------------------------------------------------------------

/// Takes all locks, in the order in which they nest.
pub fn beginFork(manager: *Manager) void {
    manager.tables.lock();
    // One that is being opened gets more of them meanwhile.
    manager.forking_count = manager.dimension_count.load(.acquire);
    for (manager.forkingDimensions()) |*dimension| dimension.beginFork();
    manager.pool.beginFork();
    manager.counters.lock.lock();
    manager.tracker.lock.lock();
}

pub fn endFork(manager: *Manager, stage: os.ForkStage) void {
    manager.tracker.lock.unlock();
    manager.counters.lock.unlock();
    manager.pool.endFork(stage);
    if (stage == .in_child) manager.becomeChild();
    for (manager.forkingDimensions()) |*dimension| dimension.endFork();
    manager.tables.unlock();
}

/// With all locks free again.
pub fn sweepAfterFork(manager: *Manager) void {
    for (manager.dimensions()) |*dimension| dimension.sweepAfterFork();
}

/// Views of the parent are told from now on, which the read path leaves to others.
fn becomeChild(manager: *Manager) void {
    manager.reach.store(0, .monotonic);
    _ = manager.forks.fetchAdd(1, .monotonic);
    for (manager.forkingDimensions()) |*dimension| dimension.becomeChild();
}

fn forkingDimensions(manager: *Manager) []Dimension {
    return manager.dimensionsAt()[0..manager.forking_count];
}

// Describing ------------------------------------------------------------------------------------

/// Bytes of address space.
pub fn reserved(manager: *const Manager) u64 {
    return if (manager.range) |range| range.len else 0;
}

/// The four numbers of all dimensions together.
pub fn memory(manager: *Manager, handle: u64, detail: *Detail) Error!Dimension.Memory {
    var total: Dimension.Memory = .{};
    total.reserved = reserved: {
        manager.tables.lock();
        defer manager.tables.unlock();
        try manager.checkOpen(handle, detail);
        break :reserved manager.range.?.len;
    };
    for (manager.dimensions()) |*dimension| {
        try dimension.addMemory(handle, &total, detail);
    }
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
    if (!Log.isOn(level)) return;
    var made = manager.event(operation, bytes);
    made.level = level;
    made.threshold_percent = threshold_percent;
    Log.write(made);
}

fn event(manager: *Manager, operation: Detail.Operation, bytes: u64) Log.Event {
    return .{
        .level = .debug,
        .operation = operation,
        .bytes = bytes,
        .allocated = manager.budget.allocated.load(.monotonic),
        .limit = manager.budget.limit,
    };
}

/// One warning for each soft threshold that was crossed.
fn reportPressure(manager: *Manager) void {
    const percent = manager.budget.crossing() orelse return;
    manager.logAt(.warning, .pressure, 0, percent);
}

/// The warning comes before the caller learns of the refusal.
fn refusal(manager: *Manager, err: Error, detail: *const Detail) Error {
    if (err != error.LimitExceeded or !Log.isOn(.warning)) return err;
    var made = manager.event(.pressure, detail.requested);
    made.level = .warning;
    // Of what refused: it may be the pools' limit, or a capacity.
    made.allocated = detail.used;
    made.limit = detail.limit;
    Log.write(made);
    return err;
}
