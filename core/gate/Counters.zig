//! Who is inside: per-thread counters of pins, for all dimensions of one manager.
//!
//! Every thread has a row of its own, in it a cell for each dimension, in that an `in` and an
//! `out` counter for each of the dimension's two slots. Entering moves `in`, leaving `out`; the
//! views held are the sum of all `in` less the sum of all `out`. A view may be released by another
//! thread: then the two moves are in different rows, and only the sums balance.
//!
//! Invariant: a thread moves only counters of its own row, so a plain load, add and store loses
//! nothing (it must not be interrupted by a signal handler that does the same). The row of the
//! crowd is shared and moved atomically, as are all rows where the system has no process-wide
//! barrier. Counters are 64 bits wide and never reset: no number of outstanding views wraps them.
//! Rows are permanent memory; a row outlives its thread and goes to the next one with its counts.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");
const Lock = @import("../base.zig").Lock;
const threads = @import("threads.zig");

const Counters = @This();
const Atomic = std.atomic.Value;

pub const Side = enum { in, out };

/// One dimension in one row: both slots in half a cache line.
pub const Cell = extern struct {
    in: [2]Atomic(u64),
    out: [2]Atomic(u64),
};

/// Rows are two cache lines apart at least: neighbours are fetched in pairs.
const row_alignment = 128;
/// Rows that are obtained together.
const chunk_rows = 64;

rows: [threads.count_max]Atomic(Row),
/// True: a row's owner moves it by plain stores, and the rare side issues the barrier. Atomic
/// because a reader of a closed manager may still look.
asymmetric: Atomic(bool),
row_size: usize,
lock: Lock,
chunks: [threads.count_max / chunk_rows]?[*]u8,

/// For zeroed memory. `dimension_count` is fixed for the life of the memory, because rows are.
pub fn init(counters: *Counters, dimension_count: usize, code: *i64) os.Error!void {
    counters.row_size = std.mem.alignForward(usize, dimension_count * @sizeOf(Cell), row_alignment);
    _ = try counters.addRow(threads.crowd, code);
}

/// For a manager that opens: nobody is inside.
pub fn setAsymmetric(counters: *Counters, asymmetric: bool) void {
    counters.lock.lock();
    defer counters.lock.unlock();
    counters.asymmetric.store(asymmetric, .monotonic);
    for (counters.rows[0..threads.limit()], 0..) |*entry, index| {
        var row = entry.load(.monotonic);
        if (row.isNone()) continue;
        row.shared = counters.isShared(@intCast(index));
        entry.store(row, .release);
    }
}

fn isShared(counters: *const Counters, index: u32) bool {
    return index == threads.crowd or !counters.asymmetric.load(.monotonic);
}

/// A thread is about to enter.
pub inline fn in(counters: *Counters, dimension: u32, slot: u1) void {
    counters.add(.in, dimension, slot);
}

/// A thread has left. Everything it read before is ordered before it.
pub inline fn out(counters: *Counters, dimension: u32, slot: u1) void {
    counters.add(.out, dimension, slot);
}

/// The counters of one thread, and how they are moved: in one word, so that a single test tells a
/// row of the calling thread's own.
pub const Row = packed struct(u64) {
    address: u63 = 0,
    /// By atomic additions.
    shared: bool = false,

    inline fn isNone(row: Row) bool {
        return row == Row{};
    }

    inline fn counter(row: Row, comptime side: Side, dimension: u32, slot: u1) *Atomic(u64) {
        const cells: [*]Cell = @ptrFromInt(@as(usize, row.address));
        return &@field(cells[dimension], @tagName(side))[slot];
    }

    pub inline fn move(row: Row, comptime side: Side, dimension: u32, slot: u1) void {
        if (!row.shared) {
            const moved = row.counter(side, dimension, slot);
            moved.store(moved.load(.monotonic) +% 1, .release);
            // What follows (the gate's second look at its word, or its look at the drain flag)
            // must come after the store in the instruction stream; the barrier does the rest.
            asm volatile ("" ::: .{ .memory = true });
        } else {
            _ = row.counter(side, dimension, slot).fetchAdd(1, .seq_cst);
        }
    }
};

