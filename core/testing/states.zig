//! Random sequences of everything that moves a dimension's state, each step of which must leave a
//! legal one (`core/legal.zig`).
//!
//! One thread is enough: every wait and all long work asks an interrupt function, and here that
//! function takes the next steps of the sequence. So a manager is closed in the middle of a load, a
//! view is released under a drain, a page is lost while a file is read. Besides the table, these
//! hold: what a view shows stays, a call that fails changes nothing, and when all is released
//! nothing is left over.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base/Detail.zig");
const Dimension = @import("../dimension/Dimension.zig");
const Gate = @import("../gate/Gate.zig");
const Generation = @import("../dimension/Generation.zig");
const Guard = @import("../Guard.zig");
const Manager = @import("../manager/Manager.zig");
const Managers = @import("../manager.zig").Managers;
const Residency = @import("../dimension/Residency.zig");
const TempFile = @import("../os/TempFile.zig");
const Warming = @import("../dimension/Warming.zig");
const interrupt = @import("../base/interrupt.zig");
const legal = @import("../dimension/legal.zig");

const testing = std.testing;

const dimension_count = 2;
const depth_max = 2;

const Operation = enum {
    load,
    reload,
    unload,
    deallocate,
    close,
    enter,
    enter_now,
    pin,
    leave,
    leave_another,
    begin_write,
    end_write,
    page,
    warm,
    fit,
    fault,
    refuse,
};

/// What the system may refuse; the rest of what it is asked for is asked for at open.
const calls = [_]os.Call{ .map, .commit, .unmap, .heap, .open, .identify, .read, .populate, .lock, .barrier };

const File = struct { file: TempFile, stamp: u8 };

const View = struct {
    manager: *Manager,
    dimension: *Dimension,
    word: Gate.Word,
    /// Its bytes; null: it was taken while a writer may be in.
    stamp: ?u8,
};

const Write = struct {
    dimension: *Dimension,
    owner: u64,
    exclusive: Dimension.Exclusive,
};

/// What is in a slot of the manager that is open.
const Content = struct { stamp: u8 = 0, file: usize = 0, mode: Generation.Mode = .read };

