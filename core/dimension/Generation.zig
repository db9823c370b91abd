//! One mapping of one version of a file into a slot.
//!
//! It never moves, and its bytes are never swapped for another file's: a new version is a new
//! generation in the other slot. Loading one opens, checks, parses, maps and closes the file in
//! that order, and gives back every step if a later one fails. A generation knows nothing of
//! readers or of the budget: its dimension decides when it may go.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Guard = @import("../Guard.zig");
const Layers = @import("../formats.zig").Layers;
const MappedFiles = @import("../base.zig").MappedFiles;
const Room = @import("Room.zig");
const formats = @import("../formats.zig");
const interrupt = @import("../base.zig").interrupt;

const Generation = @This();

pub const Mode = enum(u32) {
    read = 0,
    read_write = 1,
    copy = 2,
    ram = 3,

    /// How the file's pages stand in the slot; null if they do not.
    pub fn sharing(mode: Mode) ?os.Sharing {
        return switch (mode) {
            .read => .shared_read,
            .read_write => .shared_write,
            .copy => .private_write,
            .ram => null,
        };
    }
};

pub const Prefetch = enum(u32) { lazy = 0, populate = 1 };

pub const Options = struct {
    mode: Mode = .read,
    prefetch: Prefetch = .lazy,
    /// Of the file; what is in memory on others already stays there.
    huge_pages: bool = false,
    format: formats.Format = .auto,
    /// For raw files: a JSON file that describes the layers, or the layers themselves.
    manifest: ?[:0]const u8 = null,
    layers: []const Layers.Spec = &.{},
};

/// Counts the versions of a dimension from 1; 0 while nothing is here.
number: u64 = 0,
options: Options = .{},
/// Of the dimension that it is in, for who wants to save over its file.
dimension: u32 = Detail.none,
dimension_name: []const u8 = "",
size: u64 = 0,
identity: os.Identity = .{},
/// Writes begun since the identity was recorded: each may have moved the file's time.
writes: u64 = 0,
format: formats.Format = .raw,
layers: Layers = .empty,
/// From the root on, where that can be said.
path: [:0]const u8 = "",
placement: os.Placement = undefined,
mapped_file: MappedFiles.Entry = .{},
/// A writer has exclusive access to it; its thread, or 0 if any may end it.
writing: bool = false,
writer_thread: u64 = 0,
/// The system may not take its pages. Moved under the dimension's lock.
locked: bool = false,
/// It is not to be entered again, and goes with its last view.
retiring: bool = false,
/// A barrier was issued since the gate last let readers in: the sums of its views are exact.
/// Under the dimension's lock.
settled: bool = false,

pub fn isFree(generation: *const Generation) bool {
    return generation.number == 0;
}

/// What a reload replaces. It may be gone by the time that the new version is there.
pub const Previous = struct {
    /// A copy of it.
    generation: *const Generation,
    /// Its own, for its address.
    mapped_file: *const MappedFiles.Entry,
    /// A page of it could not be read, so that the same file may be whole again.
    faulted: bool,
};

