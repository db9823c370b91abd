//! Zeros in place of a file's pages that cannot be read, and the mark that says so.
//!
//! A file that is cut short while it is mapped, or a device that fails, ends every process that
//! touches the missing page. A guarded slot gives zeros instead, from that page to the end of its
//! generation: the read that is under way ends, and the dimension is faulted until it is reloaded.
//!
//! `onFault` runs on the thread that met the fault, between two of its instructions, whatever locks
//! it holds. So all it looks at is atomic and in permanent memory, and all it calls is `os.zero`.
//! It finds the guard of an address in a list of all guards that were ever used, which only grows.
//! Invariant: the mark comes before the zeros, so that whoever has read a zero finds it; and before
//! the gate's word, which whoever opens the gate looks at in the reverse order. One of the two sees
//! the other.

const std = @import("std");
const os = @import("os.zig");
const Detail = @import("Detail.zig");
const Gate = @import("Gate.zig");
const Lock = @import("Lock.zig");

const Guard = @This();
const Atomic = std.atomic.Value;

const no_offset = std.math.maxInt(u64);

/// A fault where zeros stand already is a thread that was late, and there are fewer threads than
/// this. Beyond it zeros do not help: a store to what may only be read, on a system that does not
/// tell it from a fault.
const late_max = 1 << 16;

/// Of what stands in the slot, 0 if that is not guarded. Numbers of a slot do not come again, so
/// what was read in between two looks that find the same belongs together.
generation: Atomic(u64),
start: Atomic(usize),
size: Atomic(usize),
writable: Atomic(bool),
/// The first byte of the file that could not be read, and why.
offset: Atomic(u64),
code: Atomic(i64),
late: Atomic(u32),
/// The gate that learns of a fault, and which of its slots this is; null before the first use.
gate: ?*Gate,
slot: u1,
/// The next in the list. Set before this guard is in it, and never changed.
next: ?*Guard,

/// The newest guard in the list of all.
var newest: Atomic(?*Guard) = .init(null);

/// Of a page that could not be read.
pub const Mark = struct { offset: u64, code: i64 };

/// Faults are caught from now on. Made again with each load, since other handlers may have come.
pub fn install(detail: *Detail) Detail.Error!void {
    if (!os.capabilities().fault_guard) {
        return detail.fail(error.InvalidArgument, "this system has no guard against faults");
    }
    lock.lock();
    defer lock.unlock();
    os.catchFaults(onFault, &detail.code) catch {
        return detail.refused(0, "the system does not let faults be caught, or " ++
            "other handlers were put over the library's 64 times");
    };
}

/// Held while the handler is set.
var lock: Lock = .{};

/// See `fork`: held during one.
pub fn onFork(stage: os.ForkStage) void {
    switch (stage) {
        .before => lock.lock(),
        .in_parent, .in_child => lock.unlock(),
    }
}

/// Before the first `arm`, for permanent memory that was zeroed; does nothing the next time. Called
/// by one thread at a time for each guard.
pub fn enlist(guard: *Guard, gate: *Gate, slot: u1) void {
    if (guard.gate != null) return;
    guard.gate = gate;
    guard.slot = slot;
    guard.next = newest.load(.monotonic);
    // Release: a handler that finds the guard sees what was stored above.
    while (newest.cmpxchgWeak(guard.next, guard, .release, .monotonic)) |other| guard.next = other;
}

/// Before anybody can be inside of what stands in the slot.
pub fn arm(guard: *Guard, placement: os.Placement, generation: u64) void {
    guard.start.store(@intFromPtr(placement.slot.base), .seq_cst);
    guard.size.store(placement.mapped_size, .seq_cst);
    guard.writable.store(placement.writable(), .seq_cst);
    guard.offset.store(no_offset, .seq_cst);
    guard.code.store(0, .seq_cst);
    guard.late.store(0, .seq_cst);
    guard.generation.store(generation, .seq_cst);
}

