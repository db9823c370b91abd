//! What one thread has at hand of one manager's pools: two magazines for each size class.
//!
//! Only the owner uses a cache, and moves `busy` round each use by plain stores. Whoever must have
//! the blocks of all threads (`Pool.revoke`) takes `handle` away, issues the process-wide barrier,
//! and waits for `busy` to be 0: an owner either stored `busy` before the barrier, and is waited
//! for, or loads `handle` after it, and finds that the cache is not to be used. Where there is no
//! such barrier, `busy` is swapped atomically instead. What the owner wrote is seen, since the last
//! store of `busy` is a release; what the other wrote is, since `handle` is given back by one.
//!
//! The one compare with `handle` also tells that the cache is one of the manager that is meant, and
//! that this is open. A cache is permanent memory, and goes with its index to the next thread.
//!
//! A block that two threads free at the same moment is put into a magazine of each. Its state names
//! the cache that stored it last, and only that one finds it free: the other forgets it when it
//! comes to it. So a state is moved by plain stores, but for those caches that share one.

const std = @import("std");
const os = @import("../os.zig");
const Depot = @import("Depot.zig");
const Detail = @import("../base.zig").Detail;
const Magazines = @import("Magazines.zig");
const Spans = @import("Spans.zig");
const size_classes = @import("size_classes.zig");
const threads = @import("../gate.zig").threads;

const Cache = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;
const Magazine = Magazines.Magazine;

/// What is at hand of one class. Detached, it has no magazines: then it is both empty and full,
/// which is found without asking.
const Cell = extern struct {
    /// Where in the loaded magazine the next block is put. Empty, it is `bottom`; full, it is where
    /// the next magazine begins.
    top: Atomic(usize),
    bottom: usize,
    /// The other magazine, which is full or empty: its address and `full`.
    previous: Atomic(usize),
    /// Requests that were met.
    hits: Atomic(u64),

    const full: usize = 1;

    inline fn isFull(top: usize) bool {
        return top % @sizeOf(Magazine) == 0;
    }

    fn isAttached(cell: *const Cell) bool {
        return cell.bottom != 0;
    }

    fn count(cell: *const Cell) u32 {
        return @intCast((cell.top.load(.monotonic) -| cell.bottom) / @sizeOf(u32));
    }

    fn loaded(cell: *const Cell) *Magazine {
        return @ptrFromInt(std.mem.alignBackward(usize, cell.bottom, @sizeOf(Magazine)));
    }

    fn other(cell: *const Cell) *Magazine {
        return @ptrFromInt(cell.previous.load(.monotonic) & ~full);
    }

    fn isOtherFull(cell: *const Cell) bool {
        return cell.previous.load(.monotonic) & full != 0;
    }

    fn setOther(cell: *Cell, magazine: *Magazine, is_full: bool) void {
        const flag = if (is_full) full else 0;
        cell.previous.store(@intFromPtr(magazine) | flag, .monotonic);
    }

    fn load(cell: *Cell, magazine: *Magazine, rounds: u32, blocks_count: u32) void {
        const bottom = magazine.blocks(rounds);
        cell.bottom = @intFromPtr(bottom);
        cell.top.store(@intFromPtr(bottom + blocks_count), .monotonic);
    }

    /// The loaded one is full or empty.
    fn swap(cell: *Cell, rounds: u32) void {
        const magazine = cell.other();
        const blocks_count = if (cell.isOtherFull()) rounds else 0;
        cell.setOther(cell.loaded(), isFull(cell.top.load(.monotonic)));
        cell.load(magazine, rounds, blocks_count);
    }

    /// So many blocks were put out; returns the number.
    fn move(cell: *Cell, blocks_count: usize) usize {
        const top = cell.top.load(.monotonic);
        cell.top.store(top - blocks_count * @sizeOf(u32), .monotonic);
        cell.hits.store(cell.hits.load(.monotonic) +% blocks_count, .monotonic);
        return blocks_count;
    }

    fn attach(cell: *Cell, depot: *Depot, detail: *Detail) Error!void {
        {
            depot.spans_lock.lock();
            defer depot.spans_lock.unlock();
            depot.addCache(&detail.code) catch {
                return detail.refused(0, "the system refuses memory for the pools' own tables");
            };
        }
        cell.load(depot.obtainEmpty(), depot.rounds, 0);
        cell.setOther(depot.obtainEmpty(), false);
    }
};

/// What every operation reads, together.
hot: Hot align(64),
asymmetric: bool,
/// Only where its state is its own and there is a process-wide barrier can the owner use it without
/// atomic operations.
alone: bool,
/// By the state of live blocks. Those of spans that were never used, and of large blocks, are
/// never attached: so a state needs no other look.
cells: [size_classes.count + 2]Cell align(64),

