//! A fork of the process: the child is to find nothing half done.
//!
//! It has one thread, and memory in which all others stopped somewhere. So the thread that forks
//! first takes every lock of what is to work in the child, in the order in which locks nest, and
//! waits for who is inside without one; both processes then let go of them. Readers are not waited
//! for: the parent's threads do not notice a fork. Each part of the library joins with a function
//! of its own: before a fork they are called in the order in which they joined, after it, in both
//! processes, in the reverse order.
//!
//! Views and blocks that threads had which are gone are held for ever. A fork within a signal
//! handler waits for what it interrupted: there is none to be made (`docs/THREADS.md`).

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("Detail.zig");
const Lock = @import("Lock.zig");

/// What a part does at a stage of a fork.
pub const Part = *const fn (stage: os.ForkStage) void;

const part_count_max = 8;

/// The first `part_count` of them, which never change again.
var parts: [part_count_max]Part = undefined;
var part_count: std.atomic.Value(usize) = .init(0);
/// Held while parts join.
var joining: Lock = .{};
/// During a fork: how many parts were called before it, and are called after it.
var forking_count: usize = 0;

/// From the first call on, these parts are taken care of; those that joined before stay where they
/// are in the order.
pub fn join(new_parts: []const Part, detail: *Detail) Detail.Error!void {
    joining.lock();
    defer joining.unlock();
    for (new_parts) |part| try add(part, detail);
}

fn add(part: Part, detail: *Detail) Detail.Error!void {
    const count = part_count.load(.monotonic);
    if (std.mem.findScalar(Part, parts[0..count], part) != null) return;
    comptime std.debug.assert(part_count_max > 6);
    parts[count] = part;
    if (count == 0 and !os.atFork(onFork)) {
        return detail.refused(0, "the system has no room for what is to be done when it forks");
    }
    part_count.store(count + 1, .release);
}

fn onFork(stage: os.ForkStage) void {
    switch (stage) {
        .before => {
            forking_count = part_count.load(.acquire);
            for (parts[0..forking_count]) |part| part(stage);
        },
        .in_parent, .in_child => {
            // Another thread of the parent's may have held it.
            if (stage == .in_child) joining = .{};
            var index = forking_count;
            while (index > 0) {
                index -= 1;
                parts[index](stage);
            }
        },
    }
}
