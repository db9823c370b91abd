//! Every public function, and every system call that it makes refused in turn.
//!
//! A function is run once to count its calls, by kind; then once for each of them, and for each
//! code that the system may refuse it with, with that one call refused. It has to fail with the
//! status, the code and the words of the system's own refusal, or be one of those few of which
//! `isHarmless` says why they go on; everything that can be looked at has to be as before; and
//! made again it has to succeed. Every run has a manager of its own, in a state in which each
//! function has something to do. A function of the header that is not among `cases` does not
//! compile, and one that makes no system call at all has to say so.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");
const Managers = @import("../manager/Managers.zig");
const TempFile = @import("../os/TempFile.zig");
const libmemmgr = @import("../libmemmgr.zig");

const types = libmemmgr.types;
const testing = std.testing;
const io = testing.io;

const capabilities = @import("../c_api/capabilities.zig");
const dimension = @import("../c_api/dimension.zig");
const failure = @import("../c_api/failure.zig");
const interrupt = @import("../c_api/interrupt.zig");
const log = @import("../c_api/log.zig");
const manager = @import("../c_api/manager.zig");
const pool = @import("../c_api/pool.zig");
const residency = @import("../c_api/residency.zig");
const save = @import("../c_api/save.zig");
const scan = @import("../c_api/scan.zig");
const stats = @import("../c_api/stats.zig");
const status = @import("../c_api/status.zig");
const verify = @import("../c_api/verify.zig");
const view = @import("../c_api/view.zig");
const write = @import("../c_api/write.zig");

const ok = @backingInt(types.Status.ok);

/// The dimensions of a world, by what is in them.
const Place = enum(u32) {
    loaded,
    empty,
    /// In mode r+.
    writable,
    /// By a second version, while `World.view` is of the first.
    replaced,
    /// By `World.write`.
    written,
    deallocated,

    const count = std.enums.values(Place).len;
};

/// Of which a function wants the index.
fn at(place: Place) u32 {
    return @backingInt(place);
}

/// Files that all worlds share.
const Files = struct {
    folder: TempFile,
    raw: [:0]const u8,
    writable: [:0]const u8,
    spare: [:0]const u8,
    array: [:0]const u8,
    layers: [:0]const u8,
    manifest: [:0]const u8,
    target: [:0]const u8,
    target_manifest: [:0]const u8,

    fn init() !Files {
        const page = try testing.allocator.alloc(u8, os.pageSize());
        defer testing.allocator.free(page);
        @memset(page, 1);
        const folder: TempFile = try .createNamed("raw.bin", page);
        var files: Files = undefined;
        files.folder = folder;
        files.raw = folder.path;
        files.writable = try files.named("writable.bin");
        files.spare = try files.named("spare.bin");
        for ([_][]const u8{ "writable.bin", "spare.bin" }) |name| {
            try folder.folder.dir.writeFile(io, .{ .sub_path = name, .data = page });
        }
        files.array = try files.named("array.npy");
        files.layers = try files.named("layers.safetensors");
        files.manifest = try files.named("layers.json");
        files.target = try files.named("target.safetensors");
        files.target_manifest = try files.named("target.json");
        try make(files.array, .{});
        try make(files.layers, .{ .flags = types.save_checksums });
        const raw = @backingInt(types.Format.raw);
        try make(files.target, .{ .format = raw, .manifest = files.manifest });
        try files.reset();
        return files;
    }

    fn make(path: [:0]const u8, options: types.SaveOptions) !void {
        const made = save.memmgr_array_save(path, &.{array_data}, 1, &options, null);
        try testing.expectEqual(ok, made);
    }

    fn named(files: Files, name: []const u8) ![:0]const u8 {
        const folder = std.fs.path.dirname(files.raw).?;
        return std.fs.path.joinZ(testing.allocator, &.{ folder, name });
    }

    /// What a save is about to replace is there again.
    fn reset(files: Files) !void {
        const dir = files.folder.folder.dir;
        try dir.writeFile(io, .{ .sub_path = std.fs.path.basename(files.target), .data = "old" });
        os.remove(files.target_manifest);
    }

    fn deinit(files: Files) void {
        inline for (.{
            files.writable,
            files.spare,
            files.array,
            files.layers,
            files.manifest,
            files.target,
            files.target_manifest,
        }) |path| testing.allocator.free(path);
        files.folder.deinit();
    }
};

const array_bytes: [64]u8 = @splat(7);
const array_data: types.Array = .{
    .dtype = @backingInt(types.Dtype.i8),
    .rank = 2,
    .name = "data",
    .data = &array_bytes,
    .shape = .{ 8, 8 } ++ @as([types.rank_max - 2]u64, @splat(0)),
};

