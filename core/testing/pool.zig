//! The pools, looked at from the outside: what they promise to one thread and to many.
//!
//! Blocks are filled with stamps that are looked at again before they are freed, so that two blocks
//! that overlap, or one that is handed out twice, are seen. The order of things is random; the seed
//! is the test runner's and printed by it on failure.

const std = @import("std");
const builtin = @import("builtin");
const os = @import("../os.zig");
const Detail = @import("../base/Detail.zig");
const Log = @import("../base/Log.zig");
const Manager = @import("../manager/Manager.zig");
const Managers = @import("../manager/Managers.zig");
const Cache = @import("../pool/Cache.zig");
const Pool = @import("../Pool.zig");
const Spans = @import("../pool/Spans.zig");
const TempFile = @import("../os/TempFile.zig");
const size_classes = @import("../pool/size_classes.zig");

const Atomic = std.atomic.Value;
const testing = std.testing;

const capacity = 64 << 10;
/// Of a slab of small blocks.
const span_size = 64 << 10;

/// A manager of one small dimension, and its blocks.
const Fixture = struct {
    manager: *Manager,
    handle: u64,
    detail: Detail = .{},

    fn open(options: Manager.Options) !Fixture {
        var given = options;
        given.dimension_count = 1;
        given.capacity = capacity;
        var detail: Detail = .{};
        const manager = try Managers.open(given, &detail);
        return .{ .manager = manager, .handle = manager.handle.load(.monotonic) };
    }

    fn close(fixture: *Fixture) void {
        fixture.manager.close(fixture.handle, .refuse, 0, &fixture.detail) catch unreachable;
    }

    fn alloc(fixture: *Fixture, size: usize) ![]u8 {
        return fixture.allocAligned(size, 16);
    }

    /// By the fast path where there is one, as from C.
    fn allocAligned(fixture: *Fixture, size: usize, alignment: usize) ![]u8 {
        if (alignment <= 16) if (Pool.tryAlloc(fixture.handle, size)) |block| {
            return @as([*]u8, @ptrCast(block))[0..size];
        };
        return fixture.request(.{ .size = size, .alignment = alignment });
    }

    fn request(fixture: *Fixture, wanted: Pool.Request) ![]u8 {
        const bytes = try fixture.manager.allocBlock(fixture.handle, wanted, &fixture.detail);
        return bytes[0..wanted.size];
    }

    fn free(fixture: *Fixture, block: []u8) !void {
        return fixture.freePointer(block.ptr);
    }

    fn freePointer(fixture: *Fixture, pointer: *anyopaque) !void {
        if (Pool.tryFree(fixture.handle, pointer)) return;
        try fixture.manager.freeBlock(fixture.handle, pointer, &fixture.detail);
    }

    fn trim(fixture: *Fixture) !u64 {
        return fixture.manager.trim(fixture.handle, &fixture.detail);
    }

    fn class(fixture: *Fixture, size: usize) Pool.Class {
        return fixture.manager.pool.describeClass(size_classes.of(size));
    }

    fn charged(fixture: *Fixture) u64 {
        return fixture.manager.pool.stats().allocated;
    }

    /// What the pools say they hold is what the budget holds beyond the regions.
    fn expectCharged(fixture: *Fixture, expected: u64) !void {
        const regions = fixture.manager.budget.floor;
        try testing.expectEqual(expected, fixture.charged());
        try testing.expectEqual(regions + expected, fixture.manager.budget.allocated.load(.monotonic));
    }
};

test "R6.1, R6.4 pool: a freed block goes back to its pool and meets the next request of its size" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    const first = try fixture.alloc(100);
    try testing.expectEqual(1, fixture.class(100).blocks);
    try testing.expectEqual(1, fixture.class(100).slabs);
    const charged = fixture.charged();
    try fixture.free(first);
    try testing.expectEqual(0, fixture.class(100).blocks);
    try testing.expectEqual(span_size / 112, fixture.class(100).free_blocks);
    try testing.expectEqual(0, fixture.class(200).slabs);
    const again = try fixture.alloc(112);
    try testing.expectEqual(first.ptr, again.ptr);
    try testing.expectEqual(charged, fixture.charged());
    try testing.expectEqual(1, fixture.class(100).hits);
    try testing.expectEqual(1, fixture.class(100).misses);
    try fixture.free(again);
}

test "R6.2, R6.3, R5.1 pool: a size that no pool has blocks of takes a slab, and charges it" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    try fixture.expectCharged(0);
    const small = try fixture.alloc(16);
    try fixture.expectCharged(span_size);
    const other = try fixture.alloc(1000);
    try fixture.expectCharged(2 * span_size);
    const same = try fixture.alloc(1001);
    try fixture.expectCharged(2 * span_size);
    const large = try fixture.alloc(3 * span_size + 1);
    const large_room = 3 * span_size + Spans.spanSize();
    try fixture.expectCharged(2 * span_size + large_room);
    try testing.expectEqual(1, fixture.manager.pool.stats().large_blocks);
    for ([_][]u8{ small, other, same, large }) |block| try fixture.free(block);
    try testing.expectEqual(0, fixture.manager.pool.stats().blocks);
    try testing.expectEqual(large_room, fixture.manager.pool.stats().free_bytes);
    // Kept spans meet the next request.
    try fixture.free(try fixture.alloc(3 * span_size));
    try fixture.expectCharged(2 * span_size + large_room);
    try testing.expectEqual(2 * span_size + large_room, try fixture.trim());
    try fixture.expectCharged(0);
}

