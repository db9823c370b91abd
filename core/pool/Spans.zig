//! The address range of a manager's pools, cut into spans, and what each is used for.
//!
//! A span is reserved (addresses only), kept (free, but charged and readable), or used: by a slab
//! or by one large block. A span that is not reserved is charged to the limit of the pools and to
//! the budget, before the system is asked for it. The range is twice what the limit allows, so that
//! a run of spans is found although others are scattered.
//!
//! Behind the spans stand their tables. `states` has a byte for every 16 bytes: whether a live block
//! starts there, and of which class, a free one, or none. So no pointer is taken for a block that is
//! not one. `live_states` has a byte for every 8 KiB: what `states` says of the live blocks there.
//!
//! Everything is looked at and changed under `Pool.spans_lock`, but for these two, which who frees
//! a block reads, and the figures.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");
const Budget = @import("../base.zig").Budget;
const Detail = @import("../base.zig").Detail;
const Magazines = @import("Magazines.zig");
const size_classes = @import("size_classes.zig");

const Spans = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;

pub const granule_size = size_classes.alignment_min;
/// Granules are numbered with 32 bits, and so is the one behind the last.
const granules_max: u64 = std.math.maxInt(u32);
/// Half of what the numbers reach: the range is twice the limit.
pub const limit_max: u64 = 32 << 30;
/// The range is a multiple of it.
const large_page_size = 2 << 20;

/// What starts at a granule: no block, a live one of class `state - 1`, or a free one. A free block's
/// state says where it can be handed out from, which is one place only, whatever magazines it is
/// in: `free_block` is the depot, under its lock, and above the live states each thread's cache has
/// a state of its own (`Cache.code`). Counted are those of the depot while doubles are looked for.
pub const State = u8;
pub const none: State = 0;
pub const owned_first: State = live(size_classes.large) + 1;
/// Of caches that have no state of their own, which move it by compare-and-swap.
pub const owned_together: State = 253;
pub const counted: State = 254;
pub const free_block: State = 255;

inline fn isLive(state: State) bool {
    return state != none and state < owned_first;
}

pub inline fn live(class: u32) State {
    return @intCast(class + 1);
}

/// A state as who has the block finds it, with nothing to be ordered by it. Only where two threads
/// free one block at once does it change meanwhile, to what is found then or next time. An atomic
/// load would keep the compiler from comparing with memory, which is a tenth of a request here.
pub inline fn peek(state: *const Atomic(State)) State {
    return if (builtin.sanitize_thread) state.load(.monotonic) else state.raw;
}

/// An eighth of the largest class, so that a large block, too, is at most an eighth larger than
/// what was asked for; or the page, where that is more.
pub fn spanSize() usize {
    return @max(unit_size, os.pageSize());
}

/// A span is a power of two of these.
const unit_size = size_classes.size_max / 8;
pub const granules_per_unit = unit_size / granule_size;

pub fn granulesPerSpan() u32 {
    return @intCast(spanSize() / granule_size);
}

/// Of the first span of a slab, of a large block, or of a guard; of the others only `first`,
/// `marked` and `dirty`.
pub const Span = extern struct {
    first: u32,
    /// In spans.
    length: u32,
    /// Blocks of a slab that were handed out at least once, or are in a magazine.
    carved: u32,
    /// Of these, found free while free slabs are looked for.
    free: u32,
    class: u32,
    /// Some of its states are not `none`.
    marked: bool,
    /// It was used since the system gave it: there may be more than zeros in it.
    dirty: bool,
};

arena: []u8,
count: u32,
limit: u64,
budget: *Budget,
states: [*]Atomic(State),
live_states: [*]Atomic(State),
spans: [*]Span,
/// Bits of spans that are not used; and of these, of those that are kept.
free: []u64,
kept: []u64,
kept_count: u32,
/// No span at or beyond it was ever used.
high_water: u32,
magazines: Magazines,
charged: Atomic(u64),
peak: Atomic(u64),
/// Bytes to be logged as taken and as given back, once no lock is held.
grown: Atomic(u64),
given: Atomic(u64),
/// Blocks found in two magazines; and how many of them were logged.
doubles: Atomic(u64),
doubles_logged: Atomic(u64),
large_blocks: Atomic(u64),
large_bytes: Atomic(u64),

