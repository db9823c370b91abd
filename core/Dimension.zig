//! A named place of fixed capacity: two slots, the generations in them, and who may do what when.
//!
//! Readers go through the gate and never take the lock, except to wait for a writer. The rare side
//! takes the lock for moments only; what takes long (reading a file, waiting for views) goes on
//! with the lock free and `activity` set, and other rare operations wait for that. Whoever unlocks
//! looks after the messages that leavers left meanwhile, so a leaver never waits for the lock.
//!
//! Charges: the dimension is charged its capacity for the region, or for each generation in its
//! slots if those are more (`charges`). The charge is moved under the lock, in the same step as
//! what it pays for, so that the budget is exact at every moment somebody else can look.

const std = @import("std");
const os = @import("os.zig");
const Counters = @import("Counters.zig");
const Deadline = @import("Deadline.zig");
const Detail = @import("Detail.zig");
const Gate = @import("Gate.zig");
const Generation = @import("Generation.zig");
const Guard = @import("Guard.zig");
const Layers = @import("Layers.zig");
const Lock = @import("Lock.zig");
const Log = @import("Log.zig");
const Shared = @import("Shared.zig");

const Dimension = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;

/// Bytes of a name (MEMMGR_DIMENSION_NAME_SIZE counts the NUL).
pub const name_size_max = 63;

/// A look at the views held may meet a reader that is about to be refused: it is gone sooner.
pub const transient_ns = std.time.ns_per_ms;

const Activity = enum {
    none,
    /// A file is being read and mapped into the free slot.
    loading,
    /// Somebody waits until the current generation has no views.
    draining,
    /// The manager looks whether it can close.
    closing,
};

pub const OnViews = enum(u32) { refuse = 0, wait = 1, @"defer" = 2 };

/// What stays when the file is gone.
pub const Keep = enum { region, nothing };

/// What a sweep took away: to be logged, and to move out, once the lock is free.
const Gone = struct {
    count: u32 = 0,
    bytes: u64 = 0,
    /// A page of it could not be read, while it was loaded or after it was replaced.
    faulted: bool = false,
};

gate: Gate,
lock: Lock,
/// Moved under the lock whenever state or activity change: readers and rare operations sleep on it.
changed: Atomic(u32),
/// Moved by leavers of a draining slot: the drainer sleeps on it.
drained: Atomic(u32),
/// A leaver asks for a sweep that it could not make because the lock was taken.
sweep_wanted: Atomic(bool),

/// The handle of the manager that this is part of; 0 while there is none. Rare operations compare
/// it under the lock, because the memory is used again by another manager.
owner: u64,
shared: *Shared,
index: u32,
name_buffer: [name_size_max:0]u8,
capacity: u64,
slots: [2]os.Slot,
/// Memory that was populated at open and that no file has replaced yet, in slot 0.
populated: ?os.Placement,

activity: Activity,
/// While `activity` is draining or closing: the state to go back to.
state_before: Gate.State,
generations: [2]Generation,
/// Looked at by signal handlers; `core/Guard.zig` says what they may do.
guards: [2]Guard,
last_number: u64,
/// The region is charged even if nothing is loaded.
region_charged: bool,
/// Asleep on `changed`, or about to be.
sleepers: u32,
/// Readers that wait for a writer; and those of them that go before the next one, so that writers
/// who take turns cannot keep readers out. Moved without the lock: a reader that has just come in
/// must not queue behind the writer that waits for it. `readers_owed` may be a little wrong then,
/// which is why it is believed until `turn` only.
readers_waiting: Atomic(u32),
readers_owed: Atomic(u32),
turn: Deadline,
/// During a fork: views of each slot that had been left before it.
outs_before_fork: [2]u64,

/// For zeroed memory, or for that of a dimension whose manager is gone. What sleepers of that
/// manager may still take back, and the generations' numbers, go on from where they stand: so no
/// word of the gate is ever used twice.
pub fn init(
    dimension: *Dimension,
    owner: u64,
    index: u32,
    dimension_name: []const u8,
    capacity: u64,
    slots: [2]os.Slot,
    shared: *Shared,
) void {
    dimension.lock.lock();
    defer dimension.unlock();
    dimension.owner = owner;
    dimension.shared = shared;
    dimension.index = index;
    dimension.name_buffer = @splat(0);
    @memcpy(dimension.name_buffer[0..dimension_name.len], dimension_name);
    dimension.capacity = capacity;
    dimension.slots = slots;
    dimension.populated = null;
    dimension.activity = .none;
    dimension.generations = @splat(.{});
    dimension.region_charged = true;
    dimension.gate.set(.{ .state = .empty, .slot = 0, .generation = @intCast(dimension.last_number) });
}

/// The manager is gone; what comes late finds nobody.
pub fn deinit(dimension: *Dimension) void {
    dimension.lock.lock();
    defer dimension.unlock();
    dimension.owner = 0;
}

/// True if nobody sleeps here on behalf of a manager that is gone.
pub fn isQuiet(dimension: *Dimension) bool {
    dimension.lock.lock();
    defer dimension.unlock();
    return dimension.sleepers == 0 and dimension.readers_waiting.load(.seq_cst) == 0;
}

pub fn name(dimension: *const Dimension) [:0]const u8 {
    return std.mem.sliceTo(&dimension.name_buffer, 0);
}

/// Takes the lock for the manager that the caller means.
fn lockFor(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    dimension.lock.lock();
    if (dimension.owner == owner) return;
    dimension.unlock();
    return refusal(.closed, detail);
}

// Reading ---------------------------------------------------------------------------------------

/// Lets a reader in, if that needs neither waiting nor an explanation.
pub inline fn tryEnter(dimension: *Dimension, counters: *Counters, index: u32) ?Gate.Word {
    switch (dimension.gate.enter(counters, index)) {
        .inside => |word| return word,
        .refused => return null,
        .left => |drain_| {
            if (drain_.any()) dimension.afterLeaving(drain_);
            return null;
        },
    }
}

/// Lets a reader in; the word says to which generation, in which slot. Waits for a writer.
pub fn enter(dimension: *Dimension, detail: *Detail) Error!Gate.Word {
    return try dimension.enterUnlessBlocked(detail) orelse dimension.enterWaiting(detail);
}