/// Loads `path` into an empty slot. `generation` stays where it is from now on. The caller has
/// claimed it by giving it its number, and makes it free again if this fails: others look at
/// number, `writing` and `retiring` meanwhile. `region`: what was populated in the slot at open, which
/// gives way to the file, and comes back if this fails. `guard`: the slot's, if faults are to be
/// caught.
pub fn load(
    generation: *Generation,
    slot: os.Slot,
    capacity: u64,
    path: [:0]const u8,
    options: Options,
    previous: ?Previous,
    region: ?*?os.Placement,
    guard: ?*Guard,
    detail: *Detail,
) Detail.Error!void {
    std.debug.assert(!generation.isFree());

    const access: os.Access = if (options.mode == .read_write) .read_write else .read;
    const file = os.open(path, access, &detail.code) catch {
        return systemFailure(detail, 0, "cannot open the file");
    };
    defer os.close(file);
    const identity = try identify(file, detail);
    try checkSize(identity, capacity, detail);
    if (previous) |replaced| if (!replaced.faulted) {
        const old = replaced.generation;
        const same = old.identity.isSame(identity);
        if (same and old.options.mode != .ram and options.mode != .ram) {
            return detail.fail(error.AlreadyLoaded, "the same file is loaded already: " ++
                "put the new version into a new file, or use mode ram");
        }
    };

    generation.path = keepPath(path, identity) catch {
        return detail.refused(path.len + 1, "cannot allocate memory for the file's name");
    };
    errdefer os.heap.free(generation.path);
    if (options.huge_pages) os.readFirstHugePage(file, identity.size);
    var table = try readLayers(file, identity.size, options, detail);
    errdefer table.layers.deinit(os.heap);

    if (options.mode.sharing()) |sharing| {
        // Nobody writes to a faulted version any more, and its readers see what it shows.
        const overlooked = if (previous) |replaced|
            if (replaced.faulted) replaced.mapped_file else null
        else
            null;
        MappedFiles.add(&generation.mapped_file, identity, .{
            .writable = sharing == .shared_write,
            .dimension = generation.dimension,
            .dimension_name = generation.dimension_name,
        }, overlooked) catch {
            return detail.fail(error.AlreadyLoaded, "the file is mapped by this process " ++
                "already, and one of the two mappings is writable");
        };
    }
    errdefer if (options.mode != .ram) MappedFiles.remove(&generation.mapped_file);

    const room: ?Room = if (options.mode == .read_write)
        try .take(file, identity.size, detail)
    else
        null;
    errdefer if (room) |taken| taken.giveBack();
    if (options.mode == .ram) try checkMemory(identity.size, detail);
    const populated = try giveWay(region, detail);
    errdefer if (populated) |placement| comeBack(region.?, placement);
    try generation.fillSlot(slot, file, identity.size, options, guard, detail);
    if (room) |taken| taken.keep();
    generation.options = .{
        .mode = options.mode,
        .prefetch = options.prefetch,
        .huge_pages = options.huge_pages,
        .format = options.format,
    };
    generation.size = identity.size;
    generation.identity = identity;
    if (options.mode == .read_write) {
        // Giving its holes room may have moved its time.
        const now = os.identify(file, &detail.code) catch identity;
        generation.identity.mtime_ns = now.mtime_ns;
    }
    generation.format = table.format;
    generation.layers = table.layers;
}

/// Bytes of the longest path that the header has room for; longer ones are opened by no system.
const path_size_max = 4095;

/// A name of the file that stays right when the process changes its working folder.
fn keepPath(path: [:0]const u8, identity: os.Identity) error{OutOfMemory}![:0]const u8 {
    const room = try os.heap.alloc(u8, path_size_max);
    defer os.heap.free(room);
    if (os.absolutePath(path, room)) |absolute| {
        const kept = try os.heap.dupeSentinel(u8, absolute, 0);
        var code: i64 = 0;
        // Not if the folder was changed since the file was opened.
        if (os.identifyPath(kept, .followed, &code)) |now| {
            if (now.device == identity.device and now.inode == identity.inode) return kept;
        } else |_| {}
        os.heap.free(kept);
    }
    return os.heap.dupeSentinel(u8, path, 0);
}

/// Takes it out of its slot. If the system refuses, it is still there.
pub fn unload(generation: *Generation) os.Error!void {
    var code: i64 = 0;
    try os.restore(generation.placement, &code);
    generation.forget();
}

/// Leaves in its slot what the system would not take out, to go with the whole reservation.
pub fn forget(generation: *Generation) void {
    if (generation.options.mode != .ram) MappedFiles.remove(&generation.mapped_file);
    generation.layers.deinit(os.heap);
    os.heap.free(generation.path);
    generation.* = .{};
}

/// In the child of a fork, of one that a thread of the parent was loading: it is free again, and so
/// is its slot. The memory for its name and its layers is lost.
pub fn abandon(generation: *Generation, slot: os.Slot) void {
    // How far it came is not known. Should the system refuse, the next file is mapped over it.
    var code: i64 = 0;
    os.restore(.{ .slot = slot, .mapped_size = slot.size, .sharing = null }, &code) catch {};
    if (generation.mapped_file.inode != 0) MappedFiles.remove(&generation.mapped_file);
    generation.* = .{};
}

/// In the child of a fork: what the parent may write to is read here, what it locked is not locked.
pub fn becomeReader(generation: *Generation) void {
    generation.locked = false;
    if (generation.isFree() or generation.options.mode != .read_write) return;
    generation.options.mode = .read;
    MappedFiles.becomeReader(&generation.mapped_file);
}

