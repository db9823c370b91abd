//! Shims of the header's banner "Log": core's events as sentences, to the caller's function.

const std = @import("std");
const os = @import("../os.zig");
const Lock = @import("../Lock.zig");
const Log = @import("../Log.zig");
const Managers = @import("../Managers.zig");
const Call = @import("Call.zig");
const escape = @import("../escape.zig");
const fork = @import("../fork.zig");
const types = @import("types.zig");
const writeNumber = @import("error_text.zig").writeNumber;

const Atomic = std.atomic.Value;
const Function = *const types.LogFunction;

/// Held while the function is replaced.
var lock: Lock = .{};
/// Together with `user`, which changes only while the function is null and nobody is inside.
var function: Atomic(?Function) = .init(null);
var user: ?*anyopaque = null;
/// Threads that may be inside the function.
var inside_count: Atomic(u32) = .init(0);
threadlocal var inside = false;

pub fn memmgr_log_set(
    level: i32,
    new: ?Function,
    new_user: ?*anyopaque,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.log, error_out);
    return call.end(set(&call, level, new, new_user));
}

fn set(call: *Call, level: i32, new: ?Function, new_user: ?*anyopaque) Call.Error!void {
    if (inside) return call.invalid("the log function cannot replace itself");
    try fork.join(&.{onFork}, &call.detail);
    lock.lock();
    defer lock.unlock();
    Log.set(null, hear);
    function.store(null, .seq_cst);
    while (true) {
        const count = inside_count.load(.seq_cst);
        if (count == 0) break;
        os.futexWait(&inside_count, count, null);
    }
    user = new_user;
    function.store(new, .seq_cst);
    if (new == null) return;
    Log.set(level, hear);
    if (Log.isOn(.debug)) Managers.recallBlocks();
}

/// See `fork`. Nobody but the calling thread is in here in the child. The log is off there if one of
/// the others was about to change it.
fn onFork(stage: os.ForkStage) void {
    if (stage != .in_child) return;
    lock = .{};
    inside_count.store(@intFromBool(inside), .seq_cst);
}

fn hear(event: Log.Event) void {
    if (inside) return;
    inside = true;
    defer inside = false;
    _ = inside_count.fetchAdd(1, .seq_cst);
    defer {
        if (inside_count.fetchSub(1, .seq_cst) == 1) os.futexWakeAll(&inside_count);
    }
    const current = function.load(.seq_cst) orelse return;
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
    current(&record, user);
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
