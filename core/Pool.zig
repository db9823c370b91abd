//! The pools of a manager: blocks of any size, inside the manager's budget.
//!
//! A block of up to 64 KiB is one of a slab of its size class; a larger one is a run of spans. A
//! thread takes blocks from magazines of its own (`Cache`), and exchanges these with the class's
//! `Depot` a whole one at a time; slabs come from `Spans`. What a pointer points to is looked up in
//! the spans' tables and never in the block, so that nothing a user writes can lead us astray.
//!
//! Before anything is refused, the blocks of all threads are called in (`revoke`), slabs without a
//! live block are given back, and the request is met or refused while all of them are still in
//! hand: so a refusal means that the limit really was reached. The same happens for a charge of
//! somebody else's that the budget would refuse, and in `trim`.
//!
//! Locks, in the order in which they are taken: `revoking`, the caches (by `busy`), the depots by
//! class, `spans_lock`. An owner inside its cache takes those of depots and spans, never `revoking`.
//!
//! Once closed, all caches are empty and stay unused; every free goes to its depot, and the last
//! one takes the pools out as a tenant of the manager.

const std = @import("std");
const os = @import("os.zig");
const Budget = @import("base.zig").Budget;
const Cache = @import("pool/Cache.zig");
const Depot = @import("pool/Depot.zig");
const Detail = @import("base.zig").Detail;
const Lock = @import("base.zig").Lock;
const Log = @import("base.zig").Log;
const Shared = @import("gate.zig").Shared;
const Spans = @import("pool/Spans.zig");
pub const size_classes = @import("pool/size_classes.zig");
const threads = @import("gate.zig").threads;

const Pool = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;

pub const class_count = size_classes.count;
pub const limit_max = Spans.limit_max;

/// How long to look away from a cache whose owner is inside.
const glance_ns = 20 * std.time.ns_per_us;

pub const Options = struct {
    limit: u64,
    asymmetric: bool,
    poison: bool,
    guard_pages: bool,
};

const Phase = enum(u8) {
    /// No block was asked for yet.
    idle,
    open,
    /// Blocks can be freed.
    closed,
};

handle: Atomic(u64),
options: Options,
shared: *Shared,
phase: Atomic(Phase),
/// Held while a cache gets a manager, while all are called in, and while `phase` changes.
revoking: Lock,
caches: [threads.count_max]Atomic(?*Cache),
depots: [class_count]Depot,
/// Held while `spans` is used.
spans_lock: Lock,
spans: Spans,
/// Live blocks of a closed manager.
remaining: Atomic(u64),
/// During a fork: what is held, and that the caches could not be called in.
forking_phase: Phase,
forking_apart: bool,
/// In a child: a thread of the parent may have taken locks to find that it is late.
locks_left: bool,
refusals: Atomic(u64),

/// For zeroed memory, or for that of a pool whose manager is gone.
pub fn begin(pool: *Pool, handle: u64, shared: *Shared, options: Options) void {
    pool.revoking.lock();
    defer pool.revoking.unlock();
    pool.options = options;
    pool.shared = shared;
    pool.refusals.store(0, .monotonic);
    pool.spans.grown.store(0, .monotonic);
    pool.spans.given.store(0, .monotonic);
    pool.spans.doubles.store(0, .monotonic);
    pool.spans.doubles_logged.store(0, .monotonic);
    pool.phase.store(.idle, .monotonic);
    pool.handle.store(handle, .release);
}

/// Bytes of address space that pools of this limit take, once a block is asked for.
pub fn addressesOf(limit: u64) u64 {
    return Spans.addressesOf(limit);
}

/// Reserves the range of the pools, the first time that a block is asked for.
fn ensureOpen(pool: *Pool, handle: u64, detail: *Detail) Error!void {
    if (pool.phase.load(.acquire) == .open and pool.handle.load(.acquire) == handle) return;
    pool.revoking.lock();
    defer pool.revoking.unlock();
    if (pool.handle.load(.monotonic) != handle) return closed(detail);
    switch (pool.phase.load(.monotonic)) {
        .open => return,
        .closed => return closed(detail),
        .idle => {},
    }
    if (pool.locks_left) {
        for (&pool.depots) |*depot| depot.lock = .{};
        pool.spans_lock = .{};
        pool.locks_left = false;
    }
    const spans: Spans = try .init(pool.options.limit, pool.shared.budget, detail);
    pool.spans_lock.lock();
    pool.spans = spans;
    pool.spans_lock.unlock();
    for (&pool.depots, 0..) |*depot, class| {
        depot.init(@intCast(class), &pool.spans, &pool.spans_lock);
    }
    pool.phase.store(.open, .release);
}

