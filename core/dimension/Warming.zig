//! Brings what is loaded into memory, a window at a time, for as long as nobody has to pay for it.
//!
//! The generation is held for the length of a window only, so that writers, reloads and unloads
//! wait for milliseconds. A window that the system has to read counts towards the rate and the
//! budget, and is not asked for if there is no room for it without pushing out what is there; one
//! that is in memory already is mapped and costs nothing.

const std = @import("std");
const os = @import("../os.zig");
const Deadline = @import("../base.zig").Deadline;
const Detail = @import("../base.zig").Detail;
const Dimension = @import("Dimension.zig");
const Generation = @import("Generation.zig");
const Held = @import("Held.zig");
const Progress = @import("../base.zig").Progress;
const Residency = @import("Residency.zig");
const interrupt = @import("../base.zig").interrupt;

const Warming = @This();
const Error = Detail.Error;

/// A huge page; where one begins in the file, so does a window.
const window_size = 2 << 20;

/// How many windows the system may read ahead of the one that is asked for. What is missing is
/// looked at before that, or it would seem to have been there.
const ahead_count = 8;

/// How often whoever asked is told, at least, while the rate is waited for.
const pause_ns = 100 * std.time.ns_per_ms;

/// Mirrors MEMMGR_WARM_… of the header.
pub const Stop = enum(u32) {
    complete = 0,
    budget = 1,
    timeout = 2,
    memory = 3,
    cancelled = 4,
    unloaded = 5,
};

pub const Options = struct {
    /// Of what has to be read; null: as fast as the device is.
    bytes_per_second: ?u64 = null,
    /// Bytes to read at most; null: all of them.
    budget: ?u64 = null,
    timeout_ns: ?u64 = null,
    progress: Progress = .{},
};

stop: Stop = .complete,
generation: u64 = 0,
/// Bytes of the file.
size: u64 = 0,
/// Bytes from the file's start that are in memory and mapped, and how many of them were not in
/// memory before.
warm: u64 = 0,
read: u64 = 0,
/// What `memory` is about.
limit: os.Limit.Kind = .none,

pub fn run(dimension: *Dimension, owner: u64, options: Options, detail: *Detail) Error!Warming {
    const deadline: Deadline = .in(options.timeout_ns);
    const pace: Pace = .{ .bytes_per_second = options.bytes_per_second, .begun_ns = os.nowNs() };
    var progress = options.progress;
    var warming: Warming = .{};
    var ahead: Ahead = .{};
    warming.stop = while (true) {
        const before = warming;
        if (deadline.passed() and before.generation != 0) break .timeout;
        const stop = warming.step(dimension, owner, options, &ahead, detail) catch |err| switch (err) {
            error.NotLoaded, error.InvalidAccess => if (before.generation == 0)
                return err
            else
                break .unloaded,
            else => return err,
        };
        // With nothing held, so that whoever is told may unload it.
        const news = warming.warm - before.warm;
        if (before.generation == 0) progress.total = warming.size;
        if (before.generation == 0 or news > 0) if (!progress.tell(news)) break .cancelled;
        if (stop) |why| break why;
        if (!try pace.wait(warming.read, deadline, &progress, detail)) break .cancelled;
    };
    dimension.log(.warm, warming.read, "");
    return warming;
}

/// One window, or what is known before the first. Null: there is more to do.
fn step(
    warming: *Warming,
    dimension: *Dimension,
    owner: u64,
    options: Options,
    ahead: *Ahead,
    detail: *Detail,
) Error!?Stop {
    const word = try dimension.pin(owner, detail);
    defer dimension.leavePinned(word);
    const generation = dimension.inside(word);
    if (warming.generation == 0) {
        warming.generation = generation.number;
        warming.size = generation.size;
        return null;
    }
    if (warming.generation != generation.number) return .unloaded;

    const window = generation.placement.part(@intCast(warming.warm), window_size);
    const missing = ahead.missing(generation, warming.warm / window_size);
    if (missing > 0) {
        if (options.budget) |budget| if (missing > budget -| warming.read) return .budget;
        if (shortage(missing)) |limit| {
            warming.limit = limit.kind;
            return .memory;
        }
    }
    {
        var own: Held = .{ .dimension = dimension, .slot = word.slot };
        own.begin();
        defer own.end();
        try Residency.bringIn(dimension, word.slot, window, detail);
    }
    warming.read += missing;
    warming.warm += @min(window.mapped_size, warming.size - warming.warm);
    return if (warming.warm == warming.size) .complete else null;
}

/// Bytes that windows lacked when they were looked at.
const Ahead = struct {
    bytes: [ahead_count]u64 = undefined,
    /// Windows looked at.
    count: u64 = 0,

    /// Of the window with that number, which come one after the other.
    fn missing(
        ahead: *Ahead,
        generation: *const Generation,
        index: u64,
    ) u64 {
        const placement = generation.placement;
        const end = std.math.divCeil(u64, placement.mapped_size, window_size) catch unreachable;
        while (ahead.count < @min(end, index + ahead_count)) : (ahead.count += 1) {
            const window = placement.part(@intCast(ahead.count * window_size), window_size);
            // Where the system does not tell, all of it counts as missing.
            var ignored: i64 = 0;
            const cached = os.cached(window, generation.path, &ignored) catch 0;
            ahead.bytes[ahead.count % ahead_count] = window.mapped_size - cached;
        }
        return ahead.bytes[index % ahead_count];
    }
};

/// What there is no room for beside what is in use. A sixteenth of the limit, at most 256 MiB, is
/// left to everybody else.
fn shortage(missing: u64) ?os.Limit {
    const limit = os.memoryToSpare() orelse return null;
    const reserve = @min(limit.value / 16, 256 << 20);
    return if (missing +| reserve > limit.left()) limit else null;
}

/// Keeps what is read to so many bytes per second, on average since it began.
const Pace = struct {
    bytes_per_second: ?u64,
    begun_ns: u64,

    /// Until more may be read, or the deadline. False if whoever is told asks for it to stop.
    fn wait(
        pace: *const Pace,
        read: u64,
        deadline: Deadline,
        progress: *Progress,
        detail: *Detail,
    ) Error!bool {
        const rate = pace.bytes_per_second orelse return true;
        const seconds = @as(f64, @floatFromInt(read)) / @as(f64, @floatFromInt(rate));
        const due_ns = pace.begun_ns +| std.math.lossyCast(u64, seconds * std.time.ns_per_s);
        const end = deadline.earlier(.{ .at_ns = due_ns });
        while (!end.passed()) {
            const nobody: std.atomic.Value(u32) = .init(0);
            try interrupt.sleep(&nobody, 0, end.earlier(.in(pause_ns)), detail);
            if (!progress.tell(0)) return false;
        }
        return true;
    }
};