const Hot = extern struct {
    /// Of the manager that may use it now; 0 before the first, and `nobody`'s after it.
    handle: Atomic(u64),
    busy: Atomic(u32),
    /// The state of the free blocks in it.
    code: Spans.State,
    base: [*]u8,
    granules: usize,
    states: [*]Atomic(Spans.State),
    live_states: [*]Atomic(Spans.State),
};

/// Not a handle, for a cache that nobody may use: the complement of the last handle, so that it is
/// neither NULL nor small, nor an address.
fn nobody(handle: u64) u64 {
    return if (isHandle(handle)) ~handle else handle;
}

/// Handles have their lowest bit set (`Managers`).
fn isHandle(value: u64) bool {
    return value & 1 != 0;
}

/// For the owner, from the manager of `handle`; the thread's index says which state is its own.
pub fn give(cache: *Cache, handle: u64, spans: *const Spans, asymmetric: bool, index: u32) void {
    const own = @as(u32, Spans.owned_first) + index;
    const has_own = own < Spans.owned_together;
    cache.asymmetric = asymmetric;
    cache.alone = asymmetric and has_own;
    cache.hot.code = if (cache.alone) @intCast(own) else Spans.owned_together;
    cache.hot.base = spans.arena.ptr;
    cache.hot.granules = spans.granules();
    cache.hot.states = spans.states;
    cache.hot.live_states = spans.live_states;
    cache.hot.handle.store(handle, .release);
}

/// Nobody may enter from now on; who is inside stays until he leaves.
pub fn takeAway(cache: *Cache) void {
    cache.hot.handle.store(nobody(cache.hot.handle.load(.monotonic)), .seq_cst);
}

/// The handle of the manager that it is given to.
pub fn holder(cache: *const Cache) ?u64 {
    const handle = cache.hot.handle.load(.monotonic);
    return if (isHandle(handle)) handle else null;
}

/// The cache that the calling thread used last, of whatever manager, if it may enter by `enter`.
pub inline fn last() ?*Cache {
    return @ptrCast(@alignCast(threads.getSlot()));
}

/// Makes the cache the one that the calling thread used last. None is, if this one is to be entered
/// by `enterAny` only: the one before may be the same, with a manager that has gone.
pub fn setLast(cache: *Cache) void {
    threads.setSlot(if (cache.alone) cache else null);
}

pub inline fn enter(cache: *Cache, handle: u64) bool {
    cache.hot.busy.store(1, .monotonic);
    // The load below must come after the store in the instruction stream.
    asm volatile ("" ::: .{ .memory = true });
    return cache.check(handle);
}

/// The same, whether there is a process-wide barrier or not.
pub fn enterAny(cache: *Cache, handle: u64) bool {
    if (cache.asymmetric) return cache.enter(handle);
    _ = cache.hot.busy.swap(1, .seq_cst);
    return cache.check(handle);
}

inline fn check(cache: *Cache, handle: u64) bool {
    if (cache.hot.handle.load(.seq_cst) == handle) return true;
    cache.leave();
    return false;
}

pub inline fn leave(cache: *Cache) void {
    cache.hot.busy.store(0, .release);
}

/// A block of the loaded magazine of a class, which is given by the state of its live blocks; null
/// if there is none. Inside.
pub inline fn pop(cache: *Cache, state: Spans.State) ?[*]u8 {
    const cell = &cache.cells[state];
    const top = cell.top.load(.monotonic);
    if (top == cell.bottom) return null;
    const round: *u32 = @ptrFromInt(top - @sizeOf(u32));
    const granule = round.*;
    const state_of_block = &cache.hot.states[granule];
    const block = cache.hot.base + @as(usize, granule) * Spans.granule_size;
    // Two threads may have freed it at the same time: see `dropDoubles`.
    if (Spans.peek(state_of_block) != cache.hot.code) return null;
    cell.top.store(@intFromPtr(round), .monotonic);
    cell.hits.store(cell.hits.load(.monotonic) +% 1, .monotonic);
    state_of_block.store(state, .monotonic);
    // Saves callers from looking.
    std.debug.assert(@intFromPtr(block) != 0);
    return block;
}

/// The same, of any cache.
pub fn popAny(cache: *Cache, spans: *const Spans, class: u32) ?[*]u8 {
    const state = Spans.live(class);
    if (cache.alone) return cache.pop(state);
    const cell = &cache.cells[state];
    const top = cell.top.load(.monotonic);
    if (top == cell.bottom) return null;
    const round: *u32 = @ptrFromInt(top - @sizeOf(u32));
    if (!spans.claim(round.*, cache.hot.code, state)) return null;
    _ = cell.move(1);
    return spans.address(round.*);
}