test "R6.5, R5.2 pool: all of the limit can be had in any size after any other, and no more" {
    const limit = 16 * span_size;
    var fixture: Fixture = try .open(.{ .pool_limit = limit });
    defer fixture.close();
    var blocks: std.ArrayList([]u8) = .empty;
    defer blocks.deinit(testing.allocator);
    for ([_]usize{ 64, size_classes.size_max, 100, 5000, 40_000, span_size + 1, limit, 16 }) |size| {
        const refusals = fixture.manager.pool.stats().refusals;
        while (fixture.alloc(size)) |block| {
            try testing.expect(fixture.charged() <= limit);
            try blocks.append(testing.allocator, block);
        } else |err| {
            try testing.expectEqual(error.LimitExceeded, err);
            const detail = fixture.detail;
            try testing.expectEqual(limit, detail.limit);
            try testing.expect(detail.used + detail.requested > detail.limit);
        }
        try testing.expectEqual(refusals + 1, fixture.manager.pool.stats().refusals);
        const per_span = span_size / size_classes.sizeOf(size_classes.of(@min(size, span_size)));
        const expected = if (size > span_size)
            limit / std.mem.alignForward(usize, size, Spans.spanSize())
        else
            limit / span_size * per_span;
        try testing.expect(blocks.items.len >= expected);
        // Those of the pool before are still there: they are given back for the next.
        for (blocks.items) |block| try fixture.free(block);
        blocks.clearRetainingCapacity();
    }
}

test "R6.5, R5.2, R7.4 pool: free slabs go back before the budget refuses a load" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    const limit = 8 * span_size;
    // Room for the region and the pools, but not for both and a second generation.
    var fixture: Fixture = try .open(.{ .limit = capacity + limit, .pool_limit = limit });
    defer fixture.close();
    const manager = fixture.manager;
    const dimension = &manager.dimensions()[0];
    try manager.load(dimension, fixture.handle, file.path, .{}, &fixture.detail);
    const other: TempFile = try .create("other");
    defer other.deinit();
    const live = try fixture.alloc(64);
    try fixture.free(try fixture.alloc(7 * span_size));
    try fixture.expectCharged(limit);
    try manager.reload(dimension, fixture.handle, other.path, .{}, &fixture.detail);
    try fixture.expectCharged(span_size);
    try fixture.free(live);
}

const Slot = struct { block: []u8 = &.{}, stamp: u8 = 0 };

/// Random requests against the trivial allocator: a list of who has what.
fn runModel(fixture: *Fixture, random: std.Random, slots: []Slot, rounds: usize) !void {
    for (0..rounds) |_| {
        const slot = &slots[random.uintLessThan(usize, slots.len)];
        if (slot.block.len > 0) {
            try testing.expect(std.mem.allEqual(u8, slot.block, slot.stamp));
            if (random.uintLessThan(u8, 4) == 0) {
                const old = @min(slot.block.len, 64);
                const size = randomSize(random);
                const moved = fixture.manager.resizeBlock(
                    fixture.handle,
                    slot.block.ptr,
                    size,
                    &fixture.detail,
                ) catch |err| {
                    try testing.expectEqual(error.LimitExceeded, err);
                    continue;
                };
                try testing.expect(std.mem.allEqual(u8, moved[0..@min(old, size)], slot.stamp));
                slot.block = moved[0..size];
            } else {
                try fixture.free(slot.block);
                slot.* = .{};
                continue;
            }
        } else {
            const alignment = @as(usize, 16) << random.uintAtMost(u3, 7);
            const size = randomSize(random);
            slot.block = fixture.allocAligned(size, alignment) catch |err| {
                try testing.expectEqual(error.LimitExceeded, err);
                continue;
            };
            if (size_classes.sizeOf(0) != size) {
                try testing.expect(std.mem.isAligned(@intFromPtr(slot.block.ptr), 16));
            }
            if (alignment > 16) {
                try testing.expect(std.mem.isAligned(@intFromPtr(slot.block.ptr), alignment));
            }
        }
        const room = try fixture.manager.pool.sizeOf(fixture.handle, slot.block.ptr, &fixture.detail);
        try testing.expect(room >= slot.block.len);
        slot.stamp = random.int(u8);
        @memset(slot.block, slot.stamp);
        if (random.uintLessThan(u16, 500) == 0) _ = try fixture.trim();
    }
}

/// Of every magnitude alike.
fn randomSize(random: std.Random) usize {
    const bits = random.uintAtMost(u5, 18);
    return 1 + random.uintLessThan(usize, @as(usize, 1) << bits);
}

fn freeAll(fixture: *Fixture, slots: []Slot) !void {
    for (slots) |*slot| {
        if (slot.block.len == 0) continue;
        try testing.expect(std.mem.allEqual(u8, slot.block, slot.stamp));
        try fixture.free(slot.block);
        slot.* = .{};
    }
}

test "R6.1, R6.4 pool: random requests keep every byte, and the counts are exact" {
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    for ([_]bool{ false, true }) |gate_atomic| {
        var fixture: Fixture = try .open(.{ .pool_limit = 8 << 20, .gate_atomic = gate_atomic });
        defer fixture.close();
        var slots: [200]Slot = @splat(.{});
        for (0..5) |_| {
            try runModel(&fixture, prng.random(), &slots, 2000);
            var live: u64 = 0;
            for (slots) |slot| live += @intFromBool(slot.block.len > 0);
            try testing.expectEqual(live, fixture.manager.pool.stats().blocks);
        }
        try freeAll(&fixture, &slots);
        _ = try fixture.trim();
        try fixture.expectCharged(0);
    }
}