const World = struct {
    files: *const Files,
    manager: ?*types.Manager = null,
    view: types.View = .{},
    write: types.Write = .{},
    small: ?*anyopaque = null,
    large: ?*anyopaque = null,
    /// Handed out by what is run.
    block: ?*anyopaque = null,
    blocks: [100]?*anyopaque = @splat(null),
    opened: ?*types.Manager = null,
    closed: bool = false,
    err: types.Error = .{},

    const large_size = 1 << 20;

    fn init(world: *World, files: *const Files) !void {
        world.* = .{ .files = files };
        var options: types.ManagerOptions = .{
            .dimension_count = Place.count,
            .capacity = 256 << 10,
            .flags = if (os.capabilities().fault_guard) types.open_fault_guard else 0,
        };
        try expectOk(manager.memmgr_manager_open(&options, &world.manager, &world.err), world);
        const copy: types.LoadOptions = .{ .mode = @backingInt(types.Mode.copy) };
        const read_write: types.LoadOptions = .{ .mode = @backingInt(types.Mode.read_write) };
        try world.prepare(.loaded, files.layers, null);
        try world.prepare(.writable, files.writable, &read_write);
        try world.prepare(.replaced, files.layers, null);
        try world.prepare(.written, files.raw, &copy);
        const err = &world.err;
        const handle = world.manager;
        const replaced = at(.replaced);
        try expectOk(view.memmgr_view_acquire(handle, replaced, 0, 1, &world.view, err), world);
        try expectOk(
            dimension.memmgr_dimension_reload(handle, replaced, files.array, null, err),
            world,
        );
        const written = at(.written);
        try expectOk(
            write.memmgr_write_begin(handle, written, 0, 0, &world.write, err),
            world,
        );
        try expectOk(
            dimension.memmgr_dimension_deallocate(handle, at(.deallocated), 0, 0, err),
            world,
        );
        world.small = pool.memmgr_block_alloc(handle, 100, err);
        try expectOk(world.outcome(world.small), world);
        world.large = pool.memmgr_block_alloc(handle, large_size, err);
        try expectOk(world.outcome(world.large), world);
    }

    fn prepare(
        world: *World,
        place: Place,
        path: [:0]const u8,
        options: ?*const types.LoadOptions,
    ) !void {
        try expectOk(
            dimension.memmgr_dimension_load(world.manager, at(place), path, options, &world.err),
            world,
        );
    }

    /// Of a function that returns a block.
    fn outcome(world: *const World, block: ?*anyopaque) i32 {
        return if (block == null) world.err.status else ok;
    }

    /// Views, writes and blocks that are there still.
    fn letGo(world: *World) !void {
        const handle = world.manager;
        const err = &world.err;
        for ([_]*?*anyopaque{ &world.small, &world.large, &world.block }) |block| {
            try expectOk(pool.memmgr_block_free(handle, block.*, err), world);
            block.* = null;
        }
        const count = world.blocks.len;
        try expectOk(pool.memmgr_block_free_batch(handle, &world.blocks, count, err), world);
        world.blocks = @splat(null);
        if (world.view.data != null) {
            try expectOk(view.memmgr_view_release(handle, &world.view, err), world);
        }
        if (world.write.data != null) {
            try expectOk(write.memmgr_write_end(handle, &world.write, err), world);
        }
    }

    fn deinit(world: *World) !void {
        try world.letGo();
        const unclosed = if (world.closed) null else world.manager;
        for ([_]?*types.Manager{ world.opened, unclosed }) |open| {
            try expectOk(manager.memmgr_manager_close(open, 0, 0, &world.err), world);
        }
        try world.files.reset();
    }
};

fn expectOk(got: i32, world: *const World) !void {
    if (got == ok) return;
    std.debug.print("{s}\n", .{std.mem.sliceTo(&world.err.message, 0)});
    return error.TestUnexpectedResult;
}

const Run = *const fn (world: *World) i32;

const Case = struct {
    /// Of the function.
    name: []const u8,
    run: Run,
    /// Makes the world one in which there is more for it to do.
    before: ?Run = null,
    /// No memory of closed managers is left for it.
    occupy: bool = false,
    /// It makes no system call.
    quiet: bool = false,
};

