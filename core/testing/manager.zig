//! `Manager` and what it owns: opening, loading, closing, and the log.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Gate = @import("../gate.zig").Gate;
const Generation = @import("../dimension.zig").Generation;
const Manager = @import("../manager.zig").Manager;
const Managers = @import("../manager.zig").Managers;
const TempFile = @import("../os.zig").TempFile;

const testing = std.testing;
const Error = Detail.Error;
const Options = Manager.Options;
const Spec = Manager.Spec;
const capacity_default = Manager.capacity_default;
const large_page_size = Manager.large_page_size;
const region_size_default = 14 * capacity_default;

fn expectBudget(manager: *Manager, allocated: u64) !void {
    try testing.expectEqual(allocated, manager.budget.allocated.load(.monotonic));
}

/// A manager with one method for each thing that a test does, by the index of a dimension.
const Fixture = struct {
    manager: *Manager,
    handle: u64,
    detail: Detail = .{},

    fn open_(options: Options) !Fixture {
        var detail: Detail = .{};
        const manager = try Managers.open(options, &detail);
        return .{ .manager = manager, .handle = manager.handle.load(.monotonic) };
    }

    fn deinit(fixture: *Fixture) void {
        fixture.manager.close(fixture.handle, .refuse, 0, &fixture.detail) catch |err|
            std.debug.panic("{t}: {s}", .{ err, fixture.detail.reason });
    }

    fn dimension(fixture: *Fixture, index: u32) *Dimension {
        return &fixture.manager.dimensions()[index];
    }

    fn load_(fixture: *Fixture, index: u32, path: [:0]const u8, mode: Generation.Mode) !void {
        const target = fixture.dimension(index);
        try fixture.manager.load(target, fixture.handle, path, .{ .mode = mode }, &fixture.detail);
    }

    fn reload_(fixture: *Fixture, index: u32, path: [:0]const u8) !void {
        const target = fixture.dimension(index);
        try fixture.manager.reload(target, fixture.handle, path, .{}, &fixture.detail);
    }

    fn unload_(
        fixture: *Fixture,
        index: u32,
        keep: Dimension.Keep,
        on_views: Dimension.OnViews,
    ) !void {
        const target = fixture.dimension(index);
        const timeout_ns = std.time.ns_per_ms;
        try fixture.manager.unload(
            target,
            fixture.handle,
            keep,
            on_views,
            timeout_ns,
            &fixture.detail,
        );
    }

    fn enter(fixture: *Fixture, index: u32) !Gate.Word {
        return fixture.dimension(index).enter(&fixture.detail);
    }

    fn leave(fixture: *Fixture, index: u32, word: Gate.Word) void {
        fixture.dimension(index).leave(&fixture.manager.counters, index, word.slot);
    }

    fn bytes(fixture: *Fixture, index: u32, word: Gate.Word) []const u8 {
        const slot = fixture.dimension(index).gate.slots[word.slot];
        return slot.base[0..slot.size];
    }
};

/// Text and zeros: an emulator with large pages maps nothing else writable.
fn wholePage(text: []const u8) ![]u8 {
    const bytes = try testing.allocator.alloc(u8, os.pageSize());
    @memset(bytes, 0);
    @memcpy(bytes[0..text.len], text);
    return bytes;
}

test "R1.1, R1.2, R10.1 Manager: fourteen regions of 280 MiB in all are charged at open" {
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try testing.expectEqual(293_601_280, region_size_default);
    try expectBudget(fixture.manager, region_size_default);
    try testing.expectEqual(14, fixture.manager.dimensions().len);
    try testing.expectEqualStrings("D01", fixture.dimension(0).name());
    try testing.expectEqualStrings("D14", fixture.dimension(13).name());
    const found = try fixture.manager.findDimension(fixture.handle, "D07", &fixture.detail);
    try testing.expectEqual(6, found);
    try testing.expectError(
        error.UnknownDimension,
        fixture.manager.findDimension(fixture.handle, "D15", &fixture.detail),
    );
}

