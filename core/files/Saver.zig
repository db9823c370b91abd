//! Saves layers as a file of one of the formats: arrays in memory, or a generation that is loaded.
//!
//! The file is laid out first, so that its room can be had before the first byte; then the data is
//! written, and the header last, because it may hold checksums. Checksums are computed from what
//! arrived in the new file, so that no page of a mapping is touched by us: one that is gone is an
//! error and not a fault. A manifest, if one is asked for, is a file of its own that takes its name
//! after the data's.

const std = @import("std");
const os = @import("../os.zig");
const AtomicFile = @import("AtomicFile.zig");
const Checksum = @import("../formats.zig").Checksum;
const Detail = @import("../base.zig").Detail;
const Generation = @import("../dimension.zig").Generation;
const Guard = @import("../Guard.zig");
const Layers = @import("../formats.zig").Layers;
const Progress = @import("../base.zig").Progress;
const dtypes = @import("../formats.zig").dtype;
const formats = @import("../formats.zig");
const npy = @import("../formats.zig").npy;
const npy_writer = @import("../formats.zig").npy_writer;
const safetensors_writer = @import("../formats.zig").safetensors_writer;

const Saver = @This();
const Error = Detail.Error;

/// Layers begin at multiples of it as far as the format has room for gaps.
pub const layer_alignment = 64;

pub const Options = struct {
    /// `auto` goes by the end of the name, or is that of the generation.
    format: formats.Format = .auto,
    /// A JSON file to be written that describes the layers, for formats that cannot.
    manifest: ?[:0]const u8 = null,
    checksums: bool = false,
    progress: Progress = .{},
};

/// An array to be saved. Its offset is found here.
pub const Array = struct { spec: Layers.Spec, bytes: [*]const u8 };

/// Bytes that follow each other in the file.
const Run = struct { bytes: []const u8, offset: u64 };

path: [:0]const u8,
options: Options,
detail: *Detail,
/// Never `auto`.
format: formats.Format,
layers: *const Layers,
/// What the layers' offsets, and the runs', count from; and where the data ends.
origin: u64,
end: u64,
runs: []const Run,
/// Of a file that has one that is to be taken over as it is.
header_taken: bool = false,
/// Knows if zeros came to stand in place of what is saved.
guard: ?*const Guard = null,
generation: u64 = 0,

/// Saves arrays, whose specs this completes.
pub fn saveArrays(
    path: [:0]const u8,
    arrays: []Array,
    options: Options,
    detail: *Detail,
) Error!void {
    const format = if (options.format == .auto) formats.ofName(path) else options.format;
    detail.file_name = path;
    const specs = os.heap.alloc(Layers.Spec, arrays.len) catch return noMemory(detail);
    defer os.heap.free(specs);
    const runs = os.heap.alloc(Run, arrays.len) catch return noMemory(detail);
    defer os.heap.free(runs);
    const end = try layOut(format, arrays, detail);
    for (arrays, specs, runs) |array, *spec, *run| {
        spec.* = array.spec;
        run.* = .{ .bytes = array.bytes[0..array.spec.length], .offset = array.spec.offset };
    }
    var layers = try Layers.fromSpecs(os.heap, specs, end, detail);
    defer layers.deinit(os.heap);
    const saver: Saver = .{
        .path = path,
        .options = options,
        .detail = detail,
        .format = format,
        .layers = &layers,
        .origin = 0,
        .end = end,
        .runs = runs,
    };
    return saver.save();
}

/// Saves what a generation shows, which the caller keeps from going and from being written to.
pub fn saveGeneration(
    path: [:0]const u8,
    generation: *const Generation,
    guard: *const Guard,
    options: Options,
    detail: *Detail,
) Error!void {
    detail.file_name = path;
    const format = generation.format;
    if (options.format != .auto and options.format != format) {
        return detail.fail(error.InvalidArgument, "a loaded file is saved in its own format");
    }
    const layers = &generation.layers;
    // Its header is written anew, for checksums of other bytes are not to stay in it.
    const origin = if (format != .safetensors)
        0
    else if (layers.items.len > 0)
        layers.items[0].offset
    else
        generation.size;
    const bytes = generation.placement.slot.base[0..generation.size];
    const saver: Saver = .{
        .path = path,
        .options = options,
        .detail = detail,
        .format = format,
        .layers = layers,
        .origin = origin,
        .end = generation.size,
        .runs = &.{.{ .bytes = bytes[origin..], .offset = origin }},
        .header_taken = format == .npy,
        .guard = guard,
        .generation = generation.number,
    };
    return saver.save();
}

