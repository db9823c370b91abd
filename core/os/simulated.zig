//! A backend seen through a switch that makes its calls fail.
//!
//! Every function of `Backend(native)` is the native one; those that the system can refuse look at
//! the switch first. A call that is told to fail does not reach the system, so that it has changed
//! nothing. While nothing is told, the switch costs one relaxed load a call. It is the process's,
//! in release builds too (the header's banner "Failure"), and nothing in it locks: a fault's
//! handler and the child of a fork may come by. Only what is told about one call is told by one
//! thread at a time.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");

const Alignment = std.mem.Alignment;
const Atomic = std.atomic.Value;

/// Every function that can fail, by what it is for. Mirrors MEMMGR_CALL_… of the header.
pub const Call = enum(u32) {
    reserve = 1,
    carve = 2,
    map = 3,
    commit = 4,
    unmap = 5,
    reserve_arena = 6,
    take = 7,
    renew = 8,
    give = 9,
    permanent = 10,
    heap = 11,
    populate = 12,
    flush = 13,
    memory_use = 14,
    catch_faults = 15,
    zero = 16,
    open = 17,
    identify = 18,
    read = 19,
    fill = 20,
    identify_path = 21,
    create = 22,
    allocate = 23,
    write = 24,
    sync_file = 25,
    rename = 26,
    sync_folder = 27,
    lock = 28,
    cached = 29,
    barrier = 30,
};

const Rule = struct {
    told: Atomic(bool) = .init(false),
    /// 0: calls for whatever dimension.
    subject: Atomic(u64) = .init(0),
    count: Atomic(u64) = .init(0),
    /// The calls that fail, by their number: from `first` to before `end`.
    first: Atomic(u64) = .init(0),
    end: Atomic(u64) = .init(0),
    code: Atomic(i64) = .init(0),
};

var armed: Atomic(bool) = .init(false);
var rules: std.EnumArray(Call, Rule) = .initFill(.{});
var read_size_max: Atomic(usize) = .init(std.math.maxInt(usize));
var memory_left: Atomic(u64) = .init(std.math.maxInt(u64));

/// Calls that take the longer the more memory they are about.
pub const Lengthy = enum { restore, populate, flush, lock, unlock, evict, memory_use, cached, read };

/// Of unit tests: hears of each such call before it is made, on its thread. Null: nobody does.
pub var watcher: ?*const fn (call: Lengthy) void = null;

inline fn watch(call: Lengthy) void {
    if (builtin.is_test) if (watcher) |hear| hear(call);
}

/// The dimension that the calling thread's calls are for, as a hash of its name; 0: none.
threadlocal var subject: u64 = 0;

pub const FailOptions = struct {
    /// Calls that still succeed before.
    after: u64 = 0,
    /// Calls that fail; 0 only has them counted.
    times: u64 = 1,
    /// Only calls for a dimension of this name; null: all.
    dimension: ?[]const u8 = null,
};

/// Makes the next calls fail with a system code, in place of what was told about them before.
pub fn failNext(call: Call, code: i64, options: FailOptions) void {
    const rule = rules.getPtr(call);
    rule.end.store(0, .release);
    rule.subject.store(if (options.dimension) |name| hash(name) else 0, .monotonic);
    rule.count.store(0, .monotonic);
    rule.code.store(code, .monotonic);
    rule.first.store(options.after, .monotonic);
    rule.end.store(options.after +| options.times, .release);
    rule.told.store(true, .release);
    armed.store(true, .release);
}

/// Lets every `readAt` end after at most so many bytes, as if the file ended there.
pub fn shortenReads(size_max: usize) void {
    read_size_max.store(size_max, .monotonic);
    armed.store(true, .release);
}

/// Lets `memoryToSpare` say that so much memory is all there is.
pub fn leaveMemory(size: u64) void {
    memory_left.store(size, .monotonic);
    armed.store(true, .release);
}

