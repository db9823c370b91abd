//! Readers in, writers apart: one word that says what may be entered, and the protocol round it.
//!
//! A reader looks at the word, moves its `in` counter, looks again, and is inside if the word is
//! the same; otherwise it moves `out` and starts over. The rare side (a writer, unload, reload)
//! stores a word that admits nobody to the slot, raises the slot's drain flag, issues the barrier
//! and sums the counters. After the barrier every reader has either its `in` in the sum or still
//! its second look to come, which refuses it; and every leaver has either its `out` in the sum or
//! still its look at the drain flag to come, which wakes the rare side. That is the invariant: *in
//! and word*, *out and flag* are each a store-then-load on one side and the reverse on the other.
//!
//! `tests/model` holds the protocol as a model, and what breaks when any step of it is left out.

const std = @import("std");
const Counters = @import("Counters.zig");

const Gate = @This();
const Atomic = std.atomic.Value;

pub const State = enum(u3) {
    /// The only state that admits readers. It is 0, so that a reader's look is one test; memory
    /// that nobody has set is therefore kept out of a reader's reach by other means.
    open,
    /// Nothing loaded.
    empty,
    /// A writer is in or waits, or somebody looks: readers wait.
    blocked,
    /// Going away: readers are refused.
    unloading,
    /// Nothing loaded and nothing charged.
    deallocated,
    /// Loaded, but a page of the file could not be read.
    faulted,
    /// The manager was closed.
    closed,

    /// As the header calls it (MEMMGR_STATE_…).
    pub fn name(state: State) []const u8 {
        return switch (state) {
            .open => "loaded",
            .blocked => "writing",
            .closed => "unloading",
            .empty, .unloading, .deallocated, .faulted => @tagName(state),
        };
    }
};

pub const Word = packed struct(u64) {
    state: State,
    /// Where a counter's offset has it: a slot's counters are found without a shift.
    slot: u1,
    /// Counts the versions loaded into the dimension: two words are the same only if everything
    /// about them is.
    generation: u60,
};

/// What a slot shows to whoever is inside. Written only while nobody can be.
pub const Slot = struct {
    base: [*]u8,
    size: u64,
};

pub const Drain = packed struct(u32) {
    /// Somebody sleeps until the slot is empty.
    wake: bool = false,
    /// The generation goes with its last view.
    retire: bool = false,
    _: u30 = 0,

    pub inline fn any(drain: Drain) bool {
        return drain != Drain{};
    }
};

/// What came of an attempt to enter.
pub const Entry = union(enum) {
    /// Inside what this word names.
    inside: Word,
    /// The gate admits nobody; no counter was touched.
    refused,
    /// The word changed at the last moment: out again, as if the caller had left a view.
    left: Drain,
};

word: Atomic(u64) align(std.atomic.cache_line),
draining: [2]Atomic(u32),
slots: [2]Slot,

pub inline fn read(gate: *const Gate) Word {
    return @bitCast(gate.word.load(.acquire));
}

pub fn set(gate: *Gate, word: Word) void {
    gate.word.store(@bitCast(word), .seq_cst);
}

pub fn setState(gate: *Gate, state: State) void {
    var word = gate.read();
    word.state = state;
    gate.set(word);
}

/// A page of what stands in the slot could not be read: nobody is let in any more. This alone is
/// done without the dimension's lock, by a signal handler, so that whoever stores a word that lets
/// readers in has to look at the guard's mark afterwards. A gate that is not open stays as it is.
pub fn fault(gate: *Gate, slot: u1, generation: u64) void {
    var word = gate.read();
    while (word.state == .open and word.slot == slot and word.generation == generation) {
        var faulted = word;
        faulted.state = .faulted;
        const old: u64 = @bitCast(word);
        const seen = gate.word.cmpxchgWeak(old, @bitCast(faulted), .seq_cst, .seq_cst) orelse
            return;
        word = @bitCast(seen);
    }
}

pub inline fn enter(gate: *Gate, counters: *Counters, dimension: u32) Entry {
    const word = gate.look() orelse return .refused;
    counters.in(dimension, word.slot);
    if (gate.confirm(word)) return .{ .inside = word };
    return .{ .left = gate.leave(counters, dimension, word.slot) };
}

/// The first look: null if the gate admits nobody. A refused reader must not touch a counter, else
/// newcomers that come and go without end could hold the sums apart for ever.
pub inline fn look(gate: *const Gate) ?Word {
    const word: Word = @bitCast(gate.word.load(.acquire));
    return if (word.state == .open) word else null;
}

/// The second look, after `in` was moved: true if the caller is inside.
pub inline fn confirm(gate: *const Gate, word: Word) bool {
    const again: Word = @bitCast(gate.word.load(.seq_cst));
    return again == word;
}

/// What, if anything, somebody is waiting for a slot to be empty for; for who has left it.
pub inline fn drainOf(gate: *const Gate, slot: u1) Drain {
    return @bitCast(gate.draining[slot].load(.seq_cst));
}

/// Leaves: what, if anything, somebody is waiting for this slot to be empty for.
pub inline fn leave(gate: *Gate, counters: *Counters, dimension: u32, slot: u1) Drain {
    counters.out(dimension, slot);
    return gate.drainOf(slot);
}

pub fn setDrain(gate: *Gate, slot: u1, drain: Drain) void {
    gate.draining[slot].store(@bitCast(drain), .seq_cst);
}
