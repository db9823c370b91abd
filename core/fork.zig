//! A fork of the process: the child is to find nothing half done.
//!
//! It has one thread, and memory in which all others stopped somewhere. So the thread that forks
//! first takes every lock of what is to work in the child, in the order in which locks nest, and
//! waits for who is inside without one; both processes then let go of them. Readers are not waited
//! for: the parent's threads do not notice a fork. Whoever adds a part brings the three stages of
//! `os.ForkStage`, and its place in the order.
//!
//! Views and blocks that threads had which are gone are held for ever. A fork within a signal
//! handler waits for what it interrupted: there is none to be made (`docs/THREADS.md`).

const std = @import("std");
const os = @import("os.zig");
const Detail = @import("Detail.zig");
const Guard = @import("Guard.zig");
const Managers = @import("Managers.zig");
const MappedFiles = @import("MappedFiles.zig");
const threads = @import("threads.zig");

var watched: std.atomic.Value(bool) = .init(false);
/// What a layer above puts right in the child, where waiting for it before the fork could be for
/// who waits for the thread that forks.
pub var in_child: std.atomic.Value(?*const fn () void) = .init(null);

/// From the first call on, forks are taken care of.
pub fn watch(detail: *Detail) Detail.Error!void {
    if (watched.swap(true, .acq_rel) or os.atFork(onFork)) return;
    watched.store(false, .release);
    return detail.refused(0, "the system has no room for what is to be done when it forks");
}

fn onFork(stage: os.ForkStage) void {
    switch (stage) {
        .before => {
            Managers.beginFork();
            MappedFiles.lock.lock();
            Guard.lock.lock();
        },
        .in_parent, .in_child => {
            if (stage == .in_child) {
                threads.forgetOthers();
                if (in_child.load(.acquire)) |putRight| putRight();
            }
            Guard.lock.unlock();
            MappedFiles.lock.unlock();
            Managers.endFork(stage);
        },
    }
}
