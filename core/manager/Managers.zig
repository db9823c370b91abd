//! The managers of the process, and how a handle finds one without trusting it.
//!
//! A handle is a number: an index into a table and the serial number of the manager that stood
//! there when it was opened. So a stale or a foreign value is recognised without touching what it
//! may point to. The memory of a manager is permanent: a thread that is late by a few instructions
//! (it released the last view, and looks whether somebody waits) finds valid, quiet memory. It is
//! used again for the next manager that fits.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Guard = @import("../Guard.zig");
const Lock = @import("../base.zig").Lock;
const Manager = @import("Manager.zig");
const MappedFiles = @import("../base.zig").MappedFiles;
const fork = @import("../base.zig").fork;
const threads = @import("../gate.zig").threads;

const Atomic = std.atomic.Value;

pub const count_max = 1024;

const Handle = Manager.Handle;

var table: [count_max]Atomic(?*Manager) = @splat(.init(null));
/// Held while an entry is taken; entries are given back without it.
var lock: Lock = .{};

/// The open manager that a handle names, or one that was closed and has views left.
pub inline fn find(handle: u64) ?*Manager {
    const manager = memoryOf(handle) orelse return null;
    return if (manager.handle.load(.acquire) == handle) manager else null;
}

/// The memory in which the manager of a handle stands or stood, whatever stands there now.
pub inline fn memoryOf(handle: u64) ?*Manager {
    const parts: Handle = @bitCast(handle);
    return table[parts.index].load(.acquire);
}

/// True if a handle that `find` does not know was a manager's once.
pub fn wasOpen(handle: u64) bool {
    const parts: Handle = @bitCast(handle);
    if (!parts.tag or parts.serial == 0) return false;
    const manager = memoryOf(handle) orelse return false;
    return parts.serial <= manager.serial.load(.acquire);
}

/// All managers there ever was memory for, whatever they are now.
const Walk = struct {
    index: usize = 0,

    fn next(walk: *Walk) ?*Manager {
        if (walk.index == count_max) return null;
        defer walk.index += 1;
        // Entries are filled in order, and never emptied.
        return table[walk.index].load(.acquire);
    }
};

/// The thread of an index ends.
fn leaveThread(index: u32) void {
    var walk: Walk = .{};
    while (walk.next()) |manager| manager.pool.leaveThread(index);
}

/// The parts that take care of a fork, in the order in which their locks nest.
const fork_parts = [_]fork.Part{ onFork, MappedFiles.onFork, Guard.onFork, threads.onFork };

/// See `fork`: holds still whatever is here and works in the child.
fn onFork(stage: os.ForkStage) void {
    var walk: Walk = .{};
    if (stage == .before) {
        lock.lock();
        while (walk.next()) |manager| manager.beginFork();
        return;
    }
    while (walk.next()) |manager| manager.endFork(stage);
    lock.unlock();
    walk = .{};
    while (walk.next()) |manager| manager.sweepAfterFork();
}

/// See `Pool.recall`.
pub fn recallBlocks() void {
    var walk: Walk = .{};
    while (walk.next()) |manager| manager.pool.recall();
}

pub fn open(options: Manager.Options, detail: *Detail) Detail.Error!*Manager {
    const plan: Manager.Plan = try .of(&options, detail);
    os.stayLoaded();
    const manager = try take(options.dimension_count, detail);
    try manager.open(&options, plan, detail);
    return manager;
}

/// Takes memory for a manager of `dimension_count` dimensions: used before and quiet, or new.
/// Nobody finds it until it is open.
fn take(dimension_count: u32, detail: *Detail) Detail.Error!*Manager {
    try fork.join(&fork_parts, detail);
    threads.callOnLeave(leaveThread);
    lock.lock();
    defer lock.unlock();
    const capacity = std.math.ceilPowerOfTwoAssert(u32, @max(dimension_count, 16));
    if (takeUsed(capacity, capacity)) |manager| return manager;
    for (&table, 0..) |*entry, index| {
        if (entry.load(.acquire) == null) return replace(@intCast(index), capacity, 0, detail);
    }
    // All places were used: a larger one does, or a smaller one gets larger memory.
    if (takeUsed(capacity, std.math.maxInt(u32))) |manager| return manager;
    for (&table, 0..) |*entry, index| {
        const manager = entry.load(.acquire).?;
        if (!manager.free.load(.acquire)) continue;
        const serial = manager.serial.load(.monotonic);
        return replace(@intCast(index), capacity, serial, detail);
    }
    detail.limit = count_max;
    return detail.refused(0, "as many managers as there can be are open");
}

/// The memory of a manager that was closed, if any has room for so many dimensions.
fn takeUsed(capacity_min: u32, capacity_max: u32) ?*Manager {
    for (&table) |*entry| {
        const manager = entry.load(.acquire) orelse continue;
        const capacity = manager.dimension_capacity;
        if (capacity < capacity_min or capacity > capacity_max or !manager.isFree()) continue;
        manager.free.store(false, .monotonic);
        return manager;
    }
    return null;
}

/// New memory for a place in the table. Of what is there nobody takes any more, and who is late in it
/// finds it as it is; its handles stay known by their serial numbers.
fn replace(index: u10, capacity: u32, serial: u64, detail: *Detail) Detail.Error!*Manager {
    const manager = try create(capacity, detail);
    manager.index = index;
    manager.serial.store(serial, .monotonic);
    table[index].store(manager, .release);
    return manager;
}

fn create(capacity: u32, detail: *Detail) Detail.Error!*Manager {
    const size = Manager.memorySize(capacity);
    const memory = os.permanent(size, &detail.code) catch {
        return detail.refused(size, "cannot allocate memory for the manager's own tables");
    };
    const manager: *Manager = @ptrCast(@alignCast(memory));
    manager.dimension_capacity = capacity;
    // Fails only before its first allocation succeeded, so that what is lost is address space.
    manager.counters.init(capacity, &detail.code) catch {
        return detail.refused(size, "cannot allocate memory for the manager's own counters");
    };
    return manager;
}