test "R7.1 pool: what is no live block of this manager's is an error each, and harms nothing" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    var other: Fixture = try .open(.{});
    defer other.close();
    var outside: [64]u8 align(16) = undefined;
    try testing.expectError(error.PoolCorruption, fixture.freePointer(&outside));
    for ([_]usize{ 64, 1000, size_classes.size_max, 3 * span_size }) |size| {
        const block = try fixture.alloc(size);
        const kept = try fixture.alloc(size);
        for ([_]usize{ 1, 8, 16, size / 2 & ~@as(usize, 15), size - 1, size }) |offset| {
            const pointer = @intFromPtr(block.ptr) + offset;
            if (pointer == @intFromPtr(kept.ptr)) continue;
            const interior: *anyopaque = @ptrFromInt(pointer);
            try testing.expectError(error.PoolCorruption, fixture.freePointer(interior));
            try testing.expectError(
                error.PoolCorruption,
                fixture.manager.pool.sizeOf(fixture.handle, interior, &fixture.detail),
            );
        }
        try testing.expectError(error.PoolCorruption, other.freePointer(block.ptr));
        const blocks = fixture.manager.pool.stats().blocks;
        try fixture.free(block);
        try testing.expectEqual(blocks - 1, fixture.manager.pool.stats().blocks);
        try testing.expectError(error.PoolCorruption, fixture.freePointer(block.ptr));
        try testing.expectError(error.PoolCorruption, fixture.manager.resizeBlock(
            fixture.handle,
            block.ptr,
            10,
            &fixture.detail,
        ));
        try fixture.free(kept);
        _ = try fixture.trim();
        // Its slab is gone, too.
        try testing.expectError(error.PoolCorruption, fixture.freePointer(block.ptr));
        try testing.expectEqual(0, fixture.manager.pool.stats().blocks);
    }
}

test "R6.3 pool: a block is at most 15 bytes or an eighth larger than asked for" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    var size: usize = 1;
    while (size < 2 << 20) : (size += 1 + size / 50) {
        const block = try fixture.alloc(size);
        defer fixture.free(block) catch unreachable;
        const room = try fixture.manager.pool.sizeOf(fixture.handle, block.ptr, &fixture.detail);
        // A page that is larger than that is the unit of what is beyond the pools.
        const unit = if (size > size_classes.size_max) os.pageSize() else 16;
        try testing.expect(room - size < @max(unit, room / 8));
    }
}

test "pool: a large block that is made smaller stays where it is and gives its tail back" {
    var fixture: Fixture = try .open(.{ .pool_limit = 1 << 20 });
    defer fixture.close();
    const block = try fixture.alloc(1 << 20);
    @memset(block, 9);
    const manager = fixture.manager;
    for ([_]usize{ 1 << 20, 700_000, 100_000, 65_537 }) |size| {
        const same = try manager.resizeBlock(fixture.handle, block.ptr, size, &fixture.detail);
        try testing.expectEqual(block.ptr, same);
        const room = std.mem.alignForward(usize, size, Spans.spanSize());
        try testing.expectEqual(room, manager.pool.stats().large_bytes);
        _ = try fixture.trim();
        try fixture.expectCharged(room);
    }
    // Where there is no memory to move to, it stays as well, and nothing was refused.
    const rest = try fixture.alloc((1 << 20) - fixture.charged());
    const same = try manager.resizeBlock(fixture.handle, block.ptr, 10, &fixture.detail);
    try testing.expectEqual(block.ptr, same);
    try testing.expectEqual(0, manager.pool.stats().refusals);
    try fixture.free(rest);
    const moved = try manager.resizeBlock(fixture.handle, block.ptr, 10, &fixture.detail);
    try testing.expect(block.ptr != moved);
    try testing.expect(std.mem.allEqual(u8, moved[0..10], 9));
    try fixture.freePointer(moved);
}

test "pool: zeroed blocks are zeros, and what the system gives as zeros is not touched" {
    for ([_]Manager.Options{ .{}, .{ .poison = true }, .{ .guard_pages = true } }) |options| {
        var fixture: Fixture = try .open(options);
        defer fixture.close();
        for (0..3) |_| for ([_]usize{ 1, 100, 65_536, 65_537, 500_001, 1 << 20 }) |size| {
            const block = try fixture.request(.{ .size = size, .alignment = 64, .zeroed = true });
            try testing.expect(std.mem.allEqual(u8, block, 0));
            @memset(block, 7);
            try fixture.free(block);
            if (size == 500_001) _ = try fixture.trim();
        };
    }
    if (@import("../os/contract.zig").emulated()) return;
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    const dirty = try fixture.alloc(100_000);
    @memset(dirty, 7);
    try fixture.free(dirty);
    const block = try fixture.request(.{ .size = 32 << 20, .zeroed = true });
    const use = try os.memoryUse(block.ptr, block.len, &fixture.detail.code);
    try testing.expect(use.resident < 1 << 20);
    try testing.expect(std.mem.allEqual(u8, block[0..200_000], 0));
    try fixture.free(block);
}

test "pool: guard pages are no slabs, whatever is called in" {
    var fixture: Fixture = try .open(.{ .guard_pages = true });
    defer fixture.close();
    var blocks: [20][]u8 = undefined;
    for (&blocks) |*block| block.* = try fixture.alloc(100);
    const charged = fixture.charged();
    try testing.expectEqual(0, try fixture.trim());
    try fixture.expectCharged(charged);
    for (blocks) |block| try fixture.free(block);
    try fixture.expectCharged(0);
}

test "R5.4 pool: trimmed pools are charged nothing and have hardly a page in memory" {
    var fixture: Fixture = try .open(.{ .pool_limit = 8 << 20 });
    defer fixture.close();
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    const random = prng.random();
    for ([_]usize{ 16, 64, 3000, size_classes.size_max }) |size| {
        var blocks: std.ArrayList([]u8) = .empty;
        defer blocks.deinit(testing.allocator);
        while (fixture.alloc(size)) |block| {
            @memset(block, 1);
            try blocks.append(testing.allocator, block);
        } else |err| try testing.expectEqual(error.LimitExceeded, err);
        random.shuffle([]u8, blocks.items);
        for (blocks.items) |block| try fixture.free(block);
        const charged = fixture.charged();
        try testing.expect(charged > 7 << 20);
        try testing.expectEqual(charged, try fixture.trim());
        try fixture.expectCharged(0);
        if (@import("../os/contract.zig").emulated()) continue;
        const arena = fixture.manager.pool.spans.arena;
        const use = try os.memoryUse(arena.ptr, arena.len, &fixture.detail.code);
        // What is left are the tables of spans.
        try testing.expect(use.resident <= 128 << 10);
    }
}

