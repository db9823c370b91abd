//! A view that a call of the library holds while it calls functions of the program's.
//!
//! A save, a scan, a check, a warming and what locks, evicts or flushes pages hold what is loaded
//! as a view does. A function that they call on the same thread (interrupt, progress, log) may call
//! everything; but what waits until nobody holds that view would wait for its own caller. So each
//! of these calls is in a chain of its thread's, which only who is about to wait looks at.

const Held = @This();

dimension: *const anyopaque,
slot: u1,
outer: ?*const Held = null,

/// Of the calls that the thread is inside of, the one that was made last.
threadlocal var innermost: ?*const Held = null;

/// To be ended by the same thread, the last one first. It stays where it is meanwhile.
pub fn begin(held: *Held) void {
    held.outer = innermost;
    innermost = held;
}

pub fn end(held: *Held) void {
    innermost = held.outer;
}

pub fn any() bool {
    return innermost != null;
}

/// Whether the thread is inside of a call that holds a view of what is in the slot.
pub fn isOwn(dimension: *const anyopaque, slot: u1) bool {
    var next = innermost;
    while (next) |held| : (next = held.outer) {
        if (held.dimension == dimension and held.slot == slot) return true;
    }
    return false;
}
