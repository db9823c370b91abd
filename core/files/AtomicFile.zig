//! A new version of a file: all of it takes the name, or nothing does.
//!
//! It is written under a name of its own in the same folder, made durable, and then renamed over
//! the old version, whose bytes are never touched: who has it open or mapped keeps it. Whatever
//! fails, the old version stands and the new one is gone. Only a process that is killed leaves the
//! new one behind, as `.memmgr-*.tmp`. A name that is a symbolic link is refused, and one that
//! anybody could have put into the folder before us cannot be followed or written to.

const std = @import("std");
const os = @import("../os.zig");
const Checksum = @import("../formats.zig").Checksum;
const Detail = @import("../base.zig").Detail;
const MappedFiles = @import("../base.zig").MappedFiles;
const Progress = @import("../base.zig").Progress;
const Room = @import("../dimension.zig").Room;
const interrupt = @import("../base.zig").interrupt;

const AtomicFile = @This();

/// Borrowed.
path: [:0]const u8,
temporary: [:0]u8,
file: os.File,
state: enum { open, closed, published } = .open,

/// So many times a name that nobody has is looked for.
const attempts_max = 100;

/// Starts a new version of `path`, which need not exist. Ends with `deinit`.
pub fn create(path: [:0]const u8, detail: *Detail) Detail.Error!AtomicFile {
    detail.file_name = path;
    const old = try identify(path, detail);
    if (old) |identity| {
        try checkReplaceable(identity, detail);
        try MappedFiles.checkUnmapped(identity, detail);
        os.checkWritable(path, &detail.code) catch {
            return detail.fileRefused(0, "is write-protected, and is not replaced: make it " ++
                "writable, or save under another name");
        };
    }
    const temporary = try reserveName(path, detail);
    errdefer os.heap.free(temporary);
    const like: ?[*:0]const u8 = if (old != null) path else null;
    for (0..attempts_max) |_| {
        fillName(temporary);
        const file = os.create(temporary, like, &detail.code) catch {
            if (os.isExistsCode(detail.code)) continue;
            return detail.fileRefused(0, "cannot create a file in its folder");
        };
        detail.code = 0;
        return .{ .path = path, .temporary = temporary, .file = file };
    }
    return detail.fileRefused(0, "cannot find a new name in its folder");
}

/// Gives up the new version, unless it was published.
pub fn deinit(atomic: *AtomicFile) void {
    if (atomic.state == .open) os.close(atomic.file);
    if (atomic.state != .published) os.remove(atomic.temporary);
    os.heap.free(atomic.temporary);
}

/// Makes room on the disk: before the first byte is written, so that there is no half of a file if
/// there is none.
pub fn allocate(atomic: *AtomicFile, size: u64, detail: *Detail) Detail.Error!void {
    errdefer detail.ask();
    var end: u64 = 0;
    while (true) {
        const start = end;
        end = @min(start + Room.piece_size, size);
        os.allocate(atomic.file, start, end, &detail.code) catch {
            return detail.fileRefused(size, "cannot get room for the file");
        };
        if (end == size) return;
        try interrupt.check(detail);
    }
}

/// Has the first chunk of the file stand on one huge page, where the system has such for files: it
/// goes by how much is written at once, and a header is written last, and is little. A hint.
pub fn beginWhole(atomic: *AtomicFile) void {
    const zeros = os.heap.alloc(u8, Checksum.chunk_size) catch return;
    defer os.heap.free(zeros);
    @memset(zeros, 0);
    var ignored: i64 = 0;
    os.writeAt(atomic.file, zeros, 0, &ignored) catch {};
}

/// Writes in chunks that end where the file's offset is a multiple of their size. Bytes of a
/// mapping that cannot be read are `Faulted`.
pub fn write(
    atomic: *AtomicFile,
    bytes: []const u8,
    offset: u64,
    progress: *Progress,
    detail: *Detail,
) Detail.Error!void {
    errdefer detail.ask();
    var done: usize = 0;
    while (done < bytes.len) {
        const at = offset + done;
        const room = Checksum.chunk_size - at % Checksum.chunk_size;
        const chunk = bytes[done..][0..@min(bytes.len - done, room)];
        os.writeAt(atomic.file, chunk, at, &detail.code) catch {
            detail.offset = at;
            const fault = os.isFaultCode(detail.code);
            if (fault) detail.offset += atomic.readable(chunk, at);
            return detail.fileRefused(chunk.len, if (fault)
                "a page of it cannot be read"
            else
                "cannot write to the disk");
        };
        done += chunk.len;
        try progress.advance(chunk.len, detail);
    }
}