// Layout ----------------------------------------------------------------------------------------

/// Completes the specs' lengths and offsets; returns where the data ends.
fn layOut(format: formats.Format, arrays: []Array, detail: *Detail) Error!u64 {
    for (arrays) |*array| {
        array.spec.offset = 0;
        if (array.spec.settle(std.math.maxInt(u64))) |reason| {
            detail.setLayerName(array.spec.name);
            return detail.fail(error.InvalidArgument, reason);
        }
    }
    var end: u64 = 0;
    if (format != .safetensors) {
        for (arrays) |*array| try append(array, format == .raw, &end, detail);
        return end;
    }
    // Safetensors has no room between layers. What keeps the alignment of the next one comes
    // first, then what needs the most; so every table whose size is a multiple begins at one.
    for (arrays) |*array| if (keepsAlignment(array)) try append(array, false, &end, detail);
    for (sizes_bits) |bits| {
        for (arrays) |*array| {
            if (keepsAlignment(array) or dtypes.bits(array.spec.dtype) != bits) continue;
            try append(array, false, &end, detail);
        }
    }
    return end;
}

/// Of elements, the largest first.
const sizes_bits = [_]u32{ 128, 64, 32, 16, 8, 6, 4, 0 };

fn keepsAlignment(array: *const Array) bool {
    return array.spec.length % layer_alignment == 0;
}

fn append(array: *Array, gaps: bool, end: *u64, detail: *Detail) Error!void {
    // A layer of no bytes makes no gap.
    const aligned = gaps and array.spec.length > 0;
    array.spec.offset = if (aligned) std.mem.alignForward(u64, end.*, layer_alignment) else end.*;
    end.* = std.math.add(u64, array.spec.offset, array.spec.length) catch {
        detail.setLayerName(array.spec.name);
        return detail.fail(error.InvalidArgument, "the layers are more than a file can hold");
    };
}

/// How the names of the file and its manifest stand to each other.
fn check(saver: *const Saver) Error!AtomicFile.Relation {
    const detail = saver.detail;
    const options = saver.options;
    switch (saver.format) {
        .auto => unreachable,
        .safetensors => {
            if (options.manifest != null) {
                return detail.fail(error.InvalidArgument, "a manifest is for files whose own " ++
                    "header does not describe their layers");
            }
            try saver.checkDescribed();
        },
        .npy => if (!saver.header_taken) {
            const items = saver.layers.items;
            if (items.len != 1 or !std.mem.eql(u8, items[0].name, npy.layer_name)) {
                return detail.fail(error.InvalidArgument, "an .npy file has one layer, which is " ++
                    "called 'data'");
            }
        },
        .raw => {
            if (saver.end == 0) return detail.fail(error.InvalidArgument, "the file would be empty");
        },
    }
    if (options.manifest) |manifest| {
        if (saver.format == .raw) try saver.checkDescribed();
        const relation = try AtomicFile.relate(saver.path, manifest, detail);
        detail.file_name = saver.path;
        if (relation == .same) {
            return detail.fail(error.InvalidArgument, "the manifest has the name of the file");
        }
        return relation;
    } else if (options.checksums and saver.format != .safetensors) {
        return detail.fail(error.InvalidArgument, "the format has no room for checksums: name a " ++
            "manifest");
    } else if (saver.format == .raw and saver.runs.len > 1) {
        return detail.fail(error.InvalidArgument, "a raw file does not describe its layers: name " ++
            "a manifest");
    }
    return .apart;
}

/// That JSON can say what the layers are.
fn checkDescribed(saver: *const Saver) Error!void {
    for (saver.layers.items) |layer| {
        const reason = if (layer.dtype == .@"opaque")
            "opaque bytes have no name for their type in safetensors"
        else if (layer.dtype == .c128 and saver.format == .safetensors)
            "safetensors has no name for complex numbers of 128 bits"
        else if (layer.order == .fortran and layer.shape.len > 1)
            "safetensors has no layers whose first axis is the densest"
        else
            continue;
        saver.detail.setLayerName(layer.name);
        return saver.detail.fail(error.InvalidArgument, reason);
    }
}

