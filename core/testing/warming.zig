//! `Warming` in a manager.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Manager = @import("../manager.zig").Manager;
const Managers = @import("../manager.zig").Managers;
const Residency = @import("../dimension.zig").Residency;
const TempFile = @import("../os.zig").TempFile;
const Warming = @import("../dimension.zig").Warming;

const testing = std.testing;
const Error = Detail.Error;
const Options = Warming.Options;
const emulated = os.contract.emulated;
const mib = 1 << 20;

/// A dimension with a file of 5 MiB of which nothing is in memory.
const Fixture = struct {
    file: TempFile,
    manager: *Manager,
    handle: u64,
    dimension: *Dimension,
    detail: Detail = .{},
    /// What the progress function does.
    hear: *const fn (fixture: *Fixture, done: u64) bool = goOn,
    told: u64 = 0,

    const size = 5 * mib - 10;

    fn init(fixture: *Fixture) !void {
        const file: TempFile = try .createSparse(size);
        errdefer file.deinit();
        var detail: Detail = .{};
        const manager = try Managers.open(.{ .dimension_count = 1, .capacity = 6 * mib }, &detail);
        const dimension = &manager.dimensions()[0];
        const handle = dimension.owner;
        try manager.load(dimension, handle, file.path, .{ .format = .raw }, &detail);
        fixture.* = .{ .file = file, .manager = manager, .handle = handle, .dimension = dimension };
    }

    fn deinit(fixture: *Fixture) void {
        os.simulated.clear();
        fixture.manager.close(fixture.handle, .refuse, 0, &fixture.detail) catch unreachable;
        fixture.file.deinit();
    }

    fn warm(fixture: *Fixture, options: Options) Error!Warming {
        var heard = options;
        heard.progress = .{ .function = tell, .context = fixture };
        return Warming.run(fixture.dimension, fixture.handle, heard, &fixture.detail);
    }

    fn tell(context: ?*anyopaque, done: u64, total: u64) bool {
        const fixture: *Fixture = @ptrCast(@alignCast(context.?));
        std.debug.assert(total == size);
        fixture.told += 1;
        return fixture.hear(fixture, done);
    }

    fn goOn(_: *Fixture, _: u64) bool {
        return true;
    }

    fn residency(fixture: *Fixture) !Residency {
        return .of(fixture.dimension, fixture.handle, 0, null, &fixture.detail);
    }

    /// It is as before a call that failed.
    fn expectUnharmed(fixture: *Fixture) !void {
        os.simulated.clear();
        try testing.expectEqual(0, (try fixture.residency()).locked);
        fixture.detail = .{};
        const warming = try fixture.warm(.{});
        try testing.expectEqual(.complete, warming.stop);
    }
};

test "R2.5 Warming: what is loaded comes into memory, and comes back after it was evicted" {
    if (emulated()) return error.SkipZigTest;
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const pages = std.mem.alignForward(u64, Fixture.size, os.pageSize());
    try testing.expectEqual(0, (try fixture.residency()).use.?.resident);
    const first = try fixture.warm(.{});
    const expected: Warming = .{
        .generation = fixture.dimension.generations[0].number,
        .size = Fixture.size,
        .warm = Fixture.size,
        .read = pages,
    };
    try testing.expectEqual(expected, first);
    // At the start, and after each window.
    try testing.expectEqual(1 + 3, fixture.told);
    const found = try fixture.residency();
    try testing.expectEqual(pages, found.use.?.resident);
    try testing.expectEqual(pages, found.cached);
    try Residency.evict(fixture.dimension, fixture.handle, &fixture.detail);
    const again = try fixture.warm(.{});
    try testing.expectEqual(Fixture.size, again.warm);
    // Where the system tells, it was in its cache all the time.
    try testing.expect(again.read <= pages);
}

