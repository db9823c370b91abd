//! A manager's whole state as one JSON object, the same in every language.
//!
//! Written in one pass into what room there is, and counted beyond it, so that asking for the
//! length and writing are the same walk.

const std = @import("std");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Generation = @import("../dimension.zig").Generation;
const Manager = @import("Manager.zig");
const Pool = @import("../Pool.zig");
const dtypes = @import("../formats.zig").dtype;
const escape = @import("../base.zig").escape;

const Json = std.json.Stringify;
const Failure = std.Io.Writer.Error;

/// Returns the length of the whole text; as much of it as there is room for is in `room`.
pub fn write(
    manager: *Manager,
    handle: u64,
    room: []u8,
    detail: *Detail,
) Detail.Error!usize {
    const memory = try manager.memory(handle, detail);
    var counting: Counting = .init(room);
    var dump: Dump = .{ .json = .{ .writer = &counting.writer } };
    dump.begin(manager, memory);
    for (manager.dimensions()) |*dimension| {
        try dimension.describe(handle, detail, &dump, Dump.writeDimension);
    }
    dump.end();
    return counting.writer.end + counting.beyond;
}

/// A writer that keeps what fits and counts the rest.
const Counting = struct {
    writer: std.Io.Writer,
    beyond: usize = 0,

    fn init(room: []u8) Counting {
        return .{ .writer = .{ .buffer = room, .vtable = &.{ .drain = drain } } };
    }

    fn drain(writer: *std.Io.Writer, data: []const []const u8, splat: usize) Failure!usize {
        const counting: *Counting = @fieldParentPtr("writer", writer);
        // The buffer is full, or nearly: what it lacks is counted and not kept, since nobody reads
        // a text that was cut.
        const count = std.Io.Writer.countSplat(data, splat);
        counting.beyond += count;
        return count;
    }
};

const Dump = struct {
    json: Json,

    // The writer below cannot fail. Inlined, these would be ten times the code of their callers.

    noinline fn field(dump: *Dump, name: []const u8, value: anytype) void {
        dump.json.objectField(name) catch unreachable;
        dump.json.write(value) catch unreachable;
    }

    /// Text that need not be UTF-8. JSON has escapes of its own for what is a character.
    noinline fn text(dump: *Dump, name: []const u8, value: []const u8) void {
        const writer = dump.json.writer;
        dump.json.objectField(name) catch unreachable;
        dump.json.beginWriteRaw() catch unreachable;
        writer.writeByte('"') catch unreachable;
        var buffer: escape.Buffer = undefined;
        var rest = value;
        while (rest.len > 0) {
            const piece = escape.next(rest, &buffer);
            const chars = if (piece.is_character) rest[0..piece.len] else piece.shown;
            Json.encodeJsonStringChars(chars, dump.json.options, writer) catch unreachable;
            rest = rest[piece.len..];
        }
        writer.writeByte('"') catch unreachable;
        dump.json.endWriteRaw();
    }

    noinline fn open(dump: *Dump, name: []const u8) void {
        dump.json.objectField(name) catch unreachable;
        dump.json.beginObject() catch unreachable;
    }

    noinline fn close(dump: *Dump) void {
        dump.json.endObject() catch unreachable;
    }

    fn begin(dump: *Dump, manager: *Manager, memory: Dimension.Memory) void {
        const budget = &manager.budget;
        dump.json.beginObject() catch unreachable;
        dump.open("budget");
        dump.field("allocated", budget.allocated.load(.monotonic));
        dump.field("peak", budget.peak.load(.monotonic));
        dump.field("limit", budget.limit);
        dump.field("limit_kind", @tagName(budget.limit_kind));
        dump.field("pool_limit", manager.pool_limit);
        dump.field("refusals", budget.refusals.load(.monotonic));
        dump.close();
        dump.open("memory");
        dump.field("reserved", memory.reserved);
        dump.field("mapped", memory.mapped);
        // Null where the system does not tell.
        const use = memory.use;
        dump.field("resident", if (use) |known| known.resident else null);
        dump.field("private_dirty", if (use) |known| known.private_dirty else null);
        dump.field("huge", if (use) |known| known.huge else null);
        dump.field("locked", memory.locked);
        dump.close();
        const asymmetric = manager.counters.asymmetric.load(.monotonic);
        dump.field("gate", if (asymmetric) "asymmetric" else "atomic");
        dump.field("loads", manager.loads.load(.monotonic));
        dump.field("reloads", manager.reloads.load(.monotonic));
        dump.field("unloads", manager.unloads.load(.monotonic));
        dump.writePools(manager);
        dump.json.objectField("dimensions") catch unreachable;
        dump.json.beginArray() catch unreachable;
    }

    fn end(dump: *Dump) void {
        dump.json.endArray() catch unreachable;
        dump.json.endObject() catch unreachable;
    }

    /// All together, and those that have slabs.
    fn writePools(dump: *Dump, manager: *Manager) void {
        const stats = manager.pool.stats();
        dump.open("pools");
        inline for (comptime std.meta.fieldNames(Pool.Stats)) |name| {
            dump.field(name, @field(stats, name));
        }
        dump.json.objectField("classes") catch unreachable;
        dump.json.beginArray() catch unreachable;
        for (0..Pool.class_count) |index| {
            const class = manager.pool.describeClass(@intCast(index));
            if (class.slabs > 0) dump.json.write(class) catch unreachable;
        }
        dump.json.endArray() catch unreachable;
        dump.close();
    }

    fn writeDimension(dump: *Dump, dimension: *Dimension, stats: Dimension.Stats) void {
        dump.json.beginObject() catch unreachable;
        dump.text("name", dimension.name());
        dump.field("state", stats.state.name());
        dump.field("address", stats.address);
        dump.field("capacity", stats.capacity);
        dump.field("charged", stats.charged);
        dump.field("views", stats.views);
        dump.field("retiring_views", stats.retiring_views);
        if (stats.mark) |mark| {
            dump.open("fault");
            dump.field("offset", mark.offset);
            dump.field("system_code", mark.code);
            dump.close();
        }
        if (stats.current) |generation| dump.writeGeneration(generation, stats.current_address);
        dump.close();
    }

    fn writeGeneration(dump: *Dump, generation: *const Generation, address: u64) void {
        dump.open("loaded");
        dump.field("generation", generation.number);
        dump.field("address", address);
        dump.field("mode", @tagName(generation.options.mode));
        dump.field("prefetch", @tagName(generation.options.prefetch));
        dump.field("huge_pages", generation.options.huge_pages);
        dump.field("format", @tagName(generation.format));
        dump.open("file");
        dump.text("name", generation.path);
        dump.field("size", generation.size);
        dump.field("device", generation.identity.device);
        dump.field("inode", generation.identity.inode);
        dump.field("mtime_ns", generation.identity.mtime_ns);
        dump.close();
        dump.json.objectField("layers") catch unreachable;
        dump.json.beginArray() catch unreachable;
        for (generation.layers.items) |*layer| {
            dump.json.beginObject() catch unreachable;
            dump.text("name", layer.name);
            dump.field("dtype", dtypes.name(layer.dtype));
            dump.field("order", @tagName(layer.order));
            dump.field("shape", layer.shape);
            dump.field("offset", layer.offset);
            dump.field("length", layer.length);
            dump.close();
        }
        dump.json.endArray() catch unreachable;
        dump.close();
    }
};
