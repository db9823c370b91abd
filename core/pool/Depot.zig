//! The free blocks of one size class that no thread has at hand, and the slab that new ones are
//! carved from.
//!
//! Threads come with a whole magazine and leave with a whole magazine, so that the lock is taken
//! once for many blocks. All magazines in `full` are; one more, `partial`, takes blocks one by one.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Lock = @import("../base.zig").Lock;
const Magazines = @import("Magazines.zig");
const Spans = @import("Spans.zig");
const size_classes = @import("size_classes.zig");

const Depot = @This();
const Atomic = std.atomic.Value;
const Error = Detail.Error;
const Magazine = Magazines.Magazine;

/// A slab has room for so many blocks and is so large, unless the limit leaves no room for it.
const slab_blocks_min = 8;
const slab_size_min = 64 << 10;

lock: Lock,
/// Held while `spans` is used; taken after `lock`.
spans_lock: *Lock,
spans: *Spans,
class: u32,
rounds: u32,
/// Magazines that may be obtained, and that were: those here, and two of each cache.
share: u32,
obtained: u32,
full: ?*Magazine,
full_count: u32,
empty: ?*Magazine,
partial: ?*Magazine,
partial_count: u32,
/// Where in the newest slab the next block begins, and how many more there are.
bump_granule: u32,
bump_left: u32,
slabs: u32,
/// Of all slabs: blocks there is room for, and of them carved.
capacity: u64,
carved: u64,
/// Requests that were met with a magazine; and with a single block.
refills: u64,
singles: u64,

/// For zeroed memory, or for that of a depot whose manager is gone. A thread that is late may take
/// the lock, to find that it is.
pub fn init(depot: *Depot, class: u32, spans: *Spans, spans_lock: *Lock) void {
    depot.lock.lock();
    defer depot.lock.unlock();
    const fresh = std.mem.zeroInit(Depot, .{
        .lock = Lock{},
        .spans_lock = spans_lock,
        .spans = spans,
        .class = class,
        .rounds = size_classes.roundsOf(class),
    });
    inline for (@typeInfo(Depot).@"struct".field_names) |name| {
        if (comptime !std.mem.eql(u8, name, "lock")) @field(depot, name) = @field(fresh, name);
    }
}

/// Spans of a slab.
pub fn slabLength(class: u32) u32 {
    return spansFor(@max(slab_blocks_min * size_classes.sizeOf(class), slab_size_min));
}

fn spansFor(bytes: usize) u32 {
    return @intCast(std.math.divCeil(usize, bytes, Spans.spanSize()) catch unreachable);
}

/// Blocks here: found free, or carved and never handed out.
pub fn freeBlocks(depot: *const Depot) u64 {
    return @as(u64, depot.full_count) * depot.rounds + depot.partial_count;
}

// With magazines --------------------------------------------------------------------------------

/// There always is one: the share is enough for all blocks there are, and if there are fewer empty
/// ones than that, some blocks are here twice.
pub fn obtainEmpty(depot: *Depot) *Magazine {
    if (depot.empty == null and depot.obtained >= depot.share) depot.dropDoubles();
    if (depot.empty) |magazine| {
        depot.empty = magazine.next;
        return magazine;
    }
    depot.spans_lock.lock();
    defer depot.spans_lock.unlock();
    depot.obtained += 1;
    return depot.spans.magazines.obtain();
}

/// Two more can be obtained, for a cache. Under `spans_lock`, as what gives them back.
pub fn addCache(depot: *Depot, code: *i64) os.Error!void {
    try depot.spans.magazines.guarantee(2, code);
    depot.share += 2;
}

/// After those of a cache were taken over.
pub fn removeCache(depot: *Depot) void {
    depot.share -= 2;
    depot.giveBackEmpty();
    if (depot.obtained > depot.share) {
        depot.dropDoubles();
        depot.giveBackEmpty();
    }
    depot.spans.magazines.guaranteed -= 2;
}

fn putEmpty(depot: *Depot, magazine: *Magazine) void {
    magazine.next = depot.empty;
    depot.empty = magazine;
}

pub fn putFull(depot: *Depot, magazine: *Magazine) void {
    magazine.next = depot.full;
    depot.full = magazine;
    depot.full_count += 1;
}

fn takeFull(depot: *Depot) ?*Magazine {
    const magazine = depot.full orelse return null;
    depot.full = magazine.next;
    depot.full_count -= 1;
    return magazine;
}