const Driver = struct {
    /// A byte a choice.
    script: []const u8,
    at: usize = 0,
    files: []File,
    manager: *Manager = undefined,
    handle: u64 = 0,
    is_open: bool = false,
    views: std.ArrayList(View) = .empty,
    writes: std.ArrayList(Write) = .empty,
    managers: std.ArrayList(*Manager) = .empty,
    contents: [dimension_count][2]Content = @splat(@splat(.{})),
    depth: u32 = 0,
    /// Questions that a call may still ask before it is told to end.
    patience: u8 = 0,
    /// Steps that were taken, those within calls included, and those of them that succeeded.
    steps: u64 = 0,
    done: std.EnumArray(Operation, u64) = .initFill(0),
    failure: ?anyerror = null,

    /// Whose calls ask.
    var active: *Driver = undefined;

    fn choose(driver: *Driver, count: usize) usize {
        if (driver.at >= driver.script.len) return 0;
        defer driver.at += 1;
        return driver.script[driver.at] % count;
    }

    fn chooseOf(driver: *Driver, comptime Choice: type) Choice {
        const all = comptime std.enums.values(Choice);
        return all[driver.choose(all.len)];
    }

    fn ask() bool {
        const driver = active;
        const patience = driver.patience;
        if (driver.depth < depth_max and driver.at < driver.script.len) {
            driver.depth += 1;
            driver.step() catch |err| {
                driver.failure = driver.failure orelse err;
            };
            driver.depth -= 1;
        }
        driver.patience = patience -| 1;
        return patience == 0 or driver.at >= driver.script.len;
    }

    fn run(driver: *Driver) !void {
        active = driver;
        const interval = interrupt.interval_ns;
        interrupt.interval_ns = 0;
        interrupt.set(ask);
        defer {
            interrupt.set(null);
            interrupt.interval_ns = interval;
            os.simulated.clear();
            driver.views.deinit(testing.allocator);
            driver.writes.deinit(testing.allocator);
            driver.managers.deinit(testing.allocator);
        }
        errdefer std.debug.print("script {x}, at {d}\n", .{ driver.script, driver.at });
        while (driver.at < driver.script.len) {
            if (!driver.is_open) try driver.open();
            try driver.step();
            if (driver.failure) |err| return err;
        }
        try driver.end();
    }

    fn open(driver: *Driver) !void {
        os.simulated.clear();
        var detail: Detail = .{};
        const flags = driver.choose(8);
        driver.manager = try Managers.open(.{
            .dimension_count = dimension_count,
            .capacity = 2 * os.pageSize(),
            .limit = (2 * dimension_count + flags % 2) * os.pageSize() + 65536,
            .pool_limit = 65536,
            .read_timeout_ns = null,
            .gate_atomic = flags & 2 != 0,
            .guard = os.capabilities().fault_guard,
            .track_views = flags & 4 != 0,
        }, &detail);
        driver.handle = driver.manager.handle.load(.monotonic);
        driver.is_open = true;
        driver.contents = @splat(@splat(.{}));
        try driver.managers.append(testing.allocator, driver.manager);
    }

    /// Everything is released, and nothing is left over.
    fn end(driver: *Driver) !void {
        os.simulated.clear();
        var detail: Detail = .{};
        while (driver.writes.pop()) |write| try driver.endWrite(write);
        while (driver.views.pop()) |view| leaveView(view);
        if (driver.is_open) {
            try driver.check();
            try driver.manager.close(driver.handle, .@"defer", 0, &detail);
        }
        for (driver.managers.items) |manager| {
            try testing.expectEqual(0, manager.budget.allocated.load(.monotonic));
            try testing.expect(manager.isFree());
        }
    }

    fn step(driver: *Driver) !void {
        driver.steps += 1;
        const dimension = driver.manager.dimensionAt(@intCast(driver.choose(dimension_count)));
        const operation = driver.chooseOf(Operation);
        driver.patience = @intCast(driver.choose(4));
        const steps = driver.steps;
        const before = Seen.of(dimension);
        var detail: Detail = .{};
        if (driver.perform(operation, dimension, &detail)) {
            driver.done.getPtr(operation).* += 1;
        } else |err| switch (err) {
            error.OutOfMemory => return err,
            error.UnknownDimension,
            error.UnknownLayer,
            error.OutOfBounds,
            error.BadFormat,
            error.PoolCorruption,
            error.DiskFull,
            => return error.UnexpectedFailure,
            else => if (steps == driver.steps) try before.expectUnchanged(.of(dimension)),
        }
        try driver.check();
    }

    fn perform(
        driver: *Driver,
        operation: Operation,
        dimension: *Dimension,
        detail: *Detail,
    ) !void {
        const owner = driver.handle;
        switch (operation) {
            .load, .reload => try driver.load(operation, dimension, detail),
            .unload, .deallocate => {
                const keep: Dimension.Keep = if (operation == .unload) .region else .nothing;
                const on_views = driver.chooseOf(Dimension.OnViews);
                const timeout_ns = driver.timeout();
                try driver.manager.unload(dimension, owner, keep, on_views, timeout_ns, detail);
            },
            .close => {
                // Seldom: it ends what all others need.
                if (driver.choose(4) != 0) return;
                const on_views = driver.chooseOf(Dimension.OnViews);
                try driver.manager.close(owner, on_views, driver.timeout(), detail);
                driver.is_open = false;
            },
            .enter => {
                const word = try driver.manager.enter(dimension, owner, detail);
                try driver.keepView(dimension, word, driver.stampOf(dimension, word));
            },
            .enter_now => {
                const word = try driver.manager.enterNow(dimension, owner, detail);
                try driver.keepView(dimension, word, driver.stampOf(dimension, word));
            },
            .pin => try driver.keepView(dimension, try dimension.pin(owner, detail), null),
            .leave, .leave_another => {
                if (driver.views.items.len == 0) return;
                const index = driver.choose(driver.views.items.len);
                leaveView(driver.views.swapRemove(index));
            },
            .begin_write => {
                const exclusive = try dimension.beginWrite(owner, 0, driver.timeout(), detail);
                try driver.fill(dimension, exclusive);
            },
            .end_write => {
                if (driver.writes.items.len == 0) return;
                const index = driver.choose(driver.writes.items.len);
                try driver.endWrite(driver.writes.swapRemove(index));
            },
            .page => switch (driver.choose(4)) {
                0 => try Residency.lock(dimension, owner, detail),
                1 => try Residency.unlock(dimension, owner, detail),
                2 => try Residency.evict(dimension, owner, detail),
                else => try dimension.flush(owner, detail),
            },
            .warm => _ = try Warming.run(dimension, owner, .{}, detail),
            .fit => try dimension.wouldFit(owner, .{ .size = os.pageSize() }, .read, detail),
            .fault => driver.fault(dimension, @intCast(driver.choose(2))),
            .refuse => {
                const call = calls[driver.choose(calls.len)];
                const times = driver.choose(3);
                const after = driver.choose(3);
                os.simulated.failNext(call, 12, .{ .after = after, .times = times });
            },
        }
    }

    /// Its memory may have been that of an earlier one.
    fn forget(driver: *Driver, manager: *Manager) void {
        const managers = &driver.managers;
        while (std.mem.findScalar(*Manager, managers.items, manager)) |index| {
            _ = managers.swapRemove(index);
        }
    }

    fn timeout(driver: *Driver) ?u64 {
        return if (driver.choose(3) == 0) 0 else null;
    }

    fn load(driver: *Driver, operation: Operation, dimension: *Dimension, detail: *Detail) !void {
        const index = driver.choose(driver.files.len);
        const path = driver.files[index].file.path;
        const options: Generation.Options = .{
            .mode = driver.chooseOf(Generation.Mode),
            .prefetch = driver.chooseOf(Generation.Prefetch),
        };
        const manager = driver.manager;
        if (operation == .load) {
            try manager.load(dimension, driver.handle, path, options, detail);
        } else {
            try manager.reload(dimension, driver.handle, path, options, detail);
        }
        // Nothing is asked after it was let in.
        driver.contents[dimension.index][dimension.gate.read().slot] = .{
            .stamp = driver.files[index].stamp,
            .file = index,
            .mode = options.mode,
        };
    }

    fn stampOf(driver: *Driver, dimension: *Dimension, word: Gate.Word) u8 {
        return driver.contents[dimension.index][word.slot].stamp;
    }

    fn keepView(driver: *Driver, dimension: *Dimension, word: Gate.Word, stamp: ?u8) !void {
        try driver.views.append(testing.allocator, .{
            .manager = driver.manager,
            .dimension = dimension,
            .word = word,
            .stamp = stamp,
        });
    }

    fn leaveView(view: View) void {
        if (view.stamp == null) return view.dimension.leavePinned(view.word);
        view.dimension.leave(&view.manager.counters, view.dimension.index, view.word.slot);
    }

    fn fill(driver: *Driver, dimension: *Dimension, exclusive: Dimension.Exclusive) !void {
        const content = &driver.contents[dimension.index][exclusive.slot];
        content.stamp +%= 16;
        @memset(exclusive.base[0..exclusive.size], content.stamp);
        if (content.mode == .read_write) driver.files[content.file].stamp = content.stamp;
        try driver.writes.append(testing.allocator, .{
            .dimension = dimension,
            .owner = driver.handle,
            .exclusive = exclusive,
        });
    }

    fn endWrite(driver: *Driver, write: Write) !void {
        _ = driver;
        var detail: Detail = .{};
        const exclusive = write.exclusive;
        const number = exclusive.generation;
        write.dimension.endWrite(write.owner, 0, exclusive.slot, number, &detail) catch |err| {
            // It has ended all the same.
            if (err != error.Faulted) return err;
        };
    }

    /// The first page of what is in a slot cannot be read, and so none of it.
    fn fault(driver: *Driver, dimension: *Dimension, slot: u1) void {
        const address = @intFromPtr(dimension.slots[slot].base);
        if (!Guard.onFault(.{ .address = address, .code = 5 })) return;
        driver.contents[dimension.index][slot].stamp = 0;
        for (driver.views.items) |*view| {
            if (view.dimension != dimension or view.word.slot != slot) continue;
            if (view.stamp) |*stamp| stamp.* = 0;
        }
    }

    fn check(driver: *Driver) !void {
        // Without a barrier nobody can prove that a version has no views: it stays.
        if (!driver.is_open and os.simulated.failures(.barrier) > 0) driver.forget(driver.manager);
        for (driver.manager.dimensions()) |*dimension| {
            dimension.lock.lock();
            defer dimension.unlockForNow();
            if (dimension.owner == 0) continue;
            if (legal.broken(dimension)) |rule| {
                std.debug.print("{s}\n", .{rule});
                return error.IllegalState;
            }
        }
        for (driver.views.items) |view| {
            const stamp = view.stamp orelse continue;
            const base = view.dimension.slots[view.word.slot].base;
            try testing.expectEqual(stamp, base[0]);
            try testing.expectEqual(stamp, base[os.pageSize() - 1]);
        }
    }
};

