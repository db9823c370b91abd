//! A named place of fixed capacity: two slots, the generations in them, and who may do what when.
//!
//! Readers go through the gate and never take the lock, except to wait for a writer. The rare side
//! takes the lock for moments only; what takes long (reading a file, waiting for views) goes on
//! with the lock free and `activity` set, and other rare operations wait for that. Whoever unlocks
//! looks after the messages that leavers left meanwhile, so a leaver never waits for the lock.
//!
//! Every wait asks whether it is to end (`interrupt`), and what is asked, like a log function, may
//! call anything of this file on the same thread. So no record is made while the thread has an
//! activity, and what would wait for the thread's own activity, or for a view that its own call
//! holds, fails (`refuseOwnWait`, `refuseOwnView`).
//!
//! Charges: the dimension is charged its capacity for the region, or for each generation in its
//! slots if those are more (`charges`). The charge is moved under the lock, in the same step as
//! what it pays for, so that the budget is exact at every moment somebody else can look.

const std = @import("std");
const os = @import("../os.zig");
const Counters = @import("../gate.zig").Counters;
const Deadline = @import("../base.zig").Deadline;
const Detail = @import("../base.zig").Detail;
const Gate = @import("../gate.zig").Gate;
const Generation = @import("Generation.zig");
const Guard = @import("../Guard.zig");
const Held = @import("Held.zig");
const Layers = @import("../formats.zig").Layers;
const Lock = @import("../base.zig").Lock;
const Log = @import("../base.zig").Log;
const interrupt = @import("../base.zig").interrupt;
const legal = @import("legal.zig");
const Shared = @import("../gate.zig").Shared;

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

/// What sweeps took away: to be logged, and to move out, once the lock is free.
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
/// The one whose call has set `activity`; 0 if nobody's. Looked at without the lock by who asks
/// only whether it is the asking thread.
activity_thread: Atomic(u64),
/// While `activity` is draining or closing: the state to go back to.
state_before: Gate.State,
/// While `activity` is loading: somebody who does not wait unloaded what is being loaded.
unwanted: bool,
/// The thread that locks, unlocks or evicts pages; 0: none does. It holds the generation as a view
/// does, so whoever waits for views waits for it too.
paging_thread: u64,
/// What was swept in the middle of an activity, for whoever unlocks after it.
gone: Gone,
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
    dimension.activity_thread.store(0, .monotonic);
    dimension.unwanted = false;
    dimension.paging_thread = 0;
    dimension.gone = .{};
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

