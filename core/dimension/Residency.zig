//! What of a dimension's pages is in memory, and what is to be: questions to the system, each made
//! while the generation is held as by a view, and while nobody else locks or unlocks its pages.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("Dimension.zig");
const Gate = @import("../gate.zig").Gate;
const Generation = @import("Generation.zig");
const Held = @import("Held.zig");
const interrupt = @import("../base.zig").interrupt;

const Residency = @This();
const Error = Detail.Error;

generation: u64,
offset: u64,
length: u64,
/// Null if the system does not tell; so is what is cached.
use: ?os.Use,
cached: ?u64,
locked: u64,

/// Counts the pages that `length` bytes from `offset` stand on; null: up to the end.
pub fn of(
    dimension: *Dimension,
    owner: u64,
    offset: u64,
    length: ?u64,
    detail: *Detail,
) Error!Residency {
    const word = try dimension.pin(owner, detail);
    defer dimension.leavePinned(word);
    const generation = dimension.inside(word);
    const bytes = length orelse generation.size -| offset;
    if (offset > generation.size or bytes > generation.size - offset) {
        detail.requested = offset;
        detail.used = bytes;
        detail.limit = generation.size;
        return detail.fail(error.OutOfBounds, "the range is not within what is loaded");
    }
    var found: Residency = .{
        .generation = generation.number,
        .offset = offset,
        .length = bytes,
        .use = .{},
        .cached = 0,
        .locked = 0,
    };
    if (bytes == 0) return found;
    const start = std.mem.alignBackward(u64, offset, os.pageSize());
    const end = std.mem.alignForward(u64, offset + bytes, os.pageSize());
    const pages = generation.placement.part(@intCast(start), @intCast(end - start));
    var ignored: i64 = 0;
    found.use = os.memoryUse(pages.slot.base, pages.mapped_size, &ignored) catch null;
    found.cached = os.cached(pages, generation.path, &ignored) catch null;
    if (isLocked(dimension, generation)) found.locked = pages.mapped_size;
    return found;
}

fn isLocked(dimension: *Dimension, generation: *const Generation) bool {
    dimension.lock.lock();
    defer dimension.unlockForNow();
    return generation.locked;
}

/// Drops its pages from resident memory, unless they are locked.
pub fn evict(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    const word = try dimension.beginPaging(owner, detail);
    const locked = dimension.inside(word).locked;
    const outcome = if (locked) {} else evictPinned(dimension, word, detail);
    return dimension.endPaging(word, if (locked) null else .evict, outcome, detail);
}

fn evictPinned(dimension: *Dimension, word: Gate.Word, detail: *Detail) Error!void {
    var own: Held = .{ .dimension = dimension, .slot = word.slot };
    own.begin();
    defer own.end();
    var pieces: interrupt.Pieces = .{ .placement = dimension.inside(word).placement };
    while (try pieces.next(detail)) |piece| os.evict(piece);
}

/// Has the system keep all pages of what is loaded in memory. What fails leaves those locked that
/// were locked before.
pub fn lock(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    const word = try dimension.beginPaging(owner, detail);
    return dimension.endPaging(word, .lock, lockPinned(dimension, word, detail), detail);
}

fn lockPinned(dimension: *Dimension, word: Gate.Word, detail: *Detail) Error!void {
    var own: Held = .{ .dimension = dimension, .slot = word.slot };
    own.begin();
    defer own.end();
    const generation = &dimension.generations[word.slot];
    const placement = generation.placement;
    const size = placement.mapped_size;
    // A process that has become another user may not be told: then all of it counts as missing.
    var ignored: i64 = 0;
    const use: os.Use = os.memoryUse(placement.slot.base, size, &ignored) catch .{};
    try Generation.checkMemory(size - use.resident, detail);
    try bringIn(dimension, word.slot, placement, detail);
    const was_locked = generation.locked;
    errdefer if (!was_locked) os.unlock(placement);
    var pieces: interrupt.Pieces = .{ .placement = placement };
    while (try pieces.next(detail)) |piece| os.lock(piece, &detail.code) catch {
        const reason = "the system does not let it stay in memory";
        const limit = os.shortOf(.{ .locked = size }) orelse return detail.refused(size, reason);
        return detail.exceeds(size, limit, error.AllocationRefused, reason);
    };
    setLocked(dimension, generation, true);
}

fn setLocked(dimension: *Dimension, generation: *Generation, locked: bool) void {
    dimension.lock.lock();
    defer dimension.unlockForNow();
    generation.locked = locked;
}

/// Lets the system take the pages of what is loaded again.
pub fn unlock(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    const word = try dimension.beginPaging(owner, detail);
    const generation = &dimension.generations[word.slot];
    const locked = generation.locked;
    if (locked) {
        os.unlock(generation.placement);
        setLocked(dimension, generation, false);
    }
    return dimension.endPaging(word, if (locked) .unlock else null, {}, detail);
}

/// Inside of the slot: has pages of it in memory, and mapped.
pub fn bringIn(dimension: *Dimension, slot: u1, whole: os.Placement, detail: *Detail) Error!void {
    var pieces: interrupt.Pieces = .{ .placement = whole };
    while (try pieces.next(detail)) |piece| os.populate(piece, false, &detail.code) catch {
        // The guard has not seen it: the system did the reading.
        detail.file_name = dimension.generations[slot].path;
        defer detail.keepFileName();
        return detail.fileRefused(whole.mapped_size, "cannot bring the file's pages into memory");
    };
    try dimension.checkUnfaulted(slot, detail);
}

/// Has its file read while the caller goes on.
pub fn readAhead(dimension: *Dimension, owner: u64, detail: *Detail) Error!void {
    const word = try dimension.pin(owner, detail);
    defer dimension.leavePinned(word);
    os.readAhead(dimension.inside(word).placement);
}