pub const Loaded = struct { magazine: *Magazine, count: u32 };

/// Swaps an empty magazine for one with blocks.
pub fn refill(depot: *Depot, empty: *Magazine, detail: *Detail) Error!Loaded {
    if (depot.takeFull()) |magazine| {
        depot.putEmpty(empty);
        return .{ .magazine = magazine, .count = depot.rounds };
    }
    if (depot.partial_count > 0) {
        defer {
            depot.partial = empty;
            depot.partial_count = 0;
        }
        return .{ .magazine = depot.partial.?, .count = depot.partial_count };
    }
    if (depot.bump_left == 0) try depot.grow(detail);
    const count = @min(depot.rounds, depot.bump_left);
    // The last is popped first: addresses are to ascend.
    var index = count;
    while (index > 0) : (index -= 1) empty.blocks(depot.rounds)[index - 1] = depot.carve();
    return .{ .magazine = empty, .count = count };
}

/// Takes over a magazine with any number of blocks.
pub fn absorb(depot: *Depot, magazine: *Magazine, count: u32) void {
    if (count == depot.rounds) return depot.putFull(magazine);
    if (count > 0 and depot.partial == null) {
        depot.partial = magazine;
        depot.partial_count = count;
        return;
    }
    var blocks: [size_classes.rounds_max]u32 = undefined;
    @memcpy(blocks[0..count], magazine.blocks(depot.rounds)[0..count]);
    depot.putEmpty(magazine);
    for (blocks[0..count]) |granule| depot.put(granule);
}

// One by one ------------------------------------------------------------------------------------

pub fn put(depot: *Depot, granule: u32) void {
    const magazine = depot.partial orelse partial: {
        depot.partial = depot.obtainEmpty();
        break :partial depot.partial.?;
    };
    magazine.blocks(depot.rounds)[depot.partial_count] = granule;
    depot.partial_count += 1;
    if (depot.partial_count < depot.rounds) return;
    depot.putFull(magazine);
    depot.partial = null;
    depot.partial_count = 0;
}

pub fn take(depot: *Depot, detail: *Detail) Error!u32 {
    while (depot.takeNext()) |granule| {
        if (depot.spans.states[granule].load(.monotonic) == Spans.free_block) return granule;
        depot.spans.countDouble();
    }
    if (depot.bump_left == 0) try depot.grow(detail);
    return depot.carve();
}

fn takeNext(depot: *Depot) ?u32 {
    if (depot.partial_count == 0) {
        const magazine = depot.takeFull() orelse return null;
        if (depot.partial) |empty| depot.putEmpty(empty);
        depot.partial = magazine;
        depot.partial_count = depot.rounds;
    }
    depot.partial_count -= 1;
    return depot.partial.?.blocks(depot.rounds)[depot.partial_count];
}

// Slabs -----------------------------------------------------------------------------------------

fn carve(depot: *Depot) u32 {
    const granule = depot.bump_granule;
    depot.bump_granule += size_classes.sizeOf(depot.class) / Spans.granule_size;
    depot.bump_left -= 1;
    depot.carved += 1;
    // Under this depot's lock nobody else looks at it.
    depot.spans.spans[depot.bump_first()].carved += 1;
    depot.spans.states[granule].store(Spans.free_block, .monotonic);
    return granule;
}

/// The first span of the slab that is carved.
fn bump_first(depot: *const Depot) u32 {
    const last = depot.bump_granule - 1;
    return depot.spans.spans[last / Spans.granulesPerSpan()].first;
}

fn magazinesFor(depot: *const Depot, blocks: u32) u32 {
    return std.math.divCeil(u32, blocks, depot.rounds) catch unreachable;
}

fn blocksOf(class: u32, length: u32) u32 {
    return @intCast(length * Spans.spanSize() / size_classes.sizeOf(class));
}

/// Takes a slab: the usual one, or the smallest if the limit leaves room for that.
fn grow(depot: *Depot, detail: *Detail) Error!void {
    depot.spans_lock.lock();
    defer depot.spans_lock.unlock();
    const length = slabLength(depot.class);
    depot.growBy(length, detail) catch |err| {
        if (err != error.LimitExceeded) return err;
        detail.forget();
        try depot.growBy(spansFor(size_classes.sizeOf(depot.class)), detail);
    };
}

