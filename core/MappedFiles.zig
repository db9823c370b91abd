//! The files that this process has mapped through any manager, by what they are, not by name.
//!
//! A file that is mapped writable must not be mapped a second time: the gate of one dimension
//! cannot keep the readers of another apart from its writer. An entry is part of the generation
//! that maps the file, so that adding one cannot fail.

const std = @import("std");
const os = @import("os.zig");
const Lock = @import("Lock.zig");

/// One mapped file. Zero is "not listed".
pub const Entry = struct {
    device: u64 = 0,
    inode: u64 = 0,
    writable: bool = false,
    next: ?*Entry = null,
};

/// Enough that a bucket stays short with thousands of dimensions.
const bucket_count = 1024;

/// Public for `fork`.
pub var lock: Lock = .{};
var buckets: [bucket_count]?*Entry = @splat(null);

fn bucketOf(device: u64, inode: u64) *?*Entry {
    return &buckets[std.hash.int(device ^ std.hash.int(inode)) % bucket_count];
}

/// Lists a file, unless it is listed already and one of the two is writable.
pub fn add(entry: *Entry, identity: os.Identity, writable: bool) error{AlreadyMapped}!void {
    lock.lock();
    defer lock.unlock();
    const bucket = bucketOf(identity.device, identity.inode);
    var other = bucket.*;
    while (other) |listed| : (other = listed.next) {
        if (listed.device != identity.device or listed.inode != identity.inode) continue;
        if (listed.writable or writable) return error.AlreadyMapped;
    }
    entry.* = .{
        .device = identity.device,
        .inode = identity.inode,
        .writable = writable,
        .next = bucket.*,
    };
    bucket.* = entry;
}

pub fn remove(entry: *Entry) void {
    lock.lock();
    defer lock.unlock();
    var link = bucketOf(entry.device, entry.inode);
    while (link.*) |listed| : (link = &listed.next) {
        if (listed != entry) continue;
        link.* = entry.next;
        entry.* = .{};
        return;
    }
    unreachable; // only what was added is removed
}

/// Nobody in this process writes to it any more.
pub fn becomeReader(entry: *Entry) void {
    lock.lock();
    defer lock.unlock();
    entry.writable = false;
}

test "MappedFiles: two readers may share a file, a writer may not" {
    const identity: os.Identity = .{ .device = 7, .inode = 4711 };
    var first: Entry = .{};
    var second: Entry = .{};
    try add(&first, identity, false);
    try add(&second, identity, false);
    var writer: Entry = .{};
    try std.testing.expectError(error.AlreadyMapped, add(&writer, identity, true));
    remove(&first);
    try std.testing.expectError(error.AlreadyMapped, add(&writer, identity, true));
    remove(&second);
    try add(&writer, identity, true);
    try std.testing.expectError(error.AlreadyMapped, add(&first, identity, false));
    try add(&first, .{ .device = 8, .inode = 4711 }, false);
    remove(&first);
    remove(&writer);
}