/// Null until the calling thread has moved a counter of this manager.
pub inline fn own(counters: *Counters) ?Row {
    const row = counters.rows[threads.index()].load(.acquire);
    return if (row.isNone()) null else row;
}

inline fn add(counters: *Counters, comptime side: Side, dimension: u32, slot: u1) void {
    const row = counters.own() orelse counters.firstRow();
    row.move(side, dimension, slot);
}

/// The first time that this thread meets this manager.
fn firstRow(counters: *Counters) Row {
    @branchHint(.cold);
    var code: i64 = 0;
    // No memory for a row: the crowd's was obtained when the manager opened.
    return counters.addRow(threads.register(), &code) catch
        counters.rows[threads.crowd].load(.acquire);
}

fn addRow(counters: *Counters, index: u32, code: *i64) os.Error!Row {
    counters.lock.lock();
    defer counters.lock.unlock();
    const known = counters.rows[index].load(.monotonic);
    if (!known.isNone()) return known;
    const chunk = &counters.chunks[index / chunk_rows];
    if (chunk.* == null) {
        chunk.* = try os.permanent(chunk_rows * counters.row_size, code);
    }
    const offset = (index % chunk_rows) * counters.row_size;
    const row: Row = .{
        .address = @intCast(@intFromPtr(chunk.*.? + offset)),
        .shared = counters.isShared(index),
    };
    counters.rows[index].store(row, .release);
    return row;
}

/// Makes every thread's move of a counter visible to the sums that follow, or its look at what
/// was stored before still to come. If the system refuses, no sum is to be believed.
pub fn barrier(counters: *const Counters, code: *i64) os.Error!void {
    if (builtin.is_test and barrier_skipped_in_test) return;
    if (counters.asymmetric.load(.monotonic)) try threads.barrier(code);
}

/// For the negative control: shows that the barrier is what keeps readers and writers apart.
pub var barrier_skipped_in_test = false;

/// Views held in a slot. Exact once the gate refuses newcomers and the barrier was issued; else a
/// figure of the moment. `out` is summed before `in`: a thread that enters and leaves in between
/// is then counted too often, never too seldom.
pub fn held(counters: *const Counters, dimension: u32, slot: u1) u64 {
    const outs = counters.sum(.out, dimension, slot);
    const ins = counters.sum(.in, dimension, slot);
    return ins -% outs;
}

/// Views of a slot that were left so far.
pub fn left(counters: *const Counters, dimension: u32, slot: u1) u64 {
    return counters.sum(.out, dimension, slot);
}

/// In the child of a fork: so many views of a slot were left, whoever was leaving one as memory was
/// copied.
pub fn setOuts(counters: *Counters, dimension: u32, slot: u1, count: u64) void {
    const row = counters.rows[threads.crowd].load(.monotonic);
    const missing = count -% counters.sum(.out, dimension, slot);
    _ = row.counter(.out, dimension, slot).fetchAdd(missing, .seq_cst);
}

/// In the child of a fork: nobody is in a slot.
pub fn setEmpty(counters: *Counters, dimension: u32, slot: u1) void {
    counters.setOuts(dimension, slot, counters.sum(.in, dimension, slot));
}

fn sum(counters: *const Counters, comptime side: Side, dimension: u32, slot: u1) u64 {
    var total: u64 = 0;
    for (counters.rows[0..threads.limit()]) |*entry| {
        const row = entry.load(.acquire);
        if (row.isNone()) continue;
        total +%= row.counter(side, dimension, slot).load(.seq_cst);
    }
    return total;
}

test "Counters: a child of a fork counts all who were inside before it" {
    const counters = try std.testing.allocator.create(Counters);
    defer std.testing.allocator.destroy(counters);
    counters.* = std.mem.zeroes(Counters);
    var code: i64 = 0;
    try counters.init(2, &code);
    counters.setAsymmetric(false);
    for (0..3) |_| counters.in(1, 0);
    counters.out(1, 0);
    const before = counters.left(1, 0);
    counters.out(1, 0);
    counters.out(1, 0);
    counters.setOuts(1, 0, before);
    try std.testing.expectEqual(2, counters.held(1, 0));
    counters.setEmpty(1, 0);
    try std.testing.expectEqual(0, counters.held(1, 0));
    counters.in(1, 0);
    try std.testing.expectEqual(1, counters.held(1, 0));
}