fn closed(detail: *Detail) Error {
    return detail.fail(error.InvalidAccess, "the manager was closed");
}

/// True if every block is looked after one by one.
fn debugging(pool: *const Pool) bool {
    return pool.options.poison or pool.options.guard_pages;
}

// Allocating ------------------------------------------------------------------------------------

/// A block that the calling thread has at hand.
pub inline fn tryAlloc(handle: u64, size: usize) ?*anyopaque {
    const cache = Cache.last() orelse return null;
    if (size > size_classes.size_max or !cache.enter(handle)) return null;
    defer cache.leave();
    return cache.pop(size_classes.number(size));
}

/// The same after that failed: there may be one in the thread's other magazine.
pub fn tryAllocOther(handle: u64, size: usize) ?*anyopaque {
    const cache = Cache.last() orelse return null;
    if (size > size_classes.size_max or !cache.enter(handle)) return null;
    defer cache.leave();
    return cache.popOther(size_classes.number(size));
}

pub const Request = struct {
    size: usize,
    /// A power of two, 16 to the page.
    alignment: usize = size_classes.alignment_min,
    zeroed: bool = false,
};

pub fn alloc(pool: *Pool, handle: u64, request: Request, detail: *Detail) Error![*]u8 {
    return pool.tryToAlloc(handle, request, detail) catch |err| pool.refusal(err);
}

fn tryToAlloc(pool: *Pool, handle: u64, request: Request, detail: *Detail) Error![*]u8 {
    try pool.ensureOpen(handle, detail);
    const block = try pool.allocAny(handle, @max(request.size, 1), request.alignment, detail);
    if (request.zeroed) {
        pool.clear(block, request.size);
    } else if (pool.options.poison) @memset(block[0..request.size], poison_live);
    return block;
}

/// True if a block of this size has spans of its own.
fn isLarge(pool: *const Pool, size: usize) bool {
    return size > size_classes.size_max or pool.options.guard_pages;
}

/// Makes a new block zeros, without touching what the system has just given.
fn clear(pool: *Pool, block: [*]u8, size: usize) void {
    const spans = &pool.spans;
    const distance = @intFromPtr(block) - @intFromPtr(spans.arena.ptr);
    const granule: u32 = @intCast(distance / Spans.granule_size);
    if (pool.isLarge(size)) spans.clearLarge(granule, size) else @memset(block[0..size], 0);
}

/// What fills blocks that are handed out, and those that are freed.
const poison_live = 0xa5;
const poison_free = 0x5a;

fn allocAny(
    pool: *Pool,
    handle: u64,
    size: usize,
    alignment: usize,
    detail: *Detail,
) Error![*]u8 {
    if (pool.isLarge(size)) {
        return pool.allocLarge(handle, size, alignment, detail);
    }
    const class = if (alignment <= size_classes.alignment_min)
        size_classes.of(size)
    else
        size_classes.ofAligned(size, alignment);
    if (pool.cacheOfThread(handle)) |cache| {
        if (cache.enterAny(handle)) {
            defer cache.leave();
            if (cache.popAny(&pool.spans, class)) |block| return block;
            if (cache.fill(&pool.depots[class], detail)) {
                if (cache.popAny(&pool.spans, class)) |block| return block;
            } else |_| detail.forget();
        }
    }
    return pool.allocSingle(handle, class, detail) catch |err| switch (err) {
        error.LimitExceeded, error.AllocationRefused => {
            detail.forget();
            try pool.revoke(handle, detail);
            defer pool.endRevoke();
            _ = pool.giveBackFree();
            return pool.allocFrom(class, detail);
        },
        else => err,
    };
}

/// Counts a refusal; the budget has counted none for an attempt.
fn refusal(pool: *Pool, err: Error) Error {
    if (err == error.LimitExceeded) {
        _ = pool.refusals.fetchAdd(1, .monotonic);
        pool.shared.budget.countRefusal();
    }
    return err;
}

fn allocSingle(pool: *Pool, handle: u64, class: u32, detail: *Detail) Error![*]u8 {
    const depot = &pool.depots[class];
    depot.lock.lock();
    defer depot.lock.unlock();
    try pool.checkOpen(handle, detail);
    return pool.allocFrom(class, detail);
}