test "R1.3, R10.3 Manager: every region is contiguous, aligned, and overlaps no other" {
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    const range = fixture.manager.range.?;
    var end = @intFromPtr(range.ptr);
    for (fixture.manager.dimensions()) |*dimension| for (dimension.slots) |slot| {
        try testing.expectEqual(end, @intFromPtr(slot.base));
        try testing.expect(std.mem.isAligned(end, os.pageSize()));
        try testing.expect(std.mem.isAligned(end, large_page_size));
        try testing.expect(slot.size >= dimension.capacity);
        end += slot.size;
    };
    try testing.expectEqual(@intFromPtr(range.ptr) + range.len, end);
}

test "R10.4 Manager: what readers look at and what others write share no cache line" {
    try testing.expectEqual(0, @offsetOf(Dimension, "gate") % std.atomic.cache_line);
    const hot = @offsetOf(Dimension, "gate") / 64;
    for ([_]usize{
        @offsetOf(Dimension, "lock"),
        @offsetOf(Dimension, "changed"),
        @offsetOf(Dimension, "drained"),
        @offsetOf(Dimension, "sweep_wanted"),
    }) |offset| try testing.expect(offset / 64 != hot);
}

test "R1.4 Manager: a limit below the regions is refused with all numbers, and nothing is taken" {
    var detail: Detail = .{};
    try testing.expectError(error.LimitExceeded, Managers.open(.{ .limit = 100 << 20 }, &detail));
    try testing.expectEqual(region_size_default, detail.requested);
    try testing.expectEqual(100 << 20, detail.limit);
}

test "R1.4, R7.2 Manager: each call that the system refuses at open leaves nothing behind" {
    const Call = struct { call: os.Call, after: u32 };
    const calls = [_]Call{
        .{ .call = .reserve, .after = 0 },
        .{ .call = .carve, .after = 0 },
        .{ .call = .carve, .after = 5 },
        .{ .call = .commit, .after = 3 },
        .{ .call = .populate, .after = 2 },
    };
    var warm: Fixture = try .open_(.{ .capacity = 1 << 16 });
    warm.deinit();
    for (calls) |item| {
        os.simulated.failNext(item.call, 12, .{ .after = item.after });
        defer os.simulated.clear();
        var detail: Detail = .{};
        const options: Options = .{ .capacity = 1 << 16, .populate = true };
        try testing.expectError(error.AllocationRefused, Managers.open(options, &detail));
        try testing.expectEqual(12, detail.code);
        try testing.expect(detail.requested > 0);
    }
    // The memory of those that failed is used again: the next one stands where the first did.
    var fixture: Fixture = try .open_(.{ .capacity = 1 << 16 });
    defer fixture.deinit();
    try testing.expectEqual(warm.manager, fixture.manager);
}

test "Manager: names and counts that are no good are refused" {
    const Names = struct {
        fn same(_: ?*const anyopaque, _: u32) Spec {
            return .{ .name = "twice" };
        }
        fn at(context: ?*const anyopaque, _: u32) Spec {
            const name: *const []const u8 = @ptrCast(@alignCast(context.?));
            return .{ .name = name.* };
        }
    };
    var detail: Detail = .{};
    try testing.expectError(error.InvalidArgument, Managers.open(.{ .dimension_count = 0 }, &detail));
    try testing.expectError(error.InvalidArgument, Managers.open(.{ .dimension_count = 65537 }, &detail));
    try testing.expectError(error.InvalidArgument, Managers.open(.{ .capacity = 1 << 47 }, &detail));
    try testing.expectError(
        error.InvalidArgument,
        Managers.open(.{ .dimension_count = 2, .spec = Names.same }, &detail),
    );
    const long: [64]u8 = @splat('x');
    for ([_][]const u8{ "", "\xff", "a\x00b", &long }) |name| {
        try testing.expectError(
            error.InvalidArgument,
            Managers.open(.{ .dimension_count = 1, .spec = Names.at, .spec_context = @ptrCast(&name) }, &detail),
        );
    }
}