/// The same for who cannot wait.
pub fn enterNow(dimension: *Dimension, detail: *Detail) Error!Gate.Word {
    return try dimension.enterUnlessBlocked(detail) orelse {
        detail.views = 1;
        return detail.fail(error.ViewsHeld, writer_in_the_way);
    };
}

const writer_in_the_way = "a writer has or waits for exclusive access";

fn enterUnlessBlocked(dimension: *Dimension, detail: *Detail) Error!?Gate.Word {
    while (true) {
        if (dimension.tryEnter(dimension.shared.counters, dimension.index)) |word| return word;
        const state = dimension.stateOf(dimension.gate.read());
        switch (state) {
            .open => {},
            .blocked => return null,
            .faulted => try dimension.refuseFaulted(detail),
            else => return refusal(state, detail),
        }
    }
}

fn enterWaiting(dimension: *Dimension, detail: *Detail) Error!Gate.Word {
    try dimension.checkNotWaitingForItself(dimension.gate.read(), detail);
    const deadline: Deadline = .in(dimension.shared.read_timeout_ns);
    _ = dimension.readers_waiting.fetchAdd(1, .seq_cst);
    defer dimension.leaveWaiting();
    while (true) {
        const seen = dimension.changed.load(.seq_cst);
        if (dimension.tryEnter(dimension.shared.counters, dimension.index)) |word| return word;
        const state = dimension.stateOf(dimension.gate.read());
        switch (state) {
            .open => continue,
            .blocked => {},
            .faulted => {
                try dimension.refuseFaulted(detail);
                continue;
            },
            else => return refusal(state, detail),
        }
        if (deadline.passed()) {
            detail.views = 1;
            return detail.fail(error.WaitTimeout, writer_in_the_way);
        }
        os.futexWait(&dimension.changed, seen, deadline.leftNs());
    }
}

/// One reader less that the next writer lets go first.
fn leaveWaiting(dimension: *Dimension) void {
    _ = dimension.readers_waiting.fetchSub(1, .seq_cst);
    var owed = dimension.readers_owed.load(.seq_cst);
    while (owed > 0) {
        owed = dimension.readers_owed.cmpxchgWeak(owed, owed - 1, .seq_cst, .seq_cst) orelse {
            if (owed > 1) return;
            _ = dimension.changed.fetchAdd(1, .seq_cst);
            os.futexWakeAll(&dimension.changed);
            return;
        };
    }
}

/// A thread that holds a view and waits for who waits for that view would wait until one of the two
/// loses patience. Nobody waits for views of generations that were replaced.
fn checkNotWaitingForItself(dimension: *Dimension, word: Gate.Word, detail: *Detail) Error!void {
    const tracker = dimension.shared.tracker orelse return;
    if (!tracker.isHolding(dimension.index, word.generation)) return;
    detail.views = 1;
    return detail.fail(error.ViewsHeld, "this thread would wait for a view that it holds itself");
}

/// Why a gate in `state` lets nobody in.
fn refusal(state: Gate.State, detail: *Detail) Error {
    return switch (state) {
        .empty, .deallocated => detail.fail(error.NotLoaded, "no file is loaded"),
        .unloading => detail.fail(error.InvalidAccess, "the region is being deallocated"),
        .closed => detail.fail(error.InvalidAccess, "the manager was closed"),
        // Whoever is let in, or waits, is not refused; what is faulted tells more of it.
        .open, .blocked, .faulted => unreachable,
    };
}

/// The state that a word means: a writer is told that a page could not be read when he has ended,
/// but others are told at once.
fn stateOf(dimension: *const Dimension, word: Gate.Word) Gate.State {
    return switch (word.state) {
        .open, .blocked => if (dimension.markOf(word) == null) word.state else .faulted,
        else => word.state,
    };
}

fn markOf(dimension: *const Dimension, word: Gate.Word) ?Guard.Mark {
    return dimension.guards[word.slot].markOf(word.generation);
}

/// Without the lock: says what could not be read, unless it was replaced meanwhile.
fn refuseFaulted(dimension: *Dimension, detail: *Detail) Error!void {
    @branchHint(.cold);
    dimension.lock.lock();
    defer dimension.unlock();
    const word = dimension.gate.read();
    if (dimension.stateOf(word) == .faulted) try dimension.checkUnfaulted(word.slot, detail);
}

/// Under the lock, or inside of the slot. The error is about the layer that was asked for, or else
/// about the one that was being read.
pub noinline fn checkUnfaulted(dimension: *const Dimension, slot: u1, detail: *Detail) Error!void {
    const generation = &dimension.generations[slot];
    const mark = dimension.guards[slot].markOf(generation.number) orelse return;
    if (detail.layer_name.len == 0) if (generation.layers.findAt(mark.offset)) |index| {
        detail.layer = index;
        detail.setLayerName(generation.layers.items[index].name);
    };
    return detail.faulted(mark.offset, mark.code);
}

/// Under the lock: lets readers in, unless a page could not be read meanwhile.
fn admit(dimension: *Dimension, slot: u1) void {
    dimension.generations[slot].settled = false;
    var word: Gate.Word = .{
        .state = .open,
        .slot = slot,
        .generation = @intCast(dimension.generations[slot].number),
    };
    if (dimension.markOf(word) == null) {
        dimension.gate.set(word);
        // A fault marks first and looks at the word second: one of the two sees the other.
        if (dimension.markOf(word) == null) return;
    }
    word.state = .faulted;
    dimension.gate.set(word);
}

/// Lets a reader out. It may be another thread than the one that was let in.
pub inline fn leave(dimension: *Dimension, counters: *Counters, index: u32, slot: u1) void {
    const drain_ = dimension.gate.leave(counters, index, slot);
    if (drain_.any()) dimension.afterLeaving(drain_);
}

/// Somebody waits for the slot that the caller has left.
pub fn afterLeaving(dimension: *Dimension, drain_: Gate.Drain) void {
    @branchHint(.cold);
    if (drain_.wake) {
        _ = dimension.drained.fetchAdd(1, .seq_cst);
        os.futexWakeAll(&dimension.drained);
    }
    if (drain_.retire) {
        dimension.sweep_wanted.store(true, .seq_cst);
        dimension.sweepIfWanted();
    }
}

/// The generation that a word let the caller into; its size and layers do not change while the
/// caller is inside.
pub inline fn inside(dimension: *Dimension, word: Gate.Word) *const Generation {
    return &dimension.generations[word.slot];
}