/// Under the depot's lock.
fn checkOpen(pool: *Pool, handle: u64, detail: *Detail) Error!void {
    const is_open = pool.phase.load(.acquire) == .open and pool.handle.load(.acquire) == handle;
    if (!is_open) return closed(detail);
}

/// Under the depot's lock.
fn allocFrom(pool: *Pool, class: u32, detail: *Detail) Error![*]u8 {
    const depot = &pool.depots[class];
    const granule = try depot.take(detail);
    depot.singles += 1;
    pool.spans.states[granule].store(Spans.live(class), .release);
    return pool.spans.address(granule);
}

fn allocLarge(
    pool: *Pool,
    handle: u64,
    size: usize,
    alignment: usize,
    detail: *Detail,
) Error![*]u8 {
    return pool.allocRun(handle, size, alignment, detail) catch |err| switch (err) {
        error.LimitExceeded, error.AllocationRefused => {
            detail.forget();
            try pool.revoke(handle, detail);
            defer pool.endRevoke();
            _ = pool.giveBackFree();
            return pool.allocRun(handle, size, alignment, detail);
        },
        else => err,
    };
}

fn allocRun(
    pool: *Pool,
    handle: u64,
    size: usize,
    alignment: usize,
    detail: *Detail,
) Error![*]u8 {
    pool.spans_lock.lock();
    defer pool.spans_lock.unlock();
    try pool.checkOpen(handle, detail);
    // Whatever is given back; and its spans may be more than can be counted.
    if (size > pool.options.limit) return pool.spans.refuse(size, detail);
    const guard = pool.options.guard_pages;
    const granule = try pool.spans.allocLarge(size, alignment, guard, detail);
    return pool.spans.address(granule);
}

/// Hands out all or none.
pub fn allocBatch(
    pool: *Pool,
    handle: u64,
    size: usize,
    blocks: []?*anyopaque,
    detail: *Detail,
) Error!void {
    var done: usize = 0;
    while (true) : (done += 1) {
        done += tryAllocMany(handle, size, blocks[done..]);
        if (done == blocks.len) return;
        blocks[done] = pool.alloc(handle, .{ .size = size }, detail) catch |err| {
            for (blocks[0..done]) |block| {
                // Another thread may have found it there, and freed it already.
                var ignored: Detail = .{};
                pool.free(handle, block orelse continue, &ignored) catch {};
            }
            @memset(blocks, null);
            // With the slabs that it grew by: they stay only where blocks were handed out.
            pool.relieve();
            return err;
        };
    }
}

/// Puts out what the calling thread has at hand; returns how many.
fn tryAllocMany(handle: u64, size: usize, blocks: []?*anyopaque) usize {
    const cache = Cache.last() orelse return 0;
    if (size > size_classes.size_max or !cache.enter(handle)) return 0;
    defer cache.leave();
    return cache.popMany(size_classes.number(size), blocks);
}

/// A block with the same first bytes.
pub fn resize(
    pool: *Pool,
    handle: u64,
    block: *anyopaque,
    size: usize,
    detail: *Detail,
) Error![*]u8 {
    const room = try pool.sizeOf(handle, block, detail);
    const bytes: [*]u8 = @ptrCast(block);
    if (size <= room) {
        const stays_large = @min(size, room) > size_classes.size_max;
        if (stays_large and !pool.options.guard_pages) {
            try pool.shrinkLarge(handle, block, size, detail);
            return bytes;
        }
        if (size >= room / 2 or room == size_classes.alignment_min) return bytes;
    }
    const moved = pool.tryToAlloc(handle, .{ .size = size }, detail) catch |err| {
        // There is room enough where it is.
        if (size <= room and err != error.InvalidAccess) return bytes;
        return pool.refusal(err);
    };
    const kept = @min(size, room);
    @memcpy(moved[0..kept], bytes[0..kept]);
    pool.free(handle, block, detail) catch |err| {
        // Another thread has freed it meanwhile.
        var ignored: Detail = .{};
        pool.free(handle, moved, &ignored) catch {};
        return err;
    };
    return moved;
}