test "R2.1, R2.4, R3.1 Manager: a file is mapped over its region, and read where it stands" {
    const pages = try wholePage("forty-two bytes, or something of this kind");
    defer testing.allocator.free(pages);
    const file: TempFile = try .create(pages);
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try testing.expectError(error.NotLoaded, fixture.enter(2));
    for ([_]Generation.Mode{ .read, .read_write, .copy, .ram }) |mode| {
        try fixture.load_(2, file.path, mode);
        try expectBudget(fixture.manager, region_size_default);
        const word = try fixture.enter(2);
        const bytes = fixture.bytes(2, word);
        try testing.expectEqualStrings(pages, bytes);
        try testing.expectEqual(fixture.dimension(2).slots[0].base, bytes.ptr);
        fixture.leave(2, word);
        try fixture.unload_(2, .region, .refuse);
        try expectBudget(fixture.manager, region_size_default);
    }
}

test "R2.2 Manager: a second load is refused, whatever the state of the first" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try fixture.load_(0, file.path, .read);
    try testing.expectError(error.AlreadyLoaded, fixture.load_(0, file.path, .read));
    try testing.expectError(error.AlreadyLoaded, fixture.load_(1, file.path, .read_write));
    try fixture.load_(1, file.path, .read);
    try testing.expectError(error.AlreadyLoaded, fixture.reload_(0, file.path));
}

test "R2.3, R5.2, R5.4 Manager: deallocating uncharges, and a later load is charged or refused" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    const limit = region_size_default;
    var fixture: Fixture = try .open_(.{ .limit = limit });
    defer fixture.deinit();
    try fixture.load_(0, file.path, .read);
    try fixture.unload_(0, .nothing, .refuse);
    try expectBudget(fixture.manager, limit - capacity_default);
    try fixture.unload_(0, .nothing, .refuse);
    try expectBudget(fixture.manager, limit - capacity_default);

    // A reload of another dimension takes what became free, so that the load has no room.
    const other: TempFile = try .create("other");
    defer other.deinit();
    try fixture.load_(1, file.path, .read);
    const word = try fixture.enter(1);
    try fixture.reload_(1, other.path);
    try expectBudget(fixture.manager, limit);
    try testing.expectError(error.LimitExceeded, fixture.load_(0, file.path, .read));
    try testing.expectEqual(capacity_default, fixture.detail.requested);
    try testing.expectEqual(limit, fixture.detail.used);
    try expectBudget(fixture.manager, limit);
    fixture.leave(1, word);
    try expectBudget(fixture.manager, limit - capacity_default);
    try fixture.load_(0, file.path, .read);
    try expectBudget(fixture.manager, limit);
}

test "Manager: a reload shows new readers the new file and old views the old one" {
    const old: TempFile = try .create("old version");
    defer old.deinit();
    const new: TempFile = try .create("new");
    defer new.deinit();
    const third: TempFile = try .create("third");
    defer third.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try fixture.load_(0, old.path, .read);
    const before = try fixture.enter(0);
    try fixture.reload_(0, new.path);
    const after = try fixture.enter(0);
    try testing.expectEqualStrings("old version", fixture.bytes(0, before));
    try testing.expectEqualStrings("new", fixture.bytes(0, after));
    try testing.expectEqual(before.generation + 1, after.generation);
    try expectBudget(fixture.manager, region_size_default + capacity_default);
    // Both slots are held.
    try testing.expectError(error.ViewsHeld, fixture.reload_(0, third.path));
    fixture.leave(0, before);
    try expectBudget(fixture.manager, region_size_default);
    try fixture.reload_(0, third.path);
    fixture.leave(0, after);
    try expectBudget(fixture.manager, region_size_default);
}

test "R4.5, R7.2 Manager: unloading refuses, waits or defers, and says how many views are held" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try fixture.load_(0, file.path, .read);
    const word = try fixture.enter(0);
    try testing.expectError(error.ViewsHeld, fixture.unload_(0, .region, .refuse));
    try testing.expectEqual(1, fixture.detail.views);
    try testing.expectError(error.WaitTimeout, fixture.unload_(0, .nothing, .wait));
    try testing.expectEqual(1, fixture.detail.views);
    // Nothing changed: readers still come in.
    fixture.leave(0, try fixture.enter(0));

    try fixture.unload_(0, .nothing, .@"defer");
    try testing.expectError(error.InvalidAccess, fixture.enter(0));
    try testing.expectEqualStrings("abc", fixture.bytes(0, word));
    try expectBudget(fixture.manager, region_size_default);
    fixture.leave(0, word);
    try testing.expectError(error.NotLoaded, fixture.enter(0));
    try expectBudget(fixture.manager, region_size_default - capacity_default);
}