// Lock and sweep --------------------------------------------------------------------------------

/// Sweeps, if that was asked for meanwhile.
pub fn unlock(dimension: *Dimension) void {
    dimension.lock.unlock();
    dimension.sweepIfWanted();
}

fn sweepIfWanted(dimension: *Dimension) void {
    while (dimension.takeMessage()) |gone| dimension.finish(gone);
}

/// With the lock free: sweeps if a leaver asked for it, and nobody else who looks after it has the
/// lock.
fn takeMessage(dimension: *Dimension) ?Gone {
    if (!dimension.sweep_wanted.load(.seq_cst) or !dimension.lock.tryLock()) return null;
    defer dimension.lock.unlock();
    dimension.sweep_wanted.store(false, .seq_cst);
    return dimension.sweep();
}

/// Under the lock: retires what was waiting for its last view. What nobody can prove to be free
/// stays where it is.
fn sweep(dimension: *Dimension) Gone {
    var gone: Gone = .{};
    for (&dimension.generations, 0..) |*generation, index| {
        const slot: u1 = @intCast(index);
        if (!generation.retiring or generation.writing) continue;
        var ignored: i64 = 0;
        if (!generation.settled) dimension.settle(&ignored) catch continue;
        if (dimension.held(slot) != 0) continue;
        const size = generation.size;
        const faulted = dimension.guards[slot].markOf(generation.number) != null;
        if (!dimension.unmap(slot)) continue;
        gone.count += 1;
        gone.bytes += size;
        gone.faulted = gone.faulted or faulted;
    }
    return gone;
}

/// Under the lock, of a slot that nobody is in: its file is unmapped and its charge given back.
/// False if the system refused: the generation is retiring then, and the next sweep tries again;
/// but once the manager is closed there is none, and its address range goes as a whole.
fn unmap(dimension: *Dimension, slot: u1) bool {
    const generation = &dimension.generations[slot];
    const number = generation.number;
    const before = dimension.charges();
    generation.retiring = true;
    // Who waits to close waits for this too, and its last view may have left without a word.
    dimension.wakeDrainer();
    dimension.guards[slot].disarm();
    generation.unload() catch {
        if (dimension.gate.read().state != .closed) return false;
        generation.forget();
    };
    dimension.gate.setDrain(slot, .{});
    dimension.shared.budget.uncharge(before - dimension.charges());
    const word = dimension.gate.read();
    if (word.state == .unloading and word.generation == number) {
        dimension.gate.setState(if (dimension.region_charged) .empty else .deallocated);
    }
    dimension.announce();
    return true;
}

/// With the lock free: what follows a sweep.
fn finish(dimension: *Dimension, gone: Gone) void {
    if (gone.count == 0) return;
    var retired = dimension.event(.retire, gone.bytes, "");
    if (gone.faulted) {
        retired.level = .warning;
        retired.faulted = true;
    }
    Log.write(retired);
    dimension.shared.moveOut(gone.count);
}

/// Under the lock.
fn announce(dimension: *Dimension) void {
    _ = dimension.changed.fetchAdd(1, .seq_cst);
    const waiting = dimension.sleepers + dimension.readers_waiting.load(.seq_cst);
    if (waiting > 0) os.futexWakeAll(&dimension.changed);
}

/// Under the lock, which is free while it sleeps: until the next announcement. False if the
/// deadline has passed.
fn sleep(dimension: *Dimension, deadline: Deadline) bool {
    if (deadline.passed()) return false;
    const seen = dimension.changed.load(.seq_cst);
    dimension.sleepers += 1;
    dimension.unlock();
    os.futexWait(&dimension.changed, seen, deadline.leftNs());
    dimension.lock.lock();
    dimension.sleepers -= 1;
    return true;
}

// Charges and views -----------------------------------------------------------------------------

/// Bytes that this dimension has to be charged for, as it is.
fn charges(dimension: *const Dimension) u64 {
    return dimension.chargesWith(0);
}

/// The same with so many generations more.
fn chargesWith(dimension: *const Dimension, more: u64) u64 {
    var count = more;
    for (&dimension.generations) |*generation| count += @intFromBool(!generation.isFree());
    return dimension.capacity * @max(count, @intFromBool(dimension.region_charged));
}

fn held(dimension: *const Dimension, slot: u1) u64 {
    return dimension.shared.counters.held(dimension.index, slot);
}

/// Views of a slot, a writer counted as one.
fn holders(dimension: *const Dimension, slot: u1) u64 {
    const generation = &dimension.generations[slot];
    if (generation.isFree()) return 0;
    return dimension.held(slot) + @intFromBool(generation.writing);
}

pub fn log(dimension: *const Dimension, operation: Detail.Operation, bytes: u64, file: []const u8) void {
    Log.write(dimension.event(operation, bytes, file));
}

fn event(
    dimension: *const Dimension,
    operation: Detail.Operation,
    bytes: u64,
    file: []const u8,
) Log.Event {
    return .{
        .level = .debug,
        .operation = operation,
        .dimension = dimension.index,
        .dimension_name = dimension.name(),
        .bytes = bytes,
        .allocated = dimension.shared.budget.allocated.load(.monotonic),
        .limit = dimension.shared.budget.limit,
        .file_name = file,
    };
}

// Loading ---------------------------------------------------------------------------------------

/// Loads a file into a dimension that holds none.
pub fn load(
    dimension: *Dimension,
    owner: u64,
    path: [:0]const u8,
    options: Generation.Options,
    detail: *Detail,
) Error!void {
    detail.file_name = path;
    try dimension.lockFor(owner, detail);
    var gone: Gone = .{};
    const begun = dimension.beginLoad(&gone, detail);
    dimension.unlock();
    dimension.finish(gone);
    return dimension.completeLoad(try begun, null, .load, path, options, detail);
}

/// Loads a new version beside the old one, which goes with its last view.
pub fn reload(
    dimension: *Dimension,
    owner: u64,
    path: [:0]const u8,
    options: Generation.Options,
    detail: *Detail,
) Error!void {
    detail.file_name = path;
    try dimension.lockFor(owner, detail);
    var gone: Gone = .{};
    const begun = dimension.beginReload(&gone, detail);
    dimension.unlock();
    dimension.finish(gone);
    const slot = try begun;
    // Only a load or an unload could change the old one, and both wait for this one.
    const previous = &dimension.generations[~slot];
    return dimension.completeLoad(slot, previous, .reload, path, options, detail);
}