test "pool: its own tables are a sixteenth of what is charged, and four bytes for a free block" {
    if (@import("../os/contract.zig").emulated()) return error.SkipZigTest;
    for ([_]usize{ 16, 64, 1024, size_classes.size_max }) |size| {
        var fixture: Fixture = try .open(.{ .pool_limit = 8 << 20 });
        defer fixture.close();
        var blocks: std.ArrayList([]u8) = .empty;
        defer blocks.deinit(testing.allocator);
        while (fixture.alloc(size)) |block| try blocks.append(testing.allocator, block) else |_| {}
        const spans = &fixture.manager.pool.spans;
        const charged = fixture.charged();
        const tables = spans.arena[spans.count * Spans.spanSize() ..];
        // Magazines of a thread, and pages that are not full.
        const slack = 256 << 10;
        var use = try os.memoryUse(tables.ptr, tables.len, &fixture.detail.code);
        try testing.expect(use.resident <= charged / 16 + slack);
        for (blocks.items) |block| try fixture.free(block);
        use = try os.memoryUse(tables.ptr, tables.len, &fixture.detail.code);
        try testing.expect(use.resident <= charged / 16 + blocks.items.len * 33 / 8 + slack);
    }
}

test "pool: a live block keeps its slab, and only its slab, from being trimmed" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    var blocks: [1000][]u8 = undefined;
    for (&blocks) |*block| {
        block.* = try fixture.alloc(1024);
        @memset(block.*, 7);
    }
    for (blocks[0..500]) |block| try fixture.free(block);
    for (blocks[501..]) |block| try fixture.free(block);
    _ = try fixture.trim();
    try fixture.expectCharged(span_size);
    try testing.expect(std.mem.allEqual(u8, blocks[500], 7));
    for (blocks[0..500]) |*block| block.* = try fixture.alloc(1024);
    for (blocks[0..500]) |block| try testing.expect(block.ptr != blocks[500].ptr);
    for (blocks[0..501]) |block| try fixture.free(block);
}

test "R7.2 pool: each call that the system refuses leaves the pools as they were" {
    for ([_]os.Call{ .reserve_arena, .take }) |call| for ([_]usize{ 64, 1 << 20 }) |size| {
        var after: u32 = 0;
        while (true) : (after += 1) {
            var fixture: Fixture = try .open(.{});
            defer fixture.close();
            os.simulated.failNext(call, 12, .{ .after = after, .times = 1000 });
            const result = fixture.alloc(size);
            os.simulated.clear();
            const block = result catch |err| {
                try testing.expectEqual(error.AllocationRefused, err);
                try testing.expectEqual(12, fixture.detail.code);
                try fixture.expectCharged(0);
                try testing.expectEqual(0, fixture.manager.pool.stats().blocks);
                try fixture.free(try fixture.alloc(size));
                continue;
            };
            try fixture.free(block);
            break;
        }
        try testing.expect(after >= 1);
    };
    // What the system will not take back stays charged, and is given back later.
    for ([_]os.Call{ .give, .renew }) |call| {
        var fixture: Fixture = try .open(.{});
        defer fixture.close();
        try fixture.free(try fixture.alloc(64));
        os.simulated.failNext(call, 12, .{ .times = 1000 });
        const bytes = try fixture.trim();
        os.simulated.clear();
        try fixture.expectCharged(span_size - bytes);
        try fixture.free(try fixture.alloc(64));
        _ = try fixture.trim();
        try fixture.expectCharged(0);
    }
}

test "pool: blocks outlive their manager, and the last one freed takes it out" {
    for ([_]usize{ 64, 2 * span_size }) |size| {
        var fixture: Fixture = try .open(.{});
        const first = try fixture.alloc(size);
        const second = try fixture.alloc(size);
        @memset(first, 1);
        fixture.close();
        try testing.expectError(error.InvalidAccess, fixture.alloc(size));
        try testing.expect(std.mem.allEqual(u8, first, 1));
        try fixture.free(second);
        try testing.expectError(error.PoolCorruption, fixture.freePointer(second.ptr));
        try testing.expectEqual(fixture.manager, Managers.find(fixture.handle));
        try fixture.free(first);
        try testing.expectEqual(null, Managers.find(fixture.handle));
        try testing.expectEqual(0, fixture.manager.budget.allocated.load(.monotonic));
    }
}

test "R7.2 pool: a batch is handed out as a whole or not at all" {
    var fixture: Fixture = try .open(.{ .pool_limit = 4 * span_size });
    defer fixture.close();
    var blocks: [100]?*anyopaque = undefined;
    const manager = fixture.manager;
    const refused = manager.allocBlocks(fixture.handle, 5000, &blocks, &fixture.detail);
    try testing.expectError(error.LimitExceeded, refused);
    try testing.expectEqual(0, manager.pool.stats().blocks);
    try testing.expect(std.mem.allEqual(?*anyopaque, &blocks, null));
    try manager.allocBlocks(fixture.handle, 100, &blocks, &fixture.detail);
    for (blocks) |block| try fixture.freePointer(block.?);
}

test "pool: poison marks what is handed out and what is freed" {
    var fixture: Fixture = try .open(.{ .poison = true });
    defer fixture.close();
    for ([_]usize{ 60, 70_000 }) |size| {
        const block = try fixture.alloc(size);
        try testing.expect(std.mem.allEqual(u8, block, 0xa5));
        try fixture.free(block);
        try testing.expect(std.mem.allEqual(u8, block, 0x5a));
        try testing.expectError(error.PoolCorruption, fixture.freePointer(block.ptr));
    }
}