const cases = [_]Case{
    .{ .name = "memmgr_version", .run = run.version, .quiet = true },
    .{ .name = "memmgr_status_name", .run = run.statusName, .quiet = true },
    .{ .name = "memmgr_operation_name", .run = run.operationName, .quiet = true },
    .{ .name = "memmgr_limit_name", .run = run.limitName, .quiet = true },
    .{ .name = "memmgr_call_name", .run = run.callName, .quiet = true },
    .{ .name = "memmgr_dtype_name", .run = run.dtypeName, .quiet = true },
    .{ .name = "memmgr_dtype_bits", .run = run.dtypeBits, .quiet = true },
    .{ .name = "memmgr_capabilities_get", .run = run.capabilitiesGet, .quiet = true },
    .{ .name = "memmgr_interrupt_set", .run = run.interruptSet, .quiet = true },
    .{ .name = "memmgr_log_set", .run = run.logSet, .quiet = true },
    .{ .name = "memmgr_log_set_level", .run = run.logSetLevel, .quiet = true },
    .{ .name = "memmgr_manager_open", .run = run.open },
    .{ .name = "memmgr_manager_open", .run = run.openPopulated },
    .{ .name = "memmgr_manager_open", .run = run.openGuarded },
    .{ .name = "memmgr_manager_open", .run = run.openNew, .occupy = true },
    .{ .name = "memmgr_manager_close", .run = run.close },
    .{ .name = "memmgr_manager_close", .run = run.closeUnused, .before = run.letGo },
    .{ .name = "memmgr_dimension_find", .run = run.find, .quiet = true },
    .{ .name = "memmgr_dimension_load", .run = run.load },
    .{ .name = "memmgr_dimension_load", .run = run.loadPopulated },
    .{ .name = "memmgr_dimension_load", .run = run.loadReadWrite },
    .{ .name = "memmgr_dimension_load", .run = run.loadCopy },
    .{ .name = "memmgr_dimension_load", .run = run.loadRam },
    .{ .name = "memmgr_dimension_load", .run = run.loadArray },
    .{ .name = "memmgr_dimension_load", .run = run.loadManifest },
    .{ .name = "memmgr_dimension_load", .run = run.loadLayers },
    .{ .name = "memmgr_dimension_load", .run = run.loadDeallocated },
    .{ .name = "memmgr_dimension_reload", .run = run.reload },
    .{ .name = "memmgr_dimension_reload", .run = run.reloadRam },
    .{ .name = "memmgr_dimension_would_fit", .run = run.wouldFit },
    .{ .name = "memmgr_dimension_unload", .run = run.unload },
    .{ .name = "memmgr_dimension_deallocate", .run = run.deallocate },
    .{ .name = "memmgr_dimension_flush", .run = run.flush },
    .{ .name = "memmgr_dimension_evict", .run = run.evict, .quiet = true },
    .{ .name = "memmgr_layer_find", .run = run.layerFind, .quiet = true },
    .{ .name = "memmgr_layer_at", .run = run.layerAt, .quiet = true },
    .{ .name = "memmgr_view_acquire", .run = run.viewAcquire, .quiet = true },
    .{ .name = "memmgr_view_try_acquire", .run = run.viewTryAcquire, .quiet = true },
    .{ .name = "memmgr_layer_acquire", .run = run.layerAcquire, .quiet = true },
    .{ .name = "memmgr_holders_get", .run = run.holders, .quiet = true },
    .{ .name = "memmgr_view_release", .run = run.viewRelease },
    .{ .name = "memmgr_write_begin", .run = run.writeBegin },
    .{ .name = "memmgr_write_end", .run = run.writeEnd, .quiet = true },
    .{ .name = "memmgr_block_alloc", .run = run.blockAlloc },
    .{ .name = "memmgr_block_alloc", .run = run.blockAllocLarge },
    .{ .name = "memmgr_block_alloc", .run = run.blockAllocFirst, .before = run.open },
    .{
        .name = "memmgr_block_alloc",
        .run = run.blockAllocFirst,
        .before = run.openNew,
        .occupy = true,
    },
    .{ .name = "memmgr_block_alloc_aligned", .run = run.blockAllocAligned },
    .{ .name = "memmgr_block_alloc_zeroed", .run = run.blockAllocZeroed },
    .{ .name = "memmgr_block_alloc_batch", .run = run.blockAllocBatch },
    .{ .name = "memmgr_block_resize", .run = run.blockResize },
    .{ .name = "memmgr_block_free", .run = run.blockFree, .quiet = true },
    .{ .name = "memmgr_block_free_batch", .run = run.blockFreeBatch, .quiet = true },
    .{ .name = "memmgr_block_size", .run = run.blockSize, .quiet = true },
    .{ .name = "memmgr_pool_trim", .run = run.poolTrim, .before = run.blockFree },
    .{ .name = "memmgr_pool_stats_get", .run = run.poolStats, .quiet = true },
    .{ .name = "memmgr_pool_class_get", .run = run.poolClass, .quiet = true },
    .{ .name = "memmgr_stats_get", .run = run.stats_, .quiet = true },
    .{ .name = "memmgr_stats_reset_peak", .run = run.resetPeak, .quiet = true },
    .{ .name = "memmgr_dimension_stats_get", .run = run.dimensionStats, .quiet = true },
    .{ .name = "memmgr_memory_get", .run = run.memory },
    .{ .name = "memmgr_memory_get", .run = run.memoryOfOne },
    .{ .name = "memmgr_dump_json", .run = run.dump },
    .{ .name = "memmgr_array_save", .run = run.saveArray },
    .{ .name = "memmgr_array_save", .run = run.saveArrayWithManifest },
    .{ .name = "memmgr_dimension_save", .run = run.saveDimension },
    .{ .name = "memmgr_dimension_verify", .run = run.verify_ },
    .{ .name = "memmgr_dimension_verify", .run = run.verifyChecksums },
    .{ .name = "memmgr_dimension_warm", .run = run.warm },
    .{ .name = "memmgr_dimension_lock", .run = run.lock },
    .{ .name = "memmgr_dimension_unlock", .run = run.unlock, .before = run.lock, .quiet = true },
    .{ .name = "memmgr_residency_get", .run = run.residencyGet },
    .{ .name = "memmgr_scan_topk", .run = run.scanTopk, .quiet = true },
    .{ .name = "memmgr_scan_ahead", .run = run.scanAhead, .quiet = true },
    .{ .name = "memmgr_failure_inject", .run = run.inject, .quiet = true },
    .{ .name = "memmgr_failure_count", .run = run.injected, .quiet = true },
    .{ .name = "memmgr_failure_clear", .run = run.clear, .quiet = true },
};

