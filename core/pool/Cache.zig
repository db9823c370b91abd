//! What one thread has at hand of one manager's pools: two magazines for each size class.
//!
//! Only the owner uses a cache, and moves `busy` round each use by plain stores. Whoever must have
//! the blocks of all threads (`Pool.revoke`) sets `handle` to 0, issues the process-wide barrier,
//! and waits for `busy` to be 0: an owner either stored `busy` before the barrier, and is waited
//! for, or loads `handle` after it, and finds that the cache is not to be used. Where there is no
//! such barrier, `busy` is swapped atomically instead. What the owner wrote is seen, since the last
//! store of `busy` is a release; what the other wrote is, since `handle` is given back by one.
//!
//! The one compare with `handle` also tells that the cache is one of the manager that is meant, and
//! that this is open. A cache is permanent memory, and goes with its index to the next thread.

const std = @import("std");
const os = @import("../os.zig");
const Depot = @import("Depot.zig");
const Detail = @import("../Detail.zig");
const Magazines = @import("Magazines.zig");
const Spans = @import("Spans.zig");
const size_classes = @import("size_classes.zig");
const threads = @import("../threads.zig");

const Cache = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;
const Magazine = Magazines.Magazine;

/// Blocks in the loaded magazine, and requests that were met: moved in one addition.
const Word = packed struct(u64) {
    count: u8 = 0,
    hits: u56 = 0,

    const popped: u64 = @bitCast(Word{ .hits = 1 });
};

/// What is at hand of one class. Detached, it has no magazines and no capacity: so a block cannot
/// be taken or put, which is found without asking.
const Cell = extern struct {
    word: Atomic(u64),
    loaded: *Magazine,
    previous: *Magazine,
    /// 0 or `capacity`.
    previous_count: Atomic(u32),
    capacity: u32,

    fn getCount(cell: *const Cell) u32 {
        const word: Word = @bitCast(cell.word.load(.monotonic));
        return word.count;
    }

    fn setCount(cell: *Cell, count: u32) void {
        var word: Word = @bitCast(cell.word.load(.monotonic));
        word.count = @intCast(count);
        cell.word.store(@bitCast(word), .monotonic);
    }

    fn swap(cell: *Cell) void {
        const count = cell.getCount();
        cell.setCount(cell.previous_count.load(.monotonic));
        cell.previous_count.store(count, .monotonic);
        std.mem.swap(*Magazine, &cell.loaded, &cell.previous);
    }

    fn attach(cell: *Cell, depot: *Depot, detail: *Detail) Error!void {
        {
            depot.spans_lock.lock();
            defer depot.spans_lock.unlock();
            depot.spans.magazines.guarantee(2, &detail.code) catch {
                return detail.refused(0, "the system refuses memory for the pools' own tables");
            };
        }
        cell.loaded = depot.obtainEmpty();
        cell.previous = depot.obtainEmpty();
        cell.capacity = depot.rounds;
    }
};

/// What every operation reads, together.
hot: Hot align(64),
asymmetric: bool,
/// By the state of a block. Those of what is not live, and of large blocks, are never attached: so
/// a state needs no other look.
cells: [256]Cell align(64),

const Hot = extern struct {
    /// Of the manager that may use it now; 0: nobody may.
    handle: Atomic(u64),
    busy: Atomic(u32),
    base: [*]u8,
    granules: usize,
    states: [*]Atomic(Spans.State),
};

/// The cache that the calling thread used last, of whatever manager, if it may enter by `enter`.
pub inline fn last() ?*Cache {
    return @ptrCast(@alignCast(threads.getSlot()));
}

/// Makes the cache the one that the calling thread used last.
pub fn setLast(cache: *Cache) void {
    if (cache.asymmetric) threads.setSlot(cache);
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

/// Puts a block of a class out, if there is one in the loaded magazine. Inside.
pub inline fn pop(cache: *Cache, class: u32, out: *?*anyopaque) bool {
    const state = Spans.live(class);
    const cell = &cache.cells[state];
    const word = cell.word.load(.monotonic);
    const count: u8 = @truncate(word);
    if (count == 0) return false;
    const granule = cell.loaded.blocks[count - 1];
    cell.word.store(word +% (Word.popped - 1), .monotonic);
    cache.hot.states[granule].store(state, .monotonic);
    out.* = cache.hot.base + @as(usize, granule) * Spans.granule_size;
    return true;
}

/// False if the pointer is not to a live block, or the loaded magazine is full. Inside.
pub inline fn push(cache: *Cache, pointer: usize) bool {
    const granule = Spans.granuleAt(cache.hot.base, cache.hot.granules, pointer) orelse return false;
    const cell = &cache.cells[cache.hot.states[granule].load(.monotonic)];
    const word = cell.word.load(.monotonic);
    const count: u8 = @truncate(word);
    if (count == cell.capacity) return false;
    cell.loaded.blocks[count] = granule;
    cell.word.store(word + 1, .monotonic);
    cache.hot.states[granule].store(Spans.free_block, .monotonic);
    return true;
}

/// Sees to it that `pop` finds a block. Inside.
pub fn fill(cache: *Cache, depot: *Depot, detail: *Detail) Error!void {
    const cell = &cache.cells[Spans.live(depot.class)];
    if (cell.previous_count.load(.monotonic) > 0) return cell.swap();
    depot.lock.lock();
    defer depot.lock.unlock();
    if (cell.capacity == 0) try cell.attach(depot, detail);
    const loaded = try depot.refill(cell.loaded, detail);
    depot.refills += 1;
    cell.loaded = loaded.magazine;
    cell.setCount(loaded.count);
}

/// Sees to it that `push` finds room. Inside.
pub fn drain(cache: *Cache, depot: *Depot, detail: *Detail) Error!void {
    const cell = &cache.cells[Spans.live(depot.class)];
    if (cell.capacity > 0 and cell.previous_count.load(.monotonic) == 0) return cell.swap();
    depot.lock.lock();
    defer depot.lock.unlock();
    if (cell.capacity == 0) return cell.attach(depot, detail);
    depot.putFull(cell.previous);
    cell.previous = cell.loaded;
    cell.loaded = depot.obtainEmpty();
    cell.setCount(0);
}

/// Gives everything to the depots. Of nobody else's, or revoked.
pub fn empty(cache: *Cache, depots: []Depot, held: enum { locked, unlocked }) void {
    for (cache.cells[Spans.live(0)..][0..size_classes.count], depots) |*cell, *depot| {
        if (cell.capacity == 0) continue;
        if (held == .unlocked) depot.lock.lock();
        defer if (held == .unlocked) depot.lock.unlock();
        depot.absorb(cell.loaded, cell.getCount());
        depot.absorb(cell.previous, cell.previous_count.load(.monotonic));
        cell.setCount(0);
        cell.previous_count.store(0, .monotonic);
        cell.capacity = 0;
        depot.spans_lock.lock();
        defer depot.spans_lock.unlock();
        depot.giveBackEmpty();
        depot.spans.magazines.guaranteed -= 2;
    }
}

/// Blocks of a class at hand.
pub fn blocks(cache: *const Cache, class: u32) u64 {
    const cell = &cache.cells[Spans.live(class)];
    return cell.getCount() + cell.previous_count.load(.monotonic);
}

/// Requests of a class that were met from here.
pub fn hits(cache: *const Cache, class: u32) u64 {
    const word: Word = @bitCast(cache.cells[Spans.live(class)].word.load(.monotonic));
    return word.hits;
}

pub fn clearHits(cache: *Cache) void {
    for (&cache.cells) |*cell| cell.word.store(0, .monotonic);
}