test "Manager: after a deferred unload the other slot can be loaded at once" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    const other: TempFile = try .create("other");
    defer other.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try fixture.load_(0, file.path, .read);
    const first = try fixture.enter(0);
    try fixture.unload_(0, .region, .@"defer");
    try fixture.load_(0, other.path, .read);
    const second = try fixture.enter(0);
    try testing.expectEqualStrings("abc", fixture.bytes(0, first));
    try testing.expectEqualStrings("other", fixture.bytes(0, second));
    try expectBudget(fixture.manager, region_size_default + capacity_default);
    fixture.leave(0, second);
    fixture.leave(0, first);
    try expectBudget(fixture.manager, region_size_default);
}

test "Manager: a manager closed with views held lasts until the last of them" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    try fixture.load_(0, file.path, .read);
    const word = try fixture.enter(0);
    var detail: Detail = .{};
    try testing.expectError(
        error.ViewsHeld,
        fixture.manager.close(fixture.handle, .refuse, 0, &detail),
    );
    try testing.expectError(
        error.WaitTimeout,
        fixture.manager.close(fixture.handle, .wait, 0, &detail),
    );
    fixture.leave(0, try fixture.enter(0));
    try fixture.manager.close(fixture.handle, .@"defer", 0, &detail);
    try testing.expectError(error.InvalidAccess, fixture.enter(0));
    try testing.expectEqualStrings("abc", fixture.bytes(0, word));
    try testing.expectEqual(fixture.manager, Managers.find(fixture.handle));
    fixture.leave(0, word);
    try testing.expectEqual(null, Managers.find(fixture.handle));
    try testing.expect(Managers.wasOpen(fixture.handle));
    try testing.expectError(
        error.InvalidAccess,
        fixture.manager.close(fixture.handle, .refuse, 0, &detail),
    );
}

test "R4.5 Manager: who closes without waiting ends the wait of who closes with it" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    try fixture.load_(0, file.path, .read);
    const word = try fixture.enter(0);
    const Waiter = struct {
        var outcome: Error!void = {};
        fn close_(manager: *Manager, handle: u64) void {
            var detail: Detail = .{};
            outcome = manager.close(handle, .wait, null, &detail);
        }
    };
    const thread = try std.Thread.spawn(.{}, Waiter.close_, .{ fixture.manager, fixture.handle });
    while (fixture.dimension(13).gate.read().state != .empty or
        fixture.dimension(0).gate.read().state == .open) std.Thread.yield() catch {};
    // A name can be looked up meanwhile.
    _ = try fixture.manager.findDimension(fixture.handle, "D02", &fixture.detail);
    try fixture.manager.close(fixture.handle, .@"defer", 0, &fixture.detail);
    thread.join();
    try testing.expectError(error.InvalidAccess, Waiter.outcome);
    try testing.expectEqualStrings("abc", fixture.bytes(0, word));
    fixture.leave(0, word);
    try testing.expectEqual(null, Managers.find(fixture.handle));
}

test "R7.2, R9.3 Manager: would_fit tells what the system refuses, and changes nothing" {
    const pages = try wholePage("abc");
    defer testing.allocator.free(pages);
    const file: TempFile = try .create(pages);
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    const path: Generation.Candidate = .{ .path = file.path };
    for ([_]os.Call{ .open, .identify, .fill }) |call| {
        var detail: Detail = .{};
        os.simulated.failNext(call, 5, .{});
        const refused = fixture.dimension(3).wouldFit(fixture.handle, path, .read_write, &detail);
        os.simulated.clear();
        try testing.expectError(error.FileAccess, refused);
        try testing.expectEqual(5, detail.code);
        try fixture.dimension(3).wouldFit(fixture.handle, path, .read_write, &detail);
        try expectBudget(fixture.manager, region_size_default);
        try testing.expectError(error.NotLoaded, fixture.enter(3));
    }
    var detail: Detail = .{};
    const large: Generation.Candidate = .{ .size = capacity_default + 1 };
    const refused = fixture.dimension(3).wouldFit(fixture.handle, large, .read, &detail);
    try testing.expectError(error.LimitExceeded, refused);
    try testing.expectEqual(.capacity, detail.limit_kind);
}