const run = struct {
    fn version(_: *World) i32 {
        return @intFromBool(capabilities.memmgr_version() == 0);
    }

    fn statusName(_: *World) i32 {
        _ = status.memmgr_status_name(1);
        return ok;
    }

    fn operationName(_: *World) i32 {
        _ = status.memmgr_operation_name(1);
        return ok;
    }

    fn limitName(_: *World) i32 {
        _ = status.memmgr_limit_name(1);
        return ok;
    }

    fn callName(_: *World) i32 {
        _ = failure.memmgr_call_name(1);
        return ok;
    }

    fn dtypeName(_: *World) i32 {
        _ = dimension.memmgr_dtype_name(1);
        return ok;
    }

    fn dtypeBits(_: *World) i32 {
        _ = dimension.memmgr_dtype_bits(1);
        return ok;
    }

    fn capabilitiesGet(world: *World) i32 {
        var out: types.Capabilities = .{};
        return capabilities.memmgr_capabilities_get(&out, &world.err);
    }

    fn interruptSet(world: *World) i32 {
        return interrupt.memmgr_interrupt_set(null, null, &world.err);
    }

    fn logSet(world: *World) i32 {
        return log.memmgr_log_set(types.log_debug, null, null, &world.err);
    }

    fn logSetLevel(world: *World) i32 {
        return log.memmgr_log_set_level(types.log_debug, &world.err);
    }

    fn open(world: *World) i32 {
        return openWith(world, .{});
    }

    fn openPopulated(world: *World) i32 {
        return openWith(world, .{ .flags = types.open_populate });
    }

    fn openGuarded(world: *World) i32 {
        if (!os.capabilities().fault_guard) return openWith(world, .{});
        return openWith(world, .{ .flags = types.open_fault_guard });
    }

    /// Of a size that only these two have, and `occupy` leaves none to be used again.
    fn openNew(world: *World) i32 {
        return openWith(world, .{ .dimension_count = rare_count });
    }

    const rare_count = 33;
    var occupied: std.ArrayList(?*types.Manager) = .empty;

    fn occupy() !void {
        const one = try occupied.addOne(testing.allocator);
        one.* = null;
        const options: types.ManagerOptions = .{ .dimension_count = rare_count, .capacity = 1 };
        try testing.expectEqual(ok, manager.memmgr_manager_open(&options, one, null));
    }

    fn leave() void {
        for (occupied.items) |one| _ = manager.memmgr_manager_close(one, 0, 0, null);
        occupied.clearAndFree(testing.allocator);
    }

    fn openWith(world: *World, given: types.ManagerOptions) i32 {
        var options = given;
        if (options.dimension_count == 0) options.dimension_count = 2;
        options.capacity = 64 << 10;
        return manager.memmgr_manager_open(&options, &world.opened, &world.err);
    }

    fn close(world: *World) i32 {
        const on_views = @backingInt(types.OnViews.@"defer");
        const result = manager.memmgr_manager_close(world.manager, on_views, 0, &world.err);
        world.closed = result == ok;
        return result;
    }

    fn closeUnused(world: *World) i32 {
        const result = manager.memmgr_manager_close(world.manager, 0, 0, &world.err);
        world.closed = result == ok;
        return result;
    }

    fn letGo(world: *World) i32 {
        world.letGo() catch return -1;
        return ok;
    }

    fn find(world: *World) i32 {
        var index: u32 = undefined;
        return dimension.memmgr_dimension_find(world.manager, "D02", &index, &world.err);
    }

    fn load(world: *World) i32 {
        return loadWith(world, .empty, world.files.layers, .{});
    }

    fn loadPopulated(world: *World) i32 {
        const prefetch = @backingInt(types.Prefetch.populate);
        return loadWith(world, .empty, world.files.raw, .{ .prefetch = prefetch });
    }

    fn loadReadWrite(world: *World) i32 {
        const mode = @backingInt(types.Mode.read_write);
        return loadWith(world, .empty, world.files.spare, .{ .mode = mode });
    }

    fn loadCopy(world: *World) i32 {
        return loadWith(world, .empty, world.files.raw, .{ .mode = @backingInt(types.Mode.copy) });
    }

    fn loadRam(world: *World) i32 {
        const mode = @backingInt(types.Mode.ram);
        return loadWith(world, .empty, world.files.layers, .{ .mode = mode });
    }

    fn loadArray(world: *World) i32 {
        return loadWith(world, .empty, world.files.array, .{});
    }

    fn loadManifest(world: *World) i32 {
        return loadWith(world, .empty, world.files.raw, .{ .manifest = world.files.manifest });
    }

    fn loadLayers(world: *World) i32 {
        var layer: types.Layer = .{ .dtype = @backingInt(types.Dtype.u8), .rank = 1 };
        layer.shape[0] = 64;
        @memcpy(layer.name[0..4], "data");
        const layers = [_]types.Layer{layer};
        return loadWith(world, .empty, world.files.raw, .{ .layers = &layers, .layer_count = 1 });
    }

    fn loadDeallocated(world: *World) i32 {
        return loadWith(world, .deallocated, world.files.raw, .{});
    }

    fn loadWith(
        world: *World,
        place: Place,
        path: [:0]const u8,
        options: types.LoadOptions,
    ) i32 {
        const index = at(place);
        return dimension.memmgr_dimension_load(world.manager, index, path, &options, &world.err);
    }

    fn reload(world: *World) i32 {
        return reloadWith(world, world.files.array, .{});
    }

    fn reloadRam(world: *World) i32 {
        return reloadWith(world, world.files.layers, .{ .mode = @backingInt(types.Mode.ram) });
    }

    fn reloadWith(world: *World, path: [:0]const u8, options: types.LoadOptions) i32 {
        const index = at(.loaded);
        return dimension.memmgr_dimension_reload(world.manager, index, path, &options, &world.err);
    }

    fn wouldFit(world: *World) i32 {
        const mode = @backingInt(types.Mode.read_write);
        const path = world.files.raw;
        const handle = world.manager;
        const err = &world.err;
        return dimension.memmgr_dimension_would_fit(handle, at(.empty), path, 0, mode, err);
    }

    fn unload(world: *World) i32 {
        return dimension.memmgr_dimension_unload(world.manager, at(.loaded), 0, 0, &world.err);
    }

    fn deallocate(world: *World) i32 {
        return dimension.memmgr_dimension_deallocate(world.manager, at(.loaded), 0, 0, &world.err);
    }

    fn flush(world: *World) i32 {
        return dimension.memmgr_dimension_flush(world.manager, at(.writable), &world.err);
    }

    fn evict(world: *World) i32 {
        return dimension.memmgr_dimension_evict(world.manager, at(.loaded), &world.err);
    }

    fn layerFind(world: *World) i32 {
        var layer: types.Layer = .{};
        return view.memmgr_layer_find(world.manager, at(.loaded), "data", &layer, &world.err);
    }

    fn layerAt(world: *World) i32 {
        var layer: types.Layer = .{};
        return view.memmgr_layer_at(world.manager, at(.loaded), 0, &layer, &world.err);
    }

    fn viewAcquire(world: *World) i32 {
        var got: types.View = .{};
        const result = view.memmgr_view_acquire(world.manager, at(.loaded), 0, 1, &got, &world.err);
        if (result != ok) return result;
        return view.memmgr_view_release(world.manager, &got, &world.err);
    }

    fn viewTryAcquire(world: *World) i32 {
        var got: types.View = .{};
        const handle = world.manager;
        const err = &world.err;
        const result = view.memmgr_view_try_acquire(handle, at(.loaded), 0, 1, &got, err);
        if (result != ok) return result;
        return view.memmgr_view_release(handle, &got, err);
    }

    fn layerAcquire(world: *World) i32 {
        var got: types.View = .{};
        const handle = world.manager;
        const index = at(.loaded);
        const err = &world.err;
        const result = view.memmgr_layer_acquire(handle, index, "data", null, &got, err);
        if (result != ok) return result;
        return view.memmgr_view_release(handle, &got, err);
    }

    fn holders(world: *World) i32 {
        var count: usize = undefined;
        return view.memmgr_holders_get(world.manager, types.none, null, 0, &count, &world.err);
    }

    /// The last one of a version that was replaced.
    fn viewRelease(world: *World) i32 {
        return view.memmgr_view_release(world.manager, &world.view, &world.err);
    }

    fn writeBegin(world: *World) i32 {
        var got: types.Write = .{};
        const handle = world.manager;
        const result = write.memmgr_write_begin(handle, at(.writable), 0, 0, &got, &world.err);
        if (result != ok) return result;
        return write.memmgr_write_end(handle, &got, &world.err);
    }

    fn writeEnd(world: *World) i32 {
        return write.memmgr_write_end(world.manager, &world.write, &world.err);
    }

    /// Of a class that has no slab.
    fn blockAlloc(world: *World) i32 {
        world.block = pool.memmgr_block_alloc(world.manager, 5000, &world.err);
        return world.outcome(world.block);
    }

    fn blockAllocLarge(world: *World) i32 {
        const size = 2 * World.large_size;
        world.block = pool.memmgr_block_alloc(world.manager, size, &world.err);
        return world.outcome(world.block);
    }

    /// The first block of a manager.
    fn blockAllocFirst(world: *World) i32 {
        const block = pool.memmgr_block_alloc(world.opened, 100, &world.err);
        if (block == null) return world.outcome(block);
        return pool.memmgr_block_free(world.opened, block, &world.err);
    }

    fn blockAllocAligned(world: *World) i32 {
        world.block = pool.memmgr_block_alloc_aligned(world.manager, 5000, 64, &world.err);
        return world.outcome(world.block);
    }

    fn blockAllocZeroed(world: *World) i32 {
        world.block = pool.memmgr_block_alloc_zeroed(world.manager, 5000, 64, &world.err);
        return world.outcome(world.block);
    }

    fn blockAllocBatch(world: *World) i32 {
        const count = world.blocks.len;
        return pool.memmgr_block_alloc_batch(world.manager, 5000, count, &world.blocks, &world.err);
    }

    fn blockResize(world: *World) i32 {
        const size = 3 * World.large_size;
        const moved = pool.memmgr_block_resize(world.manager, world.large, size, &world.err);
        if (moved != null) world.large = moved;
        return world.outcome(moved);
    }

    fn blockFree(world: *World) i32 {
        defer world.large = null;
        return pool.memmgr_block_free(world.manager, world.large, &world.err);
    }

    fn blockFreeBatch(world: *World) i32 {
        defer world.small = null;
        return pool.memmgr_block_free_batch(world.manager, &.{world.small}, 1, &world.err);
    }

    fn blockSize(world: *World) i32 {
        var size: usize = undefined;
        return pool.memmgr_block_size(world.manager, world.small, &size, &world.err);
    }

    fn poolTrim(world: *World) i32 {
        return pool.memmgr_pool_trim(world.manager, null, &world.err);
    }

    fn poolStats(world: *World) i32 {
        var out: types.PoolStats = .{};
        return pool.memmgr_pool_stats_get(world.manager, &out, &world.err);
    }

    fn poolClass(world: *World) i32 {
        var out: types.PoolClass = .{};
        return pool.memmgr_pool_class_get(world.manager, 0, &out, &world.err);
    }

    fn stats_(world: *World) i32 {
        var out: types.Stats = .{};
        return stats.memmgr_stats_get(world.manager, &out, &world.err);
    }

    fn resetPeak(world: *World) i32 {
        return stats.memmgr_stats_reset_peak(world.manager, &world.err);
    }

    fn dimensionStats(world: *World) i32 {
        var out: types.DimensionStats = .{};
        return stats.memmgr_dimension_stats_get(world.manager, at(.loaded), &out, &world.err);
    }

    fn memory(world: *World) i32 {
        var out: types.Memory = .{};
        return stats.memmgr_memory_get(world.manager, types.none, &out, &world.err);
    }

    fn memoryOfOne(world: *World) i32 {
        var out: types.Memory = .{};
        return stats.memmgr_memory_get(world.manager, at(.loaded), &out, &world.err);
    }

    fn dump(world: *World) i32 {
        var size: usize = undefined;
        return stats.memmgr_dump_json(world.manager, null, 0, &size, &world.err);
    }

    fn saveArray(world: *World) i32 {
        return saveWith(world, .{ .flags = types.save_checksums });
    }

    fn saveArrayWithManifest(world: *World) i32 {
        return saveWith(world, .{
            .format = @backingInt(types.Format.npy),
            .flags = types.save_checksums,
            .manifest = world.files.target_manifest,
        });
    }

    fn saveWith(world: *World, options: types.SaveOptions) i32 {
        const path = world.files.target;
        return save.memmgr_array_save(path, &.{array_data}, 1, &options, &world.err);
    }

    fn saveDimension(world: *World) i32 {
        const options: types.SaveOptions = .{ .flags = types.save_checksums };
        const path = world.files.target;
        const index = at(.loaded);
        return save.memmgr_dimension_save(world.manager, index, path, &options, &world.err);
    }

    fn verify_(world: *World) i32 {
        return verifyWith(world, .{});
    }

    fn verifyChecksums(world: *World) i32 {
        return verifyWith(world, .{ .flags = types.verify_checksums });
    }

    fn verifyWith(world: *World, options: types.VerifyOptions) i32 {
        var out: types.Verification = .{};
        const index = at(.loaded);
        return verify.memmgr_dimension_verify(world.manager, index, &options, &out, &world.err);
    }

    fn warm(world: *World) i32 {
        var out: types.Warming = .{};
        const index = at(.loaded);
        return residency.memmgr_dimension_warm(world.manager, index, null, &out, &world.err);
    }

    fn lock(world: *World) i32 {
        return residency.memmgr_dimension_lock(world.manager, at(.loaded), &world.err);
    }

    fn unlock(world: *World) i32 {
        return residency.memmgr_dimension_unlock(world.manager, at(.loaded), &world.err);
    }

    fn residencyGet(world: *World) i32 {
        var out: types.Residency = .{};
        const index = at(.loaded);
        return residency.memmgr_residency_get(world.manager, index, 0, 0, &out, &world.err);
    }

    fn scanTopk(world: *World) i32 {
        const query: [8]f32 = @splat(1);
        var rows: [1]u64 = undefined;
        var scores: [1]f32 = undefined;
        var count: usize = undefined;
        return scan.memmgr_scan_topk(
            world.manager,
            at(.loaded),
            null,
            &query,
            query.len,
            1,
            null,
            &rows,
            &scores,
            &count,
            &world.err,
        );
    }

    fn scanAhead(world: *World) i32 {
        return scan.memmgr_scan_ahead(world.manager, at(.loaded), &world.err);
    }

    /// In the middle of a count, it begins one of a kind that nothing here makes.
    fn inject(world: *World) i32 {
        const given: types.Failure = .{
            .call = @backingInt(os.Call.zero),
            .system_code = 1,
            .after = std.math.maxInt(u64),
        };
        return failure.memmgr_failure_inject(&given, &world.err);
    }

    fn injected(world: *World) i32 {
        const call = @backingInt(os.Call.zero);
        return failure.memmgr_failure_count(call, null, null, &world.err);
    }

    fn clear(world: *World) i32 {
        return failure.memmgr_failure_clear(@backingInt(os.Call.zero), &world.err);
    }
};