/// Once nobody can be inside any more.
pub fn disarm(guard: *Guard) void {
    guard.generation.store(0, .seq_cst);
}

/// The mark of a generation, if it has one.
pub fn markOf(guard: *const Guard, generation: u64) ?Mark {
    if (guard.generation.load(.seq_cst) != generation) return null;
    const offset = guard.offset.load(.seq_cst);
    if (offset == no_offset) return null;
    return .{ .offset = offset, .code = guard.code.load(.seq_cst) };
}

/// From here on, everything that is called runs as a signal handler does.
pub fn onFault(fault: os.Fault) bool {
    var found = newest.load(.acquire);
    while (found) |guard| : (found = guard.next) {
        const generation = guard.generationAt(fault.address) orelse continue;
        return guard.heal(fault, generation);
    }
    return false;
}

fn generationAt(guard: *const Guard, address: usize) ?u64 {
    const generation = guard.generation.load(.seq_cst);
    if (generation == 0) return null;
    const inside = address -% guard.start.load(.seq_cst) < guard.size.load(.seq_cst);
    return if (inside and guard.generation.load(.seq_cst) == generation) generation else null;
}

fn heal(guard: *Guard, fault: os.Fault, generation: u64) bool {
    const start = guard.start.load(.seq_cst);
    const offset = fault.address - start;
    if (fault.code == 0) {
        return guard.offset.load(.seq_cst) != no_offset and guard.isHealing();
    }
    _ = guard.code.cmpxchgStrong(0, fault.code, .seq_cst, .seq_cst);
    const before = guard.offset.fetchMin(offset, .seq_cst);
    if (before / os.pageSize() <= offset / os.pageSize() and !guard.isHealing()) return false;
    guard.gate.?.fault(guard.slot, generation);
    const base: [*]u8 = @ptrFromInt(start);
    const pages = base[0..guard.size.load(.seq_cst)];
    var code: i64 = 0;
    os.zero(pages, offset, guard.writable.load(.seq_cst), &code) catch return false;
    return true;
}

/// One of those that are late, and not one that comes again for ever.
fn isHealing(guard: *Guard) bool {
    return guard.late.fetchAdd(1, .seq_cst) < late_max;
}

const testing = std.testing;
const Dimension = @import("Dimension.zig");
const Generation = @import("Generation.zig");
const Log = @import("Log.zig");
const Manager = @import("Manager.zig");
const TempFile = @import("testing/TempFile.zig");