test "Manager: what the system will not unmap is tried again" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{});
    defer fixture.deinit();
    try fixture.load_(0, file.path, .read);
    os.simulated.failNext(.unmap, 12, .{});
    try fixture.unload_(0, .region, .refuse);
    os.simulated.clear();
    try testing.expectError(error.InvalidAccess, fixture.enter(0));
    try fixture.load_(0, file.path, .read);
    try expectBudget(fixture.manager, region_size_default);
    const word = try fixture.enter(0);
    try testing.expectEqualStrings("abc", fixture.bytes(0, word));
    fixture.leave(0, word);
}

test "R4.3 Manager: a writer waits for views, keeps readers out, and lets them in again" {
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{ .read_timeout_ns = 1 });
    defer fixture.deinit();
    const dimension = fixture.dimension(0);
    const detail = &fixture.detail;
    const handle = fixture.handle;
    try fixture.load_(0, file.path, .copy);
    const word = try fixture.enter(0);
    try testing.expectError(error.WaitTimeout, dimension.beginWrite(handle, 1, 1000, detail));
    fixture.leave(0, word);
    const exclusive = try dimension.beginWrite(handle, 1, 0, detail);
    exclusive.base[0] = 'A';
    try testing.expectError(error.WaitTimeout, fixture.enter(0));
    try testing.expectError(error.WaitTimeout, dimension.beginWrite(handle, 2, 1000, detail));
    try testing.expectError(error.ViewsHeld, fixture.unload_(0, .region, .refuse));
    const slot = exclusive.slot;
    const number = exclusive.generation;
    try testing.expectError(
        error.InvalidArgument,
        dimension.endWrite(handle, 2, slot, number, detail),
    );
    try dimension.endWrite(handle, 1, slot, number, detail);
    try testing.expectError(
        error.InvalidArgument,
        dimension.endWrite(handle, 1, slot, number, detail),
    );
    const after = try fixture.enter(0);
    try testing.expectEqualStrings("Abc", fixture.bytes(0, after));
    fixture.leave(0, after);
    try fixture.load_(1, file.path, .read);
    try testing.expectError(
        error.InvalidArgument,
        fixture.dimension(1).beginWrite(handle, 1, 0, detail),
    );
}

