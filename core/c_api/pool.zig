//! Shims of the header's banner "Pool".
//!
//! Handing out and taking back a block that the calling thread has at hand is a handful of loads,
//! compares and plain stores; whatever does not fit that goes to a second function that starts over
//! and explains itself.

const std = @import("std");
const os = @import("../os.zig");
const Managers = @import("../manager.zig").Managers;
const Pool = @import("../Pool.zig");
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

const alignment_min = 16;

pub fn memmgr_block_alloc(
    manager: ?*types.Manager,
    size: usize,
    error_out: ?*types.Error,
) callconv(.c) ?*anyopaque {
    return Pool.tryAlloc(@intFromPtr(manager), size) orelse allocPlain(manager, size, error_out);
}

/// With the arguments of the function above, so that it is left by a jump.
noinline fn allocPlain(
    manager: ?*types.Manager,
    size: usize,
    error_out: ?*types.Error,
) callconv(.c) ?*anyopaque {
    @branchHint(.cold);
    return Pool.tryAllocOther(@intFromPtr(manager), size) orelse
        allocSlow(manager, .{ .size = size }, error_out);
}

pub fn memmgr_block_alloc_aligned(
    manager: ?*types.Manager,
    size: usize,
    alignment: usize,
    error_out: ?*types.Error,
) callconv(.c) ?*anyopaque {
    return allocSlow(manager, .{ .size = size, .alignment = alignment }, error_out);
}

pub fn memmgr_block_alloc_zeroed(
    manager: ?*types.Manager,
    size: usize,
    alignment: usize,
    error_out: ?*types.Error,
) callconv(.c) ?*anyopaque {
    const request: Pool.Request = .{ .size = size, .alignment = alignment, .zeroed = true };
    return allocSlow(manager, request, error_out);
}

fn allocSlow(
    manager: ?*types.Manager,
    request: Pool.Request,
    error_out: ?*types.Error,
) ?*anyopaque {
    var call: Call = .begin(.alloc, error_out);
    return call.endPointer(alloc(&call, manager, request));
}

fn alloc(call: *Call, manager: ?*types.Manager, request: Pool.Request) Call.Error![*]u8 {
    const target = try call.open(manager);
    if (@popCount(request.alignment) != 1 or request.alignment > os.pageSize()) {
        return call.invalid("an alignment is a power of two, and at most the page size");
    }
    var checked = request;
    checked.alignment = @max(request.alignment, alignment_min);
    return target.manager.allocBlock(target.handle, checked, &call.detail);
}

pub fn memmgr_block_alloc_batch(
    manager: ?*types.Manager,
    size: usize,
    count: usize,
    blocks_out: ?[*]?*anyopaque,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.alloc, error_out);
    return call.end(allocBatch(&call, manager, size, count, blocks_out));
}

fn allocBatch(
    call: *Call,
    manager: ?*types.Manager,
    size: usize,
    count: usize,
    blocks_out: ?[*]?*anyopaque,
) Call.Error!void {
    const out = blocks_out orelse {
        return if (count == 0) {} else call.invalid("blocks_out is NULL");
    };
    const blocks = out[0..count];
    @memset(blocks, null);
    const target = try call.open(manager);
    try target.manager.allocBlocks(target.handle, size, blocks, &call.detail);
}

pub fn memmgr_block_resize(
    manager: ?*types.Manager,
    block: ?*anyopaque,
    size: usize,
    error_out: ?*types.Error,
) callconv(.c) ?*anyopaque {
    var call: Call = .begin(.resize, error_out);
    return call.endPointer(resize(&call, manager, block, size));
}

fn resize(
    call: *Call,
    manager: ?*types.Manager,
    block: ?*anyopaque,
    size: usize,
) Call.Error![*]u8 {
    const target = try call.open(manager);
    const old = block orelse {
        return target.manager.allocBlock(target.handle, .{ .size = size }, &call.detail);
    };
    return target.manager.resizeBlock(target.handle, old, size, &call.detail);
}

pub fn memmgr_block_free(
    manager: ?*types.Manager,
    block: ?*anyopaque,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    // NULL is outside of every range.
    if (Pool.tryFree(@intFromPtr(manager), block)) return 0;
    return freeSlow(manager, block orelse return 0, error_out);
}

fn freeSlow(manager: ?*types.Manager, block: *anyopaque, error_out: ?*types.Error) i32 {
    @branchHint(.cold);
    if (Pool.tryFreeOther(@intFromPtr(manager), block)) return 0;
    var call: Call = .begin(.free, error_out);
    return call.end(free(&call, manager, block));
}