// Writing ---------------------------------------------------------------------------------------

fn save(saver: *const Saver) Error!void {
    const relation = try saver.check();
    const layers = saver.layers.items;
    const checksums: ?[]u64 = if (saver.options.checksums)
        os.heap.alloc(u64, layers.len) catch return noMemory(saver.detail)
    else
        null;
    defer if (checksums) |list| os.heap.free(list);
    if (checksums) |list| @memset(list, 0);
    // With checksums of 0, which are as long as those it will have.
    const draft = try saver.header(checksums);
    defer os.heap.free(draft);
    const size = draft.len + (saver.end - saver.origin);

    var progress = saver.options.progress;
    var file: AtomicFile = try .create(saver.path, saver.detail);
    defer file.deinit();
    try file.allocate(size, saver.detail);
    try progress.begin(saver.work(draft.len), saver.detail);
    if (draft.len > 0 and size >= Checksum.chunk_size) file.beginWhole();
    for (saver.runs) |run| {
        const offset = draft.len + (run.offset - saver.origin);
        file.write(run.bytes, offset, &progress, saver.detail) catch |err| {
            if (err == error.Faulted) saver.blame(draft.len);
            return err;
        };
    }
    if (checksums) |list| try saver.sum(&file, draft.len, list, &progress);
    const header_final = if (checksums == null) draft else try saver.header(checksums);
    defer if (checksums != null) os.heap.free(header_final);
    std.debug.assert(header_final.len == draft.len);
    try file.write(header_final, 0, &progress, saver.detail);

    var manifest = try saver.writeManifest(draft.len, checksums);
    defer if (manifest) |*other| other.deinit();
    if (manifest) |*other| try other.finish(saver.detail);
    try file.finish(saver.detail);
    if (saver.guard) |guard| if (guard.markOf(saver.generation)) |mark| {
        return saver.detail.faulted(mark.offset, mark.code);
    };
    // Both have their names before either folder is waited for: the new file with the old manifest
    // would be read wrongly.
    try file.publish(saver.detail);
    if (manifest) |*other| {
        // Who cannot ask publishes both: the new file must not be read with the old manifest.
        const is_taken = relation == .one_folder and
            (file.isFoundBy(other.path, saver.detail) catch false);
        if (is_taken) {
            return saver.detail.fail(error.InvalidArgument, "the folder takes the manifest's " ++
                "name for that of the file, which is in place without a manifest");
        }
        try other.publish(saver.detail);
    }
    try file.settle(saver.detail);
    if (manifest) |*other| try other.settle(saver.detail);
}

/// Bytes to be written, and to be read back.
fn work(saver: *const Saver, header_size: u64) u64 {
    var total = header_size;
    for (saver.runs) |run| total += run.bytes.len;
    if (saver.options.checksums) {
        for (saver.layers.items) |layer| total += layer.length;
    }
    return total;
}

/// In memory that the caller frees.
fn header(saver: *const Saver, checksums: ?[]const u64) Error![]u8 {
    switch (saver.format) {
        .auto => unreachable,
        .raw => return &.{},
        .npy => {
            if (saver.header_taken) return &.{};
            var buffer: [npy_writer.size_max]u8 = undefined;
            const text = npy_writer.write(saver.layers.items[0], &buffer) orelse
                return saver.detail.fail(error.InvalidArgument, "an .npy file has no name for " ++
                    "elements of this type");
            return os.heap.dupe(u8, text) catch return noMemory(saver.detail);
        },
        .safetensors => return safetensors_writer.header(os.heap, .{
            .layers = saver.layers,
            .origin = saver.origin,
            .notes = saver.layers.notes,
            .checksums = checksums,
        }) catch |err| switch (err) {
            error.OutOfMemory => noMemory(saver.detail),
            error.HeaderTooLarge => saver.detail.fail(error.InvalidArgument, "the header would " ++
                "be longer than 100,000,000 bytes"),
        },
    }
}