/// Where the parts of the arena begin.
const Layout = struct {
    count: u32,
    states: usize,
    live_states: usize,
    spans: usize,
    free: usize,
    kept: usize,
    magazines: usize,
    end: usize,

    fn of(limit: u64) Layout {
        const bytes = std.mem.alignForward(u64, 2 *| @min(limit, 1 << 60), large_page_size);
        const count_max = granules_max / granulesPerSpan();
        const count: u32 = @intCast(std.math.clamp(bytes / spanSize(), 2, count_max));
        const blocks = @as(usize, count) * spanSize();
        const words = std.mem.alignForward(usize, count, 64) / 8;
        var layout: Layout = undefined;
        layout.count = count;
        layout.states = blocks;
        layout.live_states = layout.states + blocks / granule_size;
        layout.spans = layout.live_states + blocks / unit_size;
        layout.spans = std.mem.alignForward(usize, layout.spans, @alignOf(Span));
        layout.free = layout.spans + @as(usize, count) * @sizeOf(Span);
        layout.free = std.mem.alignForward(usize, layout.free, @alignOf(u64));
        layout.kept = layout.free + words;
        layout.magazines = std.mem.alignForward(usize, layout.kept + words, os.arena_unit);
        // A quarter for the smallest blocks, and what threads have at hand.
        layout.end = layout.magazines + blocks / 4 + blocks / 16 + (64 << 20);
        return layout;
    }
};

/// Bytes of addresses for blocks.
pub fn rangeOf(limit: u64) usize {
    return Layout.of(limit).states;
}

/// Bytes of address space for a limit.
pub fn addressesOf(limit: u64) u64 {
    return Layout.of(limit).end + os.arena_unit;
}

pub fn init(limit: u64, budget: *Budget, detail: *Detail) Error!Spans {
    const layout: Layout = .of(limit);
    const base = os.reserveArena(layout.end, &detail.code) catch {
        return detail.refused(layout.end, "cannot reserve address space for the pools");
    };
    errdefer os.unreserveArena(base, layout.end);
    // Used only where it is touched.
    const tables = layout.magazines - layout.states;
    os.take(base + layout.states, tables, &detail.code) catch {
        return detail.refused(tables, "cannot allocate memory for the pools' own tables");
    };
    const words = std.mem.alignForward(usize, layout.count, 64) / 64;
    const free: [*]u64 = @ptrCast(@alignCast(base + layout.free));
    const kept: [*]u64 = @ptrCast(@alignCast(base + layout.kept));
    const spans: Spans = .{
        .arena = base[0..layout.end],
        .count = layout.count,
        .limit = limit,
        .budget = budget,
        .states = @ptrCast(base + layout.states),
        .live_states = @ptrCast(base + layout.live_states),
        .spans = @ptrCast(@alignCast(base + layout.spans)),
        .free = free[0..words],
        .kept = kept[0..words],
        .kept_count = 0,
        .high_water = 0,
        .magazines = .init(base + layout.magazines, layout.end - layout.magazines),
        .charged = .init(0),
        .peak = .init(0),
        .grown = .init(0),
        .given = .init(0),
        .doubles = .init(0),
        .doubles_logged = .init(0),
        .large_blocks = .init(0),
        .large_bytes = .init(0),
    };
    setBits(spans.free, 0, layout.count, true);
    return spans;
}

pub fn deinit(spans: *Spans) void {
    const charged = spans.charged.swap(0, .monotonic);
    os.unreserveArena(spans.arena.ptr, spans.arena.len);
    spans.budget.uncharge(charged);
}

// Blocks ----------------------------------------------------------------------------------------

pub inline fn address(spans: *const Spans, granule: u32) [*]u8 {
    return spans.arena.ptr + @as(usize, granule) * granule_size;
}

/// The number of the granule that a pointer points to; null if it points to none.
pub inline fn granuleAt(base: [*]u8, count: usize, pointer: usize) ?u32 {
    // What is not a multiple of 16 becomes too large.
    const granule = std.math.rotr(usize, pointer -% @intFromPtr(base), 4);
    return if (granule < count) @intCast(granule) else null;
}

pub fn granules(spans: *const Spans) usize {
    return @as(usize, spans.count) * granulesPerSpan();
}

/// A block that was live when it was looked at. It may be another thread's by now, which frees it
/// too: whoever changes its state compares that with `live(class)` when he does.
pub const Block = struct {
    granule: u32,
    class: u32,

    pub fn isLarge(block: Block) bool {
        return block.class == size_classes.large;
    }
};