comptime {
    @setEvalBranchQuota(1_000_000);
    for (libmemmgr.shims) |shim| {
        for (@typeInfo(shim).@"struct".decl_names) |name| {
            if (!std.mem.startsWith(u8, name, "memmgr_")) continue;
            for (cases) |case| {
                if (std.mem.eql(u8, case.name, name)) break;
            } else @compileError("no case for " ++ name);
        }
    }
}

/// Everything that a refused call must not change.
const Snapshot = struct {
    stats: types.Stats = .{},
    dimensions: [Place.count]types.DimensionStats = @splat(.{}),
    pools: types.PoolStats = .{},
    /// What stands in the slots, and in the pools, as the system tells it.
    map: []u8 = &.{},
    outside: Outside,

    fn take(world: *const World) !Snapshot {
        const handle = world.manager;
        var taken: Snapshot = .{ .outside = try .take(world.files) };
        try expectOk(stats.memmgr_stats_get(handle, &taken.stats, null), world);
        for (&taken.dimensions, 0..) |*out, index| {
            const got = stats.memmgr_dimension_stats_get(handle, @intCast(index), out, null);
            try expectOk(got, world);
        }
        try expectOk(pool.memmgr_pool_stats_get(handle, &taken.pools, null), world);
        // These may count what was refused, or was undone.
        taken.stats.refusals = 0;
        taken.stats.peak = 0;
        taken.pools.refusals = 0;
        taken.pools.peak = 0;
        const core = Managers.find(@intFromPtr(handle)).?;
        taken.map = try mapText(&.{ core.range.?, core.pool.spans.arena });
        return taken;
    }

    fn expectUnchanged(before: *const Snapshot, world: *const World, but: Changes) !void {
        var after: Snapshot = try .take(world);
        if (but.saved) {
            try testing.expect(!std.meta.eql(before.outside.target, after.outside.target));
            after.outside.files = before.outside.files;
            after.outside.target = before.outside.target;
        }
        if (but.reserved) after.outside.reserved = before.outside.reserved;
        defer after.deinit();
        try testing.expectEqual(before.stats, after.stats);
        try testing.expectEqual(before.dimensions, after.dimensions);
        try testing.expectEqual(before.pools, after.pools);
        try testing.expectEqualStrings(before.map, after.map);
        try testing.expectEqual(before.outside, after.outside);
    }

    fn deinit(snapshot: Snapshot) void {
        testing.allocator.free(snapshot.map);
    }
};