fn shrinkLarge(
    pool: *Pool,
    handle: u64,
    pointer: *anyopaque,
    size: usize,
    detail: *Detail,
) Error!void {
    const stay = try pool.enter(handle, detail);
    defer pool.leave(stay);
    pool.spans_lock.lock();
    defer pool.spans_lock.unlock();
    const block = try pool.spans.look(pointer, detail);
    if (block.isLarge()) pool.spans.shrinkLarge(block.granule, size);
}

pub fn sizeOf(pool: *Pool, handle: u64, pointer: *const anyopaque, detail: *Detail) Error!usize {
    const stay = try pool.enter(handle, detail);
    defer pool.leave(stay);
    return pool.spans.room(try pool.spans.look(pointer, detail));
}

/// By what the pools of a handle stay as they are for who looks into them: a cache that he is
/// inside of, or, of closed pools too, a tenancy.
const Stay = union(enum) { cache: *Cache, tenant };

/// Without it the last block may be freed, and the pools be gone or another manager's.
fn enter(pool: *Pool, handle: u64, detail: *Detail) Error!Stay {
    if (pool.phase.load(.acquire) == .open) {
        if (pool.cacheOfThread(handle)) |cache| {
            if (cache.enterAny(handle)) return .{ .cache = cache };
        }
    }
    if (!pool.shared.moveIn()) return gone(detail);
    errdefer pool.shared.moveOut(1);
    if (pool.handle.load(.acquire) != handle) return gone(detail);
    if (pool.phase.load(.acquire) == .idle) {
        return detail.fail(error.PoolCorruption, "it is not a block of this manager's pools");
    }
    return .tenant;
}

fn leave(pool: *Pool, stay: Stay) void {
    switch (stay) {
        .cache => |cache| cache.leave(),
        .tenant => pool.shared.moveOut(1),
    }
}

/// Of a block whose manager has gone with its last.
pub fn gone(detail: *Detail) Error {
    return detail.fail(
        error.PoolCorruption,
        "the manager was closed, and its last block was freed before",
    );
}

// Freeing ---------------------------------------------------------------------------------------

/// True if the calling thread took the block back.
pub inline fn tryFree(handle: u64, block: ?*anyopaque) bool {
    const cache = Cache.last() orelse return false;
    if (!cache.enter(handle)) return false;
    defer cache.leave();
    return cache.push(@intFromPtr(block));
}

/// The same after that failed: there may be room in the thread's other magazine.
pub fn tryFreeOther(handle: u64, block: *anyopaque) bool {
    const cache = Cache.last() orelse return false;
    if (!cache.enter(handle)) return false;
    defer cache.leave();
    return cache.pushOther(@intFromPtr(block));
}

/// Takes back what the calling thread has room for at hand, up to the first it has not; returns
/// how many.
pub fn tryFreeMany(handle: u64, blocks: []const ?*anyopaque) usize {
    const cache = Cache.last() orelse return 0;
    if (!cache.enter(handle)) return 0;
    defer cache.leave();
    for (blocks, 0..) |block, index| if (!cache.push(@intFromPtr(block))) return index;
    return blocks.len;
}

/// Of several threads that free one block at the same moment without an atomic operation, each may
/// be told that it did: see `Cache`. Everybody else learns that it was freed before.
pub fn free(pool: *Pool, handle: u64, pointer: *anyopaque, detail: *Detail) Error!void {
    const stay = try pool.enter(handle, detail);
    defer pool.leave(stay);
    const block = try pool.spans.look(pointer, detail);
    if (block.isLarge()) return pool.freeLarge(block, detail);
    switch (stay) {
        .cache => |cache| if (try pool.freeInto(cache, block, detail)) return,
        .tenant => {},
    }
    return pool.freeSingle(block, detail);
}

/// False if it has not got a magazine: the depot does without.
fn freeInto(pool: *Pool, cache: *Cache, block: Spans.Block, detail: *Detail) Error!bool {
    for (0..2) |_| switch (cache.put(&pool.spans, block)) {
        .done => return true,
        .not_live => return Spans.freed(detail),
        .full, .not_attached => cache.drain(&pool.depots[block.class], detail) catch {
            detail.forget();
            return false;
        },
    };
    return false;
}