/// Granule and class of a live block, by one load of its state.
pub fn look(spans: *const Spans, pointer: *const anyopaque, detail: *Detail) Error!Block {
    const granule = granuleAt(spans.arena.ptr, spans.granules(), @intFromPtr(pointer)) orelse
        return detail.fail(error.PoolCorruption, "it is not a block of this manager's pools");
    const state = spans.states[granule].load(.acquire);
    if (isLive(state)) return .{ .granule = granule, .class = state - 1 };
    if (state == none) {
        return detail.fail(error.PoolCorruption, "the pointer is not to the start of a block");
    }
    return freed(detail);
}

/// One block was found in a second magazine, and is forgotten there.
pub fn countDouble(spans: *Spans) void {
    _ = spans.doubles.fetchAdd(1, .monotonic);
}

pub fn freed(detail: *Detail) Error {
    return detail.fail(error.PoolCorruption, "the block was freed before");
}

/// Moves a block's state if it is what is expected; false if it is not, or not any more. Of two
/// callers that expect the same, one succeeds.
pub fn claim(spans: *const Spans, granule: u32, expected: State, next: State) bool {
    const state = &spans.states[granule];
    return state.cmpxchgStrong(expected, next, .acq_rel, .monotonic) == null;
}

/// Bytes of room of a block. Of a large one, under the lock, or for who has the block.
pub fn room(spans: *const Spans, block: Block) usize {
    if (!block.isLarge()) return size_classes.sizeOf(block.class);
    const span = &spans.spans[block.granule / granulesPerSpan()];
    const length = @atomicLoad(u32, &span.length, .monotonic);
    const offset = block.granule % granulesPerSpan() * @as(usize, granule_size);
    return length * spanSize() -| offset;
}

// Spans -----------------------------------------------------------------------------------------

/// Takes a run of spans for a slab or a large block, and `guard` more behind it that stay without
/// access. What is kept goes first.
pub fn take(spans: *Spans, class: u32, length: u32, guard: u32, detail: *Detail) Error!u32 {
    const first = first: {
        if (guard == 0 and spans.kept_count >= length) {
            if (spans.findRun(spans.kept, length)) |first| break :first first;
        }
        break :first try spans.takeReserved(length, guard, detail);
    };
    setBits(spans.free, first, length + guard, false);
    setBits(spans.kept, first, length, false);
    spans.kept_count -= length;
    spans.high_water = @max(spans.high_water, first + length + guard);
    for (spans.spans[first..][0..length], first..) |*span, index| {
        if (span.marked) {
            const states = spans.states[index * granulesPerSpan() ..][0..granulesPerSpan()];
            @memset(std.mem.sliceAsBytes(states), 0);
        }
        const units = spanSize() / unit_size;
        for (spans.live_states[index * units ..][0..units]) |*state| {
            state.store(live(class), .monotonic);
        }
        span.first = first;
        span.marked = class != size_classes.large;
    }
    const head = &spans.spans[first];
    head.length = length;
    head.carved = 0;
    head.free = 0;
    head.class = class;
    head.marked = true;
    if (guard > 0) {
        spans.spans[first + length].class = size_classes.large;
        spans.spans[first + length].length = guard;
    }
    return first;
}

fn takeReserved(spans: *Spans, length: u32, guard: u32, detail: *Detail) Error!u32 {
    const charged = spans.charged.load(.monotonic);
    const all = length * spanSize();
    // Kept spans within the run are paid for; but if all of them were not enough, nothing is.
    if (all -| spans.kept_count * spanSize() > spans.limit -| charged) {
        return spans.refuse(all, detail);
    }
    const first = spans.findFree(length, guard) orelse {
        return detail.refused(all, "the pools have no run of addresses that is long enough");
    };
    const kept = countBits(spans.kept, first, length);
    const bytes = (length - kept) * spanSize();
    // Less than before, if a guard was given back.
    const held = spans.charged.load(.monotonic);
    if (bytes > spans.limit -| held) return spans.refuse(bytes, detail);
    try spans.budget.tryCharge(bytes, detail);
    os.take(spans.arena.ptr + first * spanSize(), all, &detail.code) catch {
        spans.budget.uncharge(bytes);
        return detail.refused(bytes, "the system refuses memory for a slab");
    };
    spans.charged.store(held + bytes, .monotonic);
    _ = spans.peak.fetchMax(held + bytes, .monotonic);
    _ = spans.grown.fetchAdd(bytes, .monotonic);
    // All of the run is kept, until `take` uses it.
    setBits(spans.kept, first, length, true);
    spans.kept_count += length - kept;
    return first;
}

