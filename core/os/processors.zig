//! A barrier for other threads of the process where the kernel refuses `membarrier`: the calling
//! thread runs on every processor that one of them can run on.
//!
//! Why that is a barrier. While the caller runs on a processor, no other thread does, and the
//! scheduler passes a full memory barrier when it takes a thread off a processor, after the
//! thread's last instruction, and again before it goes on with it: `membarrier` itself relies on
//! both (`__schedule` in the kernel's kernel/sched/core.c, and kernel/sched/membarrier.c). Moving
//! to another processor takes the caller off one as well, so that what it stored before is seen
//! from there on. A thread that changes processors meanwhile is taken off one and passes its
//! barriers by that; one that runs on the same processor throughout is taken off it when the caller
//! arrives there; one that does not run passed its barrier when it was taken off, and passes the
//! next before it runs again. `sched_setaffinity` of the calling thread returns once that runs
//! where it is allowed to.
//!
//! The trick of changing the protection of a page, for which the kernel used to interrupt all
//! processors that the process runs on, is not used: newer kernels flush the tables of other
//! processors without an interrupt where the hardware can (INVLPGB of AMD, TLBI of ARM).
//!
//! Limits. A thread in another cpuset may run where the caller may not go: then this is refused. A
//! real-time thread that never sleeps keeps the caller from its processor as it keeps everybody.
//! Each processor costs a wait for its scheduler. It is for kernels: an emulator that only takes
//! note of affinities has to provide `membarrier`, or refuse it from the start.

const std = @import("std");
const linux = std.os.linux;
const os = @import("../os.zig");

const Id = std.atomic.Value(u64);

/// As many processors as a kernel can be made for.
const count_max = 8192;
/// A bit a processor, as the kernel has them.
const Set = [count_max / 64]u64;

fn has(set: *const Set, processor: usize) bool {
    return set[processor / 64] >> @intCast(processor % 64) & 1 != 0;
}

fn add(set: *Set, processor: usize) void {
    set[processor / 64] |= @as(u64, 1) << @intCast(processor % 64);
}

/// Every one of these threads passes a full memory barrier between the call and its return.
/// `threads`: numbers of threads of this process, with zeros among them. A thread whose number is
/// stored meanwhile, by a sequentially consistent store, has passed one by that.
pub fn visit(threads: []const Id, code: *i64) os.Error!void {
    var own: Set = undefined;
    const size = try askSet(0, &own, code);
    var wanted = own;
    for (threads) |*thread| {
        const id = thread.load(.seq_cst);
        if (id == 0) continue;
        var its: Set = undefined;
        _ = askSet(id, &its, code) catch |err| {
            // It has ended, for which it was taken off its processor.
            if (code.* == @backingInt(linux.E.SRCH)) continue;
            return err;
        };
        for (&wanted, its) |*word, its_word| word.* |= its_word;
    }
    var visited: Set = @splat(0);
    defer goBack(&own, &visited, size);
    for (0..size * 8) |processor| {
        goTo(processor, size, code) catch |err| {
            // There is none of that number, or it is not for this thread, nor for the others.
            if (code.* == @backingInt(linux.E.INVAL) and !has(&wanted, processor)) continue;
            return err;
        };
        add(&visited, processor);
    }
    code.* = 0;
}

fn goTo(processor: usize, size: usize, code: *i64) os.Error!void {
    var set: Set = @splat(0);
    add(&set, processor);
    try moveTo(&set, size, code);
    // Nothing that pretends is believed.
    var current: c_uint = undefined;
    const rc = linux.syscall3(.getcpu, @intFromPtr(&current), 0, 0);
    if (linux.errno(rc) == .SUCCESS and current == processor) return;
    code.* = @backingInt(linux.E.NOSYS);
    return error.System;
}

/// A thread that could go everywhere is allowed everything again, and so follows a cpuset that
/// grows later.
fn goBack(own: *const Set, visited: *const Set, size: usize) void {
    const everything: Set = @splat(std.math.maxInt(u64));
    const back = if (std.mem.eql(u64, own, visited)) &everything else own;
    var ignored: i64 = 0;
    moveTo(back, size, &ignored) catch moveTo(&everything, size, &ignored) catch {};
}

/// Where a thread can run; 0 is the calling one. Returns the bytes of the kernel's sets.
fn askSet(id: u64, set: *Set, code: *i64) os.Error!usize {
    set.* = @splat(0);
    const rc = linux.syscall3(.sched_getaffinity, id, @sizeOf(Set), @intFromPtr(set));
    return switch (linux.errno(rc)) {
        .SUCCESS => rc,
        else => |errno| refused(errno, code),
    };
}

