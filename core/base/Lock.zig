//! A mutual exclusion lock for the rare side: four bytes, no allocation, sleeps in the kernel.
//!
//! Guarantees exclusion and release/acquire ordering; not fair, not recursive. All zero is
//! unlocked, so zeroed memory holds a valid lock: the blocks of closed managers rely on it.
//! tryLock and unlock are sequentially consistent: who fails to take the lock after leaving a
//! message, and who looks for messages after unlocking, cannot both miss the other (`Dimension`).

const std = @import("std");
const os = @import("../os.zig");

const Lock = @This();

const unlocked = 0;
const locked = 1;
/// Locked, and somebody may be asleep.
const contended = 2;

state: std.atomic.Value(u32) = .init(unlocked),

pub fn tryLock(lock_: *Lock) bool {
    return lock_.state.cmpxchgStrong(unlocked, locked, .seq_cst, .seq_cst) == null;
}

pub fn lock(lock_: *Lock) void {
    if (lock_.tryLock()) return;
    while (lock_.state.swap(contended, .acquire) != unlocked) {
        os.futexWait(&lock_.state, contended, null);
    }
}

pub fn unlock(lock_: *Lock) void {
    if (lock_.state.swap(unlocked, .seq_cst) == contended) os.futexWakeOne(&lock_.state);
}

test "Lock: four threads count to a sum that no increment is missing from" {
    const Shared = struct {
        lock: Lock = .{},
        count: u64 = 0,

        fn run(shared: *@This()) void {
            for (0..10_000) |_| {
                shared.lock.lock();
                defer shared.lock.unlock();
                shared.count += 1;
            }
        }
    };
    var shared: Shared = .{};
    var threads: [4]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Shared.run, .{&shared});
    for (threads) |thread| thread.join();
    try std.testing.expectEqual(40_000, shared.count);
}

test "Lock: tryLock refuses what is locked" {
    var lock_: Lock = .{};
    try std.testing.expect(lock_.tryLock());
    try std.testing.expect(!lock_.tryLock());
    lock_.unlock();
    try std.testing.expect(lock_.tryLock());
}