/// A run for a slab or a block, and behind it spans that nobody has access to: kept ones are given
/// back for that, and if the system will not take them, another run is looked for.
fn findFree(spans: *Spans, length: u32, guard: u32) ?u32 {
    if (guard == 0) return spans.findRun(spans.free, length);
    var start: u32 = 0;
    while (spans.nextRun(spans.free, start)) |run| {
        start = run.first + run.length;
        if (run.length < length + guard) continue;
        for (run.first..start - length - guard + 1) |index| {
            const first: u32 = @intCast(index);
            if (spans.withoutAccess(first + length, guard)) return first;
        }
    }
    return null;
}

fn withoutAccess(spans: *Spans, first: u32, length: u32) bool {
    for (first..first + length) |index| {
        if (countBits(spans.kept, @intCast(index), 1) == 0) continue;
        if (spans.giveRun(@intCast(index), 1) == 0) return false;
    }
    return true;
}

pub fn refuse(spans: *Spans, bytes: u64, detail: *Detail) Error {
    detail.requested = bytes;
    detail.used = spans.charged.load(.monotonic);
    detail.limit = spans.limit;
    return detail.fail(error.LimitExceeded, "the limit of the pools is reached");
}

/// A run is free from now on, and kept.
pub fn release(spans: *Spans, first: u32, length: u32) void {
    setBits(spans.free, first, length, true);
    setBits(spans.kept, first, length, true);
    spans.kept_count += length;
    for (spans.spans[first..][0..length]) |*span| span.dirty = true;
}

/// Gives every kept span back to the system, and its charge; returns the bytes.
pub fn giveKept(spans: *Spans) u64 {
    var given: u64 = 0;
    var start: u32 = 0;
    while (spans.kept_count > 0) {
        const run = spans.nextRun(spans.kept, start) orelse break;
        start = run.first + run.length;
        given += spans.giveRun(run.first, run.length);
    }
    return given;
}

fn giveRun(spans: *Spans, first: u32, length: u32) u64 {
    const bytes = length * spanSize();
    var ignored: i64 = 0;
    // What the system will not take back stays kept.
    os.give(spans.arena.ptr + first * spanSize(), bytes, &ignored) catch return 0;
    for (spans.spans[first..][0..length]) |*span| span.dirty = false;
    setBits(spans.kept, first, length, false);
    spans.kept_count -= length;
    _ = spans.charged.fetchSub(bytes, .monotonic);
    spans.budget.uncharge(bytes);
    _ = spans.given.fetchAdd(bytes, .monotonic);
    return bytes;
}

/// Once nothing is charged and nobody holds a magazine: gives the tables' memory back, too.
pub fn reset(spans: *Spans) void {
    spans.magazines.reset();
    const states_count = @as(usize, spans.high_water) * granulesPerSpan();
    const used = std.mem.alignForward(usize, states_count, os.pageSize());
    if (used == 0) return;
    var ignored: i64 = 0;
    const states: [*]u8 = @ptrCast(spans.states);
    os.renew(states, used, &ignored) catch return;
    @memset(spans.spans[0..spans.high_water], std.mem.zeroes(Span));
    spans.high_water = 0;
}

// Large blocks ----------------------------------------------------------------------------------

/// A block of a run of its own. With a guard it ends where the guard begins.
pub fn allocLarge(
    spans: *Spans,
    size: usize,
    alignment: usize,
    guard: bool,
    detail: *Detail,
) Error!u32 {
    const length = lengthOf(size);
    const first = try spans.take(size_classes.large, length, @intFromBool(guard), detail);
    const all = length * spanSize();
    const offset = if (guard) std.mem.alignBackward(usize, all - size, alignment) else 0;
    const granule: u32 = @intCast((first * spanSize() + offset) / granule_size);
    _ = spans.large_blocks.fetchAdd(1, .monotonic);
    _ = spans.large_bytes.fetchAdd(all - offset, .monotonic);
    spans.states[granule].store(live(size_classes.large), .release);
    return granule;
}