test "R5.2 Warming: it stops at a budget, and reads nothing that memory has no room for" {
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    // As much again as a sixteenth of it is left to others.
    for ([_]u64{ 0, 2 * mib }) |size| {
        os.simulated.leaveMemory(size);
        const none = try fixture.warm(.{});
        try testing.expectEqual(.memory, none.stop);
        try testing.expectEqual(.memory, none.limit);
        try testing.expectEqual(0, none.read + none.warm);
    }
    os.simulated.leaveMemory(3 * mib);
    const part = try fixture.warm(.{ .budget = 3 * mib });
    try testing.expectEqual(.budget, part.stop);
    try testing.expectEqual(2 * mib, part.warm);
    try testing.expectEqual(2 * mib, part.read);
    // What is there is not read again, and needs no room.
    os.simulated.leaveMemory(0);
    const again = try fixture.warm(.{});
    try testing.expectEqual(0, again.read);
    if (!emulated()) try testing.expect(again.warm >= 2 * mib);
    try fixture.expectUnharmed();
}

test "Warming: it stops at its timeout, and when whoever is told says so" {
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const late = try fixture.warm(.{ .timeout_ns = 0 });
    try testing.expectEqual(.timeout, late.stop);
    try testing.expectEqual(0, late.warm);
    fixture.hear = struct {
        fn stop(_: *Fixture, done: u64) bool {
            return done == 0;
        }
    }.stop;
    const stopped = try fixture.warm(.{});
    try testing.expectEqual(.cancelled, stopped.stop);
    try testing.expectEqual(2 * mib, stopped.warm);
}

test "Warming: it reads no faster than it may, and the timeout ends its waiting" {
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const begun = os.nowNs();
    const slow = try fixture.warm(.{
        .bytes_per_second = 20 * mib,
        .timeout_ns = 60 * std.time.ns_per_ms,
    });
    // 2 MiB take 100 ms.
    try testing.expectEqual(.timeout, slow.stop);
    try testing.expectEqual(2 * mib, slow.warm);
    try testing.expect(os.nowNs() - begun >= 60 * std.time.ns_per_ms);
}

test "R4.5 Warming: who unloads or replaces does not wait, and it says so" {
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const other: TempFile = try .create("abc");
    defer other.deinit();
    const Hear = struct {
        var path: [:0]const u8 = undefined;
        fn reload(on: *Fixture, done: u64) bool {
            if (done > 0) on.manager.reload(on.dimension, on.handle, path, .{}, &on.detail) catch
                unreachable;
            return true;
        }
        fn unload(on: *Fixture, _: u64) bool {
            if (on.dimension.gate.read().state == .open) on.manager.unload(
                on.dimension,
                on.handle,
                .region,
                .refuse,
                0,
                &on.detail,
            ) catch unreachable;
            return true;
        }
    };
    Hear.path = other.path;
    fixture.hear = Hear.reload;
    const replaced = try fixture.warm(.{});
    try testing.expectEqual(.unloaded, replaced.stop);
    try fixture.manager.reload(
        fixture.dimension,
        fixture.handle,
        fixture.file.path,
        .{},
        &fixture.detail,
    );
    fixture.hear = Hear.unload;
    try testing.expectEqual(.unloaded, (try fixture.warm(.{})).stop);
    fixture.hear = Fixture.goOn;
    try testing.expectError(error.NotLoaded, fixture.warm(.{}));
    const refused = Residency.lock(fixture.dimension, fixture.handle, &fixture.detail);
    try testing.expectError(error.NotLoaded, refused);
}

test "R7.2, R9.3 Warming: what the system refuses is an error, and changes nothing" {
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const detail = &fixture.detail;
    os.simulated.failNext(.populate, 5, .{ .after = 1 });
    try testing.expectError(error.FileAccess, fixture.warm(.{}));
    try testing.expectEqual(5, detail.code);
    os.simulated.failNext(.cached, 5, .{ .times = 100 });
    _ = try fixture.warm(.{});
    try testing.expect(os.simulated.failures(.cached) > 0);
    try fixture.expectUnharmed();
    os.simulated.failNext(.lock, 5, .{});
    try testing.expectError(
        error.AllocationRefused,
        Residency.lock(fixture.dimension, fixture.handle, detail),
    );
    try testing.expectEqual(5, detail.code);
    try fixture.expectUnharmed();
    for ([_]os.Call{ .memory_use, .cached }) |call| {
        os.simulated.failNext(call, 5, .{});
        const found = try fixture.residency();
        const told = if (call == .cached) found.cached else if (found.use) |use| use.resident else null;
        try testing.expectEqual(null, told);
        try fixture.expectUnharmed();
    }
    os.simulated.failNext(.populate, 5, .{});
    try testing.expectError(error.FileAccess, Residency.lock(fixture.dimension, fixture.handle, detail));
    try fixture.expectUnharmed();
}