/// Under the lock: claims a slot and its charge, or says why not.
fn beginLoad(dimension: *Dimension, gone: *Gone, detail: *Detail) Error!u1 {
    while (true) {
        const word = dimension.gate.read();
        switch (word.state) {
            .open, .blocked, .faulted => {
                return detail.fail(error.AlreadyLoaded, "a file is loaded already");
            },
            .closed => return refusal(.closed, detail),
            // Unless it is retiring, somebody waits for its views, and it may yet stay.
            .unloading => if (!dimension.generations[word.slot].retiring) {
                return refusal(.unloading, detail);
            },
            .empty, .deallocated => {},
        }
        if (dimension.activity == .none) break;
        _ = dimension.sleep(.forever);
    }
    return dimension.claim(gone, detail);
}

fn beginReload(dimension: *Dimension, gone: *Gone, detail: *Detail) Error!u1 {
    const deadline: Deadline = .in(dimension.shared.read_timeout_ns);
    while (true) {
        const word = dimension.gate.read();
        switch (word.state) {
            .open, .blocked, .faulted => {},
            .empty, .deallocated, .unloading, .closed => return refusal(word.state, detail),
        }
        const writing = dimension.generations[word.slot].writing;
        if (dimension.activity == .none and !writing) break;
        if (!dimension.sleep(deadline)) {
            detail.views = dimension.holders(word.slot);
            return detail.fail(error.WaitTimeout, writer_in_the_way);
        }
    }
    // The old version can go only by a barrier: asked for now, while nothing has changed yet.
    dimension.shared.counters.barrier(&detail.code) catch return refuseBarrier(detail);
    return dimension.claim(gone, detail);
}

fn claim(dimension: *Dimension, gone: *Gone, detail: *Detail) Error!u1 {
    // There may be one that the system would not unmap when its last view was released.
    gone.* = dimension.sweep();
    const slot = try dimension.freeSlot(detail);
    const before = dimension.charges();
    const generation = &dimension.generations[slot];
    generation.number = dimension.last_number + 1;
    generation.dimension = dimension.index;
    generation.dimension_name = dimension.name();
    dimension.shared.budget.charge(dimension.charges() - before, detail) catch |err| {
        generation.* = .{};
        return err;
    };
    dimension.last_number = generation.number;
    _ = dimension.shared.tenants.fetchAdd(1, .seq_cst);
    dimension.activity = .loading;
    return slot;
}

/// Fails as a load or, if something is loaded, a reload would for want of room, and changes
/// nothing. A slot whose last view goes meanwhile may make it fit after all.
pub fn wouldFit(
    dimension: *Dimension,
    owner: u64,
    candidate: Generation.Candidate,
    mode: Generation.Mode,
    detail: *Detail,
) Error!void {
    switch (candidate) {
        .path => |path| detail.file_name = path,
        .size => {},
    }
    try dimension.checkClaim(owner, detail);
    return Generation.wouldFit(dimension.capacity, candidate, mode, detail);
}

fn checkClaim(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    try dimension.lockFor(owner, detail);
    defer dimension.unlock();
    if (dimension.gate.read().state == .closed) return refusal(.closed, detail);
    _ = try dimension.freeSlot(detail);
    const bytes = dimension.chargesWith(1) - dimension.charges();
    return dimension.shared.budget.check(bytes, detail);
}

/// Under the lock.
fn freeSlot(dimension: *const Dimension, detail: *Detail) Error!u1 {
    for (&dimension.generations, 0..) |*generation, slot| {
        if (generation.isFree()) return @intCast(slot);
    }
    detail.views = dimension.holders(0) + dimension.holders(1);
    return detail.fail(error.ViewsHeld, "views of earlier versions hold both slots");
}

fn completeLoad(
    dimension: *Dimension,
    slot: u1,
    previous: ?*Generation,
    operation: Detail.Operation,
    path: [:0]const u8,
    options: Generation.Options,
    detail: *Detail,
) Error!void {
    const generation = &dimension.generations[slot];
    const place = dimension.slots[slot];
    // The file of one that could not be read may be whole again.
    const faulted = previous != null and dimension.guards[~slot].markOf(previous.?.number) != null;
    const other = if (faulted) null else previous;
    const guard = if (dimension.shared.guarded) &dimension.guards[slot] else null;
    if (guard) |slot_guard| {
        slot_guard.enlist(&dimension.gate, slot);
        Guard.install(detail) catch |err| return dimension.abandonLoad(slot, err);
    }
    if (slot == 0) {
        // What was populated at open gives way to the file.
        dimension.restorePopulated(detail) catch |err| return dimension.abandonLoad(slot, err);
    }
    const capacity = dimension.capacity;
    generation.load(place, capacity, path, options, other, guard, detail) catch |err| {
        return dimension.abandonLoad(slot, err);
    };

    dimension.lock.lock();
    dimension.activity = .none;
    dimension.region_charged = true;
    dimension.gate.slots[slot] = .{ .base = place.base, .size = generation.size };
    dimension.admit(slot);
    const size = generation.size;
    var gone: Gone = .{};
    if (previous) |old| {
        dimension.retire(~slot, old);
        gone = dimension.sweep();
    }
    dimension.announce();
    dimension.unlock();
    dimension.log(operation, size, path);
    dimension.finish(gone);
}

fn abandonLoad(dimension: *Dimension, slot: u1, err: Error) Error {
    dimension.lock.lock();
    const before = dimension.charges();
    dimension.generations[slot] = .{};
    dimension.shared.budget.uncharge(before - dimension.charges());
    dimension.activity = .none;
    dimension.announce();
    dimension.unlock();
    dimension.shared.moveOut(1);
    return err;
}

/// Touches all of the region's pages, so that they are there when a file comes. Only before the
/// first load.
pub fn populate(dimension: *Dimension, detail: *Detail) Error!void {
    const slot = dimension.slots[0];
    const placement = os.commit(slot, dimension.capacity, &detail.code) catch {
        return detail.refused(dimension.capacity, "cannot allocate memory for the region");
    };
    dimension.populated = placement;
    os.populate(placement, true, &detail.code) catch {
        return detail.refused(dimension.capacity, "cannot bring the region's pages into memory");
    };
}

