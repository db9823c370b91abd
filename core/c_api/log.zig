//! Shims of the header's banner "Log": core's events as sentences, to the caller's function.

const std = @import("std");
const os = @import("../os.zig");
const Lock = @import("../base.zig").Lock;
const Log = @import("../base.zig").Log;
const Managers = @import("../manager.zig").Managers;
const Call = @import("Call.zig");
const escape = @import("../base.zig").escape;
const fork = @import("../base.zig").fork;
const types = @import("types.zig");
const writeNumber = @import("error_text.zig").writeNumber;

const Atomic = std.atomic.Value;
const Function = *const types.LogFunction;

const Receiver = struct { function: ?Function = null, user: ?*anyopaque = null };

/// Held while the receiver is replaced.
var lock: Lock = .{};
/// Events go to `receivers[active]`. The other one is the last that was replaced, or the next; it
/// is written to while it is not active and nobody is inside it.
var receivers: [2]Receiver = @splat(.{});
var active: Atomic(usize) = .init(0);
/// Threads that are inside a receiver, or look whether it is active.
var inside_counts: [2]Atomic(u32) = @splat(.init(0));
/// The receiver that the calling thread is inside.
threadlocal var inside: ?usize = null;

pub fn memmgr_log_set(
    level: i32,
    new: ?Function,
    new_user: ?*anyopaque,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.log, error_out);
    return call.end(set(&call, level, .{ .function = new, .user = new_user }));
}

pub fn memmgr_log_set_level(level: i32, error_out: ?*types.Error) callconv(.c) i32 {
    var call: Call = .begin(.log, error_out);
    Log.setLevel(level);
    recallBlocks();
    return call.end({});
}

fn set(call: *Call, level: i32, new: Receiver) Call.Error!void {
    if (inside != null) return call.invalid("the log function cannot replace itself");
    try fork.join(&.{onFork}, &call.detail);
    lock.lock();
    defer lock.unlock();
    const new_level: ?i32 = if (new.function != null) level else null;
    const old = active.load(.monotonic);
    if (!std.meta.eql(receivers[old], new)) {
        const next = 1 - old;
        receivers[next] = new;
        // Neither hears of what is below its level.
        Log.setLevel(@max(level, Log.level()));
        active.store(next, .seq_cst);
    }
    Log.set(new_level, hear);
    recallBlocks();
    if (old == active.load(.monotonic)) return;
    while (true) {
        const count = inside_counts[old].load(.seq_cst);
        if (count == 0) break;
        os.futexWait(&inside_counts[old], count, null);
    }
}

/// The pools' fast paths do not look at the level: each thread is made to, once.
fn recallBlocks() void {
    if (Log.isOn(.debug)) Managers.recallBlocks();
}

/// See `fork`. Nobody but the calling thread is in here in the child.
fn onFork(stage: os.ForkStage) void {
    if (stage != .in_child) return;
    lock = .{};
    for (&inside_counts, 0..) |*count, index| count.store(@intFromBool(inside == index), .seq_cst);
}

/// The active receiver, which stays as it is until `leave`.
fn enter() usize {
    while (true) {
        const index = active.load(.seq_cst);
        _ = inside_counts[index].fetchAdd(1, .seq_cst);
        if (active.load(.seq_cst) == index) return index;
        leave(index);
    }
}

fn leave(index: usize) void {
    const count = &inside_counts[index];
    if (count.fetchSub(1, .seq_cst) == 1) os.futexWakeAll(count);
}

fn hear(event: Log.Event) void {
    if (inside != null) return;
    const index = enter();
    inside = index;
    defer {
        inside = null;
        leave(index);
    }
    const receiver = receivers[index];
    const function = receiver.function orelse return;
    var buffer: [types.message_size]u8 = undefined;
    var writer: std.Io.Writer = .fixed(buffer[0 .. buffer.len - 1]);
    writeSentence(&writer, event) catch {}; // what does not fit is cut
    buffer[writer.end] = 0;
    const record: types.LogRecord = .{
        .level = @backingInt(event.level),
        .operation = @backingInt(event.operation),
        .dimension = event.dimension,
        .bytes = event.bytes,
        .allocated = event.allocated,
        .limit = event.limit,
        .message = buffer[0..writer.end :0],
        .threshold_percent = event.threshold_percent,
    };
    function(&record, receiver.user);
}

fn writeSentence(writer: *std.Io.Writer, event: Log.Event) std.Io.Writer.Error!void {
    if (event.dimension_name.len > 0) {
        try escape.write(writer, event.dimension_name);
        try writer.writeAll(": ");
    }
    switch (event.operation) {
        .open => try writeNumber(writer, "opened, ", event.bytes, " bytes charged"),
        .close => try writer.writeAll("closed"),
        .load => try writeNumber(writer, "loaded ", event.bytes, " bytes"),
        .reload => try writeNumber(writer, "reloaded ", event.bytes, " bytes"),
        .unload => try writeNumber(writer, "unloaded ", event.bytes, " bytes"),
        .deallocate => try writeNumber(writer, "deallocated ", event.bytes, " bytes"),
        .retire => {
            try writeNumber(writer, "unmapped ", event.bytes, " bytes");
            if (event.faulted) try writer.writeAll(", of which some could not be read");
        },
        .flush => try writeNumber(writer, "flushed ", event.bytes, " bytes"),
        .evict => try writeNumber(writer, "evicted ", event.bytes, " bytes"),
        .warm => try writeNumber(writer, "warmed ", event.bytes, " bytes"),
        .lock => try writeNumber(writer, "locked ", event.bytes, " bytes"),
        .unlock => try writeNumber(writer, "unlocked ", event.bytes, " bytes"),
        .alloc => try writeNumber(writer, "handed out a block of ", event.bytes, " bytes"),
        .resize => try writeNumber(writer, "resized a block to ", event.bytes, " bytes"),
        .free => if (event.level == .@"error") {
            const raced = "blocks that two threads freed at the same time: ";
            try writeNumber(writer, raced, event.bytes, "");
        } else try writeNumber(writer, "took a block of ", event.bytes, " bytes back"),
        .grow => try writeNumber(writer, "took ", event.bytes, " bytes for the pools"),
        .trim => try writeNumber(writer, "gave ", event.bytes, " bytes of the pools back"),
        .pressure => if (event.threshold_percent != 0) {
            const charged = " % of what the limit leaves beyond the regions is charged";
            try writeNumber(writer, "", event.threshold_percent, charged);
        } else try writeNumber(writer, "refusing ", event.bytes, " bytes"),
        .save => try writeNumber(writer, "saved ", event.bytes, " bytes"),
        .none, .find, .acquire, .release, .write, .stats, .log, .verify, .inject, .scan, .interrupt => {
            try writer.writeAll(@tagName(event.operation));
        },
    }
    const preposition = if (event.operation == .save) "to" else "of";
    if (event.file_name.len > 0) {
        try writer.print(" {s} '", .{preposition});
        const numbers = "' (allocated  of  bytes)".len + 2 * 20;
        try escape.writeWithin(writer, event.file_name, writer.unusedCapacityLen() -| numbers);
        try writer.writeAll("'");
    }
    try writeNumber(writer, " (allocated ", event.allocated, " of ");
    try writeNumber(writer, "", event.limit, " bytes)");
}
