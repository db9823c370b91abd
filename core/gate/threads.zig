//! A small number for every thread of the process, so that counters can be found by index.
//!
//! A thread gets its index the first time it needs one and hands it on when it ends. The hand-on
//! is a release by the old owner and an acquire by the new one, so counters that belong to an
//! index go on from where they stood. There are `count_max` indices; threads beyond that, threads
//! that the system has no exit hook for, and threads that are past their exit hook share the
//! index `crowd`, whose counters must be moved atomically.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");

const Atomic = std.atomic.Value;

/// Bounds the memory for counters; more threads work, at the speed of atomic additions.
pub const count_max = 4096;
/// No row of counters ever has this index: looking it up fails into the slow path, which makes
/// "am I registered?" and "is there a row for me?" one question.
pub const unregistered: u32 = 0;
pub const crowd: u32 = 1;
const first_own: u32 = 2;

/// The calling thread's index, or `unregistered`.
pub inline fn index() u32 {
    return current().index;
}

/// A pointer of the calling thread's: null when it begins, and after its exit hook.
pub inline fn getSlot() ?*anyopaque {
    if (!initial_exec or builtin.cpu.arch != .x86_64) return current().slot;
    return asm volatile (
        \\movq memmgr_thread@gottpoff(%%rip), %[slot]
        \\movq %%fs:(%[slot]), %[slot]
        : [slot] "=r" (-> ?*anyopaque),
    );
}

pub fn setSlot(pointer: ?*anyopaque) void {
    current().slot = pointer;
}

const Thread = extern struct { slot: ?*anyopaque = null, index: u32 = unregistered };

/// In a shared library the compiler reaches a thread-local by a call (the general-dynamic model),
/// which is half the cost of acquiring a view. Two instructions do where the variable is in the
/// block that every thread starts with (initial-exec): glibc keeps room in it for libraries that
/// are loaded later, musl does not. Zig cannot ask for the model, so it is asked for by name.
const initial_exec = builtin.os.tag == .linux and builtin.abi.isGnu() and
    builtin.zig_backend == .stage2_llvm and
    (builtin.cpu.arch == .x86_64 or builtin.cpu.arch == .aarch64);

inline fn current() *Thread {
    if (!initial_exec) return &Portable.current;
    return switch (builtin.cpu.arch) {
        .x86_64 => asm (
            \\movq memmgr_thread@gottpoff(%%rip), %[pointer]
            \\addq %%fs:0, %[pointer]
            : [pointer] "=r" (-> *Thread),
            :
            : .{ .cc = true }),
        .aarch64 => aarch64: {
            var block: usize = undefined;
            const offset = asm (
                \\mrs %[block], tpidr_el0
                \\adrp %[offset], :gottprel:memmgr_thread
                \\ldr %[offset], [%[offset], :gottprel_lo12:memmgr_thread]
                : [offset] "=&r" (-> usize),
                  [block] "=&r" (block),
            );
            break :aarch64 @ptrFromInt(block + offset);
        },
        else => comptime unreachable,
    };
}

const Portable = struct {
    threadlocal var current: Thread = .{};
};

comptime {
    if (initial_exec) asm (
        \\.pushsection .tbss, "awT", %nobits
        \\.balign 16
        \\.hidden memmgr_thread
        \\.globl memmgr_thread
        \\.type memmgr_thread, %object
        \\.size memmgr_thread, 16
        \\memmgr_thread: .zero 16
        \\.popsection
    );
}

/// One bit an index; bit `unregistered` and `crowd` are never looked at.
var taken: [count_max / 64]Atomic(u64) = @splat(.init(0));
/// All indices that were ever taken are below it.
var high_water: Atomic(u32) = .init(first_own);

/// The system's number of the thread that has an index; 0 while none has. Stored before the thread
/// moves its first counter, and taken back after its last.
var ids: [count_max]Atomic(u64) = @splat(.init(0));