fn sum(
    saver: *const Saver,
    file: *AtomicFile,
    header_size: u64,
    checksums: []u64,
    progress: *Progress,
) Error!void {
    const buffer = os.heap.alloc(u8, Checksum.chunk_size) catch return noMemory(saver.detail);
    defer os.heap.free(buffer);
    for (saver.layers.items, checksums) |layer, *checksum| {
        const offset = header_size + (layer.offset - saver.origin);
        checksum.* =
            try Checksum.ofFile(file.file, offset, layer.length, buffer, progress, saver.detail);
    }
}

fn writeManifest(
    saver: *const Saver,
    header_size: u64,
    checksums: ?[]const u64,
) Error!?AtomicFile {
    const path = saver.options.manifest orelse return null;
    const text = safetensors_writer.manifest(os.heap, .{
        .layers = saver.layers,
        .described = saver.format == .raw,
        .origin = saver.origin,
        .start = header_size,
        .notes = saver.layers.notes,
        .checksums = checksums,
    }) catch return noMemory(saver.detail);
    defer os.heap.free(text);
    var file: AtomicFile = try .create(path, saver.detail);
    errdefer file.deinit();
    try file.allocate(text.len, saver.detail);
    var silent: Progress = .{};
    try file.write(text, 0, &silent, saver.detail);
    return file;
}

/// Bytes could not be read: where they stand in what is saved, and which layer's they are.
fn blame(saver: *const Saver, header_size: u64) void {
    const at = saver.detail.offset - header_size + saver.origin;
    saver.detail.offset = at;
    for (saver.layers.items, 0..) |layer, index| {
        if (at < layer.offset or at - layer.offset >= layer.length) continue;
        saver.detail.layer = @intCast(index);
        saver.detail.setLayerName(layer.name);
    }
}

fn noMemory(detail: *Detail) Error {
    return detail.refused(0, "cannot allocate memory to save the file");
}

const testing = std.testing;
const Dimension = @import("../dimension.zig").Dimension;
const TempFile = @import("../os.zig").TempFile;

fn arrayOf(name: []const u8, dtype: Layers.Dtype, shape: []const u64, bytes: []const u8) Array {
    return .{
        .spec = .{ .name = name, .dtype = dtype, .shape = shape, .offset = 0, .length = bytes.len },
        .bytes = bytes.ptr,
    };
}

/// A file that is there, and the name of a manifest beside it.
const Place = struct {
    file: TempFile,
    manifest: [:0]u8,

    fn init(name: []const u8) !Place {
        const file: TempFile = try .createNamed(name, "old");
        errdefer file.deinit();
        const parts = .{ file.path, ".json" };
        return .{
            .file = file,
            .manifest = try std.mem.concatWithSentinel(testing.allocator, u8, &parts, 0),
        };
    }

    fn deinit(place: Place) void {
        testing.allocator.free(place.manifest);
        place.file.deinit();
    }
};

test "every type of element has its place in the order" {
    for (std.enums.values(Layers.Dtype)) |dtype| {
        try testing.expect(std.mem.findScalar(u32, &sizes_bits, dtypes.bits(dtype)) != null);
    }
}

test "layers lie as aligned as their format lets them" {
    const place: Place = try .init("a.safetensors");
    defer place.deinit();
    const odd: [3]u8 = @splat(1);
    const table: [128]u8 = @splat(2);
    const doubles: [24]u8 = @splat(3);
    for ([_]formats.Format{ .safetensors, .raw }) |format| {
        var arrays = [_]Array{
            arrayOf("odd", .u8, &.{3}, &odd),
            arrayOf("doubles", .f64, &.{3}, &doubles),
            arrayOf("nothing", .f32, &.{0}, ""),
            arrayOf("table", .u8, &.{128}, &table),
        };
        var detail: Detail = .{};
        const end = try layOut(format, &arrays, &detail);
        for (arrays) |array| {
            const offset = array.spec.offset;
            if (array.spec.dtype == .f64) try testing.expectEqual(0, offset % 8);
            if (array.spec.length == 128 or format == .raw and array.spec.length > 0) {
                try testing.expectEqual(0, offset % layer_alignment);
            }
            try testing.expect(offset + array.spec.length <= end);
        }
        try testing.expectEqual(@as(u64, if (format == .raw) 256 else 155), end);
    }
}