/// The same for many; returns how many were put out. Inside.
pub fn popMany(cache: *Cache, state: Spans.State, out: []?*anyopaque) usize {
    const cell = &cache.cells[state];
    const hot = &cache.hot;
    const top = cell.top.load(.monotonic);
    const count_max = @min(out.len, cell.count());
    for (out[0..count_max], 0..) |*block, count| {
        const round: *u32 = @ptrFromInt(top - (count + 1) * @sizeOf(u32));
        const state_of_block = &hot.states[round.*];
        if (state_of_block.load(.monotonic) != hot.code) return cell.move(count);
        state_of_block.store(state, .monotonic);
        block.* = hot.base + @as(usize, round.*) * Spans.granule_size;
    }
    return cell.move(count_max);
}

/// False if the pointer is not to a live block, or the loaded magazine is full. Inside.
///
/// The span says where to put it; the block's own state, which was stored when it was handed out,
/// is only compared. So a processor that expects no error need not wait for that store.
pub inline fn push(cache: *Cache, pointer: usize) bool {
    const hot = &cache.hot;
    const granule = Spans.granuleAt(hot.base, hot.granules, pointer) orelse return false;
    const live = Spans.peek(&hot.live_states[granule / Spans.granules_per_unit]);
    const state = &hot.states[granule];
    if (Spans.peek(state) != live) return false;
    const cell = &cache.cells[live];
    const top = cell.top.load(.monotonic);
    if (Cell.isFull(top)) return false;
    const round: *u32 = @ptrFromInt(top);
    round.* = granule;
    cell.top.store(top + @sizeOf(u32), .monotonic);
    state.store(hot.code, .monotonic);
    return true;
}

/// What became of a block that was to be put into the loaded magazine.
pub const Put = enum { done, not_live, full, not_attached };

/// The same, of any cache, for a block that was looked at; and why not.
pub fn put(cache: *Cache, spans: *const Spans, block: Spans.Block) Put {
    const live = Spans.live(block.class);
    const cell = &cache.cells[live];
    if (!cell.isAttached()) return .not_attached;
    const top = cell.top.load(.monotonic);
    if (Cell.isFull(top)) return .full;
    if (!spans.claim(block.granule, live, cache.hot.code)) return .not_live;
    const round: *u32 = @ptrFromInt(top);
    round.* = block.granule;
    cell.top.store(top + @sizeOf(u32), .monotonic);
    return .done;
}

/// The same after that failed: from the other magazine.
pub fn popOther(cache: *Cache, state: Spans.State) ?[*]u8 {
    const cell = &cache.cells[state];
    if (cell.count() != 0 or !cell.isOtherFull()) return null;
    cell.swap(size_classes.roundsOf(state - 1));
    return cache.pop(state);
}

/// The same after that failed: to the other magazine.
pub fn pushOther(cache: *Cache, pointer: usize) bool {
    const hot = &cache.hot;
    const granule = Spans.granuleAt(hot.base, hot.granules, pointer) orelse return false;
    const live = hot.live_states[granule / Spans.granules_per_unit].load(.monotonic);
    const cell = &cache.cells[live];
    const is_full = cell.isAttached() and Cell.isFull(cell.top.load(.monotonic));
    if (!is_full or cell.isOtherFull()) return false;
    cell.swap(size_classes.roundsOf(live - 1));
    return cache.push(pointer);
}

/// Sees to it that `popAny` finds a block. Inside.
pub fn fill(cache: *Cache, depot: *Depot, detail: *Detail) Error!void {
    const cell = &cache.cells[Spans.live(depot.class)];
    if (cache.dropDoubles(cell, depot)) return;
    if (cell.isOtherFull()) {
        cell.swap(depot.rounds);
        if (cache.dropDoubles(cell, depot)) return;
    }
    depot.lock.lock();
    defer depot.lock.unlock();
    if (!cell.isAttached()) try cell.attach(depot, detail);
    while (cell.count() == 0) {
        const got = try depot.refill(cell.loaded(), detail);
        const blocks_of = got.magazine.blocks(depot.rounds)[0..got.count];
        const count = cache.move(depot, blocks_of, Spans.free_block, cache.hot.code);
        cell.load(got.magazine, depot.rounds, count);
    }
    depot.refills += 1;
}

/// A block that two threads freed at the same time is in a magazine of each. One of them has handed
/// it out, or has it: the other forgets it. True if there are other blocks.
fn dropDoubles(cache: *Cache, cell: *Cell, depot: *Depot) bool {
    var top = cell.top.load(.monotonic);
    while (top != cell.bottom) : (top -= @sizeOf(u32)) {
        const round: *u32 = @ptrFromInt(top - @sizeOf(u32));
        if (cache.hot.states[round.*].load(.monotonic) == cache.hot.code) break;
        depot.spans.countDouble();
    }
    cell.top.store(top, .monotonic);
    return top != cell.bottom;
}