pub fn restorePopulated(dimension: *Dimension, detail: *Detail) Error!void {
    const placement = dimension.populated orelse return;
    os.restore(placement, &detail.code) catch {
        return detail.refused(dimension.capacity, "cannot give the region's memory back");
    };
    dimension.populated = null;
}

// Waiting for views -----------------------------------------------------------------------------

/// Under the lock: from now on the generation goes with its last view.
fn retire(dimension: *Dimension, slot: u1, generation: *Generation) void {
    generation.retiring = true;
    dimension.gate.setDrain(slot, .{ .retire = true });
    // Whoever waits for its views learns that it was taken from him.
    dimension.wakeDrainer();
}

/// Under the lock: whoever waits for views looks again.
fn wakeDrainer(dimension: *Dimension) void {
    _ = dimension.drained.fetchAdd(1, .seq_cst);
    if (dimension.activity != .none) os.futexWakeAll(&dimension.drained);
}

/// Under the lock: closes the gate to newcomers and begins to wait.
fn beginDraining(dimension: *Dimension, slot: u1, state: Gate.State, detail: *Detail) Error!void {
    dimension.activity = .draining;
    dimension.state_before = dimension.gate.read().state;
    dimension.gate.setState(state);
    dimension.gate.setDrain(slot, .{ .wake = true });
    dimension.settle(&detail.code) catch {
        dimension.reopen(slot, dimension.state_before);
        return refuseBarrier(detail);
    };
}

/// Under the lock: from now on the sums of a slot that the gate lets nobody into are exact, and
/// whoever leaves it sees its drain flag.
fn settle(dimension: *Dimension, code: *i64) os.Error!void {
    // Only a fault moves the word without the lock, and lets nobody in.
    const word = dimension.gate.read();
    try dimension.shared.counters.barrier(code);
    for (&dimension.generations, 0..) |*generation, slot| {
        if (word.state != .open or word.slot != slot) generation.settled = true;
    }
}

pub fn refuseBarrier(detail: *Detail) Error {
    return detail.refused(0, "the system refuses the barrier between threads that it granted " ++
        "when the manager was opened: open managers under the filter of system calls, or with " ++
        "MEMMGR_OPEN_GATE_ATOMIC");
}

fn endActivity(dimension: *Dimension) void {
    dimension.activity = .none;
    dimension.announce();
}

/// Under the lock, after `beginDraining`: waits until the generation has neither views nor a
/// writer. Returns how many there are at the deadline, 0 if none; then the caller ends the
/// activity. Fails, with the activity ended, if somebody who does not wait took the generation.
fn drain(dimension: *Dimension, slot: u1, deadline: Deadline, detail: *Detail) Error!u64 {
    const generation = &dimension.generations[slot];
    while (true) {
        const seen = dimension.drained.load(.seq_cst);
        if (generation.retiring or generation.isFree()) {
            dimension.endActivity();
            return refusal(.unloading, detail);
        }
        const views = dimension.holders(slot);
        if (views == 0 or deadline.passed()) return views;
        dimension.unlock();
        os.futexWait(&dimension.drained, seen, deadline.leftNs());
        dimension.lock.lock();
    }
}

/// Under the lock: everything as it was before `beginDraining`.
fn reopen(dimension: *Dimension, slot: u1, state: Gate.State) void {
    dimension.gate.setDrain(slot, .{});
    switch (state) {
        // A writer may have come to its end meanwhile.
        .open, .blocked => if (dimension.generations[slot].writing)
            dimension.gate.setState(.blocked)
        else
            dimension.admit(slot),
        else => dimension.gate.setState(state),
    }
    dimension.endActivity();
}

// Unloading -------------------------------------------------------------------------------------

/// Takes the file out, and the region's charge with it if nothing is to be kept.
pub fn unload(
    dimension: *Dimension,
    owner: u64,
    keep: Keep,
    on_views: OnViews,
    timeout_ns: ?u64,
    detail: *Detail,
) Error!void {
    const deadline: Deadline = .in(switch (on_views) {
        .refuse => transient_ns,
        .wait => timeout_ns,
        .@"defer" => 0,
    });
    try dimension.lockFor(owner, detail);
    var gone: Gone = .{};
    const outcome = dimension.unloadLocked(keep, on_views, deadline, &gone, detail);
    dimension.unlock();
    const bytes = outcome catch |err| {
        dimension.finish(gone);
        return err;
    };
    dimension.log(if (keep == .region) .unload else .deallocate, bytes, "");
    dimension.finish(gone);
}

fn unloadLocked(
    dimension: *Dimension,
    keep: Keep,
    on_views: OnViews,
    deadline: Deadline,
    gone: *Gone,
    detail: *Detail,
) Error!u64 {
    const word = while (true) {
        const word = dimension.gate.read();
        const loaded = switch (word.state) {
            .open, .blocked, .faulted => true,
            .empty, .deallocated => false,
            .unloading => if (keep == .region) return refusal(.unloading, detail) else false,
            .closed => return refusal(.closed, detail),
        };
        if (dimension.activity == .none) {
            if (loaded) break word;
            if (keep == .region) return refusal(word.state, detail);
            if (word.state != .unloading or on_views == .@"defer") {
                return dimension.unchargeRegion(detail);
            }
        }
        // A file that is being loaded is in its slot or not, before anything is decided; but
        // views that somebody else waits for are in the way now.
        if (dimension.activity != .loading) {
            const waited_for = dimension.activity == .draining;
            if (loaded and waited_for and on_views == .@"defer") break word;
            if (on_views == .refuse) {
                detail.views = dimension.holders(word.slot);
                return detail.fail(error.ViewsHeld, "views are held, and somebody waits for them");
            }
        }
        if (!dimension.sleep(if (on_views == .wait) deadline else .forever)) {
            detail.views = dimension.holders(word.slot);
            return detail.fail(error.WaitTimeout, "views are still held");
        }
    };
    const generation = &dimension.generations[word.slot];
    const size = generation.size;
    if (on_views == .@"defer") {
        dimension.gate.setState(.unloading);
        dimension.gate.setDrain(word.slot, .{ .wake = true, .retire = true });
        var code: i64 = 0;
        dimension.settle(&code) catch if (!generation.settled) {
            // Nobody waits for its views either: he would have settled it.
            dimension.reopen(word.slot, word.state);
            detail.code = code;
            return refuseBarrier(detail);
        };
        dimension.retire(word.slot, generation);
        dimension.region_charged = keep == .region;
        gone.* = dimension.sweep();
        dimension.announce();
        return size;
    }
    const state: Gate.State = if (on_views == .refuse) .blocked else .unloading;
    try dimension.beginDraining(word.slot, state, detail);
    const views = try dimension.drain(word.slot, deadline, detail);
    if (views != 0) {
        dimension.reopen(word.slot, word.state);
        detail.views = views;
        if (on_views == .refuse) return detail.fail(error.ViewsHeld, "views are held");
        return detail.fail(error.WaitTimeout, "views are still held");
    }
    dimension.endActivity();
    dimension.gate.setState(.unloading);
    dimension.retire(word.slot, generation);
    dimension.region_charged = keep == .region;
    dimension.settleAgain();
    gone.* = dimension.sweep();
    return size;
}

