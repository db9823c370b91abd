//! A backend seen through a switch that makes its calls fail.
//!
//! Every function of `Backend(native)` is the native one; those that the system can refuse look at
//! the switch first. A call that is told to fail does not reach the system, so that it has changed
//! nothing. While nothing is told, the switch costs one relaxed load a call. It is the process's,
//! and safe to use from any thread, in release builds too.

const std = @import("std");
const os = @import("../os.zig");

/// Every function that can fail.
pub const Call = enum {
    reserve,
    carve,
    place,
    commit,
    restore,
    reserve_arena,
    take,
    renew,
    give,
    permanent,
    populate,
    flush,
    memory_use,
    catch_faults,
    zero,
    open,
    identify,
    read,
    fill,
    identify_path,
    create,
    allocate,
    write,
    sync_file,
    rename,
    sync_folder,
};

const Rule = struct {
    count: std.atomic.Value(u64) = .init(0),
    /// The calls that fail, by their number since `clear`: from `first` to before `end`.
    first: std.atomic.Value(u64) = .init(0),
    end: std.atomic.Value(u64) = .init(0),
    code: std.atomic.Value(i64) = .init(0),
};

var armed: std.atomic.Value(bool) = .init(false);
var rules: [std.enums.values(Call).len]Rule = @splat(.{});
var read_size_max: std.atomic.Value(usize) = .init(std.math.maxInt(usize));

pub const FailOptions = struct {
    /// Calls that still succeed before.
    after: u32 = 0,
    /// Calls that fail; 0 only has them counted.
    times: u32 = 1,
};

/// Makes the next calls fail with a system code, in place of what was told about them before.
pub fn failNext(call: Call, code: i64, options: FailOptions) void {
    const rule = &rules[@backingInt(call)];
    rule.end.store(0, .release);
    const first = rule.count.load(.monotonic) + options.after;
    rule.code.store(code, .monotonic);
    rule.first.store(first, .monotonic);
    rule.end.store(first + options.times, .release);
    armed.store(true, .release);
}

/// Lets every `readAt` end after at most so many bytes, as if the file ended there.
pub fn shortenReads(size_max: usize) void {
    read_size_max.store(size_max, .monotonic);
    armed.store(true, .release);
}

/// Back to the system as it is; counts start at 0.
pub fn clear() void {
    armed.store(false, .release);
    for (&rules) |*rule| {
        rule.end.store(0, .monotonic);
        rule.count.store(0, .monotonic);
    }
    read_size_max.store(std.math.maxInt(usize), .monotonic);
}

/// How often a function was called, failing or not, since anything was told after `clear`.
pub fn calls(call: Call) u64 {
    return rules[@backingInt(call)].count.load(.monotonic);
}

fn pass(call: Call, code: *i64) os.Error!void {
    if (!armed.load(.monotonic)) return;
    const rule = &rules[@backingInt(call)];
    const index = rule.count.fetchAdd(1, .monotonic);
    const end = rule.end.load(.acquire);
    if (index < rule.first.load(.monotonic) or index >= end) return;
    code.* = rule.code.load(.monotonic);
    return error.System;
}