test "pool: with guard pages there is no access behind a block, nor to one that was freed" {
    // It asks the system about memory that must not be touched.
    if (std.valgrind.runningOnValgrind() > 0) return error.SkipZigTest;
    var fixture: Fixture = try .open(.{ .guard_pages = true });
    defer fixture.close();
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var code: i64 = 0;
    const opened = try os.open(file.path, .read, &code);
    defer os.close(opened);
    for ([_]usize{ 48, 4096, 70_000 }) |size| {
        const block = try fixture.alloc(size);
        @memset(block, 1);
        const room = try fixture.manager.pool.sizeOf(fixture.handle, block.ptr, &fixture.detail);
        try testing.expect(room - size < 16);
        // The system refuses to write there, where a write of our own would be a fault.
        const behind = block.ptr[room .. room + 1];
        try testing.expectError(error.System, os.readAt(opened, behind, 0, &code));
        _ = try os.readAt(opened, block[0..1], 0, &code);
        try fixture.free(block);
        try testing.expectError(error.System, os.readAt(opened, block[0..1], 0, &code));
        try testing.expectError(error.PoolCorruption, fixture.freePointer(block.ptr));
    }
    try fixture.expectCharged(0);
}

test "R9.4 pool: every block and every slab is a record, written before the call returns" {
    const Heard = struct {
        var counts: [32]u32 = @splat(0);
        fn hear(event: Log.Event) void {
            counts[@backingInt(event.operation)] += 1;
        }
        fn count(operation: Detail.Operation) u32 {
            return counts[@backingInt(operation)];
        }
    };
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    Log.set(@backingInt(Log.Level.debug), Heard.hear);
    defer Log.set(null, Heard.hear);
    const manager = fixture.manager;
    const block = try manager.allocBlock(fixture.handle, .{ .size = 64 }, &fixture.detail);
    try testing.expectEqual(1, Heard.count(.alloc));
    try testing.expectEqual(1, Heard.count(.grow));
    try manager.freeBlock(fixture.handle, block, &fixture.detail);
    try testing.expectEqual(1, Heard.count(.free));
    _ = try fixture.trim();
    try testing.expectEqual(1, Heard.count(.trim));
}

test "pool: a dump shows the pools that have slabs" {
    const Dump = @import("../manager/Dump.zig");
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    const block = try fixture.alloc(100);
    var buffer: [8192]u8 = undefined;
    const length = try Dump.write(fixture.manager, fixture.handle, &buffer, &fixture.detail);
    const text = buffer[0..length];
    const expected = "\"classes\":[{\"block_size\":112,\"slab_size\":65536,\"slabs\":1,\"blocks\":1,";
    try testing.expect(std.mem.find(u8, text, expected) != null);
    try fixture.free(block);
}

test "pool: a limit that the tables cannot address is refused at open, with the numbers" {
    var detail: Detail = .{};
    for ([_]u64{ Pool.limit_max + 1, std.math.maxInt(u64) }) |limit| {
        const options: Manager.Options = .{ .dimension_count = 1, .pool_limit = limit };
        try testing.expectError(error.InvalidArgument, Managers.open(options, &detail));
        try testing.expectEqual(limit, detail.requested);
        try testing.expectEqual(32 << 30, detail.limit);
    }
    var fixture: Fixture = try .open(.{ .pool_limit = Pool.limit_max });
    defer fixture.close();
    // With room for a run of it beside scattered others.
    try testing.expect(Spans.rangeOf(Pool.limit_max) >= 2 * Pool.limit_max - span_size);
}

test "R6.5 pool: a request beyond the limit is refused with its own size" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    const limit = fixture.manager.pool_limit;
    for ([_]usize{ limit + 1, std.math.maxInt(i64), std.math.maxInt(usize) }) |size| {
        try testing.expectError(error.LimitExceeded, fixture.request(.{ .size = size }));
        try testing.expectEqual(size, fixture.detail.requested);
        try testing.expectEqual(limit, fixture.detail.limit);
    }
}

test "R7.1 pool: a late free does not reach the next manager in the same memory" {
    var before: Fixture = try .open(.{});
    const first = try before.alloc(64);
    before.close();
    try before.free(first);
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    try testing.expectEqual(before.manager, fixture.manager);
    for ([_]usize{ 64, 2 * span_size }) |size| {
        const block = try fixture.alloc(size);
        const pool = &fixture.manager.pool;
        const detail = &fixture.detail;
        // As from a thread that found the manager before its last block was freed.
        try testing.expectError(error.PoolCorruption, pool.free(before.handle, block.ptr, detail));
        const sized = pool.sizeOf(before.handle, block.ptr, detail);
        try testing.expectError(error.PoolCorruption, sized);
        try testing.expectEqual(1, pool.stats().blocks);
        try fixture.free(block);
    }
    try testing.expectEqual(1, fixture.manager.shared.tenants.load(.monotonic));
}

test "pool: a thread's fast path is not that of the manager that used the memory before" {
    if (!os.capabilities().process_barrier) return error.SkipZigTest;
    var before: Fixture = try .open(.{});
    try before.free(try before.alloc(64));
    try testing.expect(Cache.last() != null);
    before.close();
    var fixture: Fixture = try .open(.{ .gate_atomic = true });
    defer fixture.close();
    try testing.expectEqual(before.manager, fixture.manager);
    try fixture.free(try fixture.alloc(64));
    try testing.expectEqual(null, Cache.last());
}

test "R7.1 pool: what is no handle enters no cache that was called in" {
    if (!os.capabilities().process_barrier) return error.SkipZigTest;
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    try fixture.free(try fixture.alloc(64));
    const cache = Cache.last().?;
    _ = try fixture.trim();
    for (0..70_000) |value| try testing.expect(!cache.enter(value));
    const handle = fixture.handle;
    for ([_]u64{ handle, handle - 1, std.math.maxInt(u64), @intFromPtr(&fixture) }) |value| {
        try testing.expect(!cache.enter(value));
    }
    for (0..64) |bit| {
        try testing.expect(!cache.enter(handle ^ @as(u64, 1) << @intCast(bit)));
    }
}