/// A guarded manager of two dimensions, and a file of three pages and a bit.
const Fixture = struct {
    manager: *Manager,
    handle: u64,
    file: TempFile,
    size: usize,
    detail: Detail = .{},

    fn open(options: Manager.Options) !Fixture {
        if (!os.capabilities().fault_guard) return error.SkipZigTest;
        const size = 4 * os.pageSize();
        const bytes = try testing.allocator.alloc(u8, size);
        defer testing.allocator.free(bytes);
        @memset(bytes, 'x');
        const file: TempFile = try .create(bytes);
        errdefer file.deinit();
        var all = options;
        all.dimension_count = 2;
        var detail: Detail = .{};
        const manager = try Manager.open(all, &detail);
        const handle = manager.handle.load(.monotonic);
        return .{ .manager = manager, .handle = handle, .file = file, .size = size };
    }

    fn deinit(fixture: *Fixture) void {
        fixture.manager.close(fixture.handle, .refuse, 0, &fixture.detail) catch |err|
            std.debug.panic("{t}: {s}", .{ err, fixture.detail.reason });
        fixture.file.deinit();
    }

    fn dimension(fixture: *Fixture) *Dimension {
        return &fixture.manager.dimensions()[0];
    }

    fn load(fixture: *Fixture, mode: Generation.Mode) !void {
        const options: Generation.Options = .{ .mode = mode };
        const path = fixture.file.path;
        try fixture.manager.load(fixture.dimension(), fixture.handle, path, options, &fixture.detail);
    }

    fn reload(fixture: *Fixture, file: TempFile) !void {
        const target = fixture.dimension();
        try fixture.manager.reload(target, fixture.handle, file.path, .{}, &fixture.detail);
    }

    fn unload(fixture: *Fixture) !void {
        const target = fixture.dimension();
        try fixture.manager.unload(
            target,
            fixture.handle,
            .region,
            .refuse,
            0,
            &fixture.detail,
        );
    }

    fn enter(fixture: *Fixture) !Gate.Word {
        fixture.detail = .{};
        return fixture.dimension().enter(&fixture.detail);
    }

    fn leave(fixture: *Fixture, word: Gate.Word) void {
        fixture.dimension().leave(&fixture.manager.counters, 0, word.slot);
    }

    fn bytesOf(fixture: *Fixture, word: Gate.Word) []u8 {
        const slot = fixture.dimension().gate.slots[word.slot];
        return slot.base[0..slot.size];
    }

    fn expectFaulted(fixture: *Fixture, offset: u64) !void {
        try testing.expectError(error.Faulted, fixture.enter());
        try testing.expectEqual(offset, fixture.detail.offset);
        try testing.expectEqual(5, fixture.detail.code);
        const Found = struct {
            fn state(found: *Gate.State, _: *Dimension, stats: Dimension.Stats) void {
                found.* = stats.state;
            }
        };
        var found: Gate.State = .open;
        const target = fixture.dimension();
        try target.describe(fixture.handle, &fixture.detail, &found, Found.state);
        try testing.expectEqual(.faulted, found);
    }
};

fn faultAt(bytes: []const u8, offset: usize) bool {
    return onFault(.{ .address = @intFromPtr(bytes.ptr) + offset, .code = 5 });
}

test "R7.1, R9.1 Guard: after a fault views show zeros and are released, and new ones are refused" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    const page = os.pageSize();
    for ([_]Generation.Mode{ .read, .read_write, .copy, .ram }) |mode| {
        try fixture.load(mode);
        const charged = fixture.manager.budget.allocated.load(.monotonic);
        const word = try fixture.enter();
        const bytes = fixture.bytesOf(word);
        try testing.expect(faultAt(bytes, page + 5));
        try testing.expect(std.mem.allEqual(u8, bytes[page..], 0));
        if (mode != .read) bytes[2 * page] = 'w';
        try fixture.expectFaulted(page + 5);

        // One that comes later and lies before it.
        try testing.expect(faultAt(bytes, 3));
        try testing.expect(std.mem.allEqual(u8, bytes, 0));
        try fixture.expectFaulted(3);

        try testing.expectError(error.ViewsHeld, fixture.unload());
        try fixture.expectFaulted(3);
        fixture.leave(word);
        try fixture.unload();
        try testing.expectEqual(charged, fixture.manager.budget.allocated.load(.monotonic));
        try testing.expectError(error.NotLoaded, fixture.enter());
    }
}

test "R9.1 Guard: the error names the layer that was being read" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    const page = os.pageSize();
    const Spec = @import("Layers.zig").Spec;
    const layers = [_]Spec{
        .{ .name = "first", .dtype = .u8, .shape = &.{page}, .offset = 0 },
        .{ .name = "second", .dtype = .u8, .shape = &.{page}, .offset = page },
    };
    const path = fixture.file.path;
    const options: Generation.Options = .{ .layers = &layers };
    try fixture.manager.load(fixture.dimension(), fixture.handle, path, options, &fixture.detail);
    const word = try fixture.enter();
    try testing.expect(faultAt(fixture.bytesOf(word), page));
    fixture.leave(word);
    try testing.expectError(error.Faulted, fixture.enter());
    try testing.expectEqualStrings("second", fixture.detail.layer_name);
    try testing.expectEqual(1, fixture.detail.layer);
}

