//! Where core's events go: one sink for the process, which is off until somebody listens.
//!
//! Events are written with no lock held and never while a view is acquired. Off, an event costs
//! one relaxed load. A new level is one atomic store, which no event in progress delays or loses.

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

/// Events below the level are not made; null switches the log off. One caller at a time.
pub fn set(new_level: ?i32, new: Sink) void {
    sink.store(new, .release);
    threshold.store(if (new_level) |number| @min(number, off - 1) else off, .release);
}

pub fn level() i32 {
    return threshold.load(.monotonic);
}

/// A new level for a log that is on; one that is off stays off. Any number of callers.
pub fn setLevel(new_level: i32) void {
    var current = threshold.load(.monotonic);
    while (current != off) {
        current = threshold.cmpxchgWeak(current, @min(new_level, off - 1), .release, .monotonic) orelse
            return;
    }
}

/// False if events of a level go nowhere.
pub inline fn isOn(of: Level) bool {
    return @backingInt(of) >= threshold.load(.monotonic);
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

test "Log: a new level is that of a log that is on, and leaves it off otherwise" {
    const hear = struct {
        fn hear(_: Event) void {}
    }.hear;
    setLevel(@backingInt(Level.debug));
    try std.testing.expect(!isOn(.@"error"));
    set(std.math.maxInt(i32), hear);
    defer set(null, hear);
    try std.testing.expect(!isOn(.@"error"));
    setLevel(@backingInt(Level.warning));
    try std.testing.expect(isOn(.warning) and !isOn(.info));
    setLevel(std.math.minInt(i32));
    try std.testing.expect(isOn(.debug));
}