fn identify(file: os.File, detail: *Detail) Detail.Error!os.Identity {
    const identity = os.identify(file, &detail.code) catch {
        return systemFailure(detail, 0, "cannot ask the system about the file");
    };
    if (identity.directory) {
        detail.code = os.Code.is_directory;
        return detail.fail(error.FileAccess, "is a directory");
    }
    if (!identity.regular) {
        detail.code = os.Code.not_mappable;
        return detail.fail(error.FileAccess, "is not a regular file");
    }
    return identity;
}

fn checkSize(identity: os.Identity, capacity: u64, detail: *Detail) Detail.Error!void {
    if (identity.size == 0) return detail.fail(error.BadFormat, "the file is empty");
    if (identity.size > capacity) {
        detail.requested = identity.size;
        detail.limit = capacity;
        detail.limit_kind = .capacity;
        return detail.fail(error.LimitExceeded, "the file is larger than the capacity");
    }
}

const systemFailure = Detail.fileRefused;

pub const FileSource = struct {
    file: os.File,
    /// The file's first bytes, within which most headers are: read once, looked at several times.
    start: [512]u8 = undefined,
    start_size: ?usize = null,

    pub fn source(file_source: *FileSource, size: u64) formats.Source {
        return .{ .context = file_source, .size = size, .read_fn = read };
    }

    fn read(
        context: *anyopaque,
        buffer: []u8,
        offset: u64,
        detail: *Detail,
    ) Detail.Error!void {
        const file_source: *FileSource = @ptrCast(@alignCast(context));
        const start = try file_source.readStart(detail);
        if (offset + buffer.len > start.len) {
            return readExactly(file_source.file, buffer, offset, detail);
        }
        @memcpy(buffer, start[@intCast(offset)..][0..buffer.len]);
    }

    fn readStart(file_source: *FileSource, detail: *Detail) Detail.Error![]const u8 {
        const size = file_source.start_size orelse
            os.readAt(file_source.file, &file_source.start, 0, &detail.code) catch
            return systemFailure(detail, 0, "cannot read the file");
        file_source.start_size = size;
        return file_source.start[0..size];
    }
};

fn readExactly(file: os.File, buffer: []u8, offset: u64, detail: *Detail) Detail.Error!void {
    var done: usize = 0;
    while (done < buffer.len) : (done += interrupt.piece_size) {
        try interrupt.check(detail);
        const piece = buffer[done..][0..@min(buffer.len - done, interrupt.piece_size)];
        const count = os.readAt(file, piece, offset + done, &detail.code) catch {
            return systemFailure(detail, 0, "cannot read the file");
        };
        if (count < piece.len) {
            detail.code = os.Code.short_read;
            return detail.fail(error.FileAccess, "the file became shorter while it was read");
        }
    }
}

fn readLayers(
    file: os.File,
    size: u64,
    options: Options,
    detail: *Detail,
) Detail.Error!formats.Table {
    var source: FileSource = .{ .file = file };
    var table = try formats.read(os.heap, source.source(size), options.format, detail);
    errdefer table.layers.deinit(os.heap);
    if (options.manifest == null and options.layers.len == 0) return table;
    if (table.format != .raw) {
        return detail.fail(error.InvalidArgument, "layers and a manifest are for raw files: " ++
            "this file's own header describes it");
    }
    if (options.manifest) |manifest| {
        if (options.layers.len != 0) {
            return detail.fail(error.InvalidArgument, "layers and manifest exclude each other");
        }
        table.layers = try readManifest(manifest, size, detail);
    } else {
        table.layers = try Layers.fromSpecs(os.heap, options.layers, size, detail);
    }
    return table;
}

/// The layers and the notes of a manifest of a file that has so many bytes.
pub fn readManifest(path: [:0]const u8, data_size: u64, detail: *Detail) Detail.Error!Layers {
    const data_file_name = detail.file_name;
    detail.file_name = path;
    const file = os.open(path, .read, &detail.code) catch {
        return systemFailure(detail, 0, "cannot open the manifest");
    };
    defer os.close(file);
    const identity = try identify(file, detail);
    var source: FileSource = .{ .file = file };
    const layers = try formats.readManifest(
        os.heap,
        source.source(identity.size),
        data_size,
        detail,
    );
    detail.file_name = data_file_name;
    return layers;
}