/// How many of the bytes can be read before the page that cannot.
fn readable(atomic: *AtomicFile, bytes: []const u8, offset: u64) usize {
    var done: usize = 0;
    while (done < bytes.len) {
        const page_end = std.mem.alignForward(usize, @intFromPtr(bytes.ptr) + done + 1, os.pageSize());
        const page = bytes[done..@min(bytes.len, page_end - @intFromPtr(bytes.ptr))];
        var code: i64 = 0;
        os.writeAt(atomic.file, page, offset + done, &code) catch break;
        done += page.len;
    }
    return done;
}

/// After the last byte: all of them are on the disk.
pub fn finish(atomic: *AtomicFile, detail: *Detail) Detail.Error!void {
    errdefer detail.ask();
    detail.file_name = atomic.path;
    os.syncFile(atomic.file, &detail.code) catch {
        return detail.fileRefused(0, "cannot bring the file to the disk");
    };
    os.close(atomic.file);
    atomic.state = .closed;
}

/// After `finish`: gives it the name.
pub fn publish(atomic: *AtomicFile, detail: *Detail) Detail.Error!void {
    detail.file_name = atomic.path;
    os.rename(atomic.temporary, atomic.path, &detail.code) catch {
        return detail.fileRefused(0, "cannot rename the new file");
    };
    atomic.state = .published;
}

/// After `publish`: the name is on the disk too. If this fails, the new version stands there
/// nonetheless.
pub fn settle(atomic: *const AtomicFile, detail: *Detail) Detail.Error!void {
    detail.file_name = atomic.path;
    os.syncFolder(atomic.path, &detail.code) catch {
        return detail.fileRefused(0, "the new file is in place, but its folder cannot be " ++
            "brought to the disk");
    };
}

/// Null: there is none.
fn identify(path: [:0]const u8, detail: *Detail) Detail.Error!?os.Identity {
    return os.identifyPath(path, .itself, &detail.code) catch {
        if (!os.isMissingCode(detail.code)) {
            return detail.fileRefused(0, "cannot ask the system about the file");
        }
        detail.code = 0;
        return null;
    };
}

fn checkReplaceable(identity: os.Identity, detail: *Detail) Detail.Error!void {
    if (identity.link) {
        detail.code = os.Code.is_link;
        return detail.fail(error.FileAccess, "is a symbolic link: save to the file that it names");
    }
    if (identity.directory) {
        detail.code = os.Code.is_directory;
        return detail.fail(error.FileAccess, "is a directory");
    }
    if (!identity.regular) {
        detail.code = os.Code.not_mappable;
        return detail.fail(error.FileAccess, "is not a regular file");
    }
}

/// How two names of files stand to each other.
pub const Relation = enum {
    /// They name one file, however they are spelled.
    same,
    /// Both are in one folder, which may yet take them for one name: many systems have folders that
    /// make no difference between `A` and `a`. If so, a file with the one name is found by the
    /// other.
    one_folder,
    apart,
};

pub fn relate(first: [:0]const u8, second: [:0]const u8, detail: *Detail) Detail.Error!Relation {
    const folder = try identifyFolder(first, detail) orelse return .apart;
    const other = try identifyFolder(second, detail) orelse return .apart;
    if (!folder.isSame(other)) return .apart;
    if (std.mem.eql(u8, first[nameStart(first)..], second[nameStart(second)..])) return .same;
    detail.file_name = first;
    const old = try identify(first, detail) orelse return .one_folder;
    detail.file_name = second;
    const other_old = try identify(second, detail) orelse return .one_folder;
    // With one name only, it cannot have been found by two.
    return if (old.isSame(other_old) and old.links == 1) .same else .one_folder;
}

/// After `publish`: true if another name leads to this file too.
pub fn isFoundBy(atomic: *const AtomicFile, name: [:0]const u8, detail: *Detail) Detail.Error!bool {
    detail.file_name = name;
    const found = try identify(name, detail) orelse return false;
    const own = try identify(atomic.path, detail) orelse return false;
    return own.isSame(found);
}

/// Of the folder that a file of this name is in. Null: there is none.
fn identifyFolder(path: [:0]const u8, detail: *Detail) Detail.Error!?os.Identity {
    detail.file_name = path;
    const start = nameStart(path);
    const folder = os.heap.allocSentinel(u8, start + 1, 0) catch {
        return detail.refused(start + 2, "cannot allocate memory for a folder's name");
    };
    defer os.heap.free(folder);
    @memcpy(folder[0..start], path[0..start]);
    folder[start] = '.';
    return os.identifyPath(folder, .followed, &detail.code) catch {
        if (!os.isMissingCode(detail.code)) {
            return detail.fileRefused(0, "cannot ask the system about the file's folder");
        }
        detail.code = 0;
        return null;
    };
}