/// Back to the system as it is; counts start at 0.
pub fn clear() void {
    armed.store(false, .release);
    for (std.enums.values(Call)) |call| forget(rules.getPtr(call));
    read_size_max.store(std.math.maxInt(usize), .monotonic);
    memory_left.store(std.math.maxInt(u64), .monotonic);
}

/// The same for one call.
pub fn clearCall(call: Call) void {
    forget(rules.getPtr(call));
    for (&rules.values) |*rule| if (rule.told.load(.monotonic)) return;
    const reads_told = read_size_max.load(.monotonic) != std.math.maxInt(usize);
    const memory_told = memory_left.load(.monotonic) != std.math.maxInt(u64);
    armed.store(reads_told or memory_told, .release);
}

fn forget(rule: *Rule) void {
    rule.told.store(false, .monotonic);
    rule.end.store(0, .monotonic);
    rule.subject.store(0, .monotonic);
    rule.count.store(0, .monotonic);
}

/// How often a function was called, failing or not, since something was told about it, or since
/// anything was told after `clear`.
pub fn calls(call: Call) u64 {
    return rules.getPtr(call).count.load(.monotonic);
}

/// How many of these calls were made to fail.
pub fn failures(call: Call) u64 {
    const rule = rules.getPtr(call);
    return @min(calls(call), rule.end.load(.acquire)) -| rule.first.load(.monotonic);
}

/// Until it is given back to `restoreSubject`, the calling thread's calls are for the dimension of
/// this name. Null, which need not be given back: nobody wants to know.
pub fn setSubject(name: []const u8) ?u64 {
    if (!armed.load(.monotonic)) return null;
    defer subject = hash(name);
    return subject;
}

pub fn restoreSubject(before: u64) void {
    subject = before;
}

fn hash(name: []const u8) u64 {
    return std.hash.Wyhash.hash(0, name) | 1; // 0 is none
}