fn growBy(depot: *Depot, length: u32, detail: *Detail) Error!void {
    const blocks = blocksOf(depot.class, length);
    // One more is for `partial`.
    const count = depot.magazinesFor(blocks) + @intFromBool(depot.slabs == 0);
    const magazines = &depot.spans.magazines;
    magazines.guarantee(count, &detail.code) catch {
        return detail.refused(count * @sizeOf(Magazine), "the system refuses memory for the " ++
            "pools' own tables");
    };
    errdefer magazines.guaranteed -= count;
    const first = try depot.spans.take(depot.class, length, 0, detail);
    depot.share += count;
    depot.slabs += 1;
    depot.capacity += blocks;
    depot.bump_granule = first * Spans.granulesPerSpan();
    depot.bump_left = blocks;
}

/// A block that two threads freed at the same time may be here twice, or be somebody else's: keeps
/// one of each that is this depot's. Under its lock.
fn dropDoubles(depot: *Depot) void {
    depot.countEach(.only);
    depot.keepCounted();
}

/// Counts its free blocks in their slabs. Under all locks, as `keepCounted` with doomed slabs.
pub fn countFree(depot: *Depot) void {
    depot.countEach(.in_slabs);
}

const Counting = enum { only, in_slabs };

fn countEach(depot: *Depot, comptime counting: Counting) void {
    var next = depot.full;
    while (next) |magazine| : (next = magazine.next) {
        depot.countIn(magazine, depot.rounds, counting);
    }
    if (depot.partial) |magazine| depot.countIn(magazine, depot.partial_count, counting);
}

fn countIn(depot: *Depot, magazine: *Magazine, count: u32, comptime counting: Counting) void {
    for (magazine.blocks(depot.rounds)[0..count]) |granule| {
        const state = &depot.spans.states[granule];
        // Not those that were handed out or counted, since two threads freed them.
        if (state.load(.monotonic) != Spans.free_block) continue;
        state.store(Spans.counted, .monotonic);
        if (counting == .in_slabs) depot.slabOf(granule).free += 1;
    }
}

fn slabOf(depot: *const Depot, granule: u32) *Spans.Span {
    const spans = depot.spans.spans;
    return &spans[spans[granule / Spans.granulesPerSpan()].first];
}

/// What `Span.free` says of a slab that goes.
pub const doomed = std.math.maxInt(u32);

/// Keeps the blocks that were counted, but for those of slabs that are doomed.
pub fn keepCounted(depot: *Depot) void {
    var chain = depot.full;
    depot.full = null;
    depot.full_count = 0;
    if (depot.partial) |magazine| {
        const count = depot.partial_count;
        depot.partial = null;
        depot.partial_count = 0;
        depot.keep(magazine, count);
    }
    while (chain) |magazine| {
        chain = magazine.next;
        depot.keep(magazine, depot.rounds);
    }
}

/// Under `spans_lock`: magazines that it does not need are for other depots.
pub fn giveBackEmpty(depot: *Depot) void {
    if (depot.partial_count == 0) if (depot.partial) |magazine| {
        depot.putEmpty(magazine);
        depot.partial = null;
    };
    while (depot.empty) |magazine| {
        depot.empty = magazine.next;
        depot.obtained -= 1;
        depot.spans.magazines.giveBack(magazine);
    }
}

fn keep(depot: *Depot, magazine: *Magazine, count: u32) void {
    var blocks: [size_classes.rounds_max]u32 = undefined;
    @memcpy(blocks[0..count], magazine.blocks(depot.rounds)[0..count]);
    depot.putEmpty(magazine);
    for (blocks[0..count]) |granule| {
        const state = &depot.spans.states[granule];
        if (state.load(.monotonic) != Spans.counted) {
            depot.spans.countDouble();
            continue;
        }
        state.store(Spans.free_block, .monotonic);
        if (depot.slabOf(granule).free != doomed) depot.put(granule);
    }
}

/// A doomed slab is one no longer.
pub fn dropSlab(depot: *Depot, first: u32) void {
    const span = &depot.spans.spans[first];
    const blocks = blocksOf(depot.class, span.length);
    depot.slabs -= 1;
    depot.capacity -= blocks;
    depot.carved -= span.carved;
    const count = depot.magazinesFor(blocks) + @intFromBool(depot.slabs == 0);
    depot.share -= count;
    depot.spans.magazines.guaranteed -= count;
    if (span.carved < blocks) depot.bump_left = 0;
    depot.spans.release(first, span.length);
}