/// The functions of `native`, each that can fail behind the switch.
pub fn Backend(comptime native: type) type {
    return struct {
        const Self = @This();

        pub const File = native.File;
        pub const code_is_directory: i64 = native.code_is_directory;
        pub const code_not_mappable: i64 = native.code_not_mappable;
        pub const code_short_read: i64 = native.code_short_read;
        pub const code_is_link: i64 = native.code_is_link;

        pub const pageSize = native.pageSize;
        pub const granularity = native.granularity;
        pub const capabilities = native.capabilities;
        pub const memoryAvailable = native.memoryAvailable;
        pub const memoryLimit = native.memoryLimit;
        pub const shortOf = native.shortOf;
        pub const exhausted = native.exhausted;
        pub const nowNs = native.nowNs;
        pub const threadId = native.threadId;
        pub const describe = native.describe;
        pub const isMemoryCode = native.isMemoryCode;
        pub const isSpaceCode = native.isSpaceCode;
        pub const isMissingCode = native.isMissingCode;
        pub const isExistsCode = native.isExistsCode;
        pub const isFaultCode = native.isFaultCode;
        pub const unreserve = native.unreserve;
        pub const unreserveArena = native.unreserveArena;
        pub const readAhead = native.readAhead;
        pub const evict = native.evict;
        pub const close = native.close;
        pub const remove = native.remove;
        pub const futexWait = native.futexWait;
        pub const futexWakeAll = native.futexWakeAll;
        pub const futexWakeOne = native.futexWakeOne;
        pub const processBarrier = native.processBarrier;
        pub const atThreadExit = native.atThreadExit;
        pub const atFork = native.atFork;
        pub const heap = native.heap;

        pub fn reserve(size: usize, alignment: usize, code: *i64) os.Error![*]u8 {
            try pass(.reserve, code);
            return native.reserve(size, alignment, code);
        }

        pub fn carve(slot: os.Slot, code: *i64) os.Error!void {
            try pass(.carve, code);
            return native.carve(slot, code);
        }

        pub fn place(
            slot: os.Slot,
            file: File,
            size: usize,
            sharing: os.Sharing,
            code: *i64,
        ) os.Error!os.Placement {
            try pass(.place, code);
            return native.place(slot, file, size, sharing, code);
        }

        pub fn commit(slot: os.Slot, size: usize, code: *i64) os.Error!os.Placement {
            try pass(.commit, code);
            return native.commit(slot, size, code);
        }

        pub fn restore(placement: os.Placement, code: *i64) os.Error!void {
            try pass(.restore, code);
            return native.restore(placement, code);
        }

        pub fn reserveArena(size: usize, code: *i64) os.Error![*]u8 {
            try pass(.reserve_arena, code);
            return native.reserveArena(size, code);
        }

        pub fn take(base: [*]u8, size: usize, code: *i64) os.Error!void {
            try pass(.take, code);
            return native.take(base, size, code);
        }

        pub fn renew(base: [*]u8, size: usize, code: *i64) os.Error!void {
            try pass(.renew, code);
            return native.renew(base, size, code);
        }

        pub fn give(base: [*]u8, size: usize, code: *i64) os.Error!void {
            try pass(.give, code);
            return native.give(base, size, code);
        }

        pub fn permanent(size: usize, code: *i64) os.Error![*]u8 {
            try pass(.permanent, code);
            return native.permanent(size, code);
        }

        pub fn populate(placement: os.Placement, for_write: bool, code: *i64) os.Error!void {
            try pass(.populate, code);
            return native.populate(placement, for_write, code);
        }

        pub fn flush(placement: os.Placement, code: *i64) os.Error!void {
            try pass(.flush, code);
            return native.flush(placement, code);
        }

        pub fn memoryUse(base: [*]const u8, size: usize, code: *i64) os.Error!os.Use {
            try pass(.memory_use, code);
            return native.memoryUse(base, size, code);
        }

        pub fn catchFaults(hook: os.FaultHook, code: *i64) os.Error!void {
            try pass(.catch_faults, code);
            return native.catchFaults(hook, code);
        }

        pub fn zero(pages: []u8, offset: usize, writable: bool, code: *i64) os.Error!void {
            try pass(.zero, code);
            return native.zero(pages, offset, writable, code);
        }

        pub fn open(path: [*:0]const u8, access: os.Access, code: *i64) os.Error!File {
            try pass(.open, code);
            return native.open(path, access, code);
        }

        pub fn identify(file: File, code: *i64) os.Error!os.Identity {
            try pass(.identify, code);
            return native.identify(file, code);
        }

        pub fn readAt(file: File, buffer: []u8, offset: u64, code: *i64) os.Error!usize {
            try pass(.read, code);
            const size = @min(buffer.len, read_size_max.load(.monotonic));
            return native.readAt(file, buffer[0..size], offset, code);
        }

        pub fn fill(file: File, size: u64, code: *i64) os.Error!void {
            try pass(.fill, code);
            return native.fill(file, size, code);
        }

        pub fn identifyPath(path: [*:0]const u8, link: os.Link, code: *i64) os.Error!os.Identity {
            try pass(.identify_path, code);
            return native.identifyPath(path, link, code);
        }

        pub fn create(
            path: [*:0]const u8,
            like: ?[*:0]const u8,
            code: *i64,
        ) os.Error!File {
            try pass(.create, code);
            return native.create(path, like, code);
        }

        pub fn allocate(file: File, size: u64, code: *i64) os.Error!void {
            try pass(.allocate, code);
            return native.allocate(file, size, code);
        }

        pub fn writeAt(file: File, bytes: []const u8, offset: u64, code: *i64) os.Error!void {
            try pass(.write, code);
            return native.writeAt(file, bytes, offset, code);
        }

        pub fn syncFile(file: File, code: *i64) os.Error!void {
            try pass(.sync_file, code);
            return native.syncFile(file, code);
        }

        pub fn rename(from: [*:0]const u8, to: [*:0]const u8, code: *i64) os.Error!void {
            try pass(.rename, code);
            return native.rename(from, to, code);
        }

        pub fn syncFolder(path: [:0]const u8, code: *i64) os.Error!void {
            try pass(.sync_folder, code);
            return native.syncFolder(path, code);
        }

        pub fn canFill(file: File, size: u64, code: *i64) os.Error!void {
            try pass(.fill, code);
            return native.canFill(file, size, code);
        }

        comptime {
            for (@typeInfo(native).@"struct".decl_names) |name| {
                if (!@hasDecl(Self, name)) @compileError("not in the contract: " ++ name);
            }
        }
    };
}