test "Manager: nothing that may take long is asked of the system under a dimension's lock" {
    if (@import("../os.zig").contract.emulated()) return error.SkipZigTest;
    const Lengthy = os.simulated.Lengthy;
    const Watcher = struct {
        var target: *Dimension = undefined;
        var seen: std.EnumArray(Lengthy, u32) = .initFill(0);
        var locked: std.EnumArray(Lengthy, u32) = .initFill(0);

        fn hear(call: Lengthy) void {
            seen.getPtr(call).* += 1;
            if (target.lock.tryLock()) return target.lock.unlock();
            locked.getPtr(call).* += 1;
        }
    };
    const bytes = try wholePage("abc");
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    const other: TempFile = try .create(bytes);
    defer other.deinit();
    var fixture: Fixture = try .open_(.{
        .dimension_count = 1,
        .capacity = 1 << 20,
        .populate = true,
    });
    defer fixture.deinit();
    const manager = fixture.manager;
    const detail = &fixture.detail;
    const dimension = fixture.dimension(0);
    const Residency = @import("../dimension.zig").Residency;
    Watcher.target = dimension;
    os.simulated.watcher = Watcher.hear;
    defer os.simulated.watcher = null;
    // The region gives way, and comes back after a failure.
    try testing.expectError(error.FileAccess, fixture.load_(0, "no such file", .read));
    const options: Generation.Options = .{ .mode = .read_write, .prefetch = .populate };
    try manager.load(dimension, fixture.handle, file.path, options, detail);
    try testing.expect(Watcher.seen.get(.restore) > 0);
    const exclusive = try dimension.beginWrite(fixture.handle, 0, 0, detail);
    exclusive.base[0] = 'A';
    try dimension.endWrite(fixture.handle, 0, exclusive.slot, exclusive.generation, detail);
    try dimension.flush(fixture.handle, detail);
    try Residency.lock(dimension, fixture.handle, detail);
    try Residency.unlock(dimension, fixture.handle, detail);
    try Residency.evict(dimension, fixture.handle, detail);
    _ = try Residency.of(dimension, fixture.handle, 0, null, detail);
    _ = try @import("../dimension.zig").Warming.run(dimension, fixture.handle, .{}, detail);
    _ = try manager.memory(fixture.handle, detail);
    _ = try dimension.memory(fixture.handle, detail);
    {
        os.simulated.watcher = null;
        defer os.simulated.watcher = Watcher.hear;
        try fixture.unload_(0, .region, .refuse);
    }
    try fixture.load_(0, file.path, .ram);
    for (std.enums.values(Lengthy)) |call| {
        errdefer std.debug.print("{t}\n", .{call});
        try testing.expect(Watcher.seen.get(call) > 0);
        try testing.expectEqual(0, Watcher.locked.get(call));
    }
    // A version that goes is the exception: its memory and its charge go in one step.
    try fixture.reload_(0, other.path);
    try fixture.unload_(0, .nothing, .@"defer");
    for (std.enums.values(Lengthy)) |call| {
        try testing.expectEqual(@as(u32, if (call == .restore) 2 else 0), Watcher.locked.get(call));
    }
}

test "Manager: populated regions are there before a file is, and give way to it" {
    if (@import("../os.zig").contract.emulated()) return error.SkipZigTest;
    const file: TempFile = try .create("abc");
    defer file.deinit();
    var fixture: Fixture = try .open_(.{
        .dimension_count = 2,
        .capacity = 1 << 20,
        .populate = true,
    });
    defer fixture.deinit();
    const before = try fixture.manager.memory(fixture.handle, &fixture.detail);
    try testing.expect(before.use.?.resident >= 2 << 20);
    try fixture.load_(0, file.path, .read);
    try fixture.unload_(1, .nothing, .refuse);
    const after = try fixture.manager.memory(fixture.handle, &fixture.detail);
    try testing.expect(after.use.?.resident < 1 << 20);
}

test "Manager: one that does not open is not given back under who closes what was there before" {
    const Late = struct {
        var manager: *Manager = undefined;
        var specs_asked: u32 = 0;
        var moved_in: bool = false;

        /// Asked for sizes first, then for names, when the manager has its first tenant.
        fn spec(_: ?*const anyopaque, _: u32) Spec {
            specs_asked += 1;
            if (specs_asked == 3) moved_in = manager.shared.moveIn();
            return .{ .name = "same" };
        }
    };
    var detail: Detail = .{};
    Late.manager = try Managers.open(.{ .dimension_count = 2 }, &detail);
    const before = Late.manager.handle.load(.monotonic);
    try Late.manager.close(before, .refuse, 0, &detail);
    const opened = Managers.open(.{ .dimension_count = 2, .spec = Late.spec }, &detail);
    try testing.expectError(error.InvalidArgument, opened);
    try testing.expect(Late.moved_in and !Late.manager.free.load(.monotonic));
    const next = try Managers.open(.{ .dimension_count = 2 }, &detail);
    const handle = next.handle.load(.monotonic);
    try testing.expect(next != Late.manager);
    // The late one finds that it was closed, and goes.
    Late.manager.shared.moveOut(1);
    try testing.expect(Late.manager.free.load(.monotonic));
    try testing.expectEqual(1, try next.findDimension(handle, "D02", &detail));
    try next.close(handle, .refuse, 0, &detail);
}