fn lengthOf(size: usize) u32 {
    const length = (size +| (spanSize() - 1)) / spanSize();
    return std.math.cast(u32, length) orelse std.math.maxInt(u32) / 2;
}

/// Keeps what the first `size` bytes of a block need. Not of one with a guard.
pub fn shrinkLarge(spans: *Spans, granule: u32, size: usize) void {
    const first = granule / granulesPerSpan();
    const head = &spans.spans[first];
    const length = lengthOf(size);
    // Another thread has made it smaller still.
    if (length >= head.length) return;
    const cut = head.length - length;
    @atomicStore(u32, &head.length, length, .monotonic);
    _ = spans.large_bytes.fetchSub(cut * spanSize(), .monotonic);
    spans.release(first + length, cut);
}

/// Makes the first `size` bytes of a block zeros, where they may not be. For who has the block.
pub fn clearLarge(spans: *const Spans, granule: u32, size: usize) void {
    const first = granule / granulesPerSpan();
    var bytes = spans.address(granule)[0..size];
    // With a guard the block begins within its first span.
    var part = spanSize() - granule % granulesPerSpan() * @as(usize, granule_size);
    for (spans.spans[first..][0..spans.spans[first].length]) |*span| {
        part = @min(part, bytes.len);
        if (span.dirty) @memset(bytes[0..part], 0);
        bytes = bytes[part..];
        part = spanSize();
    }
}

pub fn freeLarge(spans: *Spans, block: Block, guard: bool) void {
    const first = block.granule / granulesPerSpan();
    _ = spans.large_blocks.fetchSub(1, .monotonic);
    _ = spans.large_bytes.fetchSub(spans.room(block), .monotonic);
    spans.states[block.granule].store(free_block, .release);
    const length = spans.spans[first].length;
    spans.release(first, length);
    if (!guard) return;
    setBits(spans.free, first + length, 1, true);
    // So that a use after the free is a fault, too.
    _ = spans.giveRun(first, length);
}

// Bits ------------------------------------------------------------------------------------------

pub fn isFree(spans: *const Spans, index: u32) bool {
    return spans.free[index / 64] >> @intCast(index % 64) & 1 != 0;
}

const Run = struct { first: u32, length: u32 };

/// The first run of set bits at or after `start`, as far as it goes.
fn nextRun(spans: *const Spans, bits: []const u64, start: u32) ?Run {
    var index = start;
    while (index < spans.count) {
        const word = bits[index / 64] >> @intCast(index % 64);
        if (word == 0) {
            index = (index / 64 + 1) * 64;
            continue;
        }
        index += @ctz(word);
        var end = index;
        while (end < spans.count) {
            const shift: u6 = @intCast(end % 64);
            const ones: u32 = @ctz(~(bits[end / 64] >> shift));
            end += ones;
            if (ones < 64 - @as(u32, shift)) break;
        }
        end = @min(end, spans.count);
        return .{ .first = index, .length = end - index };
    }
    return null;
}

fn findRun(spans: *const Spans, bits: []const u64, length: u32) ?u32 {
    var start: u32 = 0;
    while (spans.nextRun(bits, start)) |run| {
        if (run.length >= length) return run.first;
        start = run.first + run.length;
    }
    return null;
}

/// The words that a run of bits is in, and which bits of each.
const Words = struct {
    index: u32,
    end: u32,

    fn of(first: u32, length: u32) Words {
        return .{ .index = first, .end = first + length };
    }

    fn next(words: *Words) ?struct { index: u32, mask: u64 } {
        if (words.index == words.end) return null;
        const shift: u6 = @intCast(words.index % 64);
        const count = @min(64 - @as(u32, shift), words.end - words.index);
        defer words.index += count;
        const ones = @as(u64, std.math.maxInt(u64)) >> @intCast(64 - count);
        return .{ .index = words.index / 64, .mask = ones << shift };
    }
};

fn setBits(bits: []u64, first: u32, length: u32, value: bool) void {
    var words: Words = .of(first, length);
    while (words.next()) |word| {
        if (value) bits[word.index] |= word.mask else bits[word.index] &= ~word.mask;
    }
}

fn countBits(bits: []const u64, first: u32, length: u32) u32 {
    var count: u32 = 0;
    var words: Words = .of(first, length);
    while (words.next()) |word| count += @popCount(bits[word.index] & word.mask);
    return count;
}