/// What there is besides the manager.
const Outside = struct {
    /// Bytes of addresses that nothing stands behind.
    reserved: u64,
    descriptors: u32,
    files: usize,
    /// Of the file that saves are to replace.
    target: os.Identity,

    fn take(files: *const Files) !Outside {
        var code: i64 = 0;
        return .{
            .reserved = try countReserved(),
            .descriptors = countDescriptors(),
            .files = try files.folder.countSiblings(),
            .target = try os.identifyPath(files.target, .itself, &code),
        };
    }
};

/// Entries of the process's map that overlap these ranges; nothing where there is no such list.
fn mapText(ranges: []const []const u8) ![]u8 {
    var text: std.ArrayList(u8) = .empty;
    errdefer text.deinit(testing.allocator);
    const map = try readMap();
    defer testing.allocator.free(map);
    var lines = std.mem.splitScalar(u8, map, '\n');
    while (lines.next()) |line| {
        const entry = Entry.of(line) orelse continue;
        for (ranges) |range| {
            const start = @intFromPtr(range.ptr);
            if (entry.start >= start + range.len or entry.end <= start) continue;
            try text.appendSlice(testing.allocator, line);
            try text.append(testing.allocator, '\n');
        }
    }
    return text.toOwnedSlice(testing.allocator);
}

fn countReserved() !u64 {
    var sum: u64 = 0;
    const map = try readMap();
    defer testing.allocator.free(map);
    var lines = std.mem.splitScalar(u8, map, '\n');
    while (lines.next()) |line| {
        const entry = Entry.of(line) orelse continue;
        if (std.mem.startsWith(u8, entry.access, "---")) sum += entry.end - entry.start;
    }
    return sum;
}

