//! What has become of the file that a dimension was loaded from, and whether its bytes are those
//! that its checksums say.
//!
//! The first takes one question to the system: device, inode, size and time are compared with those
//! at the load. The second reads the file, not the mapping, so that a page that cannot be read is
//! an error and not a fault; the generation is held as by a view meanwhile, so that no writer
//! changes it.

const std = @import("std");
const os = @import("../os.zig");
const Checksum = @import("../formats.zig").Checksum;
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Generation = @import("../dimension.zig").Generation;
const Layers = @import("../formats.zig").Layers;
const Progress = @import("../base.zig").Progress;
const formats = @import("../formats.zig");

const Verification = @This();
const Error = Detail.Error;

/// Mirrors MEMMGR_CHANGE_… of the header.
pub const Changes = packed struct(u32) {
    /// The same file, with more bytes, fewer, or as many that were written later.
    grown: bool = false,
    shrunk: bool = false,
    rewritten: bool = false,
    /// Another file, or what is none, has its name; or nothing has.
    replaced: bool = false,
    gone: bool = false,
    /// A layer's bytes are not those that its checksum was made of.
    corrupt: bool = false,
    _: u26 = 0,
};

pub const Options = struct {
    checksums: bool = false,
    /// Where the checksums are; null: where the load found the layers.
    manifest: ?[:0]const u8 = null,
    progress: Progress = .{},
    /// Filled with the indices of corrupt layers, as far as there is room.
    corrupt: []u32 = &.{},
};

changes: Changes = .{},
generation: u64,
/// At the load, or at the last flush of ours; and now.
then: os.Identity,
now: os.Identity = .{},
/// Layers whose bytes were compared, those that have no checksum, and those that are corrupt.
checked_count: u32 = 0,
unchecked_count: u32 = 0,
corrupt_count: u32 = 0,

/// Compares what is known of a file with what is there now.
pub fn compare(then: os.Identity, now: ?os.Identity, own_writes: bool) Changes {
    const found = now orelse return .{ .gone = true };
    if (!found.isSame(then) or !found.regular) {
        return .{ .replaced = true };
    }
    return .{
        .grown = found.size > then.size,
        .shrunk = found.size < then.size,
        // A write of ours moves the time as well, at a moment that the system chooses.
        .rewritten = found.size == then.size and found.mtime_ns != then.mtime_ns and !own_writes,
    };
}

/// `known` is what the dimension knew a moment ago; `generation` is held, if checksums are wanted.
pub fn run(
    known: Dimension.KnownFile,
    generation: ?*const Generation,
    options: Options,
    detail: *Detail,
) Error!Verification {
    detail.file_name = known.path;
    // Its memory is given back before the caller looks at the detail.
    errdefer detail.keepFileName();
    const now: ?os.Identity = os.identifyPath(known.path, .followed, &detail.code) catch now: {
        if (!os.isMissingCode(detail.code)) {
            return detail.fileRefused(0, "cannot ask the system about the file");
        }
        detail.code = 0;
        break :now null;
    };
    var verification: Verification = .{
        .changes = compare(known.identity, now, known.own_writes),
        .generation = known.generation,
        .then = known.identity,
        .now = now orelse .{},
    };
    const held = generation orelse return verification;
    const changes = verification.changes;
    if (changes.gone or changes.replaced or changes.shrunk or changes.grown) {
        verification.unchecked_count = @intCast(held.layers.items.len);
        return verification;
    }
    try verification.checkLayers(known.path, held, options, detail);
    return verification;
}

fn checkLayers(
    verification: *Verification,
    path: [:0]const u8,
    generation: *const Generation,
    options: Options,
    detail: *Detail,
) Error!void {
    const layers = &generation.layers;
    const checksums = os.heap.alloc(?u64, layers.items.len) catch return noMemory(detail);
    defer os.heap.free(checksums);
    if (options.manifest) |manifest| {
        detail.file_name = manifest;
        var described = try Generation.readManifest(manifest, generation.size, detail);
        defer described.deinit(os.heap);
        try Checksum.fromNotes(layers, described.notes, checksums, detail);
        detail.file_name = path;
    } else try Checksum.fromNotes(layers, layers.notes, checksums, detail);

    const file = os.open(path, .read, &detail.code) catch {
        return detail.fileRefused(0, "cannot open the file");
    };
    defer os.close(file);
    const identity = os.identify(file, &detail.code) catch {
        return detail.fileRefused(0, "cannot ask the system about the file");
    };
    if (!identity.isSame(verification.now)) {
        // It was replaced just now.
        verification.changes = .{ .replaced = true };
        verification.now = identity;
        verification.unchecked_count = @intCast(layers.items.len);
        return;
    }
    const buffer = os.heap.alloc(u8, Checksum.chunk_size) catch return noMemory(detail);
    defer os.heap.free(buffer);
    var total: u64 = 0;
    for (layers.items, checksums) |layer, checksum| {
        if (checksum != null) total += layer.length;
    }
    var progress = options.progress;
    try progress.begin(total, detail);
    for (layers.items, checksums, 0..) |layer, checksum, index| {
        const expected = checksum orelse {
            verification.unchecked_count += 1;
            continue;
        };
        const found =
            try Checksum.ofFile(file, layer.offset, layer.length, buffer, &progress, detail);
        verification.checked_count += 1;
        if (found == expected) continue;
        verification.changes.corrupt = true;
        const count = verification.corrupt_count;
        if (count < options.corrupt.len) options.corrupt[count] = @intCast(index);
        verification.corrupt_count += 1;
    }
}

fn noMemory(detail: *Detail) Error {
    return detail.refused(0, "cannot allocate memory to verify the file");
}

test "R9.1 what became of a file is told by what the system says of its name" {
    const then: os.Identity = .{
        .device = 1,
        .inode = 2,
        .size = 100,
        .mtime_ns = 50,
        .regular = true,
    };
    const expectEqual = std.testing.expectEqual;
    try expectEqual(Changes{}, compare(then, then, false));
    try expectEqual(Changes{ .gone = true }, compare(then, null, false));
    var now = then;
    now.mtime_ns = 49;
    try expectEqual(Changes{ .rewritten = true }, compare(then, now, false));
    try expectEqual(Changes{}, compare(then, now, true));
    now.size = 101;
    try expectEqual(Changes{ .grown = true }, compare(then, now, true));
    now.size = 99;
    try expectEqual(Changes{ .shrunk = true }, compare(then, now, false));
    now.inode = 3;
    try expectEqual(Changes{ .replaced = true }, compare(then, now, false));
    now = then;
    now.regular = false;
    try expectEqual(Changes{ .replaced = true }, compare(then, now, false));
    now = then;
    now.device = 9;
    try expectEqual(Changes{ .replaced = true }, compare(then, now, false));
}
