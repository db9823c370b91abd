//! Which combinations of a dimension's fields are legal, whenever its lock is free.
//!
//! This is the table; `Dimension` looks at it whenever it unlocks, in debug and safe builds, and so
//! do the tests that drive it at random. "Current" is the generation that the gate's word names.
//!
//! | state | current generation | activity | charged |
//! | --- | --- | --- | --- |
//! | open, faulted | there, not retiring, no writer | none, loading | region |
//! | blocked | there, not retiring | draining or closing; none with a writer | region, or it was given up without waiting |
//! | unloading | there; retiring unless draining or closing | any | generations |
//! | empty | gone, or retiring in the child of a fork | none, loading; draining or closing of who is about to leave | region |
//! | deallocated | gone | as empty | generations |
//! | closed | gone or retiring | any | generations |
//!
//! Besides: the slot that is not current is free, retiring, or being loaded.

const std = @import("std");
const Gate = @import("../gate.zig").Gate;
const Generation = @import("Generation.zig");

/// Where unlocking looks at the table.
pub const checked = std.debug.runtime_safety;

/// Under the dimension's lock: the rule that does not hold, or null. `dimension` is a pointer to a
/// `Dimension`, whose type has no name here: `Dimension` imports this file.
pub fn broken(dimension: anytype) ?[]const u8 {
    const word = dimension.gate.read();
    return brokenActivity(dimension) orelse brokenSlot(dimension, 0, word) orelse
        brokenSlot(dimension, 1, word) orelse brokenState(dimension, word) orelse
        brokenCharge(dimension);
}

fn brokenActivity(dimension: anytype) ?[]const u8 {
    const idle = dimension.activity == .none;
    if (idle != (dimension.activity_thread.load(.monotonic) == 0)) {
        return "an activity is some thread's, and no thread has one that there is not";
    }
    if (dimension.unwanted and dimension.activity != .loading) {
        return "only what is being loaded is unwanted";
    }
    var loading: u32 = 0;
    for (&dimension.generations) |*generation| {
        loading += @intFromBool(dimension.isBeingLoaded(generation));
    }
    if (loading != @intFromBool(dimension.activity == .loading)) {
        return "while a file is being loaded, it is into one slot";
    }
    return null;
}

fn brokenSlot(dimension: anytype, slot: u1, word: Gate.Word) ?[]const u8 {
    const generation = &dimension.generations[slot];
    const drain: Gate.Drain = @bitCast(dimension.gate.draining[slot].load(.seq_cst));
    if (generation.isFree()) {
        if (generation.writing or generation.retiring or generation.locked) {
            return "a free slot has no writer, is not locked and does not wait for its last view";
        }
        return if (drain.any()) "nobody waits for a free slot" else null;
    }
    if (generation.number > dimension.last_number) return "generations are counted";
    if (generation.number == dimension.generations[~slot].number) {
        return "no two generations have one number";
    }
    if (generation.retiring != drain.retire) return "leavers of what is retiring, and they alone, know";
    const is_current = word.slot == slot and word.generation == generation.number;
    if (drain.wake and (!is_current or
        (dimension.activity != .draining and dimension.activity != .closing)))
    {
        return "leavers wake who waits for the current generation";
    }
    if (dimension.isBeingLoaded(generation)) {
        if (is_current or generation.retiring or generation.writing) {
            return "nobody enters what is being loaded";
        }
    } else if (!is_current and !generation.retiring) {
        return "what is not current is on its way out";
    }
    if (slot == 0 and dimension.populated != null and !dimension.isBeingLoaded(generation)) {
        return "what was populated at open gives way to the first file";
    }
    return null;
}

fn brokenState(dimension: anytype, word: Gate.Word) ?[]const u8 {
    if (word.generation > dimension.last_number) return "the gate names a generation that was";
    const slot = &dimension.generations[word.slot];
    const current: ?*Generation = if (!slot.isFree() and slot.number == word.generation) slot else null;
    const waited_for = dimension.activity == .draining or dimension.activity == .closing;
    switch (word.state) {
        .open, .faulted => {
            const generation = current orelse return "an open gate leads to a generation";
            if (generation.retiring or generation.writing) return "an open gate leads to readers only";
            if (waited_for) return "the gate is shut while somebody waits for views";
        },
        .blocked => {
            const generation = current orelse return "a blocked gate opens again";
            if (generation.retiring) return "a blocked gate opens again";
            if (!generation.writing and !waited_for) return "somebody has blocked the gate";
        },
        .unloading => {
            const generation = current orelse return "what is being unloaded is there";
            if (!generation.retiring and !waited_for) return "somebody waits, or the last view ends it";
        },
        .empty, .deallocated => {
            if (current) |generation| if (!generation.retiring) return "nothing is loaded";
            if (dimension.region_charged != (word.state == .empty)) {
                return "a region without a file is charged, unless it was deallocated";
            }
        },
        .closed => {
            if (dimension.region_charged) return "nothing of what is closed is kept";
            for (&dimension.generations) |*generation| {
                if (generation.isFree() or generation.retiring) continue;
                if (!dimension.isBeingLoaded(generation)) return "what is closed goes";
            }
        },
    }
    if (current) |generation| if (!generation.retiring and word.state != .closed) {
        const shown = dimension.gate.slots[word.slot];
        if (shown.size != generation.size or shown.base != dimension.slots[word.slot].base) {
            return "the gate shows what is in the slot";
        }
    };
    return null;
}

fn brokenCharge(dimension: anytype) ?[]const u8 {
    const allocated = dimension.shared.budget.allocated.load(.monotonic);
    return if (dimension.charges() > allocated) "what is there is charged" else null;
}

/// At every unlock.
pub fn check(dimension: anytype) void {
    if (!checked or dimension.owner == 0) return;
    if (broken(dimension)) |rule| @panic(rule);
}