/// True if nobody sleeps here, or is about to end what he began, on behalf of a manager that is
/// gone.
pub fn isQuiet(dimension: *Dimension) bool {
    dimension.lock.lock();
    defer dimension.unlock();
    return dimension.sleepers == 0 and dimension.activity == .none and
        dimension.readers_waiting.load(.seq_cst) == 0;
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
        try dimension.refuseOwnWait(detail);
        if (Held.any()) try dimension.lockAndRefuseOwnView(detail);
        if (deadline.passed()) {
            detail.views = 1;
            return detail.fail(error.WaitTimeout, writer_in_the_way);
        }
        try interrupt.sleep(&dimension.changed, seen, deadline, detail);
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

/// Fails if this very thread has the activity that it is about to wait for: the call is made by a
/// function that the thread's own wait has called.
fn refuseOwnWait(dimension: *const Dimension, detail: *Detail) Error!void {
    if (dimension.activity_thread.load(.monotonic) == os.threadId()) return ownWait(detail);
}

/// Under the lock, before it waits for who waits: fails if views are waited for, and one of them is
/// held by a call that this very thread is inside of.
fn refuseOwnView(dimension: *const Dimension, detail: *Detail) Error!void {
    const word = dimension.gate.read();
    const own = switch (dimension.activity) {
        .loading => false,
        .draining => Held.isOwn(dimension, word.slot),
        .closing => Held.isOwn(dimension, 0) or Held.isOwn(dimension, 1),
        // What is unloaded already goes with its last view.
        .none => word.state == .unloading and Held.isOwn(dimension, word.slot),
    };
    if (own) return ownWait(detail);
}

/// The same for a reader, who waits without the lock.
fn lockAndRefuseOwnView(dimension: *Dimension, detail: *Detail) Error!void {
    dimension.lock.lock();
    defer dimension.unlockForNow();
    return dimension.refuseOwnView(detail);
}

fn ownWait(detail: *Detail) Error {
    detail.views = 1;
    return detail.fail(error.ViewsHeld, "this thread is inside a call that waits");
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

/// Finishes what was swept, and sweeps if that was asked for meanwhile. Not in the middle of an
/// activity of this thread, of this dimension or of another one.
pub fn unlock(dimension: *Dimension) void {
    dimension.unlockAndLog(null);
}

/// The same with a record of what the call has done, before those of what that led to.
fn unlockAndLog(dimension: *Dimension, record: ?Log.Event) void {
    const gone = dimension.takeGone();
    legal.check(dimension);
    dimension.lock.unlock();
    if (record) |event_| Log.write(event_);
    dimension.finish(gone);
    dimension.sweepIfWanted();
}

/// In the middle of an activity: sweeps, and leaves the rest to whoever unlocks after it.
pub fn unlockForNow(dimension: *Dimension) void {
    legal.check(dimension);
    dimension.lock.unlock();
    while (dimension.lockForMessage()) {
        dimension.sweep();
        legal.check(dimension);
        dimension.lock.unlock();
    }
}

fn sweepIfWanted(dimension: *Dimension) void {
    while (dimension.takeMessage()) |gone| dimension.finish(gone);
}

/// With the lock free: sweeps if a leaver asked for it, and nobody else who looks after it has the
/// lock.
fn takeMessage(dimension: *Dimension) ?Gone {
    if (!dimension.lockForMessage()) return null;
    defer dimension.lock.unlock();
    dimension.sweep();
    legal.check(dimension);
    return dimension.takeGone();
}

fn lockForMessage(dimension: *Dimension) bool {
    if (!dimension.sweep_wanted.load(.seq_cst) or !dimension.lock.tryLock()) return false;
    dimension.sweep_wanted.store(false, .seq_cst);
    return true;
}

/// Under the lock: what is to be finished once it is free.
fn takeGone(dimension: *Dimension) Gone {
    defer dimension.gone = .{};
    return dimension.gone;
}

/// Under the lock: retires what was waiting for its last view. What nobody can prove to be free
/// stays where it is.
fn sweep(dimension: *Dimension) void {
    const gone = &dimension.gone;
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

/// Under the lock, which is free while it sleeps: until the next announcement, or for no reason.
/// False if the deadline has passed.
fn sleep(dimension: *Dimension, deadline: Deadline, detail: *Detail) Error!bool {
    if (dimension.activity != .none) try dimension.refuseOwnWait(detail);
    try dimension.refuseOwnView(detail);
    if (deadline.passed()) return false;
    // It is moved under the lock.
    const seen = dimension.changed.load(.seq_cst);
    try dimension.sleepOn(&dimension.changed, seen, deadline, detail);
    return true;
}

/// Under the lock, which is free meanwhile: once, while `word` is what was `seen` of it.
fn sleepOn(
    dimension: *Dimension,
    word: *const Atomic(u32),
    seen: u32,
    deadline: Deadline,
    detail: *Detail,
) Error!void {
    dimension.sleepers += 1;
    dimension.unlockForNow();
    defer {
        dimension.lock.lock();
        dimension.sleepers -= 1;
    }
    return interrupt.sleep(word, seen, deadline, detail);
}

// Charges and views -----------------------------------------------------------------------------

/// Bytes that this dimension has to be charged for, as it is.
pub fn charges(dimension: *const Dimension) u64 {
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

pub fn event(
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
    const slot = dimension.beginLoad(detail) catch |err| {
        dimension.unlock();
        return err;
    };
    dimension.unlockForNow();
    return dimension.completeLoad(slot, null, .load, path, options, detail);
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
    const slot = dimension.beginReload(detail) catch |err| {
        dimension.unlock();
        return err;
    };
    // As it is now: who does not wait may unload it while the new version is being loaded.
    const previous = dimension.generations[~slot];
    dimension.unlockForNow();
    return dimension.completeLoad(slot, &previous, .reload, path, options, detail);
}

/// Under the lock: claims a slot and its charge, or says why not.
fn beginLoad(dimension: *Dimension, detail: *Detail) Error!u1 {
    while (true) {
        const word = dimension.gate.read();
        switch (word.state) {
            .open, .blocked, .faulted => {
                return detail.fail(error.AlreadyLoaded, "a file is loaded already: " ++
                    "reload, or unload it first");
            },
            .closed => return refusal(.closed, detail),
            // Unless it is retiring, somebody waits for its views, and it may yet stay.
            .unloading => if (!dimension.generations[word.slot].retiring) {
                return refusal(.unloading, detail);
            },
            .empty, .deallocated => {},
        }
        if (dimension.activity == .none) break;
        _ = try dimension.sleep(.forever, detail);
    }
    return dimension.claim(detail);
}

fn beginReload(dimension: *Dimension, detail: *Detail) Error!u1 {
    const deadline: Deadline = .in(dimension.shared.read_timeout_ns);
    while (true) {
        const word = dimension.gate.read();
        switch (word.state) {
            .open, .blocked, .faulted => {},
            .empty, .deallocated, .unloading, .closed => return refusal(word.state, detail),
        }
        const writing = dimension.generations[word.slot].writing;
        if (dimension.activity == .none and !writing) break;
        if (!try dimension.sleep(deadline, detail)) {
            detail.views = dimension.holders(word.slot);
            return detail.fail(error.WaitTimeout, writer_in_the_way);
        }
    }
    // The old version can go only by a barrier: asked for now, while nothing has changed yet.
    dimension.shared.counters.barrier(&detail.code) catch return refuseBarrier(detail);
    return dimension.claim(detail);
}

fn claim(dimension: *Dimension, detail: *Detail) Error!u1 {
    // There may be one that the system would not unmap when its last view was released.
    dimension.sweep();
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
    dimension.beginActivity(.loading);
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
    return detail.fail(error.ViewsHeld, "views of earlier versions hold both slots: " ++
        "release those of one of them");
}

/// `previous`: a copy of the generation that the new one is to replace.
fn completeLoad(
    dimension: *Dimension,
    slot: u1,
    previous: ?*const Generation,
    operation: Detail.Operation,
    path: [:0]const u8,
    options: Generation.Options,
    detail: *Detail,
) Error!void {
    const generation = &dimension.generations[slot];
    const place = dimension.slots[slot];
    const replaced: ?Generation.Previous = if (previous) |old| .{
        .generation = old,
        .mapped_file = &dimension.generations[~slot].mapped_file,
        .faulted = dimension.guards[~slot].markOf(old.number) != null,
    } else null;
    const guard = if (dimension.shared.guarded) &dimension.guards[slot] else null;
    if (guard) |slot_guard| {
        slot_guard.enlist(&dimension.gate, slot);
        Guard.install(detail) catch |err| return dimension.abandonLoad(slot, err);
    }
    const region = if (slot == 0) &dimension.populated else null;
    const capacity = dimension.capacity;
    generation.load(place, capacity, path, options, replaced, region, guard, detail) catch |err| {
        return dimension.abandonLoad(slot, err);
    };

    dimension.lock.lock();
    const size = generation.size;
    const outcome = dimension.checkWanted(detail);
    if (outcome) {
        dimension.region_charged = true;
        dimension.gate.slots[slot] = .{ .base = place.base, .size = size };
        dimension.admit(slot);
        if (previous != null) {
            dimension.retire(~slot, &dimension.generations[~slot]);
            dimension.sweep();
        }
    } else |_| {
        // Nobody was let in, and who looked only has left.
        dimension.retire(slot, generation);
        dimension.sweep();
    }
    dimension.unwanted = false;
    dimension.endActivity();
    dimension.unlockAndLog(if (outcome) dimension.event(operation, size, path) else |_| null);
    return outcome;
}

/// Under the lock, of what is in its slot now: fails if somebody who does not wait has closed the
/// manager or unloaded it meanwhile.
fn checkWanted(dimension: *const Dimension, detail: *Detail) Error!void {
    if (dimension.gate.read().state == .closed) return refusal(.closed, detail);
    if (dimension.unwanted) {
        return detail.fail(error.InvalidAccess, "it was unloaded while the file was being loaded");
    }
}

fn abandonLoad(dimension: *Dimension, slot: u1, err: Error) Error {
    dimension.lock.lock();
    const before = dimension.charges();
    dimension.generations[slot] = .{};
    dimension.shared.budget.uncharge(before - dimension.charges());
    // Who deallocated it meanwhile left this to us.
    if (!dimension.region_charged) dimension.dropPopulated();
    dimension.unwanted = false;
    dimension.endActivity();
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
    var pieces: interrupt.Pieces = .{ .placement = placement };
    while (try pieces.next(detail)) |piece| os.populate(piece, true, &detail.code) catch {
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

/// What the system does not take back now goes with the whole reservation.
fn dropPopulated(dimension: *Dimension) void {
    const placement = dimension.populated orelse return;
    var ignored: i64 = 0;
    os.restore(placement, &ignored) catch {};
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
    if (Held.isOwn(dimension, slot)) return ownWait(detail);
    dimension.beginActivity(.draining);
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

fn beginActivity(dimension: *Dimension, activity: Activity) void {
    dimension.activity = activity;
    dimension.activity_thread.store(os.threadId(), .monotonic);
}

/// Ended by the thread that began it alone, whatever others did to the dimension meanwhile.
fn endActivity(dimension: *Dimension) void {
    dimension.activity = .none;
    dimension.activity_thread.store(0, .monotonic);
    dimension.announce();
}

/// Under the lock, after `beginDraining`: waits until the generation has neither views nor a
/// writer. Returns how many there are at the deadline, 0 if none; then the caller ends the
/// activity. Fails, with the activity ended and what can be as before, if the wait is to end, or
/// somebody who does not wait took the generation.
fn drain(dimension: *Dimension, slot: u1, deadline: Deadline, detail: *Detail) Error!u64 {
    const generation = &dimension.generations[slot];
    while (true) {
        const seen = dimension.drained.load(.seq_cst);
        if (generation.retiring or generation.isFree()) {
            dimension.endActivity();
            const closed = dimension.gate.read().state == .closed;
            return refusal(if (closed) .closed else .unloading, detail);
        }
        const views = dimension.holders(slot);
        if (views == 0 or deadline.passed()) return views;
        dimension.sleepOn(&dimension.drained, seen, deadline, detail) catch |err| {
            dimension.revert(slot);
            return err;
        };
    }
}

/// Under the lock: ends a draining or closing that came to nothing, with everything as it was
/// before, except what was closed, or taken by somebody who does not wait.
fn revert(dimension: *Dimension, slot: u1) void {
    const generation = &dimension.generations[slot];
    const word = dimension.gate.read();
    const is_there = !generation.isFree() and !generation.retiring and
        word.state != .closed and word.slot == slot and word.generation == generation.number;
    if (is_there) dimension.reopen(slot, dimension.state_before) else dimension.endActivity();
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
    const bytes = dimension.unloadLocked(keep, on_views, deadline, detail) catch |err| {
        dimension.unlock();
        return err;
    };
    const operation: Detail.Operation = if (keep == .region) .unload else .deallocate;
    dimension.unlockAndLog(dimension.event(operation, bytes, ""));
}

fn unloadLocked(
    dimension: *Dimension,
    keep: Keep,
    on_views: OnViews,
    deadline: Deadline,
    detail: *Detail,
) Error!u64 {
    const word = while (true) {
        const word = dimension.gate.read();
        const loaded = switch (word.state) {
            .open, .blocked, .faulted => true,
            .empty, .deallocated => false,
            .unloading => if (keep == .region and dimension.activity != .loading)
                return refusal(.unloading, detail)
            else
                // Somebody waits for its views, and who does not wait takes it.
                on_views == .@"defer" and !dimension.generations[word.slot].retiring,
            .closed => return refusal(.closed, detail),
        };
        if (on_views == .@"defer") {
            if (loaded) break word;
            const loading = dimension.activity == .loading;
            if (keep == .region and !loading) return refusal(word.state, detail);
            const bytes = if (keep == .region) 0 else try dimension.unchargeRegion(detail);
            dimension.unwanted = loading;
            return bytes;
        }
        if (dimension.activity == .none) {
            if (!loaded) {
                if (keep == .region) return refusal(word.state, detail);
                if (word.state != .unloading) return dimension.unchargeRegion(detail);
            } else if (on_views == .wait) {
                break word;
            } else {
                // Readers are kept out only once there is nobody.
                const views = dimension.holders(word.slot);
                if (views == 0) break word;
                try dimension.awaitViewless(views, deadline, detail);
                continue;
            }
        }
        // A file that is being loaded is in its slot or not, before anything is decided; but
        // views that somebody else waits for are in the way now.
        if (on_views == .refuse and dimension.activity != .loading) {
            detail.views = dimension.holders(word.slot);
            return detail.fail(error.ViewsHeld, "views are held, and somebody waits for them");
        }
        if (!try dimension.sleep(deadline, detail)) {
            detail.views = dimension.holders(word.slot);
            if (on_views == .refuse) {
                detail.views += 1;
                return detail.fail(error.ViewsHeld, "a file is being loaded");
            }
            return detail.fail(error.WaitTimeout, "views are still held");
        }
    };
    const generation = &dimension.generations[word.slot];
    const size = generation.size;
    if (on_views != .@"defer") {
        const state: Gate.State = if (on_views == .refuse) .blocked else .unloading;
        try dimension.beginDraining(word.slot, state, detail);
        // A look: it may meet readers that are about to be refused.
        const end: Deadline = if (on_views == .refuse) .in(transient_ns) else deadline;
        const views = try dimension.drain(word.slot, end, detail);
        if (views != 0) {
            dimension.reopen(word.slot, word.state);
            detail.views = views;
            if (on_views == .refuse) return detail.fail(error.ViewsHeld, "views are held");
            return detail.fail(error.WaitTimeout, "views are still held");
        }
        dimension.endActivity();
        dimension.gate.setState(.unloading);
        dimension.retire(word.slot, generation);
        dimension.settleAgain();
    } else {
        try dimension.retireAtOnce(word, detail);
        if (dimension.activity == .loading) dimension.unwanted = true;
    }
    dimension.region_charged = keep == .region;
    dimension.sweep();
    dimension.announce();
    return size;
}

/// Under the lock, whatever others do with it: from now on nobody enters the generation, and it
/// goes with its last view.
fn retireAtOnce(dimension: *Dimension, word: Gate.Word, detail: *Detail) Error!void {
    const generation = &dimension.generations[word.slot];
    const drain_before = dimension.gate.drainOf(word.slot);
    dimension.gate.setState(.unloading);
    dimension.gate.setDrain(word.slot, .{ .wake = true, .retire = true });
    var code: i64 = 0;
    dimension.settle(&code) catch if (!generation.settled) {
        // Nobody waits for its views either: he would have settled it.
        dimension.gate.setDrain(word.slot, drain_before);
        if (word.state == .open) dimension.admit(word.slot) else dimension.gate.setState(word.state);
        detail.code = code;
        return refuseBarrier(detail);
    };
    dimension.retire(word.slot, generation);
}

/// Under the lock, of what is retiring and settled: a reader that is about to be refused may have
/// seen the old drain flag. Its leaving must be in the sum then, or nobody sweeps before the next
/// operation does, as it is if the system refuses.
fn settleAgain(dimension: *Dimension) void {
    var ignored: i64 = 0;
    dimension.settle(&ignored) catch {};
}

/// Under the lock, with `views` held: once, for a part of what a look may take, with readers coming
/// and going meanwhile. Fails if they are held at the deadline.
fn awaitViewless(dimension: *Dimension, views: u64, deadline: Deadline, detail: *Detail) Error!void {
    if (deadline.passed()) {
        detail.views = views;
        return detail.fail(error.ViewsHeld, "views are held");
    }
    const end = deadline.earlier(.in(transient_ns / 8));
    const seen = dimension.drained.load(.seq_cst);
    return dimension.sleepOn(&dimension.drained, seen, end, detail);
}

/// Under the lock, with nothing loaded: gives the region's charge back, now or, if views of
/// something that was loaded are held, with them.
fn unchargeRegion(dimension: *Dimension, detail: *Detail) Error!u64 {
    if (!dimension.region_charged) return 0;
    // While a file is being loaded the slot belongs to the load.
    if (dimension.activity != .loading) try dimension.restorePopulated(detail);
    const before = dimension.charges();
    dimension.region_charged = false;
    dimension.shared.budget.uncharge(before - dimension.charges());
    if (dimension.gate.read().state == .empty) dimension.gate.setState(.deallocated);
    dimension.announce();
    return dimension.capacity;
}

// Closing ---------------------------------------------------------------------------------------

/// Before the first step of who does not wait: fails if views are held at the deadline, without
/// keeping anybody out.
pub fn beforeClose(dimension: *Dimension, deadline: Deadline, detail: *Detail) Error!void {
    dimension.lock.lock();
    defer dimension.unlock();
    while (true) {
        const views = dimension.holders(0) + dimension.holders(1);
        if (views == 0 or dimension.activity != .none) return;
        try dimension.awaitViewless(views, deadline, detail);
    }
}

/// The first of three steps: shuts the gate while the manager looks whether nobody is in the way
/// in any of its dimensions. False if somebody is.
pub fn beginClose(
    dimension: *Dimension,
    on_views: OnViews,
    deadline: Deadline,
    detail: *Detail,
) Error!bool {
    dimension.lock.lock();
    // In the middle of what was begun in others.
    defer dimension.unlockForNow();
    if (Held.isOwn(dimension, 0) or Held.isOwn(dimension, 1)) return ownWait(detail);
    while (dimension.activity != .none) {
        if (on_views == .refuse and dimension.activity != .loading) return false;
        if (!try dimension.sleep(deadline, detail)) return false;
    }
    dimension.beginActivity(.closing);
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
pub fn drainToClose(dimension: *Dimension, deadline: Deadline, detail: *Detail) Error!u64 {
    dimension.lock.lock();
    defer dimension.unlockForNow();
    while (true) {
        const seen = dimension.drained.load(.seq_cst);
        const word = dimension.gate.read();
        if (word.state == .closed) return 0;
        for (&dimension.generations) |*generation| generation.settled = true;
        const views = dimension.holders(0) + dimension.holders(1);
        if (views == 0 or deadline.passed()) return views;
        try dimension.sleepOn(&dimension.drained, seen, deadline, detail);
    }
}

/// The third step, if somebody was in the way: takes the first back. `finishSwept` follows, once
/// all dimensions have had it.
pub fn revertClose(dimension: *Dimension) void {
    dimension.lock.lock();
    defer dimension.unlockForNow();
    const was_loaded = switch (dimension.state_before) {
        .open, .blocked, .faulted => true,
        .empty, .deallocated, .unloading, .closed => false,
    };
    const slot = dimension.gate.read().slot;
    if (was_loaded) dimension.revert(slot) else dimension.endActivity();
}

/// What was swept in the middle of something is finished.
pub fn finishSwept(dimension: *Dimension) void {
    dimension.lock.lock();
    dimension.unlock();
}

/// The third step, for good; without the other two it does not wait for anybody. What is loaded
/// goes with its last view, which may be now; what is being loaded goes when the load ends, which
/// then fails. `begun`: the caller has made the first step. Returns the bytes that were uncharged.
pub fn close(dimension: *Dimension, begun: bool) u64 {
    dimension.lock.lock();
    const charged = dimension.charges();
    dimension.gate.setState(.closed);
    var retiring = false;
    for (&dimension.generations, 0..) |*generation, slot| {
        if (generation.isFree() or dimension.isBeingLoaded(generation)) continue;
        dimension.retire(@intCast(slot), generation);
        retiring = true;
    }
    // While a file is being loaded the slot belongs to the load.
    if (dimension.activity != .loading) dimension.dropPopulated();
    const before = dimension.charges();
    dimension.region_charged = false;
    dimension.shared.budget.uncharge(before - dimension.charges());
    if (retiring) dimension.settleAgain();
    dimension.sweep();
    // Who waited here finds it closed, and ends his own activity himself.
    if (begun) dimension.endActivity() else dimension.announce();
    const given = charged - dimension.charges();
    // `finishSwept` follows: others of the manager may be in the middle of it yet.
    dimension.unlockForNow();
    return given;
}

/// Under the lock: nobody has entered it yet.
pub fn isBeingLoaded(dimension: *const Dimension, generation: *const Generation) bool {
    return dimension.activity == .loading and generation.number == dimension.last_number;
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
    const exclusive = dimension.beginWriteLocked(thread, deadline, detail) catch |err| {
        dimension.unlock();
        return err;
    };
    // Whose end finishes what was swept.
    dimension.unlockForNow();
    return exclusive;
}

fn beginWriteLocked(
    dimension: *Dimension,
    thread: u64,
    deadline: Deadline,
    detail: *Detail,
) Error!Exclusive {
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
    dimension.activity_thread.store(0, .monotonic);
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
        const end = if (is_free) deadline.earlier(dimension.turn) else deadline;
        _ = try dimension.sleep(end, detail);
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
    dimension.sweep();
    dimension.unlock();
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
    if (dimension.inside(word).options.mode != .read_write) {
        return dimension.leavePinned(word);
    }
    var own: Held = .{ .dimension = dimension, .slot = word.slot };
    own.begin();
    const outcome = dimension.flushPinned(word, detail);
    own.end();
    return dimension.unpin(word, .flush, outcome, detail);
}

fn flushPinned(dimension: *Dimension, word: Gate.Word, detail: *Detail) Error!void {
    const generation = &dimension.generations[word.slot];
    detail.file_name = generation.path;
    errdefer detail.keepFileName();
    const writes = dimension.writesEnded(generation);
    var pieces: interrupt.Pieces = .{ .placement = generation.placement, .size = flush_size };
    while (try pieces.next(detail)) |piece| os.flush(piece, &detail.code) catch {
        return detail.fail(error.FileAccess, "cannot write the changes to the file");
    };
    // What zeros stand in place of was not written, and nobody said so.
    try dimension.checkUnfaulted(word.slot, detail);
    if (writes) |count| dimension.recordIdentity(generation, count);
}

/// Bytes that are brought to the device at once: each time it is waited for.
const flush_size = 64 << 20;

/// Lets who has pinned a generation out, and then makes the record of what succeeded, if there is
/// to be one, whose function may wait for its views.
pub fn unpin(
    dimension: *Dimension,
    word: Gate.Word,
    operation: ?Detail.Operation,
    outcome: Error!void,
    detail: *Detail,
) Error!void {
    const generation = dimension.inside(word);
    if (outcome) |_| {} else |_| detail.keepFileName();
    const recorded = if (outcome) |_| operation != null and Log.isOn(.debug) else |_| false;
    // The manager may go with its last view, and the name does.
    const path: []const u8 = if (recorded) os.heap.dupe(u8, generation.path) catch "" else "";
    defer os.heap.free(path);
    const record = dimension.event(operation orelse .none, generation.size, path);
    dimension.leavePinned(word);
    try outcome;
    if (recorded) Log.write(record);
}

/// Lets who has pinned a generation out.
pub fn leavePinned(dimension: *Dimension, word: Gate.Word) void {
    dimension.leave(dimension.shared.counters, dimension.index, word.slot);
    dimension.finishSwept();
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
    if (generation.writes != writes or !now.isSame(old)) return;
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
/// is. To be left with `leavePinned` or `unpin`.
pub fn pin(dimension: *Dimension, owner: u64, detail: *Detail) Error!Gate.Word {
    try dimension.lockFor(owner, detail);
    defer dimension.unlockForNow();
    return dimension.pinLocked(detail);
}

fn pinLocked(dimension: *Dimension, detail: *Detail) Error!Gate.Word {
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

/// Pins the generation for who locks, unlocks or evicts its pages, which takes long and is done by
/// one thread at a time. To be ended with `endPaging`.
pub fn beginPaging(dimension: *Dimension, owner: u64, detail: *Detail) Error!Gate.Word {
    try dimension.lockFor(owner, detail);
    defer dimension.unlockForNow();
    while (dimension.paging_thread != 0) {
        if (dimension.paging_thread == os.threadId()) return ownWait(detail);
        const seen = dimension.changed.load(.seq_cst);
        try dimension.sleepOn(&dimension.changed, seen, .forever, detail);
    }
    const word = try dimension.pinLocked(detail);
    dimension.paging_thread = os.threadId();
    return word;
}

pub fn endPaging(
    dimension: *Dimension,
    word: Gate.Word,
    operation: ?Detail.Operation,
    outcome: Error!void,
    detail: *Detail,
) Error!void {
    {
        dimension.lock.lock();
        defer dimension.unlockForNow();
        dimension.paging_thread = 0;
        dimension.announce();
    }
    return dimension.unpin(word, operation, outcome, detail);
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
    legal.check(dimension);
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
    dimension.paging_thread = 0;
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
    dimension.activity_thread.store(0, .monotonic);
    dimension.unwanted = false;
}

fn keepInside(dimension: *Dimension, generation: *Generation, slot: u1, word: Gate.Word) void {
    const counters = dimension.shared.counters;
    const is_current = word.slot == slot and word.generation == generation.number;
    if (!is_current and dimension.isBeingLoaded(generation)) {
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
    /// Null if the system does not tell.
    use: ?os.Use = .{},

    fn ask(total: *Memory, base: [*]const u8, size: usize) void {
        if (size == 0 or total.use == null) return;
        var ignored: i64 = 0;
        const use = os.memoryUse(base, size, &ignored) catch {
            total.use = null;
            return;
        };
        total.use.?.add(use);
    }
};

/// What is mapped and what of it is to be looked at, at one moment.
const Mapped = struct {
    mapped: u64 = 0,
    locked: u64 = 0,
    sizes: [2]usize = @splat(0),

    fn note(found: *Mapped, dimension: *Dimension, stats: Stats) void {
        found.mapped = stats.mapped;
        found.locked = stats.locked;
        for (&found.sizes, 0..) |*size, slot| size.* = dimension.sizeInUse(@intCast(slot));
    }
};

/// Adds what this dimension has. The system is asked with the lock free: it may take long.
pub fn addMemory(dimension: *Dimension, owner: u64, total: *Memory, detail: *Detail) Error!void {
    var found: Mapped = .{};
    try dimension.describe(owner, detail, &found, Mapped.note);
    total.mapped += found.mapped;
    total.locked += found.locked;
    for (dimension.slots, found.sizes) |slot, size| total.ask(slot.base, size);
}

/// Under the lock: bytes from the start of a slot that something stands in. It costs what is mapped
/// to look at them, where it would cost what is reserved to look at all.
fn sizeInUse(dimension: *const Dimension, slot: u1) usize {
    const generation = &dimension.generations[slot];
    if (!generation.isFree()) {
        const word = dimension.gate.read();
        const is_current = word.slot == slot and word.generation == generation.number;
        // How far a load has come is not known.
        if (dimension.activity == .loading and !is_current and !generation.retiring) {
            return dimension.slots[slot].size;
        }
        return generation.placement.mapped_size;
    }
    if (slot == 0) if (dimension.populated) |placement| return placement.mapped_size;
    return 0;
}

pub fn memory(dimension: *Dimension, owner: u64, detail: *Detail) Error!Memory {
    var total: Memory = .{};
    try dimension.addMemory(owner, &total, detail);
    for (dimension.slots) |slot| total.reserved += slot.size;
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
        if (generation.isFree() or dimension.isBeingLoaded(generation)) continue;
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