/// Every thread that has an index passes a full memory barrier between the call and its return, or
/// has its first move of a counter still to come.
pub fn barrier(code: *i64) os.Error!void {
    return os.processBarrier(ids[0..high_water.load(.seq_cst)], code);
}

/// Indices below this one may have counters. A thread raises it before it moves its first
/// counter, so whoever sees the counter's move also sees the index.
pub fn limit() u32 {
    return high_water.load(.acquire);
}

/// Gives the calling thread an index if it has none, and returns it.
pub fn register() u32 {
    if (index() != unregistered) return index();
    const own = claim() orelse {
        current().index = crowd;
        return crowd;
    };
    if (!os.atThreadExit(handOn, own)) {
        release(own);
        current().index = crowd;
        return crowd;
    }
    // Sequentially consistent: whoever does not find it there yet stored before what this thread
    // looks at next.
    ids[own].store(os.threadId(), .seq_cst);
    current().index = own;
    return own;
}

fn claim() ?u32 {
    for (&taken, 0..) |*word, word_index| {
        var bits = word.load(.monotonic);
        while (true) {
            const reserved: u64 = if (word_index == 0) (1 << first_own) - 1 else 0;
            const free = ~(bits | reserved);
            if (free == 0) break;
            const bit: u6 = @intCast(@ctz(free));
            const claimed = bits | (@as(u64, 1) << bit);
            bits = word.cmpxchgWeak(bits, claimed, .acquire, .monotonic) orelse {
                const own: u32 = @intCast(word_index * 64 + bit);
                _ = high_water.fetchMax(own + 1, .seq_cst);
                return own;
            };
        }
    }
    return null;
}

fn release(own: u32) void {
    const bit: u6 = @intCast(own % 64);
    _ = taken[own / 64].fetchAnd(~(@as(u64, 1) << bit), .release);
}

/// See `fork`. In the child all threads but the calling one are gone, and have handed on theirs.
pub fn onFork(stage: os.ForkStage) void {
    if (stage != .in_child) return;
    const own = index();
    for (&taken, 0..) |*word, word_index| {
        const bit = if (own / 64 == word_index) @as(u64, 1) << @intCast(own % 64) else 0;
        word.store(bit, .release);
    }
    for (ids[0..limit()], 0..) |*id, at| {
        if (id.load(.monotonic) != 0) id.store(if (at == own) os.threadId() else 0, .seq_cst);
    }
}

/// Called with the index of a thread that ends, before another thread can get that index.
pub const LeaveHook = *const fn (own: u32) void;

var leave_hook: Atomic(?LeaveHook) = .init(null);

/// Has `hook` called by each thread that ends from now on. There is one hook.
pub fn callOnLeave(hook: LeaveHook) void {
    leave_hook.store(hook, .release);
}

/// Runs as the thread ends. Whatever the thread still does after it uses the crowd's counters.
///
/// On Windows it also runs as a fiber is deleted, by whatever thread: the one whose index this is
/// may go on elsewhere. An index is then kept for good, which costs no more than one of thousands.
fn handOn(own: usize) void {
    if (index() != own) return;
    current().index = crowd;
    setSlot(null);
    if (leave_hook.load(.acquire)) |hook| hook(@intCast(own));
    ids[own].store(0, .seq_cst);
    release(@intCast(own));
}

test "threads: an index is kept by its thread and handed on when it ends" {
    const Probe = struct {
        var seen: u32 = 0;
        fn run() void {
            seen = register();
            std.debug.assert(register() == seen);
        }
    };
    const mine = register();
    try std.testing.expect(mine >= first_own);
    var last: u32 = 0;
    for (0..count_max) |_| {
        const thread = try std.Thread.spawn(.{}, Probe.run, .{});
        thread.join();
        try std.testing.expect(Probe.seen != mine and Probe.seen != unregistered);
        last = @max(last, Probe.seen);
    }
    // As many threads as there are indices ended one after the other: had they not been handed
    // on, the last of them would stand in the crowd.
    try std.testing.expect(Probe.seen != crowd);
    try std.testing.expect(last < limit());
}