test "Guard: a reload heals, from another file and from the same one" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    const good: TempFile = try .create("good");
    defer good.deinit();
    try fixture.load(.read);
    const first = try fixture.enter();
    try testing.expect(faultAt(fixture.bytesOf(first), 0));
    try fixture.expectFaulted(0);
    try fixture.reload(good);
    const second = try fixture.enter();
    try testing.expectEqualStrings("good", fixture.bytesOf(second));
    try testing.expect(std.mem.allEqual(u8, fixture.bytesOf(first), 0));
    fixture.leave(first);
    try testing.expectError(error.AlreadyLoaded, fixture.reload(good));
    try testing.expect(faultAt(fixture.bytesOf(second), 0));
    try fixture.reload(good);
    const third = try fixture.enter();
    try testing.expectEqualStrings("good", fixture.bytesOf(third));
    fixture.leave(second);
    fixture.leave(third);
}

test "Guard: what is not guarded, not loaded or not there is left to others" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    var unguarded: Fixture = try .open(.{});
    defer unguarded.deinit();
    try fixture.load(.read);
    try unguarded.load(.read);
    const word = try fixture.enter();
    defer fixture.leave(word);
    const other = try unguarded.enter();
    defer unguarded.leave(other);
    const slots = fixture.dimension().slots;
    for ([_]usize{
        0,
        @intFromPtr(&fixture),
        @intFromPtr(slots[0].base) - 1,
        @intFromPtr(slots[0].base) + fixture.size,
        @intFromPtr(slots[1].base),
        @intFromPtr(unguarded.bytesOf(other).ptr),
        std.math.maxInt(usize),
    }) |address| try testing.expect(!onFault(.{ .address = address, .code = 5 }));
    fixture.leave(try fixture.enter());
    unguarded.leave(try unguarded.enter());
    try testing.expectEqual('x', unguarded.bytesOf(other)[0]);
}

test "Guard: a writer learns of a fault when he ends, everybody else at once" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    const dimension = fixture.dimension();
    const detail = &fixture.detail;
    const handle = fixture.handle;
    try fixture.load(.read_write);
    const exclusive = try dimension.beginWrite(handle, 1, 0, detail);
    exclusive.base[0] = 'w';
    try testing.expect(faultAt(exclusive.base[0..exclusive.size], os.pageSize()));
    exclusive.base[os.pageSize()] = 'w';
    try fixture.expectFaulted(os.pageSize());
    try testing.expectError(error.Faulted, dimension.beginWrite(handle, 2, 0, detail));
    const slot = exclusive.slot;
    const number = exclusive.generation;
    try testing.expectError(error.Faulted, dimension.endWrite(handle, 1, slot, number, detail));
    try testing.expectError(
        error.InvalidArgument,
        dimension.endWrite(handle, 1, slot, number, detail),
    );
    try testing.expectError(error.Faulted, dimension.flush(handle, detail));
    try testing.expectError(error.Faulted, dimension.beginWrite(handle, 1, 0, detail));
    try fixture.expectFaulted(os.pageSize());
    try fixture.unload();
    try fixture.load(.read_write);
    fixture.leave(try fixture.enter());
}

test "Guard: a writer who waits for a view that meets a fault is refused" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    try fixture.load(.copy);
    const word = try fixture.enter();
    const Writer = struct {
        var outcome: Detail.Error!void = {};
        fn run(dimension: *Dimension, handle: u64) void {
            var detail: Detail = .{};
            _ = dimension.beginWrite(handle, 1, null, &detail) catch |err| {
                outcome = err;
            };
        }
    };
    const thread = try std.Thread.spawn(.{}, Writer.run, .{ fixture.dimension(), fixture.handle });
    while (fixture.dimension().gate.read().state != .blocked) std.Thread.yield() catch {};
    try testing.expect(faultAt(fixture.bytesOf(word), 0));
    fixture.leave(word);
    thread.join();
    try testing.expectError(error.Faulted, Writer.outcome);
    try fixture.expectFaulted(0);
}