test "pool: threads that have no state of their own for free blocks share one, and lose nothing" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    const block = try fixture.alloc(64);
    const pool = &fixture.manager.pool;
    const code = std.mem.zeroes([3]u8);
    var caches: [3]*Cache = undefined;
    defer for (caches) |cache| testing.allocator.destroy(cache);
    // The last index that has one, and the first two that do not.
    const indices = [_]u32{ 170, 171, 4000 };
    var codes = code;
    for (&caches, indices, &codes) |*cache, index, *each| {
        cache.* = try testing.allocator.create(Cache);
        cache.*.* = std.mem.zeroes(Cache);
        cache.*.give(fixture.handle, &pool.spans, true, index);
        each.* = cache.*.hot.code;
    }
    try testing.expectEqualSlices(u8, &.{ 252, 253, 253 }, &codes);
    try testing.expect(caches[0].alone and !caches[1].alone and !caches[2].alone);
    const depot = &pool.depots[size_classes.of(64)];
    const pointer: *anyopaque = block.ptr;
    for (caches) |cache| try cache.drain(depot, &fixture.detail);
    const live = try pool.spans.look(pointer, &fixture.detail);
    try testing.expectEqual(.done, caches[1].put(&pool.spans, live));
    try testing.expectEqual(.not_live, caches[2].put(&pool.spans, live));
    try testing.expectEqual(null, caches[0].popAny(&pool.spans, live.class));
    try testing.expectEqual(block.ptr, caches[1].popAny(&pool.spans, live.class).?);
    try testing.expectEqual(.done, caches[2].put(&pool.spans, live));
    for (caches) |cache| cache.empty(&pool.depots, .unlocked);
    try testing.expectEqual(0, pool.spans.doubles.load(.monotonic));
    try testing.expectEqual(0, pool.stats().blocks);
}

test "pool: behind a block with guard pages is nothing that the system would not take back" {
    if (std.valgrind.runningOnValgrind() > 0) return error.SkipZigTest;
    var fixture: Fixture = try .open(.{ .guard_pages = true });
    defer fixture.close();
    const spans = &fixture.manager.pool.spans;
    for ([_]bool{ false, true }) |still_refused| {
        const first = try fixture.alloc(100);
        const second = try fixture.alloc(100);
        os.simulated.failNext(.give, 12, .{});
        try fixture.free(second);
        os.simulated.clear();
        try fixture.free(first);
        if (still_refused) os.simulated.failNext(.give, 12, .{ .times = 1000 });
        // Long enough to end where the kept span begins.
        const block = try fixture.alloc(2 * Spans.spanSize() - 400);
        os.simulated.clear();
        const distance = @intFromPtr(block.ptr) + block.len - @intFromPtr(spans.arena.ptr);
        const guard = std.mem.alignForward(usize, distance, Spans.spanSize()) / Spans.spanSize();
        try testing.expect(spans.kept[guard / 64] >> @intCast(guard % 64) & 1 == 0);
        try fixture.free(block);
        _ = try fixture.trim();
        try fixture.expectCharged(0);
    }
}

test "pool: a fork asks nothing of pools that nobody uses" {
    if (!os.capabilities().process_barrier) return error.SkipZigTest;
    var fixture: Fixture = try .open(.{});
    const pool = &fixture.manager.pool;
    // A barrier that is refused would be remembered.
    os.simulated.failNext(.barrier, 1, .{ .times = 1000 });
    defer os.simulated.clear();
    pool.beginFork();
    try testing.expect(!pool.forking_apart);
    try testing.expect(pool.depots[0].lock.tryLock());
    pool.depots[0].lock.unlock();
    pool.endFork(.in_parent);
    os.simulated.clear();
    const block = try fixture.alloc(64);
    fixture.close();
    os.simulated.failNext(.barrier, 1, .{ .times = 1000 });
    pool.beginFork();
    try testing.expect(!pool.forking_apart);
    // The last block may be on its way.
    try testing.expect(!pool.depots[0].lock.tryLock());
    pool.endFork(.in_parent);
    os.simulated.clear();
    try fixture.free(block);
}

test "pool: what refused a first attempt is not in the error of the second" {
    // The first is refused by the budget, whose relief lets another take what the pools may have.
    var detail: Detail = .{ .code = 12, .limit_kind = .budget, .requested = 1, .reason = "before" };
    detail.forget();
    try testing.expectEqual(0, detail.code);
    try testing.expectEqual(.none, detail.limit_kind);
    try testing.expectEqualStrings("", detail.reason);
    // The system refuses the tables of a thread's cache; then the pools' limit is reached.
    var fixture: Fixture = try .open(.{ .pool_limit = span_size });
    defer fixture.close();
    const block = try fixture.alloc(span_size);
    os.simulated.failNext(.take, 12, .{});
    defer os.simulated.clear();
    try testing.expectError(error.LimitExceeded, fixture.request(.{ .size = 64 }));
    try testing.expectEqual(0, fixture.detail.code);
    try testing.expectEqual(span_size, fixture.detail.limit);
    os.simulated.clear();
    try fixture.free(block);
}

// Threads ---------------------------------------------------------------------------------------

test "pool: a thread that ends gives back what it had at hand" {
    var fixture: Fixture = try .open(.{});
    defer fixture.close();
    const Worker = struct {
        fn run(shared: *Fixture) void {
            var mine = shared.*;
            for (0..100) |index| {
                const block = mine.alloc(16 + index * 50) catch unreachable;
                mine.free(block) catch unreachable;
            }
        }
    };
    const thread: std.Thread = try .spawn(.{}, Worker.run, .{&fixture});
    thread.join();
    const pool = &fixture.manager.pool;
    var free: u64 = 0;
    for (&pool.depots) |*depot| {
        try testing.expectEqual(depot.carved, depot.freeBlocks());
        free += depot.carved;
    }
    try testing.expect(free > 100);
}