fn fillSlot(
    generation: *Generation,
    slot: os.Slot,
    file: os.File,
    size: u64,
    options: Options,
    guard: ?*Guard,
    detail: *Detail,
) Detail.Error!void {
    const placement = if (options.mode.sharing()) |sharing|
        os.place(slot, file, size, sharing, &detail.code) catch {
            return systemFailure(detail, size, "cannot map the file");
        }
    else
        os.commit(slot, size, &detail.code) catch {
            return detail.refused(size, "cannot allocate memory for the file");
        };
    errdefer {
        // It stands in this slot since a moment ago: what the system let stand it takes away.
        var code: i64 = 0;
        os.restore(placement, &code) catch {};
    }
    if (options.huge_pages) os.preferHugePages(placement);
    if (guard) |slot_guard| slot_guard.arm(placement, generation.number);
    errdefer if (guard) |slot_guard| slot_guard.disarm();
    errdefer detail.ask();
    if (options.mode == .ram) {
        try readExactly(file, slot.base[0..size], 0, detail);
    } else if (options.prefetch == .populate) {
        // For reading only: for writing it would dirty every page of the file, or copy it.
        var pieces: interrupt.Pieces = .{ .placement = placement };
        while (try pieces.next(detail)) |piece| os.populate(piece, false, &detail.code) catch {
            return systemFailure(detail, size, "cannot bring the file's pages into memory");
        };
        if (guard) |slot_guard| if (slot_guard.markOf(generation.number)) |mark| {
            return detail.faulted(mark.offset, mark.code);
        };
    }
    generation.placement = placement;
}

/// What was populated at open; null: nothing was, or it has given way already.
fn giveWay(region: ?*?os.Placement, detail: *Detail) Detail.Error!?os.Placement {
    const there = region orelse return null;
    const placement = there.* orelse return null;
    os.restore(placement, &detail.code) catch {
        return detail.refused(placement.mapped_size, "cannot give the region's memory back");
    };
    there.* = null;
    return placement;
}

/// If memory ran out meanwhile, its pages come when they are touched, or not at all.
fn comeBack(region: *?os.Placement, placement: os.Placement) void {
    var code: i64 = 0;
    const again = os.commit(placement.slot, placement.mapped_size, &code) catch return;
    os.populate(again, true, &code) catch {};
    region.* = again;
}

/// An error now is better than a process killed for memory later.
pub fn checkMemory(size: u64, detail: *Detail) Detail.Error!void {
    const available = os.memoryAvailable() orelse return;
    if (size <= available.left()) return;
    return detail.exceeds(size, available, error.LimitExceeded, "it does not fit into memory");
}

/// What `wouldFit` is asked about.
pub const Candidate = union(enum) { path: [:0]const u8, size: u64 };

/// Fails as `load` would if a limit of the system's, or the capacity, stands in its way. Looks at
/// the file, and takes nothing.
pub fn wouldFit(
    capacity: u64,
    candidate: Candidate,
    mode: Mode,
    detail: *Detail,
) Detail.Error!void {
    switch (candidate) {
        .size => |size| try checkRoom(size, capacity, mode, detail),
        .path => |path| {
            const access: os.Access = if (mode == .read_write) .read_write else .read;
            const file = os.open(path, access, &detail.code) catch {
                return systemFailure(detail, 0, "cannot open the file");
            };
            defer os.close(file);
            const size = (try identify(file, detail)).size;
            try checkRoom(size, capacity, mode, detail);
            if (mode == .read_write) try Room.check(file, size, detail);
        },
    }
}

fn checkRoom(size: u64, capacity: u64, mode: Mode, detail: *Detail) Detail.Error!void {
    try checkSize(.{ .size = size }, capacity, detail);
    if (mode == .ram) try checkMemory(size, detail);
    const private = switch (mode) {
        .read, .read_write => 0,
        .copy, .ram => size,
    };
    const limit = os.shortOf(.{ .private = private, .entries = 1 }) orelse return;
    return detail.exceeds(size, limit, error.AllocationRefused, "the system would refuse it");
}