/// Under the lock, of what is retiring and settled: a reader that is about to be refused may have
/// seen the old drain flag. Its leaving must be in the sum then, or nobody sweeps before the next
/// operation does, as it is if the system refuses.
fn settleAgain(dimension: *Dimension) void {
    var ignored: i64 = 0;
    dimension.settle(&ignored) catch {};
}

/// Under the lock, with nothing loaded: gives the region's charge back, now or, if views of
/// something that was loaded are held, with them.
fn unchargeRegion(dimension: *Dimension, detail: *Detail) Error!u64 {
    if (!dimension.region_charged) return 0;
    try dimension.restorePopulated(detail);
    const before = dimension.charges();
    dimension.region_charged = false;
    dimension.shared.budget.uncharge(before - dimension.charges());
    if (dimension.gate.read().state == .empty) dimension.gate.setState(.deallocated);
    dimension.announce();
    return dimension.capacity;
}

// Closing ---------------------------------------------------------------------------------------

/// The first of three steps: shuts the gate while the manager looks whether nobody is in the way
/// in any of its dimensions. False if somebody is.
pub fn beginClose(dimension: *Dimension, on_views: OnViews, deadline: Deadline) bool {
    dimension.lock.lock();
    defer dimension.unlock();
    while (dimension.activity != .none) {
        const loading = dimension.activity == .loading;
        if (!loading and on_views == .refuse) return false;
        if (!dimension.sleep(if (loading) .forever else deadline)) return false;
    }
    dimension.activity = .closing;
    const word = dimension.gate.read();
    dimension.state_before = word.state;
    switch (word.state) {
        .open, .blocked, .faulted => {
            dimension.gate.setState(if (on_views == .refuse) .blocked else .unloading);
            dimension.gate.setDrain(word.slot, .{ .wake = true });
        },
        .empty, .deallocated, .unloading, .closed => {},
    }
    return true;
}

/// The second step, after a barrier: views that are held at the deadline, those of unloaded and
/// replaced generations included. Who closes without waiting ends it.
pub fn drainToClose(dimension: *Dimension, deadline: Deadline) u64 {
    dimension.lock.lock();
    defer dimension.unlock();
    while (true) {
        const seen = dimension.drained.load(.seq_cst);
        const word = dimension.gate.read();
        if (word.state == .closed) return 0;
        for (&dimension.generations) |*generation| generation.settled = true;
        const views = dimension.holders(0) + dimension.holders(1);
        if (views == 0 or deadline.passed()) return views;
        dimension.unlock();
        os.futexWait(&dimension.drained, seen, deadline.leftNs());
        dimension.lock.lock();
    }
}

/// The third step, if somebody was in the way: takes the first back.
pub fn revertClose(dimension: *Dimension) void {
    dimension.lock.lock();
    defer dimension.unlock();
    const word = dimension.gate.read();
    const state = dimension.state_before;
    const was_loaded = switch (state) {
        .open, .blocked, .faulted => true,
        .empty, .deallocated, .unloading, .closed => false,
    };
    if (was_loaded and word.state != .closed) return dimension.reopen(word.slot, state);
    dimension.endActivity();
}

/// The third step, for good; without the other two it does not wait for anybody. What is loaded
/// goes with its last view, which may be now.
pub fn close(dimension: *Dimension, detail: *Detail) void {
    dimension.lock.lock();
    while (dimension.activity == .loading) _ = dimension.sleep(.forever);
    dimension.gate.setState(.closed);
    var retiring = false;
    for (&dimension.generations, 0..) |*generation, slot| {
        if (generation.isFree()) continue;
        dimension.retire(@intCast(slot), generation);
        retiring = true;
    }
    // Who waited for views leaves first, so that the activity it ends is its own.
    while (dimension.activity == .draining) _ = dimension.sleep(.forever);
    // What the system does not take back here it takes back with the whole reservation.
    dimension.restorePopulated(detail) catch {};
    dimension.populated = null;
    const before = dimension.charges();
    dimension.region_charged = false;
    dimension.shared.budget.uncharge(before - dimension.charges());
    if (retiring) dimension.settleAgain();
    const gone = dimension.sweep();
    dimension.endActivity();
    dimension.unlock();
    dimension.finish(gone);
}

// Writing ---------------------------------------------------------------------------------------

/// What a writer gets.
pub const Exclusive = struct {
    base: [*]u8,
    size: u64,
    generation: u64,
    slot: u1,
};

/// Waits until nobody reads or writes, and keeps everybody out until `endWrite`. `thread` is the
/// one that may end it, or 0.
pub fn beginWrite(
    dimension: *Dimension,
    owner: u64,
    thread: u64,
    timeout_ns: ?u64,
    detail: *Detail,
) Error!Exclusive {
    const deadline: Deadline = .in(timeout_ns);
    try dimension.lockFor(owner, detail);
    defer dimension.unlock();
    const word = try dimension.awaitTurn(deadline, detail);
    const generation = &dimension.generations[word.slot];
    try dimension.beginDraining(word.slot, .blocked, detail);
    const views = try dimension.drain(word.slot, deadline, detail);
    if (views != 0) {
        dimension.reopen(word.slot, .open);
        detail.views = views;
        return detail.fail(error.WaitTimeout, "views are still held");
    }
    // Those that were waited for may have met a fault.
    dimension.checkUnfaulted(word.slot, detail) catch |err| {
        dimension.reopen(word.slot, .open);
        return err;
    };
    dimension.gate.setDrain(word.slot, .{});
    generation.writing = true;
    generation.writes += 1;
    generation.writer_thread = thread;
    dimension.activity = .none;
    // Readers have nothing to learn from it.
    if (dimension.sleepers > 0) dimension.announce();
    return .{
        .base = dimension.slots[word.slot].base,
        .size = generation.size,
        .generation = generation.number,
        .slot = word.slot,
    };
}