test "R7.1 pool: a block that two threads free at the same moment is handed out once" {
    // It is a race.
    if (builtin.sanitize_thread) return error.SkipZigTest;
    // The other thread looks at the block's state before this one stores it, and stores it after.
    const Other = struct {
        fixture: *Fixture,
        block: []u8,
        turn: Atomic(u32) = .init(0),
        blocks: [200][]u8 = undefined,

        fn run(other: *@This()) void {
            var mine = other.fixture.*;
            const pool = &mine.manager.pool;
            const first = mine.alloc(64) catch unreachable;
            const base = pool.spans.arena.ptr;
            const pointer = @intFromPtr(other.block.ptr);
            const granule = Spans.granuleAt(base, pool.spans.granules(), pointer).?;
            pool.spans.states[granule].store(Spans.live(size_classes.of(64)), .monotonic);
            mine.free(other.block) catch unreachable;
            other.turn.store(1, .release);
            os.futexWakeAll(&other.turn);
            os.futexWait(&other.turn, 1, null);
            for (&other.blocks) |*block| {
                block.* = mine.alloc(64) catch unreachable;
                @memset(block.*, 2);
            }
            for (other.blocks) |block| mine.free(block) catch unreachable;
            mine.free(first) catch unreachable;
        }
    };
    const Finder = enum { other_thread, trim, trim_later };
    for (std.enums.values(Finder)) |finder| {
        var fixture: Fixture = try .open(.{});
        defer fixture.close();
        var blocks: [200][]u8 = undefined;
        for (&blocks) |*block| block.* = try fixture.alloc(64);
        var other: Other = .{ .fixture = &fixture, .block = blocks[100] };
        try fixture.free(blocks[100]);
        const thread: std.Thread = try .spawn(.{}, Other.run, .{&other});
        while (other.turn.load(.acquire) == 0) os.futexWait(&other.turn, 0, null);
        if (finder == .trim) _ = try fixture.trim();
        if (finder != .trim_later) blocks[100] = try fixture.alloc(64);
        for (blocks, 0..) |block, index| {
            if (index != 100 or finder != .trim_later) @memset(block, 1);
        }
        other.turn.store(2, .release);
        os.futexWakeAll(&other.turn);
        thread.join();
        for (blocks, 0..) |block, index| {
            if (index == 100 and finder == .trim_later) continue;
            try testing.expect(std.mem.allEqual(u8, block, 1));
            try fixture.free(block);
        }
        _ = try fixture.trim();
        const stats = fixture.manager.pool.stats();
        try testing.expectEqual(1, stats.double_frees);
        try testing.expectEqual(0, stats.blocks);
        try fixture.expectCharged(0);
    }
}

/// Threads that hand blocks to one another, and free what they are handed.
const Exchange = struct {
    fixture: *Fixture,
    places: [64]Atomic(?*Header) = @splat(.init(null)),
    failed: Atomic(u32) = .init(0),
    refused: Atomic(u32) = .init(0),
    over: Atomic(u32) = .init(0),
    rounds: usize,
    size_max: usize,

    /// At the start of every block.
    const Header = struct { size: usize, stamp: usize };

    fn run(exchange: *Exchange, seed: u64) void {
        exchange.work(seed) catch {
            _ = exchange.failed.fetchAdd(1, .monotonic);
        };
    }

    fn work(exchange: *Exchange, seed: u64) !void {
        var fixture = exchange.fixture.*;
        const pool = &fixture.manager.pool;
        var prng: std.Random.DefaultPrng = .init(seed);
        const random = prng.random();
        for (0..exchange.rounds) |round| {
            const place = &exchange.places[random.uintLessThan(usize, exchange.places.len)];
            if (random.boolean()) {
                if (place.swap(null, .acq_rel)) |header| try check(&fixture, header);
                continue;
            }
            const size = 16 + random.uintLessThan(usize, exchange.size_max);
            const block = fixture.alloc(size) catch |err| {
                if (err != error.LimitExceeded) return err;
                const detail = &fixture.detail;
                if (detail.used + detail.requested <= detail.limit) return error.NotJustified;
                _ = exchange.refused.fetchAdd(1, .monotonic);
                continue;
            };
            if (pool.spans.charged.load(.monotonic) > pool.options.limit) {
                _ = exchange.over.fetchAdd(1, .monotonic);
            }
            const header: *Header = @ptrCast(@alignCast(block.ptr));
            const stamp = @intFromPtr(header) ^ size ^ 0x5bd1e995;
            header.* = .{ .size = size, .stamp = stamp };
            @memset(block[@sizeOf(Header)..], @truncate(size));
            if (place.swap(header, .acq_rel)) |other| try check(&fixture, other);
            if (round % 200 == 0) _ = try fixture.trim();
        }
    }

    fn check(fixture: *Fixture, header: *Header) !void {
        const size = header.size;
        if (header.stamp != @intFromPtr(header) ^ size ^ 0x5bd1e995) return error.Overwritten;
        const block = @as([*]u8, @ptrCast(header))[0..size];
        if (!std.mem.allEqual(u8, block[@sizeOf(Header)..], @truncate(size))) {
            return error.Overwritten;
        }
        try fixture.free(block);
    }

    fn expectDone(exchange: *Exchange, thread_count: usize) !void {
        var threads: [16]std.Thread = undefined;
        for (threads[0..thread_count], 0..) |*thread, index| {
            thread.* = try .spawn(.{}, run, .{ exchange, testing.random_seed + index });
        }
        for (threads[0..thread_count]) |thread| thread.join();
        try testing.expectEqual(0, exchange.failed.load(.monotonic));
        try testing.expectEqual(0, exchange.over.load(.monotonic));
        for (&exchange.places) |*place| {
            if (place.load(.monotonic)) |header| try check(exchange.fixture, header);
        }
        try testing.expectEqual(0, exchange.fixture.manager.pool.stats().blocks);
        _ = try exchange.fixture.trim();
        try exchange.fixture.expectCharged(0);
    }
};

