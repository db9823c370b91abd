//! Magazines: fixed arrays of block numbers, that blocks are carried in between threads and depots.
//!
//! A magazine must be at hand whenever a block is freed, because a free cannot fail. So memory for
//! as many as could be needed is taken when a slab is (`guarantee`), and is touched only when one
//! is obtained: few are, since a freed block mostly goes out again before the next is freed.

const std = @import("std");
const os = @import("../os.zig");
const size_classes = @import("size_classes.zig");

const Magazines = @This();

pub const Magazine = extern struct {
    next: ?*Magazine,
    /// Numbers of granules at which blocks start. A magazine of fewer uses the last ones, so that
    /// each is full where the next one begins.
    rounds: [size_classes.rounds_max]u32,

    /// Where blocks are put in.
    pub fn blocks(magazine: *Magazine, capacity: u32) [*]u32 {
        return magazine.rounds[size_classes.rounds_max - capacity ..].ptr;
    }
};

comptime {
    std.debug.assert(@sizeOf(Magazine) == 1024);
}

base: [*]u8,
/// Bytes of address space, and of them bytes taken.
size: usize,
taken: usize,
/// Magazines that may be obtained; and that were, for the first time.
guaranteed: u32,
touched: u32,
free: ?*Magazine,

pub fn init(base: [*]u8, size: usize) Magazines {
    return .{ .base = base, .size = size, .taken = 0, .guaranteed = 0, .touched = 0, .free = null };
}

/// Lets `count` more be obtained.
pub fn guarantee(magazines: *Magazines, count: u32, code: *i64) os.Error!void {
    const needed = std.mem.alignForward(
        usize,
        (@as(usize, magazines.guaranteed) + count) * @sizeOf(Magazine),
        os.arena_unit,
    );
    if (needed > magazines.taken) {
        if (needed > magazines.size) return error.System;
        try os.take(magazines.base + magazines.taken, needed - magazines.taken, code);
        magazines.taken = needed;
    }
    magazines.guaranteed += count;
}

/// Only as many as are guaranteed: each depot sees to it for its own share.
pub fn obtain(magazines: *Magazines) *Magazine {
    if (magazines.free) |magazine| {
        magazines.free = magazine.next;
        return magazine;
    }
    const all: [*]Magazine = @ptrCast(@alignCast(magazines.base));
    defer magazines.touched += 1;
    return &all[magazines.touched];
}

pub fn giveBack(magazines: *Magazines, magazine: *Magazine) void {
    magazine.next = magazines.free;
    magazines.free = magazine;
}

/// Gives all memory back, when nobody holds a magazine and none is guaranteed, which may be never
/// in the child of a fork.
pub fn reset(magazines: *Magazines) void {
    if (magazines.taken == 0 or magazines.guaranteed != 0) return;
    var ignored: i64 = 0;
    os.give(magazines.base, magazines.taken, &ignored) catch return;
    magazines.* = .init(magazines.base, magazines.size);
}

test "Magazines: more than four million can be guaranteed" {
    const size = 5 << 30;
    var magazines: Magazines = .init(undefined, size);
    var code: i64 = 0;
    // What is taken already is as much as there is: the next needs more.
    magazines.taken = size;
    magazines.guaranteed = size / @sizeOf(Magazine) - 1;
    try magazines.guarantee(1, &code);
    try std.testing.expectEqual(5 << 20, magazines.guaranteed);
    try std.testing.expectError(error.System, magazines.guarantee(1, &code));
}