fn freeSingle(pool: *Pool, block: Spans.Block, detail: *Detail) Error!void {
    const left = left: {
        const depot = &pool.depots[block.class];
        depot.lock.lock();
        defer depot.lock.unlock();
        const live = Spans.live(block.class);
        if (pool.options.poison) {
            // Before anybody else can have it; nobody frees it meanwhile but under this lock.
            if (pool.spans.states[block.granule].load(.acquire) != live) return Spans.freed(detail);
            @memset(pool.spans.address(block.granule)[0..pool.spans.room(block)], poison_free);
        }
        if (!pool.spans.claim(block.granule, live, Spans.free_block)) return Spans.freed(detail);
        depot.put(block.granule);
        break :left pool.phase.load(.monotonic) == .closed;
    };
    if (left) pool.leaveOne();
}

fn freeLarge(pool: *Pool, block: Spans.Block, detail: *Detail) Error!void {
    const left = left: {
        pool.spans_lock.lock();
        defer pool.spans_lock.unlock();
        const state = pool.spans.states[block.granule].load(.acquire);
        if (state != Spans.live(block.class)) return Spans.freed(detail);
        if (pool.options.poison) {
            @memset(pool.spans.address(block.granule)[0..pool.spans.room(block)], poison_free);
        }
        pool.spans.freeLarge(block, pool.options.guard_pages);
        const left = pool.phase.load(.monotonic) == .closed;
        // Nobody asks for it any more.
        if (left) _ = pool.spans.giveKept();
        break :left left;
    };
    if (left) pool.leaveOne();
}

/// A block of a closed manager was freed. Nothing is touched after the last.
fn leaveOne(pool: *Pool) void {
    if (pool.remaining.fetchSub(1, .acq_rel) == 1) pool.shared.moveOut(1);
}

// Threads ---------------------------------------------------------------------------------------

/// The calling thread's cache, made its last one; null if it has none, or is not to use it.
fn cacheOfThread(pool: *Pool, handle: u64) ?*Cache {
    const index = threads.register();
    if (index == threads.crowd or pool.debugging() or Log.isOn(.debug)) return null;
    const cache = pool.caches[index].load(.acquire) orelse cache: {
        var ignored: i64 = 0;
        const memory = os.permanent(@sizeOf(Cache), &ignored) catch return null;
        const cache: *Cache = @ptrCast(@alignCast(memory));
        pool.caches[index].store(cache, .release);
        break :cache cache;
    };
    if (cache.hot.handle.load(.monotonic) != handle) {
        pool.revoking.lock();
        defer pool.revoking.unlock();
        if (pool.phase.load(.monotonic) != .open) return null;
        if (pool.handle.load(.monotonic) != handle) return null;
        // Whoever switched it on since calls all caches in next.
        if (Log.isOn(.debug)) return null;
        cache.give(handle, &pool.spans, pool.options.asymmetric, index);
    }
    cache.setLast();
    return cache;
}

/// The thread of an index ends: what it has at hand goes to the depots.
pub fn leaveThread(pool: *Pool, index: u32) void {
    const cache = pool.caches[index].load(.acquire) orelse return;
    // If it is not to be used, whoever says so empties it.
    const handle = cache.holder() orelse return;
    if (!cache.enterAny(handle)) return;
    defer cache.leave();
    cache.empty(&pool.depots, .unlocked);
}

// Calling in ------------------------------------------------------------------------------------

/// Takes the blocks of all threads into the depots and all locks but `spans_lock`.
fn revoke(pool: *Pool, handle: u64, detail: *Detail) Error!void {
    pool.revoking.lock();
    if (pool.phase.load(.monotonic) != .open or pool.handle.load(.monotonic) != handle) {
        pool.revoking.unlock();
        return closed(detail);
    }
    pool.callIn(&detail.code) catch {
        pool.revoking.unlock();
        return detail.refused(0, "the system refuses the barrier between threads, without which " ++
            "the blocks that other threads have at hand cannot be called in");
    };
}

/// Under `revoking`. Should the system refuse the barrier, no cache was touched, and owners are
/// given theirs again when they next need them.
fn callIn(pool: *Pool, code: *i64) os.Error!void {
    const caches = pool.caches[0..threads.limit()];
    for (caches) |*entry| {
        const cache = entry.load(.acquire) orelse continue;
        cache.takeAway();
    }
    if (pool.options.asymmetric) try threads.barrier(code);
    for (caches) |*entry| {
        const cache = entry.load(.acquire) orelse continue;
        while (cache.hot.busy.load(.seq_cst) != 0) os.futexWait(&cache.hot.busy, 1, glance_ns);
    }
    for (&pool.depots) |*depot| depot.lock.lock();
    for (caches) |*entry| {
        const cache = entry.load(.acquire) orelse continue;
        cache.empty(&pool.depots, .locked);
    }
}