/// Blocks of a magazine go from the depot to the cache, or back: from one state to the other.
/// Those that are not in the first are another's, and are forgotten. Returns how many there are.
fn move(
    cache: *const Cache,
    depot: *Depot,
    blocks_of: []u32,
    from: Spans.State,
    to: Spans.State,
) u32 {
    const states = cache.hot.states;
    var done: u32 = 0;
    // Nearly always all of them, so four at a time.
    if (cache.alone) outer: while (done + 4 <= blocks_of.len) : (done += 4) {
        inline for (0..4) |each| {
            const state = &states[blocks_of[done + each]];
            if (Spans.peek(state) != from) {
                done += each;
                break :outer;
            }
            state.store(to, .monotonic);
        }
    };
    var count = done;
    for (blocks_of[done..]) |granule| {
        const is_ours = if (cache.alone) alone: {
            const found = states[granule].load(.monotonic) == from;
            if (found) states[granule].store(to, .monotonic);
            break :alone found;
        } else depot.spans.claim(granule, from, to);
        if (is_ours) {
            blocks_of[count] = granule;
            count += 1;
        } else depot.spans.countDouble();
    }
    return count;
}

/// Gives a magazine to the depot. Under its lock.
fn handOver(cache: *const Cache, depot: *Depot, magazine: *Magazine, count: u32) void {
    const blocks_of = magazine.blocks(depot.rounds)[0..count];
    depot.absorb(magazine, cache.move(depot, blocks_of, cache.hot.code, Spans.free_block));
}

/// Sees to it that `put` finds room. Inside.
pub fn drain(cache: *Cache, depot: *Depot, detail: *Detail) Error!void {
    const cell = &cache.cells[Spans.live(depot.class)];
    if (cell.isAttached()) {
        if (!Cell.isFull(cell.top.load(.monotonic))) return;
        if (!cell.isOtherFull()) return cell.swap(depot.rounds);
    }
    depot.lock.lock();
    defer depot.lock.unlock();
    if (!cell.isAttached()) return cell.attach(depot, detail);
    cache.handOver(depot, cell.other(), depot.rounds);
    cell.setOther(cell.loaded(), true);
    cell.load(depot.obtainEmpty(), depot.rounds, 0);
}

/// Gives everything to the depots. Of nobody else's, or taken away.
pub fn empty(cache: *Cache, depots: []Depot, held: enum { locked, unlocked }) void {
    for (cache.cells[Spans.live(0)..][0..size_classes.count], depots) |*cell, *depot| {
        if (!cell.isAttached()) continue;
        if (held == .unlocked) depot.lock.lock();
        defer if (held == .unlocked) depot.lock.unlock();
        cache.handOver(depot, cell.loaded(), cell.count());
        cache.handOver(depot, cell.other(), if (cell.isOtherFull()) depot.rounds else 0);
        cell.bottom = 0;
        cell.top.store(0, .monotonic);
        cell.previous.store(0, .monotonic);
        depot.spans_lock.lock();
        defer depot.spans_lock.unlock();
        depot.removeCache();
    }
}

/// In the child of a fork, of a thread that may have been in the middle of it: its magazines are lost,
/// and its blocks stay free ones that nobody has.
pub fn forget(cache: *Cache) void {
    for (&cache.cells) |*cell| {
        cell.bottom = 0;
        cell.top.store(0, .monotonic);
        cell.previous.store(0, .monotonic);
    }
}

/// Blocks of a class at hand; a figure of the moment, unless the owner is idle.
pub fn blocks(cache: *const Cache, depot: *const Depot) u64 {
    const cell = &cache.cells[Spans.live(depot.class)];
    const top = cell.top.load(.monotonic);
    if (top == 0) return 0;
    // Full, it is where the next one begins.
    const begin = std.mem.alignBackward(usize, top - 1, @sizeOf(Magazine));
    const magazine: *Magazine = @ptrFromInt(begin);
    const loaded = (top -| @intFromPtr(magazine.blocks(depot.rounds))) / @sizeOf(u32);
    return loaded + if (cell.isOtherFull()) depot.rounds else 0;
}

/// Requests of a class that were met from here.
pub fn hits(cache: *const Cache, class: u32) u64 {
    return cache.cells[Spans.live(class)].hits.load(.monotonic);
}

pub fn clearHits(cache: *Cache) void {
    for (&cache.cells) |*cell| cell.hits.store(0, .monotonic);
}
