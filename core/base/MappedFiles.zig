//! The files that this process has mapped through any manager, by what they are, not by name.
//!
//! A file that is mapped writable must not be mapped a second time: the gate of one dimension
//! cannot keep the readers of another apart from its writer. An entry is part of the generation
//! that maps the file, so that adding one cannot fail.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("Detail.zig");
const Lock = @import("Lock.zig");

/// One mapped file. Zero is "not listed".
pub const Entry = struct {
    device: u64 = 0,
    inode: u64 = 0,
    inode_high: u64 = 0,
    mapper: Mapper = .{},
    next: ?*Entry = null,

    fn isOf(entry: *const Entry, identity: os.Identity) bool {
        return entry.device == identity.device and entry.inode == identity.inode and
            entry.inode_high == identity.inode_high;
    }
};

/// Who maps a file, and how.
pub const Mapper = struct {
    writable: bool = false,
    dimension: u32 = Detail.none,
    dimension_name: []const u8 = "",
};

/// Enough that a bucket stays short with thousands of dimensions.
const bucket_count = 1024;

var lock: Lock = .{};
var buckets: [bucket_count]?*Entry = @splat(null);

fn bucketOf(device: u64, inode: u64) *?*Entry {
    return &buckets[std.hash.int(device ^ std.hash.int(inode)) % bucket_count];
}

/// See `fork`: held during one.
pub fn onFork(stage: os.ForkStage) void {
    switch (stage) {
        .before => lock.lock(),
        .in_parent, .in_child => lock.unlock(),
    }
}

/// Lists a file, unless it is listed already and one of the two is writable. `overlooked`: an entry
/// that does not count, because what it stands for is about to go.
pub fn add(
    entry: *Entry,
    identity: os.Identity,
    mapper: Mapper,
    overlooked: ?*const Entry,
) error{AlreadyMapped}!void {
    lock.lock();
    defer lock.unlock();
    const bucket = bucketOf(identity.device, identity.inode);
    var other = bucket.*;
    while (other) |listed| : (other = listed.next) {
        if (!listed.isOf(identity)) continue;
        if (listed == overlooked) continue;
        if (listed.mapper.writable or mapper.writable) return error.AlreadyMapped;
    }
    entry.* = .{
        .device = identity.device,
        .inode = identity.inode,
        .inode_high = identity.inode_high,
        .mapper = mapper,
        .next = bucket.*,
    };
    bucket.* = entry;
}

/// Fails if a file is mapped; the detail is about the dimension that maps it, of whichever manager.
pub fn checkUnmapped(identity: os.Identity, detail: *Detail) Detail.Error!void {
    lock.lock();
    defer lock.unlock();
    var entry = bucketOf(identity.device, identity.inode).*;
    while (entry) |listed| : (entry = listed.next) {
        if (!listed.isOf(identity)) continue;
        detail.dimension = listed.mapper.dimension;
        detail.setDimensionName(listed.mapper.dimension_name);
        return detail.fail(error.AlreadyLoaded, "this dimension maps the file: save under " ++
            "another name, and reload from that");
    }
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
    entry.mapper.writable = false;
}

test "MappedFiles: two readers may share a file, a writer may not" {
    const identity: os.Identity = .{ .device = 7, .inode = 4711 };
    var first: Entry = .{};
    var second: Entry = .{};
    const writable: Mapper = .{ .writable = true };
    try add(&first, identity, .{}, null);
    try add(&second, identity, .{}, null);
    var writer: Entry = .{};
    try std.testing.expectError(error.AlreadyMapped, add(&writer, identity, writable, null));
    remove(&first);
    try std.testing.expectError(error.AlreadyMapped, add(&writer, identity, writable, null));
    remove(&second);
    try add(&writer, identity, writable, null);
    try std.testing.expectError(error.AlreadyMapped, add(&first, identity, .{}, null));
    try std.testing.expectError(error.AlreadyMapped, add(&first, identity, writable, null));
    // One that is about to go does not count, but others do.
    try add(&second, identity, writable, &writer);
    try std.testing.expectError(error.AlreadyMapped, add(&first, identity, .{}, &writer));
    remove(&second);
    try add(&first, .{ .device = 8, .inode = 4711 }, .{}, null);
    remove(&first);
    // The half of a number that the other systems leave at 0 counts too.
    try add(&first, .{ .device = 7, .inode = 4711, .inode_high = 1 }, .{}, null);
    remove(&first);
    remove(&writer);
}

test "R9.1 MappedFiles: who maps a file is told by name, until nobody does" {
    const identity: os.Identity = .{ .device = 7, .inode = 4711 };
    var entry: Entry = .{};
    var detail: Detail = .{};
    try checkUnmapped(identity, &detail);
    try add(&entry, identity, .{ .dimension = 3, .dimension_name = "D04" }, null);
    try std.testing.expectError(error.AlreadyLoaded, checkUnmapped(identity, &detail));
    try std.testing.expectEqual(3, detail.dimension);
    try std.testing.expectEqualStrings("D04", detail.dimension_name);
    remove(&entry);
    try checkUnmapped(identity, &detail);
}