test "Warming: locked pages stay when the dimension is evicted, until they are unlocked" {
    if (emulated()) return error.SkipZigTest;
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const dimension = fixture.dimension;
    const pages = std.mem.alignForward(u64, Fixture.size, os.pageSize());
    try Residency.lock(dimension, fixture.handle, &fixture.detail);
    try Residency.lock(dimension, fixture.handle, &fixture.detail);
    try Residency.evict(dimension, fixture.handle, &fixture.detail);
    const found = try fixture.residency();
    try testing.expectEqual(pages, found.locked);
    try testing.expectEqual(pages, found.use.?.resident);
    const memory = try fixture.manager.memory(fixture.handle, &fixture.detail);
    try testing.expectEqual(pages, memory.locked);
    try Residency.unlock(dimension, fixture.handle, &fixture.detail);
    try Residency.unlock(dimension, fixture.handle, &fixture.detail);
    try testing.expectEqual(0, (try fixture.residency()).locked);
    try Residency.evict(dimension, fixture.handle, &fixture.detail);
    // A reload's version is not locked.
    try Residency.lock(dimension, fixture.handle, &fixture.detail);
    const other: TempFile = try .create("abc");
    defer other.deinit();
    try fixture.manager.reload(dimension, fixture.handle, other.path, .{}, &fixture.detail);
    try testing.expectEqual(0, (try fixture.residency()).locked);
}

test "Warming: a second lock that fails leaves what the first has locked" {
    if (emulated()) return error.SkipZigTest;
    const Watcher = struct {
        var unlocks: u32 = 0;

        fn hear(call: os.simulated.Lengthy) void {
            if (call == .unlock) unlocks += 1;
        }
    };
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    const pages = std.mem.alignForward(u64, Fixture.size, os.pageSize());
    os.simulated.watcher = Watcher.hear;
    defer os.simulated.watcher = null;
    for ([_]os.Call{ .populate, .lock }) |call| {
        Watcher.unlocks = 0;
        try Residency.lock(fixture.dimension, fixture.handle, &fixture.detail);
        os.simulated.failNext(call, 5, .{});
        const again = Residency.lock(fixture.dimension, fixture.handle, &fixture.detail);
        const failure = if (call == .lock) error.AllocationRefused else error.FileAccess;
        try testing.expectError(failure, again);
        try testing.expectEqual(0, Watcher.unlocks);
        try testing.expectEqual(pages, (try fixture.residency()).locked);
        // It stays when the rest is evicted.
        try Residency.evict(fixture.dimension, fixture.handle, &fixture.detail);
        try testing.expectEqual(pages, (try fixture.residency()).use.?.resident);
        try Residency.unlock(fixture.dimension, fixture.handle, &fixture.detail);
        try testing.expectEqual(1, Watcher.unlocks);
        os.simulated.failNext(call, 5, .{});
        const first = Residency.lock(fixture.dimension, fixture.handle, &fixture.detail);
        try testing.expectError(failure, first);
        try testing.expectEqual(0, (try fixture.residency()).locked);
        os.simulated.clear();
    }
}

test "R3.5 residency is counted in the pages of a range, which must be within the file" {
    if (emulated()) return error.SkipZigTest;
    var fixture: Fixture = undefined;
    try fixture.init();
    defer fixture.deinit();
    _ = try fixture.warm(.{ .budget = 2 * mib });
    const dimension = fixture.dimension;
    const detail = &fixture.detail;
    const across = try Residency.of(dimension, fixture.handle, 2 * mib - 1, 2, detail);
    try testing.expectEqual(os.pageSize(), across.use.?.resident);
    const empty = try Residency.of(dimension, fixture.handle, Fixture.size, null, detail);
    try testing.expectEqual(0, empty.length);
    for ([_][2]u64{ .{ Fixture.size, 1 }, .{ 1, std.math.maxInt(u64) } }) |range| {
        try testing.expectError(
            error.OutOfBounds,
            Residency.of(dimension, fixture.handle, range[0], range[1], detail),
        );
    }
    try testing.expectError(
        error.OutOfBounds,
        Residency.of(dimension, fixture.handle, Fixture.size + 1, null, detail),
    );
}