/// Under the lock: until no other rare operation or writer is under way, and the readers that the
/// last writer kept waiting have had their turn.
fn awaitTurn(dimension: *Dimension, deadline: Deadline, detail: *Detail) Error!Gate.Word {
    while (true) {
        const word = dimension.gate.read();
        switch (dimension.stateOf(word)) {
            .open, .blocked => {},
            .faulted => try dimension.checkUnfaulted(word.slot, detail),
            else => |state| return refusal(state, detail),
        }
        const generation = &dimension.generations[word.slot];
        if (generation.options.mode == .read) {
            return detail.fail(error.InvalidArgument, "it is for reading only: it was loaded in " ++
                "mode r, or in r+ by a parent process");
        }
        try dimension.checkNotWaitingForItself(word, detail);
        const is_free = dimension.activity == .none and !generation.writing;
        const is_turn = dimension.readers_owed.load(.seq_cst) == 0 or dimension.turn.passed();
        if (is_free and is_turn) return word;
        if (deadline.passed()) {
            detail.views = dimension.holders(word.slot);
            return detail.fail(error.WaitTimeout, "another operation has exclusive access");
        }
        _ = dimension.sleep(if (is_free) deadline.earlier(dimension.turn) else deadline);
    }
}

/// Lets readers in again. Works after an unload or a close that did not wait.
pub fn endWrite(
    dimension: *Dimension,
    owner: u64,
    thread: u64,
    slot: u1,
    number: u64,
    detail: *Detail,
) Error!void {
    try dimension.lockFor(owner, detail);
    const outcome = dimension.endWriteLocked(thread, slot, number, detail);
    const gone = dimension.sweep();
    dimension.unlock();
    dimension.finish(gone);
    return outcome;
}

fn endWriteLocked(
    dimension: *Dimension,
    thread: u64,
    slot: u1,
    number: u64,
    detail: *Detail,
) Error!void {
    const generation = &dimension.generations[slot];
    if (generation.number != number or !generation.writing) {
        return detail.fail(error.InvalidArgument, "no such write was begun");
    }
    if (generation.writer_thread != 0 and generation.writer_thread != thread) {
        return detail.fail(error.InvalidArgument, "the write was begun by another thread");
    }
    generation.writing = false;
    dimension.turn = .in(transient_ns);
    dimension.readers_owed.store(dimension.readers_waiting.load(.seq_cst), .seq_cst);
    const word = dimension.gate.read();
    // Otherwise somebody waits for this writer to be out, or took the generation from it.
    if (word.state == .blocked and word.slot == slot and dimension.activity == .none) {
        dimension.admit(slot);
    }
    _ = dimension.drained.fetchAdd(1, .seq_cst);
    os.futexWakeAll(&dimension.drained);
    dimension.announce();
    // It has ended all the same.
    try dimension.checkUnfaulted(slot, detail);
}

// Pages -----------------------------------------------------------------------------------------

/// Writes what writers changed to the disk.
pub fn flush(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    const word = try dimension.pin(owner, detail);
    defer dimension.leave(dimension.shared.counters, dimension.index, word.slot);
    const generation = &dimension.generations[word.slot];
    if (generation.options.mode != .read_write) return;
    detail.setFileName(generation.path);
    const writes = dimension.writesEnded(generation);
    os.flush(generation.placement, &detail.code) catch {
        return detail.fail(error.FileAccess, "cannot write the changes to the file");
    };
    // What zeros stand in place of was not written, and nobody said so.
    try dimension.checkUnfaulted(word.slot, detail);
    if (writes) |count| dimension.recordIdentity(generation, count);
    dimension.log(.flush, generation.size, generation.path);
}

/// How many writes there were since the file's identity was recorded; null while one goes on.
fn writesEnded(dimension: *Dimension, generation: *const Generation) ?u64 {
    dimension.lock.lock();
    defer dimension.unlock();
    return if (generation.writing) null else generation.writes;
}

/// After a flush of so many writes, which have moved the file's time: the time is known again,
/// unless there was another write meanwhile.
fn recordIdentity(dimension: *Dimension, generation: *Generation, writes: u64) void {
    var code: i64 = 0;
    const now = os.identifyPath(generation.path, .followed, &code) catch return;
    dimension.lock.lock();
    defer dimension.unlock();
    const old = generation.identity;
    if (generation.writes != writes or now.device != old.device or now.inode != old.inode) return;
    generation.identity.mtime_ns = now.mtime_ns;
    generation.writes = 0;
}

/// What is known of the file that is loaded.
pub const KnownFile = struct {
    /// The caller's, to be freed.
    path: [:0]u8,
    identity: os.Identity,
    generation: u64,
    /// There were writes of ours since its identity was recorded.
    own_writes: bool,
};

/// Also if a page of it could not be read.
pub fn knownFile(dimension: *Dimension, owner: u64, detail: *Detail) Error!KnownFile {
    try dimension.lockFor(owner, detail);
    defer dimension.unlock();
    const word = dimension.gate.read();
    switch (word.state) {
        .open, .blocked, .faulted => {},
        .empty, .deallocated, .unloading, .closed => return refusal(word.state, detail),
    }
    const generation = &dimension.generations[word.slot];
    return .{
        .path = os.heap.dupeSentinel(u8, generation.path, 0) catch {
            return detail.refused(generation.path.len + 1, "cannot allocate memory for the " ++
                "file's name");
        },
        .identity = generation.identity,
        .generation = generation.number,
        .own_writes = generation.options.mode == .read_write and generation.writes > 0,
    };
}