fn readMap() ![]u8 {
    if (builtin.os.tag != .linux) return &.{};
    var code: i64 = 0;
    const file = try os.open("/proc/self/maps", .read, &code);
    defer os.close(file);
    const buffer = try testing.allocator.alloc(u8, 1 << 20);
    errdefer testing.allocator.free(buffer);
    const size = try os.readAt(file, buffer, 0, &code);
    try testing.expect(size > 0 and size < buffer.len);
    return testing.allocator.realloc(buffer, size);
}

const Entry = struct {
    start: usize,
    end: usize,
    access: []const u8,

    fn of(line: []const u8) ?Entry {
        const addresses, const rest = std.mem.cutScalar(u8, line, ' ') orelse return null;
        const start, const end = std.mem.cutScalar(u8, addresses, '-') orelse return null;
        return .{
            .start = std.fmt.parseInt(usize, start, 16) catch return null,
            .end = std.fmt.parseInt(usize, end, 16) catch return null,
            .access = rest,
        };
    }
};

fn countDescriptors() u32 {
    var count: u32 = 0;
    if (builtin.os.tag == .windows) return count;
    for (0..256) |descriptor| {
        count += @intFromBool(std.c.fcntl(@intCast(descriptor), std.c.F.GETFD) != -1);
    }
    return count;
}

const Code = struct { value: i64, means: types.Status };

/// What the system may well refuse a call with, and what the library makes of it.
fn codesOf(call: os.Call) []const Code {
    const windows = builtin.os.tag == .windows;
    const no_memory: i64 = if (windows) 8 else 12; // ERROR_NOT_ENOUGH_MEMORY, ENOMEM
    const no_device: i64 = if (windows) 1117 else 5; // ERROR_IO_DEVICE, EIO
    const denied: i64 = if (windows) 5 else 13; // ERROR_ACCESS_DENIED, EACCES
    const no_room: i64 = if (windows) 112 else 28; // ERROR_DISK_FULL, ENOSPC
    const no_descriptor: i64 = if (windows) 4 else 24; // ERROR_TOO_MANY_OPEN_FILES, EMFILE
    const no_lock: i64 = if (windows) 1455 else 11; // ERROR_COMMITMENT_LIMIT, EAGAIN
    const out_of_memory: Code = .{ .value = no_memory, .means = .allocation };
    return switch (call) {
        .heap => &.{out_of_memory},
        .reserve,
        .carve,
        .commit,
        .unmap,
        .reserve_arena,
        .take,
        .renew,
        .give,
        .permanent,
        .lock,
        .memory_use,
        .cached,
        .catch_faults,
        .zero,
        .barrier,
        => &.{
            out_of_memory,
            .{ .value = no_lock, .means = .allocation },
            .{ .value = denied, .means = .allocation },
        },
        .open, .create => &.{
            out_of_memory,
            .{ .value = denied, .means = .file_access },
            .{ .value = no_descriptor, .means = .file_access },
        },
        .map, .populate, .identify, .identify_path, .read => &.{
            out_of_memory,
            .{ .value = denied, .means = .file_access },
            .{ .value = no_device, .means = .file_access },
        },
        // Room and memory were had when it was loaded.
        .flush => &.{
            .{ .value = no_memory, .means = .file_access },
            .{ .value = no_room, .means = .file_access },
            .{ .value = no_device, .means = .file_access },
        },
        .fill, .allocate, .write, .sync_file, .rename, .sync_folder => &.{
            out_of_memory,
            .{ .value = no_room, .means = .disk_full },
            .{ .value = no_device, .means = .file_access },
        },
    };
}

test "R7.1, R7.2, R9.3 each system call of each public function fails, and nothing has changed" {
    // One thread, and thousands of looks at the process's map, which takes minutes there.
    if (builtin.sanitize_thread) return error.SkipZigTest;
    os.simulated.clear();
    defer os.simulated.clear();
    const files: Files = try .init();
    defer files.deinit();
    const emulated = @import("../os/contract.zig").emulated();
    // An emulator takes a minute for what takes a second.
    const edge: u64 = if (emulated) 1 else 6;
    var seen: std.EnumSet(os.Call) = .empty;
    for (&cases) |*case| {
        errdefer std.debug.print("{s}\n", .{case.name});
        defer run.leave();
        // What is made once in a process.
        _ = try countCalls(case, &files);
        const counts = try countCalls(case, &files);
        for (std.enums.values(os.Call)) |call| {
            const count = counts.get(call);
            if (count == 0) continue;
            errdefer std.debug.print("{t}, made {d} times\n", .{ call, count });
            try testing.expect(!case.quiet);
            seen.insert(call);
            if (keepsForGood(case, call)) continue;
            // Of many that are alike, those at the edges.
            for (0..count) |index| {
                if (index >= edge and index + 1 < count) continue;
                const codes = codesOf(call);
                // Just this one, and from this one on.
                try expectRefusal(case, &files, call, index, 1, codes[0]);
                if (emulated) continue;
                for (codes) |code| {
                    try expectRefusal(case, &files, call, index, std.math.maxInt(u64), code);
                }
            }
        }
    }
    // Nothing but a fault has zeros put in its place; `core/Guard.zig` refuses it that.
    var expected: std.EnumSet(os.Call) = .full;
    expected.remove(.zero);
    if (!os.capabilities().fault_guard) expected.remove(.catch_faults);
    if (!os.capabilities().process_barrier) expected.remove(.barrier);
    try testing.expectEqual(expected, seen);
}

fn countCalls(case: *const Case, files: *const Files) !std.EnumArray(os.Call, u64) {
    var counts: std.EnumArray(os.Call, u64) = .initFill(0);
    if (case.occupy) try run.occupy();
    var world: World = undefined;
    try world.init(files);
    if (case.before) |before| try expectOk(before(&world), &world);
    for (std.enums.values(os.Call)) |call| os.simulated.failNext(call, 1, .{ .times = 0 });
    const result = case.run(&world);
    for (std.enums.values(os.Call)) |call| counts.set(call, os.simulated.calls(call));
    os.simulated.clear();
    try expectOk(result, &world);
    try world.deinit();
    return counts;
}