fn free(call: *Call, manager: ?*types.Manager, block: *anyopaque) Call.Error!void {
    const target = try lookUp(call, manager);
    try target.manager.freeBlock(target.handle, block, &call.detail);
}

/// The manager of a block, which may be closed. When the last block is gone, none is left to free.
fn lookUp(call: *Call, manager: ?*types.Manager) Call.Error!Call.Target {
    const value: u64 = @intFromPtr(manager);
    // One look: it may go at any moment, with a block that is freed on another thread.
    if (value != 0) if (Managers.find(value)) |found| {
        return .{ .manager = found, .handle = value };
    };
    if (Managers.wasOpen(value)) return Pool.gone(&call.detail);
    return call.lookUp(manager);
}

pub fn memmgr_block_free_batch(
    manager: ?*types.Manager,
    blocks: ?[*]const ?*anyopaque,
    count: usize,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.free, error_out);
    return call.end(freeBatch(&call, manager, blocks, count));
}

fn freeBatch(
    call: *Call,
    manager: ?*types.Manager,
    blocks: ?[*]const ?*anyopaque,
    count: usize,
) Call.Error!void {
    const list = blocks orelse return if (count == 0) {} else call.invalid("blocks is NULL");
    var done: usize = 0;
    while (true) : (done += 1) {
        done += Pool.tryFreeMany(@intFromPtr(manager), list[done..count]);
        if (done == count) return;
        const block = list[done] orelse continue;
        call.detail.offset = done;
        try free(call, manager, block);
    }
}

pub fn memmgr_block_size(
    manager: ?*types.Manager,
    block: ?*const anyopaque,
    size_out: ?*usize,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.find, error_out);
    if (size_out) |out| out.* = 0;
    return call.end(sizeOf(&call, manager, block, size_out));
}

fn sizeOf(
    call: *Call,
    manager: ?*types.Manager,
    block: ?*const anyopaque,
    size_out: ?*usize,
) Call.Error!void {
    const out = size_out orelse return call.invalid("size_out is NULL");
    const pointer = block orelse return call.invalid("block is NULL");
    const target = try lookUp(call, manager);
    out.* = try target.manager.pool.sizeOf(target.handle, pointer, &call.detail);
}

pub fn memmgr_pool_trim(
    manager: ?*types.Manager,
    bytes_out: ?*u64,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.trim, error_out);
    if (bytes_out) |out| out.* = 0;
    return call.end(trim(&call, manager, bytes_out));
}

fn trim(call: *Call, manager: ?*types.Manager, bytes_out: ?*u64) Call.Error!void {
    const target = try call.open(manager);
    const bytes = try target.manager.trim(target.handle, &call.detail);
    if (bytes_out) |out| out.* = bytes;
}

pub fn memmgr_pool_stats_get(
    manager: ?*types.Manager,
    stats_out: ?*types.PoolStats,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(getStats(&call, manager, stats_out));
}

fn getStats(
    call: *Call,
    manager: ?*types.Manager,
    stats_out: ?*types.PoolStats,
) Call.Error!void {
    const out = try call.output(types.PoolStats, stats_out);
    const target = try call.open(manager);
    const stats = target.manager.pool.stats();
    sized.write(types.PoolStats, out, .{
        .class_count = Pool.class_count,
        .allocated = stats.allocated,
        .peak = stats.peak,
        .limit = target.manager.pool_limit,
        .blocks = stats.blocks,
        .bytes = stats.bytes,
        .large_blocks = stats.large_blocks,
        .large_bytes = stats.large_bytes,
        .free_bytes = stats.free_bytes,
        .refusals = stats.refusals,
        .double_frees = stats.double_frees,
    });
}

pub fn memmgr_pool_class_get(
    manager: ?*types.Manager,
    index: u32,
    class_out: ?*types.PoolClass,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(getClass(&call, manager, index, class_out));
}

fn getClass(
    call: *Call,
    manager: ?*types.Manager,
    index: u32,
    class_out: ?*types.PoolClass,
) Call.Error!void {
    const out = try call.output(types.PoolClass, class_out);
    const target = try call.open(manager);
    if (index >= Pool.class_count) {
        call.detail.requested = index;
        call.detail.limit = Pool.class_count;
        return call.invalid("no pool has this index");
    }
    const class = target.manager.pool.describeClass(index);
    sized.write(types.PoolClass, out, .{
        .index = index,
        .block_size = class.block_size,
        .slab_size = class.slab_size,
        .slabs = class.slabs,
        .blocks = class.blocks,
        .free_blocks = class.free_blocks,
        .hits = class.hits,
        .misses = class.misses,
    });
}
