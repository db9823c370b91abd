//! `Guard` in a manager: zeros, marks, and who learns of them.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Gate = @import("../gate.zig").Gate;
const Generation = @import("../dimension.zig").Generation;
const Guard = @import("../Guard.zig");
const Log = @import("../base.zig").Log;
const Manager = @import("../manager.zig").Manager;
const Managers = @import("../manager.zig").Managers;
const TempFile = @import("../os.zig").TempFile;

const testing = std.testing;

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
        const manager = try Managers.open(all, &detail);
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
    return Guard.onFault(.{ .address = @intFromPtr(bytes.ptr) + offset, .code = 5 });
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
    const Spec = @import("../formats.zig").Layers.Spec;
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
    }) |address| try testing.expect(!Guard.onFault(.{ .address = address, .code = 5 }));
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
    try testing.expectError(error.AllocationRefused, Managers.open(.{ .guard = true }, &fixture.detail));

    try fixture.load(.read);
    const word = try fixture.enter();
    defer fixture.leave(word);
    const bytes = fixture.bytesOf(word);
    os.simulated.failNext(.zero, 12, .{});
    try testing.expect(!faultAt(bytes, 1));
    // What could not be read could not be read.
    try fixture.expectFaulted(1);
    for (1..Guard.late_max) |_| try testing.expect(faultAt(bytes, fixture.size - 1));
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