/// Where the last part of a path begins.
fn nameStart(path: []const u8) usize {
    const separators = if (std.fs.path.sep == '\\') "/\\:" else "/";
    return if (std.mem.findLastAny(u8, path, separators)) |last| last + 1 else 0;
}

const prefix = ".memmgr-";
const digit_count = 16;
const suffix = ".tmp";

/// The folder's part of `path`, and room for the name.
fn reserveName(path: []const u8, detail: *Detail) Detail.Error![:0]u8 {
    const start = nameStart(path);
    const size = start + prefix.len + digit_count + suffix.len;
    const name = os.heap.allocSentinel(u8, size, 0) catch {
        return detail.refused(size + 1, "cannot allocate memory for a file's name");
    };
    @memcpy(name[0..start], path[0..start]);
    @memcpy(name[start..][0..prefix.len], prefix);
    @memcpy(name[size - suffix.len ..], suffix);
    return name;
}

var serial: std.atomic.Value(u64) = .init(0);

/// A name that others hardly have; if they do, the file cannot be created and another is tried.
fn fillName(name: [:0]u8) void {
    const unlikely = std.hash.int(os.nowNs()) ^ std.hash.int(os.threadId()) ^
        std.hash.int(serial.fetchAdd(1, .monotonic)) ^ @intFromPtr(&serial);
    const digits = std.fmt.hex(unlikely);
    @memcpy(name[name.len - suffix.len - digit_count ..][0..digit_count], &digits);
}

const testing = std.testing;
const TempFile = @import("../os.zig").TempFile;

fn save(path: [:0]const u8, bytes: []const u8, detail: *Detail) Detail.Error!void {
    var atomic: AtomicFile = try .create(path, detail);
    defer atomic.deinit();
    try atomic.allocate(bytes.len, detail);
    var progress: Progress = .{};
    try atomic.write(bytes, 0, &progress, detail);
    try atomic.finish(detail);
    try atomic.publish(detail);
    try atomic.settle(detail);
}

test "a new version takes the name of the old one, and a first version its own" {
    const file: TempFile = try .create("old");
    defer file.deinit();
    var detail: Detail = .{};
    try save(file.path, "new and longer", &detail);
    try file.expect("new and longer");
    try testing.expectEqual(1, try file.countSiblings());
    const fresh = try std.mem.concatWithSentinel(testing.allocator, u8, &.{ file.path, "2" }, 0);
    defer testing.allocator.free(fresh);
    try save(fresh, "fresh", &detail);
    try testing.expectEqual(2, try file.countSiblings());
    var code: i64 = 0;
    try testing.expectEqual(5, (try os.identifyPath(fresh, .itself, &code)).size);
}

test "R7.2, R9.3 each call that the system refuses leaves the old version, and nothing else" {
    const file: TempFile = try .create("old");
    defer file.deinit();
    defer os.simulated.clear();
    var detail: Detail = .{};
    for ([_]os.Call{
        .identify_path, .create, .allocate, .write, .sync_file, .rename,
    }) |call| {
        os.simulated.failNext(call, 5, .{});
        try testing.expectError(error.FileAccess, save(file.path, "new", &detail));
        os.simulated.clear();
        try testing.expectEqual(5, detail.code);
        try testing.expectEqualStrings(file.path, detail.file_name);
        try file.expect("old");
        try testing.expectEqual(1, try file.countSiblings());
    }
    // The last one comes too late to change anything.
    os.simulated.failNext(.sync_folder, 5, .{});
    try testing.expectError(error.FileAccess, save(file.path, "new", &detail));
    os.simulated.clear();
    try file.expect("new");
    try testing.expectEqual(1, try file.countSiblings());
}

test "a folder, and what is mapped here, keep their names" {
    const file: TempFile = try .create("old");
    defer file.deinit();
    const folder = try testing.allocator.dupeSentinel(u8, std.fs.path.dirname(file.path).?, 0);
    defer testing.allocator.free(folder);
    var detail: Detail = .{};
    try testing.expectError(error.FileAccess, save(folder, "new", &detail));
    try testing.expectEqual(os.Code.is_directory, detail.code);

    var entry: MappedFiles.Entry = .{};
    var code: i64 = 0;
    const identity = try os.identifyPath(file.path, .itself, &code);
    try MappedFiles.add(&entry, identity, .{ .dimension = 1, .dimension_name = "D02" }, null);
    try testing.expectError(error.AlreadyLoaded, save(file.path, "new", &detail));
    try testing.expectEqualStrings("D02", detail.dimension_name);
    MappedFiles.remove(&entry);
    try file.expect("old");
    try testing.expectEqual(1, try file.countSiblings());
}
