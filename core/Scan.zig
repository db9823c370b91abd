//! The best rows of a layer by dot product with a query, found in one pass over its bytes.
//!
//! Rows are scored a few at a time into room on the stack, and what is not among the best so far is
//! forgotten: no memory is allocated, and no score of the whole layer is kept. The caller holds the
//! generation, as a view does.

const std = @import("std");
pub const Best = @import("scan/Best.zig");
const Detail = @import("base.zig").Detail;
const Generation = @import("dimension.zig").Generation;
const Guard = @import("Guard.zig");
const Layers = @import("formats.zig").Layers;
const Progress = @import("base.zig").Progress;
const dtypes = @import("formats.zig").dtype;
pub const instructions = @import("scan/instructions.zig");

const Scan = @This();
const Error = Detail.Error;
const streams = instructions.streams;

pub const Instructions = instructions.Instructions;

/// Bytes between two looks at the progress. Its rows are read in streams, each of which is long
/// enough for the processor to read ahead of it.
const chunk_size = 1 << 20;
/// Rows of each stream of which the scores are kept for a moment.
const block_rows = 128;

pub const Options = struct {
    /// Null: the only layer there is.
    layer: ?[]const u8,
    query: []const f32,
    /// Of one length: rows are chosen for as many.
    rows_out: []u64,
    scores_out: []f32,
    instructions: Instructions = .auto,
    progress: Progress = .{},
};

kernel: *const instructions.Kernel,
bytes: []const u8,
row_count: u64,
row_size: usize,
query: []const f32,

/// Fills the room of the options, the best row first, and returns how many there are.
pub fn run(
    generation: *const Generation,
    guard: *const Guard,
    options: Options,
    detail: *Detail,
) Error!usize {
    const scan = try init(generation, options, detail);
    var progress = options.progress;
    var best: Best = .{ .rows = options.rows_out, .scores = options.scores_out };
    try progress.begin(scan.bytes.len, detail);
    if (best.rows.len == 0) return 0;
    const chunk_rows = @max(chunk_size / scan.row_size, 1);
    var row: u64 = 0;
    while (row < scan.row_count) {
        const count: usize = @min(chunk_rows, scan.row_count - row);
        scan.offer(&best, row, count);
        row += count;
        if (guard.markOf(generation.number)) |mark| return detail.faulted(mark.offset, mark.code);
        try progress.advance(count * scan.row_size, detail);
    }
    best.sort();
    return best.count;
}

fn init(generation: *const Generation, options: Options, detail: *Detail) Error!Scan {
    const layer = try find(&generation.layers, options.layer, detail);
    const chosen = instructions.choose(options.instructions) orelse
        return detail.fail(error.InvalidArgument, "this processor has no such instructions");
    if (layer.shape.len != 2 or layer.order != .c) {
        return detail.fail(error.InvalidArgument, "only a layer of two axes, whose rows follow " ++
            "each other, can be scanned");
    }
    const kernel = instructions.kernel(chosen, layer.dtype) orelse
        return detail.fail(error.InvalidArgument, "only elements of type F32, F16, BF16 and I8 " ++
            "can be scanned");
    const row_length = layer.shape[1];
    if (row_length == 0) {
        return detail.fail(error.InvalidArgument, "the rows of the layer have no elements");
    }
    if (options.query.len != row_length) {
        detail.requested = options.query.len;
        detail.limit = row_length;
        return detail.fail(error.InvalidArgument, "the query has not as many elements as a row");
    }
    return .{
        .kernel = kernel,
        .bytes = generation.placement.slot.base[layer.offset..][0..layer.length],
        .row_count = layer.shape[0],
        .row_size = row_length * dtypes.bits(layer.dtype) / 8,
        .query = options.query,
    };
}

fn find(layers: *const Layers, name: ?[]const u8, detail: *Detail) Error!*const Layers.Layer {
    const index = if (name) |text|
        layers.find(text) orelse
            return detail.fail(error.UnknownLayer, "no layer has this name")
    else if (layers.items.len == 1)
        0
    else
        return detail.fail(error.UnknownLayer, "there is not one layer alone: name the one meant");
    const layer = &layers.items[index];
    detail.layer = index;
    detail.setLayerName(layer.name);
    return layer;
}

fn offer(scan: *const Scan, best: *Best, first: u64, count: usize) void {
    const part = count / streams;
    var at: usize = 0;
    while (at < part) : (at += block_rows) {
        scan.offerBlock(best, first + at, part, @min(block_rows, part - at), streams);
    }
    for (streams * part..count) |row| scan.offerBlock(best, first + row, 0, 1, 1);
}

/// Rows of which `distance` others stand between the first one of a stream and that of the next.
fn offerBlock(
    scan: *const Scan,
    best: *Best,
    first: u64,
    distance: usize,
    count: usize,
    used: usize,
) void {
    var scores: [streams * block_rows]f32 = undefined;
    const rows = scan.bytes.ptr + first * scan.row_size;
    scan.kernel(
        rows,
        distance * scan.row_size,
        count,
        scan.query.len,
        scan.query.ptr,
        &scores,
    );
    for (0..used) |stream| {
        best.offer(first + stream * distance, scores[stream * count ..][0..count]);
    }
}

test "Scan: it is asked between its chunks whether it is to end, and ends within one" {
    const interrupt = @import("base.zig").interrupt;
    const Asker = struct {
        var asked: u32 = 0;
        var ends_at: u32 = 0;
        var done: u64 = 0;

        fn ask() bool {
            asked += 1;
            return asked == ends_at;
        }

        fn hear(_: ?*anyopaque, scanned: u64, _: u64) bool {
            done = scanned;
            return true;
        }
    };
    const chunks = 4;
    const row_count = chunks * chunk_size / @sizeOf([4]f32);
    const bytes = try std.testing.allocator.alignedAlloc(u8, .@"64", chunks * chunk_size);
    defer std.testing.allocator.free(bytes);
    @memset(bytes, 0);
    const layers = [_]Layers.Layer{.{
        .name = "rows",
        .dtype = .f32,
        .order = .c,
        .shape = &.{ row_count, 4 },
        .offset = 0,
        .length = bytes.len,
    }};
    const generation: Generation = .{
        .number = 1,
        .layers = .{ .items = &layers, .slots = Layers.empty.slots, .memory = &.{} },
        .placement = .{
            .slot = .{ .base = bytes.ptr, .size = bytes.len, .visible = true },
            .mapped_size = bytes.len,
            .sharing = null,
        },
    };
    const guard = std.mem.zeroes(Guard);
    var rows: [1]u64 = undefined;
    var scores: [1]f32 = undefined;
    const options: Options = .{
        .layer = null,
        .query = &.{ 1, 1, 1, 1 },
        .rows_out = &rows,
        .scores_out = &scores,
        .progress = .{ .function = Asker.hear },
    };
    const interval = interrupt.interval_ns;
    interrupt.interval_ns = 0;
    defer interrupt.interval_ns = interval;
    interrupt.set(Asker.ask);
    defer interrupt.set(null);
    var detail: Detail = .{};
    // Before the first chunk, and after each.
    try std.testing.expectEqual(1, try run(&generation, &guard, options, &detail));
    try std.testing.expectEqual(1 + chunks, Asker.asked);
    Asker.asked = 0;
    Asker.ends_at = 3;
    try std.testing.expectError(error.Cancelled, run(&generation, &guard, options, &detail));
    try std.testing.expectEqual(3, Asker.asked);
    try std.testing.expectEqual(2 * chunk_size, Asker.done);
}

test {
    _ = Best;
    _ = instructions;
    _ = @import("scan/kernels.zig");
}