/// What a call that fails leaves as it was.
const Seen = struct {
    state: Gate.State,
    slot: u1,
    generation: u64,
    charged: u64,
    locked: bool,

    fn of(dimension: *Dimension) Seen {
        const word = dimension.gate.read();
        return .{
            .state = word.state,
            .slot = word.slot,
            .generation = word.generation,
            .charged = dimension.charges(),
            .locked = dimension.generations[word.slot].locked,
        };
    }

    fn expectUnchanged(before: Seen, after: Seen) !void {
        // What the system would not unmap before may have gone by the way.
        if (before.state == .unloading and after.state != .open) return;
        if (after.charged < before.charged) return;
        try testing.expectEqual(before, after);
    }
};

/// Returns which operations succeeded how often.
fn drive(files: []File, script: []const u8) !std.EnumArray(Operation, u64) {
    var driver: Driver = .{ .script = script, .files = files };
    try driver.run();
    return driver.done;
}

const Files = struct {
    items: [3]File,

    fn create() !Files {
        var files: Files = undefined;
        const bytes = try testing.allocator.alloc(u8, os.pageSize());
        defer testing.allocator.free(bytes);
        for (&files.items, 1..) |*item, stamp| {
            item.stamp = @intCast(stamp);
            @memset(bytes, item.stamp);
            item.file = try .create(bytes);
        }
        return files;
    }

    fn deinit(files: *Files) void {
        for (files.items) |item| item.file.deinit();
    }
};

test "fuzz: states of a dimension" {
    var files: Files = try .create();
    defer files.deinit();
    try testing.fuzz(&files, fuzzStates, .{});
}

fn fuzzStates(files: *Files, smith: *testing.Smith) anyerror!void {
    var script: [512]u8 = undefined;
    _ = try drive(&files.items, script[0..smith.slice(&script)]);
}

test "states: every step of random sequences leaves a legal one" {
    const emulated = @import("../os/contract.zig").emulated();
    var files: Files = try .create();
    defer files.deinit();
    var prng: std.Random.DefaultPrng = .init(testing.random_seed);
    var script: [1024]u8 = undefined;
    var total: std.EnumArray(Operation, u64) = .initFill(0);
    for (0..if (emulated) 4 else 100) |_| {
        prng.random().bytes(&script);
        const done = try drive(&files.items, &script);
        for (std.enums.values(Operation)) |operation| {
            total.getPtr(operation).* += done.get(operation);
        }
    }
    if (emulated) return;
    for (std.enums.values(Operation)) |operation| {
        errdefer std.debug.print("{t} never succeeded\n", .{operation});
        try testing.expect(total.get(operation) > 0);
    }
}