/// Caches come back to their threads when these next need them.
fn endRevoke(pool: *Pool) void {
    for (&pool.depots) |*depot| depot.lock.unlock();
    pool.revoking.unlock();
}

/// Nobody is in the middle of anything until the end: all locks are held, and the blocks of all
/// threads are in the depots.
///
/// Unless the system refuses the barrier: then owners may be in the middle of their caches, which
/// the child does not look at. What it finds in them is lost to it.
///
/// Pools that nobody has asked for a block have nothing to be held still, and those of a closed
/// manager no caches.
pub fn beginFork(pool: *Pool) void {
    pool.revoking.lock();
    pool.forking_apart = false;
    // Under `revoking` it stays what it is.
    pool.forking_phase = pool.phase.load(.monotonic);
    switch (pool.forking_phase) {
        .idle => return,
        .open => {
            var ignored: i64 = 0;
            pool.callIn(&ignored) catch {
                pool.forking_apart = true;
                for (&pool.depots) |*depot| depot.lock.lock();
            };
        },
        .closed => for (&pool.depots) |*depot| depot.lock.lock(),
    }
    pool.spans_lock.lock();
}

pub fn endFork(pool: *Pool, stage: os.ForkStage) void {
    if (stage == .in_child) pool.becomeChild();
    if (pool.forking_phase == .idle) return pool.revoking.unlock();
    pool.spans_lock.unlock();
    pool.endRevoke();
}

fn becomeChild(pool: *Pool) void {
    if (pool.forking_phase == .idle) pool.locks_left = true;
    for (pool.caches[0..threads.limit()]) |*entry| {
        // Who is gone may just have looked whether it may go in, but could not.
        const cache = entry.load(.acquire) orelse continue;
        cache.hot.busy.store(0, .monotonic);
        if (pool.forking_apart) cache.forget();
    }
}

/// Between `revoke` and its end: gives back every slab without a live block; returns the bytes.
fn giveBackFree(pool: *Pool) u64 {
    pool.spans_lock.lock();
    defer pool.spans_lock.unlock();
    const spans = &pool.spans;
    for (&pool.depots) |*depot| depot.countFree();
    var slabs: SlabIterator = .{ .spans = spans };
    while (slabs.next()) |span| span.free = if (span.free == span.carved) Depot.doomed else 0;
    for (&pool.depots) |*depot| depot.keepCounted();
    slabs = .{ .spans = spans };
    while (slabs.next()) |span| {
        if (span.free == Depot.doomed) pool.depots[span.class].dropSlab(span.first);
    }
    for (&pool.depots) |*depot| depot.giveBackEmpty();
    const bytes = spans.giveKept();
    if (spans.charged.load(.monotonic) == 0) spans.reset();
    return bytes;
}

/// The slabs, by their first spans.
const SlabIterator = struct {
    spans: *Spans,
    index: u32 = 0,

    fn next(slabs: *SlabIterator) ?*Spans.Span {
        const spans = slabs.spans;
        while (slabs.index < spans.high_water) {
            const index = slabs.index;
            if (spans.isFree(index)) {
                slabs.index += 1;
                continue;
            }
            const span = &spans.spans[index];
            slabs.index += @max(span.length, 1);
            if (span.class != size_classes.large) return span;
        }
        return null;
    }
};

/// Gives every slab without a live block back to the system; returns the bytes.
pub fn trim(pool: *Pool, handle: u64, detail: *Detail) Error!u64 {
    if (pool.phase.load(.acquire) == .idle) return 0;
    try pool.revoke(handle, detail);
    defer pool.endRevoke();
    return pool.giveBackFree();
}

/// Has every thread ask again before it uses what it has at hand: for a log that was switched on,
/// which fast paths do not look at.
pub fn recall(pool: *Pool) void {
    if (pool.phase.load(.acquire) != .open) return;
    var ignored: Detail = .{};
    pool.revoke(pool.handle.load(.monotonic), &ignored) catch return;
    pool.endRevoke();
}

/// For a charge that the budget has no room for.
pub fn relieve(pool: *Pool) void {
    if (pool.phase.load(.acquire) != .open or pool.spans.charged.load(.monotonic) == 0) return;
    var ignored: Detail = .{};
    _ = pool.trim(pool.handle.load(.monotonic), &ignored) catch {};
}

