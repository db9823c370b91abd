//! Zeros in place of a file's pages that cannot be read, and the mark that says so.
//!
//! A file that is cut short while it is mapped, or a device that fails, ends every process that
//! touches the missing page. A guarded slot gives zeros instead, from that page to the end of its
//! generation: the read that is under way ends, and the dimension is faulted until it is reloaded.
//!
//! `onFault` runs on the thread that met the fault, between two of its instructions, whatever locks
//! it holds. So all it looks at is atomic and in permanent memory, and all it calls is `os.zero`.
//! It finds the guard of an address in a list of all guards that were ever used, which only grows.
//! Invariant: the mark comes before the zeros, so that whoever has read a zero finds it; and before
//! the gate's word, which whoever opens the gate looks at in the reverse order. One of the two sees
//! the other.

const std = @import("std");
const os = @import("os.zig");
const Detail = @import("base.zig").Detail;
const Gate = @import("gate.zig").Gate;
const Lock = @import("base.zig").Lock;

const Guard = @This();
const Atomic = std.atomic.Value;

const no_offset = std.math.maxInt(u64);

/// A fault where zeros stand already is a thread that was late, and there are fewer threads than
/// this. Beyond it zeros do not help: a store to what may only be read, on a system that does not
/// tell it from a fault.
pub const late_max = 1 << 16;

/// Of what stands in the slot, 0 if that is not guarded. Numbers of a slot do not come again, so
/// what was read in between two looks that find the same belongs together.
generation: Atomic(u64),
start: Atomic(usize),
size: Atomic(usize),
writable: Atomic(bool),
/// The first byte of the file that could not be read, and why.
offset: Atomic(u64),
code: Atomic(i64),
late: Atomic(u32),
/// The gate that learns of a fault, and which of its slots this is; null before the first use.
gate: ?*Gate,
slot: u1,
/// The next in the list. Set before this guard is in it, and never changed.
next: ?*Guard,

/// The newest guard in the list of all.
var newest: Atomic(?*Guard) = .init(null);

/// Of a page that could not be read.
pub const Mark = struct { offset: u64, code: i64 };

/// Faults are caught from now on. Made again with each load, since other handlers may have come.
pub fn install(detail: *Detail) Detail.Error!void {
    if (!os.capabilities().fault_guard) {
        return detail.fail(error.InvalidArgument, "this system has no guard against faults");
    }
    lock.lock();
    defer lock.unlock();
    os.catchFaults(onFault, &detail.code) catch {
        return detail.refused(0, "the system does not let faults be caught, or " ++
            "other handlers were put over the library's 64 times");
    };
}

/// Held while the handler is set.
var lock: Lock = .{};

/// See `fork`: held during one.
pub fn onFork(stage: os.ForkStage) void {
    switch (stage) {
        .before => lock.lock(),
        .in_parent, .in_child => lock.unlock(),
    }
}

/// Before the first `arm`, for permanent memory that was zeroed; does nothing the next time. Called
/// by one thread at a time for each guard.
pub fn enlist(guard: *Guard, gate: *Gate, slot: u1) void {
    if (guard.gate != null) return;
    guard.gate = gate;
    guard.slot = slot;
    guard.next = newest.load(.monotonic);
    // Release: a handler that finds the guard sees what was stored above.
    while (newest.cmpxchgWeak(guard.next, guard, .release, .monotonic)) |other| guard.next = other;
}

/// Before anybody can be inside of what stands in the slot.
pub fn arm(guard: *Guard, placement: os.Placement, generation: u64) void {
    guard.start.store(@intFromPtr(placement.slot.base), .seq_cst);
    guard.size.store(placement.mapped_size, .seq_cst);
    guard.writable.store(placement.writable(), .seq_cst);
    guard.offset.store(no_offset, .seq_cst);
    guard.code.store(0, .seq_cst);
    guard.late.store(0, .seq_cst);
    guard.generation.store(generation, .seq_cst);
}

/// Once nobody can be inside any more.
pub fn disarm(guard: *Guard) void {
    guard.generation.store(0, .seq_cst);
}

/// The mark of a generation, if it has one.
pub fn markOf(guard: *const Guard, generation: u64) ?Mark {
    if (guard.generation.load(.seq_cst) != generation) return null;
    const offset = guard.offset.load(.seq_cst);
    if (offset == no_offset) return null;
    return .{ .offset = offset, .code = guard.code.load(.seq_cst) };
}

/// From here on, everything that is called runs as a signal handler does.
pub fn onFault(fault: os.Fault) bool {
    var found = newest.load(.acquire);
    while (found) |guard| : (found = guard.next) {
        const generation = guard.generationAt(fault.address) orelse continue;
        return guard.heal(fault, generation);
    }
    return false;
}

fn generationAt(guard: *const Guard, address: usize) ?u64 {
    const generation = guard.generation.load(.seq_cst);
    if (generation == 0) return null;
    const inside = address -% guard.start.load(.seq_cst) < guard.size.load(.seq_cst);
    return if (inside and guard.generation.load(.seq_cst) == generation) generation else null;
}

fn heal(guard: *Guard, fault: os.Fault, generation: u64) bool {
    const start = guard.start.load(.seq_cst);
    const offset = fault.address - start;
    if (fault.code == 0) {
        return guard.offset.load(.seq_cst) != no_offset and guard.isHealing();
    }
    _ = guard.code.cmpxchgStrong(0, fault.code, .seq_cst, .seq_cst);
    const before = guard.offset.fetchMin(offset, .seq_cst);
    if (before / os.pageSize() <= offset / os.pageSize() and !guard.isHealing()) return false;
    guard.gate.?.fault(guard.slot, generation);
    const base: [*]u8 = @ptrFromInt(start);
    const pages = base[0..guard.size.load(.seq_cst)];
    var code: i64 = 0;
    os.zero(pages, offset, guard.writable.load(.seq_cst), &code) catch return false;
    return true;
}

/// One of those that are late, and not one that comes again for ever.
fn isHealing(guard: *Guard) bool {
    return guard.late.fetchAdd(1, .seq_cst) < late_max;
}