fn moveTo(set: *const Set, size: usize, code: *i64) os.Error!void {
    const rc = linux.syscall3(.sched_setaffinity, 0, size, @intFromPtr(set));
    switch (linux.errno(rc)) {
        .SUCCESS => {},
        else => |errno| return refused(errno, code),
    }
}

fn refused(errno: linux.E, code: *i64) os.Error {
    code.* = @backingInt(errno);
    return error.System;
}

const builtin = @import("builtin");
const contract = @import("contract.zig");
const testing = std.testing;

/// Two threads, each of which stores and then looks for what the other stored. The stores of this
/// one are plain moves with nothing behind them, as those of a reader are.
const Litmus = struct {
    id: Id = .init(0),
    round: std.atomic.Value(u64) align(256) = .init(0),
    mine: std.atomic.Value(u64) align(256) = .init(0),
    yours: std.atomic.Value(u64) align(256) = .init(0),
    seen: std.atomic.Value(u64) align(256) = .init(0),
    done: std.atomic.Value(u64) align(256) = .init(0),
    stop: std.atomic.Value(bool) = .init(false),

    fn run(litmus: *Litmus) void {
        litmus.id.store(os.threadId(), .seq_cst);
        var last: u64 = 0;
        while (!litmus.stop.load(.monotonic)) {
            const round = litmus.round.load(.acquire);
            if (round == last) continue;
            last = round;
            litmus.mine.store(round, .monotonic);
            asm volatile ("" ::: .{ .memory = true });
            litmus.seen.store(litmus.yours.load(.monotonic), .monotonic);
            litmus.done.store(round, .release);
        }
    }

    /// True if neither saw the other.
    fn missed(litmus: *Litmus, round: u64, with_barrier: bool) !bool {
        litmus.round.store(round, .release);
        for (0..round % 64) |_| std.atomic.spinLoopHint();
        litmus.yours.store(round, .monotonic);
        asm volatile ("" ::: .{ .memory = true });
        var code: i64 = 0;
        if (with_barrier) try visit(@ptrCast(&litmus.id), &code);
        const saw = litmus.mine.load(.monotonic) == round;
        while (litmus.done.load(.acquire) != round) std.atomic.spinLoopHint();
        return !saw and litmus.seen.load(.monotonic) != round;
    }

    fn count(litmus: *Litmus, rounds: usize, with_barrier: bool) !u64 {
        const thread = try std.Thread.spawn(.{}, run, .{litmus});
        defer thread.join();
        defer litmus.stop.store(true, .monotonic);
        while (litmus.id.load(.seq_cst) == 0) std.atomic.spinLoopHint();
        var misses: u64 = 0;
        for (1..rounds + 1) |round| misses += @intFromBool(try litmus.missed(round, with_barrier));
        return misses;
    }
};

test "processors: whoever visits them all and another thread cannot both miss what was stored" {
    if (contract.emulated()) return error.SkipZigTest;
    var litmus: Litmus = .{};
    try testing.expectEqual(0, try litmus.count(2000, true));
}

test "processors: without a visit two threads miss what was stored (negative control)" {
    if (builtin.cpu.arch != .x86_64 or builtin.sanitize_thread or contract.emulated() or
        try std.Thread.getCpuCount() < 2) return error.SkipZigTest;
    // A busy machine may not run the two at the same time.
    for (0..20) |_| {
        var litmus: Litmus = .{};
        if (try litmus.count(100_000, false) > 0) return;
    }
    return error.SkipZigTest;
}

test "processors: the calling thread may run afterwards where it might before" {
    if (contract.emulated()) return error.SkipZigTest;
    var code: i64 = 0;
    var before: Set = undefined;
    const size = try askSet(0, &before, &code);
    defer moveTo(&before, size, &code) catch {};
    try visit(&.{}, &code);
    var after: Set = undefined;
    _ = try askSet(0, &after, &code);
    try testing.expectEqual(before, after);
    // One that is held on one processor stays there.
    var one: Set = @splat(0);
    add(&one, for (0..size * 8) |processor| {
        if (has(&before, processor)) break processor;
    } else unreachable);
    try moveTo(&one, size, &code);
    try visit(&.{}, &code);
    _ = try askSet(0, &after, &code);
    try testing.expectEqual(one, after);
}