fn expectRefusal(
    case: *const Case,
    files: *const Files,
    call: os.Call,
    index: u64,
    times: u64,
    code: Code,
) !void {
    errdefer std.debug.print("call {d}, code {d}\n", .{ index, code.value });
    var world: World = undefined;
    if (case.occupy) try run.occupy();
    const outside: Outside = try .take(files);
    try world.init(files);
    if (case.before) |before| try expectOk(before(&world), &world);
    const before: Snapshot = try .take(&world);
    defer before.deinit();
    const unchanged = world;
    os.simulated.failNext(call, code.value, .{ .after = index, .times = times });
    const result = case.run(&world);
    const failures = os.simulated.failures(call);
    os.simulated.clear();
    try testing.expect(failures > 0);
    if (result == ok) {
        try testing.expect(isHarmless(case, call, index, times));
    } else {
        try expectError(&world.err, result, call, code);
        try before.expectUnchanged(&world, changesOf(case, call, index));
        world.err = unchanged.err;
        try testing.expectEqual(unchanged, world);
        try expectOk(case.run(&world), &world);
    }
    try world.deinit();
    var after: Outside = try .take(files);
    after.target = outside.target;
    try testing.expectEqual(outside, after);
}

fn expectError(err: *const types.Error, result: i32, call: os.Call, code: Code) !void {
    errdefer std.debug.print("{s}\n", .{std.mem.sliceTo(&err.message, 0)});
    try testing.expectEqual(result, err.status);
    // Where it is not about a file, memory or addresses are what is wanted.
    const about_file = err.file_name[0] != 0;
    const means: types.Status = if (about_file) code.means else .allocation;
    try testing.expectEqual(@backingInt(means), result);
    try testing.expect(err.operation != @backingInt(types.Operation.none));
    if (call == .heap) return testing.expectEqual(0, err.system_code);
    try testing.expectEqual(code.value, err.system_code);
    var buffer: [40]u8 = undefined;
    const text = try std.fmt.bufPrint(&buffer, "(system error {d})", .{code.value});
    try testing.expect(std.mem.find(u8, &err.message, text) != null);
}

/// The function succeeds without this call.
fn isHarmless(case: *const Case, call: os.Call, index: u64, times: u64) bool {
    return switch (call) {
        // A later call does it, or it goes with the manager.
        .unmap, .give, .renew => true,
        // The pools give back what is free, and ask once more.
        .take => times == 1,
        // The thread does without blocks at hand.
        .permanent => case.run == run.blockAllocFirst,
        // The time of a file that is loaded, or flushed, already: `verify` may say "rewritten".
        .identify => case.run == run.loadReadWrite and index == 1,
        .identify_path => case.run == run.flush or
            // The look at what the manifest's name leads to, once the file has its own.
            (case.run == run.saveArrayWithManifest and index == 7),
        // It is not known then, and counts as missing.
        .memory_use, .cached => true,
        // What was replaced or unloaded goes with the next operation.
        .barrier => index > 0,
        else => false,
    };
}

/// A manager that closes without the barrier keeps what nobody can prove to be free, for good:
/// `tests/c/sandbox.c` looks at that.
fn keepsForGood(case: *const Case, call: os.Call) bool {
    return call == .barrier and (case.run == run.close or case.run == run.closeUnused);
}

/// What a function changes although it fails.
const Changes = struct { saved: bool, reserved: bool };

fn changesOf(case: *const Case, call: os.Call, index: u64) Changes {
    return .{
        // The new file has its name already, as the header says of a save.
        .saved = switch (call) {
            .sync_folder => true,
            .rename => index == 1,
            else => false,
        },
        // The pools have their addresses from the first try on, and nothing in them.
        .reserved = case.run == run.blockAllocFirst and call == .take and index > 0,
    };
}

test "R7.2 threads that get no memory for counters of their own read with those of all" {
    const Readers = struct {
        const count = 70; // of which some are beyond the rows that a manager begins with
        var world: World = undefined;
        var inside: std.atomic.Value(u32) = .init(0);
        var refused: std.atomic.Value(u32) = .init(0);

        fn read() void {
            var got: types.View = .{};
            const handle = world.opened;
            const acquired = view.memmgr_view_acquire(handle, 0, 0, 64, &got, null);
            _ = inside.fetchAdd(1, .seq_cst);
            os.futexWakeAll(&inside);
            while (true) {
                const seen = inside.load(.seq_cst);
                if (seen == count) break;
                os.futexWait(&inside, seen, null);
            }
            const released = view.memmgr_view_release(handle, &got, null);
            if (acquired != ok or released != ok) _ = refused.fetchAdd(1, .seq_cst);
        }
    };
    os.simulated.clear();
    defer os.simulated.clear();
    const files: Files = try .init();
    defer files.deinit();
    defer run.leave();
    const world = &Readers.world;
    try run.occupy();
    try world.init(&files);
    try expectOk(run.openNew(world), world);
    const loaded = dimension.memmgr_dimension_load(world.opened, 0, files.layers, null, &world.err);
    try expectOk(loaded, world);
    os.simulated.failNext(.permanent, 12, .{ .times = std.math.maxInt(u64) });
    var threads: [Readers.count]std.Thread = undefined;
    for (&threads) |*thread| thread.* = try std.Thread.spawn(.{}, Readers.read, .{});
    for (threads) |thread| thread.join();
    try testing.expect(os.simulated.failures(.permanent) > 0);
    os.simulated.clear();
    try testing.expectEqual(0, Readers.refused.load(.seq_cst));
    // Nobody is inside, or closing it would be refused.
    try world.deinit();
}