/// Keeps the current generation where it is without waiting for a writer: it is counted as a view
/// is. To be left with `leave`.
pub fn pin(dimension: *Dimension, owner: u64, detail: *Detail) Error!Gate.Word {
    try dimension.lockFor(owner, detail);
    defer dimension.unlock();
    const word = dimension.gate.read();
    switch (dimension.stateOf(word)) {
        .open, .blocked => {},
        .faulted => try dimension.checkUnfaulted(word.slot, detail),
        else => |state| return refusal(state, detail),
    }
    // Nobody sums for this slot while the lock is held, so no second look is needed.
    dimension.shared.counters.in(dimension.index, word.slot);
    return word;
}

// Forking ---------------------------------------------------------------------------------------

/// Before a fork: nobody but the caller moves anything but counters until `endFork`.
pub fn beginFork(dimension: *Dimension) void {
    dimension.lock.lock();
    // Readers come and go while the memory is copied, a page at a time. So what the child finds of
    // `in` less what was `out` before is every view that it can see, and maybe some that are gone.
    for (&dimension.generations, &dimension.outs_before_fork, 0..) |*generation, *outs, slot| {
        if (generation.isFree()) continue;
        outs.* = dimension.shared.counters.left(dimension.index, @intCast(slot));
    }
}

pub fn endFork(dimension: *Dimension) void {
    dimension.lock.unlock();
}

/// What leavers asked for during a fork. The log is not told: its function may need what other
/// fork handlers of the program still hold.
pub fn sweepAfterFork(dimension: *Dimension) void {
    while (dimension.takeMessage()) |gone| dimension.shared.moveOut(gone.count);
}

/// In the child, between `beginFork` and `endFork`: nobody waits here and nothing is under way.
/// Whoever was inside stays so for good, as his memory may be in use here, a writer too; what he
/// wrote may be half of it, and is not shown to anybody.
pub fn becomeChild(dimension: *Dimension) void {
    dimension.sleepers = 0;
    dimension.readers_waiting.store(0, .seq_cst);
    dimension.readers_owed.store(0, .seq_cst);
    const word = dimension.gate.read();
    for (&dimension.generations, 0..) |*generation, index| {
        dimension.keepInside(generation, @intCast(index), word);
    }
    switch (dimension.activity) {
        .none, .loading => {},
        // Unless somebody who does not wait took the generation meanwhile.
        .draining, .closing => switch (word.state) {
            .blocked, .unloading => if (!dimension.generations[word.slot].retiring) {
                dimension.reopen(word.slot, dimension.state_before);
            },
            .open, .empty, .deallocated, .faulted, .closed => {},
        },
    }
    dimension.activity = .none;
}

fn keepInside(dimension: *Dimension, generation: *Generation, slot: u1, word: Gate.Word) void {
    const counters = dimension.shared.counters;
    const is_current = word.slot == slot and word.generation == generation.number;
    const loading = dimension.activity == .loading and !is_current and !generation.retiring;
    if (loading and !generation.isFree()) {
        const before = dimension.charges();
        dimension.guards[slot].disarm();
        generation.abandon(dimension.slots[slot]);
        dimension.shared.budget.uncharge(before - dimension.charges());
        if (slot == 0) dimension.populated = null;
        // Not the last: whoever closes waits for a load.
        _ = dimension.shared.tenants.fetchSub(1, .seq_cst);
    }
    if (generation.isFree()) return counters.setEmpty(dimension.index, slot);
    generation.becomeReader();
    const writers = @intFromBool(generation.writing);
    counters.setOuts(dimension.index, slot, dimension.outs_before_fork[slot] -% writers);
    if (!generation.writing) return;
    generation.writing = false;
    if (generation.retiring) return;
    dimension.retire(slot, generation);
    dimension.gate.setState(.empty);
}

// Describing ------------------------------------------------------------------------------------

/// What a dimension is at one moment; the header's memmgr_dimension_stats says more of each.
pub const Stats = struct {
    state: Gate.State,
    address: u64,
    capacity: u64,
    charged: u64,
    mapped: u64 = 0,
    locked: u64 = 0,
    views: u64 = 0,
    retiring_views: u64 = 0,
    /// Of the generation that is loaded; null if none is. Valid while the lock is held.
    current: ?*const Generation = null,
    current_address: u64 = 0,
    /// Of the current one.
    mark: ?Guard.Mark = null,
};

/// Calls `use(context, stats)` with the lock held, so that what `stats` points to stays.
pub fn describe(
    dimension: *Dimension,
    owner: u64,
    detail: *Detail,
    context: anytype,
    comptime use: fn (@TypeOf(context), *Dimension, Stats) void,
) Error!void {
    try dimension.lockFor(owner, detail);
    defer dimension.unlock();
    use(context, dimension, dimension.statsLocked());
}

/// The four numbers that "how much memory is it?" can mean.
pub const Memory = struct {
    reserved: u64 = 0,
    mapped: u64 = 0,
    locked: u64 = 0,
    use: os.Use = .{},

    pub fn addMapped(total: *Memory, _: *Dimension, stats: Stats) void {
        total.mapped += stats.mapped;
        total.locked += stats.locked;
    }
};

pub fn memory(dimension: *Dimension, owner: u64, detail: *Detail) Error!Memory {
    var total: Memory = .{};
    try dimension.describe(owner, detail, &total, Memory.addMapped);
    for (dimension.slots) |slot| {
        const use = os.memoryUse(slot.base, slot.size, &detail.code) catch {
            return detail.refused(0, "cannot ask the system what is in memory");
        };
        total.reserved += slot.size;
        total.use.add(use);
    }
    return total;
}

fn statsLocked(dimension: *Dimension) Stats {
    const word = dimension.gate.read();
    var stats: Stats = .{
        .state = dimension.stateOf(word),
        .address = @intFromPtr(dimension.slots[0].base),
        .capacity = dimension.capacity,
        .charged = dimension.charges(),
    };
    for (&dimension.generations, 0..) |*generation, index| {
        const slot: u1 = @intCast(index);
        const loading = dimension.activity == .loading and
            (word.slot != slot or word.generation != generation.number);
        if (generation.isFree() or (loading and !generation.retiring)) continue;
        stats.mapped += generation.size;
        if (generation.locked) stats.locked += generation.placement.mapped_size;
        if (generation.retiring) {
            stats.retiring_views += dimension.holders(slot);
        } else {
            stats.views = dimension.holders(slot);
            stats.current = generation;
            stats.current_address = @intFromPtr(dimension.slots[slot].base);
            stats.mark = dimension.guards[slot].markOf(generation.number);
        }
    }
    return stats;
}
