//! Who holds which view, for a manager that was asked to keep track.
//!
//! Finding out why a writer has to wait is worth a lock and a system call per view; not having to
//! is worth more, so it is asked for when the manager opens. A view that there is no memory to
//! track is held all the same, untracked.

const std = @import("std");
const os = @import("../os.zig");
const Lock = @import("../base.zig").Lock;

const Tracker = @This();

/// What a view's token carries to find its entry again; 0 is untracked.
pub const Ticket = u32;

pub const Holder = struct {
    dimension: u32,
    generation: u64,
    offset: u64,
    length: u64,
    /// Index of the layer, if it was acquired as one.
    layer: ?u32,
    thread: u64 = 0,
    since_ns: u64 = 0,
};

const Entry = union(enum) {
    held: Holder,
    /// The next free entry's ticket, or 0.
    free: Ticket,
};

lock: Lock = .{},
entries: std.ArrayList(Entry) = .empty,
first_free: Ticket = 0,

/// For zeroed memory, or after `deinit`.
pub fn begin(tracker: *Tracker) void {
    tracker.entries = .empty;
    tracker.first_free = 0;
}

pub fn deinit(tracker: *Tracker) void {
    tracker.entries.deinit(os.heap);
    tracker.entries = .empty;
    tracker.first_free = 0;
}

/// The calling thread holds it from now on.
pub fn add(tracker: *Tracker, holder: Holder) Ticket {
    var entry = holder;
    entry.thread = os.threadId();
    entry.since_ns = os.nowNs();
    tracker.lock.lock();
    defer tracker.lock.unlock();
    if (tracker.first_free != 0) {
        const ticket = tracker.first_free;
        const place = &tracker.entries.items[ticket - 1];
        tracker.first_free = place.free;
        place.* = .{ .held = entry };
        return ticket;
    }
    if (tracker.entries.items.len == std.math.maxInt(Ticket)) return 0;
    tracker.entries.append(os.heap, .{ .held = entry }) catch return 0;
    return @intCast(tracker.entries.items.len);
}

/// Of a ticket that this tracker never gave, or that was removed, nothing.
pub fn remove(tracker: *Tracker, ticket: Ticket) void {
    tracker.lock.lock();
    defer tracker.lock.unlock();
    if (ticket == 0 or ticket > tracker.entries.items.len) return;
    const place = &tracker.entries.items[ticket - 1];
    if (place.* != .held) return;
    place.* = .{ .free = tracker.first_free };
    tracker.first_free = ticket;
}

/// True if the calling thread holds a view of this generation of a dimension.
pub fn isHolding(tracker: *Tracker, dimension: u32, generation: u64) bool {
    const thread = os.threadId();
    tracker.lock.lock();
    defer tracker.lock.unlock();
    for (tracker.entries.items) |entry| switch (entry) {
        .held => |holder| {
            const same = holder.dimension == dimension and holder.generation == generation;
            if (same and holder.thread == thread) return true;
        },
        .free => {},
    };
    return false;
}

/// Calls `use` for each view that is held of a dimension (null: of any), with its ticket.
pub fn each(
    tracker: *Tracker,
    dimension: ?u32,
    context: anytype,
    comptime use: fn (@TypeOf(context), Ticket, Holder) void,
) void {
    tracker.lock.lock();
    defer tracker.lock.unlock();
    for (tracker.entries.items, 1..) |entry, ticket| switch (entry) {
        .held => |holder| if (dimension == null or holder.dimension == dimension.?) {
            use(context, @intCast(ticket), holder);
        },
        .free => {},
    };
}

test "Tracker: tickets are found, removed once, and used again" {
    var tracker: Tracker = .{};
    defer tracker.deinit();
    const holder: Holder = .{
        .dimension = 3,
        .generation = 1,
        .offset = 8,
        .length = 16,
        .layer = null,
    };
    const first = tracker.add(holder);
    const second = tracker.add(holder);
    try std.testing.expect(first != 0 and second != 0 and first != second);
    try std.testing.expect(tracker.isHolding(3, 1));
    try std.testing.expect(!tracker.isHolding(3, 2));
    try std.testing.expect(!tracker.isHolding(2, 1));
    tracker.remove(first);
    tracker.remove(first);
    tracker.remove(0);
    tracker.remove(4711);
    try std.testing.expectEqual(first, tracker.add(holder));
    const Count = struct {
        fn one(count: *u32, ticket: Ticket, found: Holder) void {
            std.debug.assert(ticket != 0 and found.offset == 8 and found.thread != 0);
            count.* += 1;
        }
    };
    var count: u32 = 0;
    tracker.each(3, &count, Count.one);
    tracker.each(2, &count, Count.one);
    tracker.each(null, &count, Count.one);
    try std.testing.expectEqual(4, count);
    tracker.remove(first);
    tracker.remove(second);
    try std.testing.expect(!tracker.isHolding(3, 1));
}
