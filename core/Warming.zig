//! Brings what is loaded into memory, a window at a time, for as long as nobody has to pay for it.
//!
//! The generation is held for the length of a window only, so that writers, reloads and unloads
//! wait for milliseconds. A window that the system has to read counts towards the rate and the
//! budget, and is not asked for if there is no room for it without pushing out what is there; one
//! that is in memory already is mapped and costs nothing.

const std = @import("std");
const os = @import("os.zig");
const Deadline = @import("Deadline.zig");
const Detail = @import("Detail.zig");
const Dimension = @import("Dimension.zig");
const Progress = @import("Progress.zig");

const Warming = @This();
const Error = Detail.Error;

/// A huge page; where one begins in the file, so does a window.
const window_size = 2 << 20;

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
    var pace: Pace = .{ .bytes_per_second = options.bytes_per_second, .begun_ns = os.nowNs() };
    var progress = options.progress;
    var warming: Warming = .{};
    while (true) {
        const stop = warming.step(dimension, owner, options, deadline, &progress, detail) catch |err|
            switch (err) {
                error.Cancelled => .cancelled,
                error.NotLoaded, error.InvalidAccess => if (warming.generation == 0)
                    return err
                else
                    .unloaded,
                else => return err,
            };
        warming.stop = stop orelse paused: {
            const goes_on = pace.wait(warming.read, deadline, &progress, detail) catch
                break :paused .cancelled;
            if (goes_on) continue;
            break :paused .timeout;
        };
        return warming;
    }
}

/// One window. Null: there is more to do.
fn step(
    warming: *Warming,
    dimension: *Dimension,
    owner: u64,
    options: Options,
    deadline: Deadline,
    progress: *Progress,
    detail: *Detail,
) Error!?Stop {
    const word = try dimension.pin(owner, detail);
    defer dimension.leave(dimension.shared.counters, dimension.index, word.slot);
    const generation = dimension.inside(word);
    if (warming.generation == 0) {
        warming.generation = generation.number;
        warming.size = generation.size;
        try progress.begin(warming.size, detail);
    }
    if (warming.generation != generation.number) return .unloaded;
    if (deadline.passed()) return .timeout;

    const window = generation.placement.part(@intCast(warming.warm), window_size);
    const cached = os.cached(window, generation.path, &detail.code) catch {
        return detail.refused(0, "cannot ask the system what is in memory");
    };
    const missing = window.mapped_size - cached;
    if (missing > 0) {
        if (options.budget) |budget| if (missing > budget -| warming.read) return .budget;
        if (shortage(missing)) |limit| {
            warming.limit = limit.kind;
            return .memory;
        }
    }
    try dimension.bringIn(word.slot, window, detail);
    const size = @min(window.mapped_size, warming.size - warming.warm);
    warming.warm += size;
    warming.read += missing;
    try progress.advance(size, detail);
    return if (warming.warm == warming.size) .complete else null;
}

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

    /// Until more may be read. False: the deadline came first.
    fn wait(
        pace: *const Pace,
        read: u64,
        deadline: Deadline,
        progress: *Progress,
        detail: *Detail,
    ) Error!bool {
        const rate = pace.bytes_per_second orelse return true;
        const seconds = @as(f64, @floatFromInt(read)) / @as(f64, @floatFromInt(rate));
        const due: Deadline = .{
            .at_ns = pace.begun_ns +| std.math.lossyCast(u64, seconds * std.time.ns_per_s),
        };
        while (!due.passed()) {
            if (deadline.passed()) return false;
            const pause = due.earlier(deadline).earlier(.in(pause_ns));
            const nobody: std.atomic.Value(u32) = .init(0);
            os.futexWait(&nobody, 0, pause.leftNs());
            try progress.advance(0, detail);
        }
        return true;
    }
};
