//! Where core's events go: one sink for the process, which is off until somebody listens.
//!
//! Events are written with no lock held and never while a view is acquired. Off, an event costs
//! one relaxed load.

const std = @import("std");
const Detail = @import("Detail.zig");

pub const Level = enum(i32) { debug = 10, info = 20, warning = 30, @"error" = 40 };

pub const Event = struct {
    level: Level,
    operation: Detail.Operation,
    dimension: u32 = Detail.none,
    dimension_name: []const u8 = "",
    /// What the event is about, what the budget holds after it, and the budget's limit.
    bytes: u64 = 0,
    allocated: u64,
    limit: u64,
    file_name: []const u8 = "",
    /// For `pressure`: the soft threshold that was crossed, or 0 for a refusal.
    threshold_percent: u8 = 0,
    /// For `retire`: a page of it could not be read.
    faulted: bool = false,
};

pub const Sink = *const fn (event: Event) void;

const off = std.math.maxInt(i32);

var threshold: std.atomic.Value(i32) = .init(off);
var sink: std.atomic.Value(?Sink) = .init(null);

/// Events below `level` are not made; null switches the log off.
pub fn set(level: ?i32, new: Sink) void {
    sink.store(new, .release);
    threshold.store(level orelse off, .release);
}

/// False if events of a level go nowhere.
pub inline fn isOn(level: Level) bool {
    return @backingInt(level) >= threshold.load(.monotonic);
}

pub fn write(event: Event) void {
    if (!isOn(event.level)) return;
    const function = sink.load(.acquire) orelse return;
    function(event);
}

test "Log: an event below the level is not made, and none when it is off" {
    const Counter = struct {
        var count: u32 = 0;
        fn hear(event: Event) void {
            std.debug.assert(event.operation == .load);
            count += 1;
        }
    };
    const event: Event = .{ .level = .info, .operation = .load, .allocated = 1, .limit = 2 };
    write(event);
    set(@backingInt(Level.info), Counter.hear);
    write(event);
    set(@backingInt(Level.warning), Counter.hear);
    write(event);
    set(null, Counter.hear);
    write(event);
    try std.testing.expectEqual(1, Counter.count);
}