test "R4.1, R6.4 pool: blocks freed on other threads than they came from keep every byte and count" {
    for ([_]bool{ false, true }) |gate_atomic| {
        var fixture: Fixture = try .open(.{ .gate_atomic = gate_atomic });
        defer fixture.close();
        var exchange: Exchange = .{ .fixture = &fixture, .rounds = 5000, .size_max = 3000 };
        try exchange.expectDone(6);
    }
}

test "R5.1, R5.2, R6.5 pool: threads that exhaust it never pass the limit, and no refusal is unjust" {
    var fixture: Fixture = try .open(.{ .pool_limit = 10 * span_size });
    defer fixture.close();
    var exchange: Exchange = .{ .fixture = &fixture, .rounds = 1000, .size_max = 60_000 };
    try exchange.expectDone(8);
    try testing.expect(exchange.refused.load(.monotonic) > 0);
    const stats = fixture.manager.pool.stats();
    try testing.expect(stats.peak <= 10 * span_size);
    try testing.expectEqual(exchange.refused.load(.monotonic), stats.refusals);
}

test "pool: closing while threads allocate and free loses no block" {
    const Racer = struct {
        fn run(shared: *Fixture, failed: *Atomic(u32)) void {
            var mine = shared.*;
            race(&mine) catch {
                _ = failed.fetchAdd(1, .monotonic);
            };
        }

        fn race(mine: *Fixture) !void {
            var held: [50][]u8 = undefined;
            var count: usize = 0;
            while (mine.alloc(200)) |block| {
                @memset(block, 3);
                held[count] = block;
                count += 1;
                if (count < held.len) continue;
                for (held[10..]) |each| try mine.free(each);
                count = 10;
            } else |err| if (err != error.InvalidAccess) return err;
            for (held[0..count]) |each| {
                if (!std.mem.allEqual(u8, each, 3)) return error.Overwritten;
                try mine.free(each);
            }
        }
    };
    for (0..20) |_| {
        var fixture: Fixture = try .open(.{});
        const kept = try fixture.alloc(10);
        var failed: Atomic(u32) = .init(0);
        var threads: [3]std.Thread = undefined;
        for (&threads) |*thread| {
            thread.* = try .spawn(.{}, Racer.run, .{ &fixture, &failed });
        }
        while (fixture.class(200).blocks == 0) std.Thread.yield() catch {};
        var closing = fixture;
        closing.close();
        for (threads) |thread| thread.join();
        try testing.expectEqual(0, failed.load(.monotonic));
        try testing.expectEqual(fixture.manager, Managers.find(fixture.handle));
        try fixture.free(kept);
        try testing.expectEqual(null, Managers.find(fixture.handle));
    }
}

test "pool: the child of a fork finds the pools of its parent in good order" {
    if (builtin.os.tag == .windows) return error.SkipZigTest;
    const c = struct {
        extern "c" fn fork() c_int;
        extern "c" fn alarm(seconds: c_uint) c_uint;
        extern "c" fn waitpid(process: c_int, status: *c_int, options: c_int) c_int;
        extern "c" fn _exit(status: c_int) noreturn;
    };
    const Racer = struct {
        fixture: *Fixture,
        done: Atomic(bool) = .init(false),
        failed: Atomic(u32) = .init(0),

        fn run(racer: *@This()) void {
            var mine = racer.fixture.*;
            var size: usize = 1;
            while (!racer.done.load(.monotonic)) : (size = size * 7 % 100_003) {
                const block = mine.alloc(size) catch break;
                mine.free(block) catch break;
            } else return;
            _ = racer.failed.fetchAdd(1, .monotonic);
        }

        /// What a child does. Blocks of threads that are gone stay live, at most one of each.
        fn live(fixture: *Fixture, kept: []const u8) !void {
            if (!std.mem.allEqual(u8, kept, 5)) return error.Overwritten;
            var blocks: [300][]u8 = undefined;
            for (&blocks, 0..) |*block, index| {
                block.* = try fixture.alloc(1 + index * 300);
                @memset(block.*, 1);
            }
            for (blocks) |block| try fixture.free(block);
            try fixture.freePointer(@constCast(kept.ptr));
            if (fixture.manager.pool.stats().blocks > 8) return error.BlocksLost;
            _ = try fixture.trim();
            // Each of them keeps its slab, of which none is larger.
            if (fixture.charged() > 8 * 8 * size_classes.size_max) return error.NotGivenBack;
            var own: Fixture = try .open(.{});
            try own.free(try own.alloc(64));
            own.close();
            fixture.close();
        }
    };
    for ([_]bool{ false, true }) |gate_atomic| {
        var fixture: Fixture = try .open(.{ .gate_atomic = gate_atomic });
        defer fixture.close();
        const kept = try fixture.alloc(64);
        @memset(kept, 5);
        var racer: Racer = .{ .fixture = &fixture };
        var threads: [8]std.Thread = undefined;
        for (&threads) |*thread| thread.* = try .spawn(.{}, Racer.run, .{&racer});
        for (0..20) |_| {
            const child = c.fork();
            if (child == 0) {
                _ = c.alarm(20);
                Racer.live(&fixture, kept) catch c._exit(1);
                c._exit(0);
            }
            var status: c_int = -1;
            try testing.expectEqual(child, c.waitpid(child, &status, 0));
            try testing.expectEqual(0, status);
        }
        racer.done.store(true, .monotonic);
        for (threads) |thread| thread.join();
        try testing.expectEqual(0, racer.failed.load(.monotonic));
        try testing.expect(std.mem.allEqual(u8, kept, 5));
        try fixture.free(kept);
        try testing.expectEqual(0, fixture.manager.pool.stats().blocks);
    }
}
