//! A file for one test, in a folder of its own that goes with it.

const std = @import("std");

const TempFile = @This();

const io = std.testing.io;

folder: std.testing.TmpDir,
/// Absolute, UTF-8.
path: [:0]const u8,

pub fn create(bytes: []const u8) !TempFile {
    return createNamed("table.bin", bytes);
}

pub fn createNamed(name: []const u8, bytes: []const u8) !TempFile {
    var folder = std.testing.tmpDir(.{});
    errdefer folder.cleanup();
    try folder.dir.writeFile(io, .{ .sub_path = name, .data = bytes });
    return .{
        .folder = folder,
        .path = try folder.dir.realPathFileAlloc(io, name, std.testing.allocator),
    };
}

/// A file of `size` bytes that are all zero, and of which the file system may store none.
pub fn createSparse(size: u64) !TempFile {
    const file = try create("");
    errdefer file.deinit();
    try file.resize(size);
    return file;
}

/// Cuts the file, or makes it longer with zeros.
pub fn resize(file: TempFile, size: u64) !void {
    const handle = try std.Io.Dir.openFileAbsolute(io, file.path, .{ .mode = .read_write });
    defer handle.close(io);
    try handle.setLength(io, size);
}

/// The file has these bytes.
pub fn expect(file: TempFile, bytes: []const u8) !void {
    const dir: std.Io.Dir = .cwd();
    const gpa = std.testing.allocator;
    const found = try dir.readFileAlloc(io, file.path, gpa, .unlimited);
    defer gpa.free(found);
    try std.testing.expectEqualSlices(u8, bytes, found);
}

/// How many files its folder has.
pub fn countSiblings(file: TempFile) !usize {
    var dir = try std.Io.Dir.openDirAbsolute(io, std.fs.path.dirname(file.path).?, .{
        .iterate = true,
    });
    defer dir.close(io);
    var entries = dir.iterate();
    var count: usize = 0;
    while (try entries.next(io)) |_| count += 1;
    return count;
}

pub fn deinit(file: TempFile) void {
    std.testing.allocator.free(file.path);
    var folder = file.folder;
    folder.cleanup();
}