fn pass(call: Call, code: *i64) os.Error!void {
    if (!armed.load(.monotonic)) return;
    const rule = rules.getPtr(call);
    const wanted = rule.subject.load(.monotonic);
    // Zeros are put by a fault's handler, in no call, and a handler may not look at what is a
    // thread's own: finding its place may allocate.
    if (wanted != 0 and (call == .zero or wanted != subject)) return;
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
        pub const absolutePath = native.absolutePath;
        pub const isExistsCode = native.isExistsCode;
        pub const isFaultCode = native.isFaultCode;
        pub const unreserve = native.unreserve;
        pub const unreserveArena = native.unreserveArena;
        pub const readFirstHugePage = native.readFirstHugePage;
        pub const preferHugePages = native.preferHugePages;
        pub const readAhead = native.readAhead;
        pub const close = native.close;
        pub const remove = native.remove;
        pub const findGaps = native.findGaps;
        pub const unfill = native.unfill;
        pub const futexWait = native.futexWait;
        pub const futexWakeAll = native.futexWakeAll;
        pub const futexWakeOne = native.futexWakeOne;
        pub const atThreadExit = native.atThreadExit;
        pub const stayLoaded = native.stayLoaded;
        pub const atFork = native.atFork;
        pub const Cancellation = native.Cancellation;
        pub const holdCancellation = native.holdCancellation;
        pub const releaseCancellation = native.releaseCancellation;

        pub fn memoryToSpare() ?os.Limit {
            const left = memory_left.load(.monotonic);
            if (left == std.math.maxInt(u64)) return native.memoryToSpare();
            return .{ .kind = .memory, .value = left };
        }

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
            try pass(.map, code);
            return native.place(slot, file, size, sharing, code);
        }

        pub fn commit(slot: os.Slot, size: usize, code: *i64) os.Error!os.Placement {
            try pass(.commit, code);
            return native.commit(slot, size, code);
        }

        pub fn restore(placement: os.Placement, code: *i64) os.Error!void {
            watch(.restore);
            try pass(.unmap, code);
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
            watch(.populate);
            try pass(.populate, code);
            return native.populate(placement, for_write, code);
        }

        pub fn flush(placement: os.Placement, code: *i64) os.Error!void {
            watch(.flush);
            try pass(.flush, code);
            return native.flush(placement, code);
        }

        pub fn lock(placement: os.Placement, code: *i64) os.Error!void {
            watch(.lock);
            try pass(.lock, code);
            return native.lock(placement, code);
        }

        pub fn unlock(placement: os.Placement) void {
            watch(.unlock);
            native.unlock(placement);
        }

        pub fn evict(placement: os.Placement) void {
            watch(.evict);
            native.evict(placement);
        }

        pub fn memoryUse(base: [*]const u8, size: usize, code: *i64) os.Error!os.Use {
            watch(.memory_use);
            try pass(.memory_use, code);
            return native.memoryUse(base, size, code);
        }

        pub fn cached(
            placement: os.Placement,
            path: [:0]const u8,
            code: *i64,
        ) os.Error!u64 {
            watch(.cached);
            try pass(.cached, code);
            return native.cached(placement, path, code);
        }

        pub fn processBarrier(threads: []const Atomic(u64), code: *i64) os.Error!void {
            try pass(.barrier, code);
            return native.processBarrier(threads, code);
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
            watch(.read);
            try pass(.read, code);
            const size = @min(buffer.len, read_size_max.load(.monotonic));
            return native.readAt(file, buffer[0..size], offset, code);
        }

        pub fn fill(file: File, gap: os.Gap, code: *i64) os.Error!void {
            try pass(.fill, code);
            return native.fill(file, gap, code);
        }

        pub fn identifyPath(path: [*:0]const u8, link: os.Link, code: *i64) os.Error!os.Identity {
            try pass(.identify_path, code);
            return native.identifyPath(path, link, code);
        }

        pub fn checkWritable(path: [*:0]const u8, code: *i64) os.Error!void {
            try pass(.identify_path, code);
            return native.checkWritable(path, code);
        }

        pub fn create(
            path: [*:0]const u8,
            like: ?[*:0]const u8,
            code: *i64,
        ) os.Error!File {
            try pass(.create, code);
            return native.create(path, like, code);
        }

        pub fn allocate(file: File, start: u64, end: u64, code: *i64) os.Error!void {
            try pass(.allocate, code);
            return native.allocate(file, start, end, code);
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

        pub fn canFill(file: File, size: u64, gaps: []const os.Gap, code: *i64) os.Error!void {
            try pass(.fill, code);
            return native.canFill(file, size, gaps, code);
        }

        pub const heap: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
            .alloc = heapAlloc,
            .resize = heapResize,
            .remap = heapRemap,
            .free = heapFree,
        } };

        fn heapAlloc(_: *anyopaque, len: usize, alignment: Alignment, address: usize) ?[*]u8 {
            var no_code: i64 = 0;
            pass(.heap, &no_code) catch return null;
            return native.heap.rawAlloc(len, alignment, address);
        }

        // What does not grow where it is comes back to `heapAlloc`.
        fn heapResize(
            _: *anyopaque,
            memory: []u8,
            alignment: Alignment,
            len: usize,
            address: usize,
        ) bool {
            return native.heap.rawResize(memory, alignment, len, address);
        }

        fn heapRemap(
            _: *anyopaque,
            memory: []u8,
            alignment: Alignment,
            len: usize,
            address: usize,
        ) ?[*]u8 {
            return native.heap.rawRemap(memory, alignment, len, address);
        }

        fn heapFree(_: *anyopaque, memory: []u8, alignment: Alignment, address: usize) void {
            native.heap.rawFree(memory, alignment, address);
        }

        comptime {
            for (@typeInfo(native).@"struct".decl_names) |name| {
                if (!@hasDecl(Self, name)) @compileError("not in the contract: " ++ name);
            }
        }
    };
}