/// From now on blocks can only be freed. The pools are a tenant while any is live.
pub fn close(pool: *Pool) void {
    const handle = pool.handle.load(.monotonic);
    pool.revoking.lock();
    if (pool.phase.load(.monotonic) == .idle) pool.handle.store(0, .release);
    pool.revoking.unlock();
    var ignored: Detail = .{};
    const has_all = if (pool.revoke(handle, &ignored)) true else |err| switch (err) {
        error.AllocationRefused => false,
        else => return,
    };
    if (!has_all) {
        pool.revoking.lock();
        for (&pool.depots) |*depot| depot.lock.lock();
    }
    defer pool.endRevoke();
    if (has_all) _ = pool.giveBackFree();
    pool.spans_lock.lock();
    defer pool.spans_lock.unlock();
    var live = pool.spans.large_blocks.load(.monotonic);
    for (&pool.depots) |*depot| live += depot.carved - depot.freeBlocks();
    // Whoever may be in the middle of his cache keeps the memory for good.
    live += @intFromBool(!has_all);
    pool.remaining.store(live, .release);
    if (live > 0) _ = pool.shared.moveIn();
    pool.phase.store(.closed, .release);
}

/// The last block is gone, and the manager with it.
pub fn deinit(pool: *Pool) void {
    pool.revoking.lock();
    defer pool.revoking.unlock();
    pool.handle.store(0, .release);
    if (pool.phase.load(.monotonic) == .idle) return;
    pool.phase.store(.idle, .release);
    for (&pool.caches) |*entry| if (entry.load(.acquire)) |cache| cache.clearHits();
    pool.spans.deinit();
}

// Describing ------------------------------------------------------------------------------------

pub const Class = struct {
    block_size: u64,
    slab_size: u64,
    slabs: u64 = 0,
    blocks: u64 = 0,
    free_blocks: u64 = 0,
    hits: u64 = 0,
    misses: u64 = 0,
};

pub fn describeClass(pool: *Pool, index: u32) Class {
    var class: Class = .{
        .block_size = size_classes.sizeOf(index),
        .slab_size = Depot.slabLength(index) * Spans.spanSize(),
    };
    if (pool.phase.load(.acquire) == .idle) return class;
    const depot = &pool.depots[index];
    depot.lock.lock();
    defer depot.lock.unlock();
    var idle = depot.freeBlocks();
    var met: u64 = 0;
    for (pool.caches[0..threads.limit()]) |*entry| {
        const cache = entry.load(.acquire) orelse continue;
        idle += cache.blocks(depot);
        met += cache.hits(index);
    }
    class.slabs = depot.slabs;
    class.blocks = depot.carved -| idle;
    class.free_blocks = depot.capacity - class.blocks;
    class.misses = depot.refills + depot.singles;
    class.hits = met -| depot.refills;
    return class;
}

pub const Stats = struct {
    allocated: u64 = 0,
    peak: u64 = 0,
    blocks: u64 = 0,
    bytes: u64 = 0,
    large_blocks: u64 = 0,
    large_bytes: u64 = 0,
    free_bytes: u64 = 0,
    refusals: u64 = 0,
    double_frees: u64 = 0,
};

pub fn stats(pool: *Pool) Stats {
    if (pool.phase.load(.acquire) == .idle) {
        return .{ .refusals = pool.refusals.load(.monotonic) };
    }
    var total: Stats = .{
        .allocated = pool.spans.charged.load(.monotonic),
        .peak = pool.spans.peak.load(.monotonic),
        .large_blocks = pool.spans.large_blocks.load(.monotonic),
        .large_bytes = pool.spans.large_bytes.load(.monotonic),
        .refusals = pool.refusals.load(.monotonic),
        .double_frees = pool.spans.doubles.load(.monotonic),
    };
    {
        pool.spans_lock.lock();
        defer pool.spans_lock.unlock();
        total.free_bytes = pool.spans.kept_count * Spans.spanSize();
    }
    for (0..class_count) |index| {
        const class = pool.describeClass(@intCast(index));
        total.blocks += class.blocks;
        total.bytes += class.blocks * class.block_size;
    }
    total.blocks += total.large_blocks;
    total.bytes += total.large_bytes;
    return total;
}

test {
    _ = Cache;
    _ = Depot;
    _ = Spans;
    _ = size_classes;
}