test "R9.4 Guard: a fault in a version that was replaced leaves the new one alone, and is logged" {
    const Heard = struct {
        var faulted: u32 = 0;
        fn hear(event: Log.Event) void {
            if (event.faulted and event.level == .warning) faulted += 1;
        }
    };
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    const good: TempFile = try .create("good");
    defer good.deinit();
    try fixture.load(.read);
    const old = try fixture.enter();
    try fixture.reload(good);
    try testing.expect(faultAt(fixture.bytesOf(old), 0));
    const new = try fixture.enter();
    try testing.expectEqualStrings("good", fixture.bytesOf(new));
    fixture.leave(new);
    Log.set(@backingInt(Log.Level.warning), Heard.hear);
    defer Log.set(null, Heard.hear);
    fixture.leave(old);
    try testing.expectEqual(1, Heard.faulted);
}

test "R7.2 Guard: what the system refuses is refused, and what zeros cannot heal is left to others" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    defer os.simulated.clear();
    const charged = fixture.manager.budget.allocated.load(.monotonic);
    os.simulated.failNext(.catch_faults, 12, .{});
    try testing.expectError(error.AllocationRefused, fixture.load(.read));
    try testing.expectEqual(12, fixture.detail.code);
    try testing.expectEqual(charged, fixture.manager.budget.allocated.load(.monotonic));
    os.simulated.failNext(.catch_faults, 12, .{});
    try testing.expectError(error.AllocationRefused, Manager.open(.{ .guard = true }, &fixture.detail));

    try fixture.load(.read);
    const word = try fixture.enter();
    defer fixture.leave(word);
    const bytes = fixture.bytesOf(word);
    os.simulated.failNext(.zero, 12, .{});
    try testing.expect(!faultAt(bytes, 1));
    // What could not be read could not be read.
    try fixture.expectFaulted(1);
    for (1..late_max) |_| try testing.expect(faultAt(bytes, fixture.size - 1));
    try testing.expect(faultAt(bytes, 2));
    try testing.expect(!faultAt(bytes, 2));
}

test "R4.1 Guard: no fault is lost to whoever opens the gate at the same moment" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    for (0..200) |round| {
        try fixture.load(.copy);
        const word = try fixture.enter();
        const thread = try std.Thread.spawn(.{}, struct {
            fn run(bytes: []const u8) void {
                std.debug.assert(faultAt(bytes, 7));
            }
        }.run, .{fixture.bytesOf(word)});
        // Each of them shuts the gate, finds the view, and opens it again.
        var detail: Detail = .{};
        const target = fixture.dimension();
        if (round % 2 == 0) {
            try testing.expectError(error.ViewsHeld, fixture.unload());
        } else if (target.beginWrite(fixture.handle, 1, 1000, &detail)) |_| {
            return error.WriterLetIn;
        } else |err| switch (err) {
            error.WaitTimeout, error.Faulted => {},
            else => return err,
        }
        thread.join();
        try fixture.expectFaulted(7);
        fixture.leave(word);
        try fixture.unload();
    }
}

test "R7.5 Guard: a file that is cut short under its readers ends no process" {
    var fixture: Fixture = try .open(.{ .guard = true });
    defer fixture.deinit();
    try fixture.load(.read);
    const word = try fixture.enter();
    defer fixture.leave(word);
    const page = os.pageSize();
    // Windows does not cut a file that is mapped.
    fixture.file.resize(2 * page) catch return error.SkipZigTest;
    const bytes = fixture.bytesOf(word);
    var threads: [8]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, struct {
        fn run(all: []const u8) void {
            var sum: u64 = 0;
            for (all) |*byte| sum += @as(*const volatile u8, byte).*;
            std.debug.assert(sum == 2 * os.pageSize() * @as(u64, 'x'));
        }
    }.run, .{bytes});
    for (threads) |thread| thread.join();
    try fixture.expectFaulted(2 * page);
}
