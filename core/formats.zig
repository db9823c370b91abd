//! From a file's first bytes to its layer table: raw bytes, NumPy's .npy, safetensors, and JSON
//! manifests for raw files.
//!
//! Headers are read into private memory and parsed there, so that nobody can change them
//! meanwhile, and a truncated file is an error and not a fault. Whatever the bytes are, nothing is
//! read beyond the file, and memory is bounded by the header: its own size, at most
//! `header_size_max`, and for the table at most three times as much again.

const std = @import("std");
pub const Checksum = @import("formats/Checksum.zig");
const Detail = @import("base.zig").Detail;
pub const dtype = @import("formats/dtype.zig");
pub const Layers = @import("formats/Layers.zig");
pub const npy = @import("formats/npy.zig");
pub const npy_writer = @import("formats/npy_writer.zig");
pub const safetensors = @import("formats/safetensors.zig");
pub const safetensors_writer = @import("formats/safetensors_writer.zig");

const Allocator = std.mem.Allocator;

/// Mirrors MEMMGR_FORMAT_… of the header.
pub const Format = enum(u32) { auto = 0, raw = 1, npy = 2, safetensors = 3 };

/// Of a file that is to be written, by how its name ends.
pub fn ofName(path: []const u8) Format {
    if (std.ascii.endsWithIgnoreCase(path, ".npy")) return .npy;
    if (std.ascii.endsWithIgnoreCase(path, ".safetensors")) return .safetensors;
    return .raw;
}

/// Bytes to parse, read with pread into private memory, never in the mapping.
pub const Source = struct {
    context: *anyopaque,
    size: u64,
    /// Fills the buffer whole or fails; never called beyond `size`.
    read_fn: *const fn (
        context: *anyopaque,
        buffer: []u8,
        offset: u64,
        detail: *Detail,
    ) Detail.Error!void,

    pub fn read(
        source: Source,
        buffer: []u8,
        offset: u64,
        detail: *Detail,
    ) Detail.Error!void {
        if (offset > source.size or buffer.len > source.size - offset) {
            detail.offset = source.size;
            return detail.fail(error.BadFormat, "file ends inside its header");
        }
        return source.read_fn(source.context, buffer, offset, detail);
    }

    /// Reads a header of `size` bytes into memory that the caller frees.
    pub fn readAlloc(
        source: Source,
        gpa: Allocator,
        size: u64,
        offset: u64,
        detail: *Detail,
    ) Detail.Error![]u8 {
        if (size > header_size_max) {
            return detail.fail(error.BadFormat, "header is longer than 100,000,000 bytes");
        }
        if (offset > source.size or size > source.size - offset) {
            return detail.fail(error.BadFormat, "header is longer than the file");
        }
        const buffer = gpa.alloc(u8, @intCast(size)) catch
            return detail.refused(size, "no memory for the file's header");
        errdefer gpa.free(buffer);
        try source.read(buffer, offset, detail);
        return buffer;
    }
};

/// The limit that safetensors has, also for manifests.
pub const header_size_max = 100_000_000;

pub const Table = struct {
    /// Never `auto`.
    format: Format,
    layers: Layers,
};

/// The layer table of a file. What `wanted` says is believed: a file that is something else is
/// `BadFormat`. The caller deinits the layers.
pub fn read(
    gpa: Allocator,
    source: Source,
    wanted: Format,
    detail: *Detail,
) Detail.Error!Table {
    const format = if (wanted == .auto) try detect(source, detail) else wanted;
    return .{
        .format = format,
        .layers = switch (format) {
            .auto => unreachable, // `detect` never says so.
            .raw => .empty,
            .npy => try npy.read(gpa, source, detail),
            .safetensors => try safetensors.read(gpa, source, detail),
        },
    };
}

/// The layers that a manifest describes for a raw file of `data_size` bytes: the JSON object of
/// safetensors, with offsets from the start of the raw file. Holes are allowed.
pub fn readManifest(
    gpa: Allocator,
    manifest: Source,
    data_size: u64,
    detail: *Detail,
) Detail.Error!Layers {
    return safetensors.readManifest(gpa, manifest, data_size, detail);
}

/// A source over memory that outlives it.
pub fn fromBytes(bytes: []const u8) Source {
    return .{ .context = @constCast(bytes.ptr), .size = bytes.len, .read_fn = copyBytes };
}

fn copyBytes(
    context: *anyopaque,
    buffer: []u8,
    offset: u64,
    detail: *Detail,
) Detail.Error!void {
    _ = detail;
    const bytes: [*]const u8 = @ptrCast(context);
    @memcpy(buffer, bytes[@intCast(offset)..][0..buffer.len]);
}

/// By content only. A length below 4 GiB before a brace is safetensors even if the file is too
/// short for it: a damaged file is an error, not a raw one.
fn detect(source: Source, detail: *Detail) Detail.Error!Format {
    var buffer: [10]u8 = @splat(0);
    const start = buffer[0..@min(source.size, buffer.len)];
    try source.read(start, 0, detail);
    if (std.mem.startsWith(u8, start, npy.magic)) return .npy;
    const header_size = std.mem.readInt(u64, buffer[0..8], .little);
    // The first key, no key, or white space: a table of integers whose second one begins with the
    // byte of a brace is not taken for a damaged file.
    const opens_object = start.len == 10 and start[8] == '{' and
        std.mem.findScalar(u8, "\"} \t\r\n", start[9]) != null;
    return if (opens_object and header_size < 1 << 32) .safetensors else .raw;
}

const testing = std.testing;

test {
    _ = Checksum;
    _ = dtype;
    _ = Layers;
    _ = npy;
    _ = npy_writer;
    _ = safetensors;
    _ = safetensors_writer;
}

const npy_file = npy.magic ++ "\x01\x00\x3b\x00" ++
    "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1), }" ++ "datadata";
const safetensors_header =
    \\{"a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},
++
    \\"\u00e9":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}}
;
const safetensors_file = "\x71\x00\x00\x00\x00\x00\x00\x00" ++ safetensors_header ++ "datadata";

const noted_header = "{\"__metadata__\":{\"k\\\\\":\"v\",\"xxh64:\\u00e9\":" ++
    "\"0123456789abcdef\"}," ++ safetensors_header[1..];

fn expectFormat(bytes: []const u8, wanted: Format, expected: Format) !void {
    var detail: Detail = .{};
    var table = try read(testing.allocator, fromBytes(bytes), wanted, &detail);
    defer table.layers.deinit(testing.allocator);
    try testing.expectEqual(expected, table.format);
    try testing.expectEqual(expected == .raw, table.layers.items.len == 0);
}

test "the format is told by the content" {
    try expectFormat(npy_file, .auto, .npy);
    try expectFormat(npy_file, .npy, .npy);
    try expectFormat(safetensors_file, .auto, .safetensors);
    try expectFormat(safetensors_file, .safetensors, .safetensors);
    // Cut off before the brace, without one, and with a length that no header has.
    for (0..9) |size| try expectFormat(safetensors_file[0..size], .auto, .raw);
    for (0..6) |size| try expectFormat(npy_file[0..size], .auto, .raw);
    try expectFormat("\x02\x00\x00\x00\x00\x00\x00\x00[]", .auto, .raw);
    try expectFormat("\x02\x00\x00\x00\x01\x00\x00\x00{}", .auto, .raw);
}

test "a file of a format that is damaged is an error and not raw" {
    const damaged = [_][]const u8{
        npy_file[0..6],
        npy_file[0..20],
        safetensors_file[0..10],
        "\xff\xff\xff\xff\x00\x00\x00\x00{}",
        "\x03\x00\x00\x00\x00\x00\x00\x00{}",
    };
    for (damaged) |bytes| {
        var detail: Detail = .{};
        const result = read(testing.allocator, fromBytes(bytes), .auto, &detail);
        try testing.expectError(error.BadFormat, result);
    }
}

test "a format that the caller names is believed" {
    try expectFormat(npy_file, .raw, .raw);
    try expectFormat(safetensors_file, .raw, .raw);
    for ([_]Format{ .npy, .safetensors }) |wanted| {
        const other = if (wanted == .npy) safetensors_file else npy_file;
        for ([_][]const u8{ other, "neither of the two", "" }) |bytes| {
            var detail: Detail = .{};
            const result = read(testing.allocator, fromBytes(bytes), wanted, &detail);
            try testing.expectError(error.BadFormat, result);
        }
    }
}

test "a read that fails fails the table with its own error" {
    const broken: Source = .{ .context = undefined, .size = 100, .read_fn = refuseRead };
    for (std.enums.values(Format)) |wanted| {
        if (wanted == .raw) continue;
        var detail: Detail = .{};
        const result = read(testing.allocator, broken, wanted, &detail);
        try testing.expectError(error.FileAccess, result);
    }
    var detail: Detail = .{};
    const result = readManifest(testing.allocator, broken, 100, &detail);
    try testing.expectError(error.FileAccess, result);
}

fn refuseRead(_: *anyopaque, _: []u8, _: u64, detail: *Detail) Detail.Error!void {
    return detail.fail(error.FileAccess, "the device does not answer");
}

/// Reads bytes in one of the three ways and checks whatever comes of it: memory in proportion,
/// none of it lost, and a table that is true or an error that says why.
fn expectSound(way: Way, bytes: []const u8, data_size: u64) !void {
    const S = struct {
        var memory: [1 << 16]u8 = undefined;
    };
    var fixed: std.heap.FixedBufferAllocator = .init(&S.memory);
    var counting: testing.FailingAllocator = .init(fixed.allocator(), .{});
    const gpa = counting.allocator();
    var detail: Detail = .{};
    const result: Detail.Error!Layers = switch (way) {
        .manifest => readManifest(gpa, fromBytes(bytes), data_size, &detail),
        .npy => npy.read(gpa, fromBytes(bytes), &detail),
        .safetensors => safetensors.read(gpa, fromBytes(bytes), &detail),
    };
    try testing.expect(counting.allocated_bytes <= 4 * bytes.len);
    if (result) |table| {
        var layers = table;
        try expectTrue(&layers, if (way == .manifest) data_size else bytes.len);
        layers.deinit(gpa);
    } else |err| {
        try testing.expectEqual(error.BadFormat, err);
        try testing.expect(detail.reason.len != 0);
        try testing.expect(std.unicode.utf8ValidateSlice(detail.layer_name));
    }
    try testing.expectEqual(counting.allocated_bytes, counting.freed_bytes);
}

const Way = enum { npy, safetensors, manifest };

fn expectTrue(layers: *const Layers, size: u64) !void {
    // Whatever else the header says, it is walked through to its end.
    var checksums: [512]?u64 = undefined;
    var detail: Detail = .{};
    const count = layers.items.len;
    if (count <= checksums.len) {
        Checksum.fromNotes(layers, layers.notes, checksums[0..count], &detail) catch |err|
            try testing.expectEqual(error.BadFormat, err);
    }
    var end: u64 = 0;
    for (layers.items, 0..) |layer, at| {
        try testing.expectEqual(@as(u32, @intCast(at)), layers.find(layer.name));
        try testing.expect(layer.offset >= end and layer.length <= size - layer.offset);
        end = layer.offset + layer.length;
        try testing.expect(layer.name.len >= 1 and layer.name.len <= Layers.name_size_max);
        try testing.expect(layer.shape.len <= Layers.rank_max);
        const unit: u64 = if (layer.dtype == .@"opaque") 8 else dtype.bits(layer.dtype);
        try testing.expectEqual(layer.length * 8, Layers.product(unit, layer.shape));
    }
    try testing.expectEqual(null, layers.find(""));
}

test "every change of one byte, and every cut, gives a true table or an error" {
    var buffer: [512]u8 = undefined;
    for (std.enums.values(Way)) |way| {
        const good = switch (way) {
            .npy => npy_file,
            .safetensors => safetensors_file,
            .manifest => noted_header,
        };
        const bytes = buffer[0..good.len];
        for (0..good.len) |at| {
            try expectSound(way, good[0..at], 8);
            @memcpy(bytes, good);
            for ("\x00\x01\x7f\x80\xff \n\"'\\{}[]():,-.0159eu_") |byte| {
                bytes[at] = byte;
                try expectSound(way, bytes, 8);
            }
        }
    }
}

/// What the fuzzer puts together, beside bytes of its own.
const python_pieces = [_][]const u8{
    "{",              "}",     "'descr'", "'fortran_order'",
    "'shape'",        ":",     ",",       "(",
    ")",              "[",     "]",       "'<f4'",
    "'|V2'",          "'<U9'", "'|O'",    "'<M8[ns]'",
    "False",          "True",  "0",       "3",
    "8",              "'",     " ",       "18446744073709551615",
    "'descr':'<f4',", "(2,)",  "[(",      "'fortran_order':False,",
    "'shape':(2,),",  "('a',", "'<f4'),", "('a','<f4'),",
};
const json_pieces = [_][]const u8{
    "{",
    "}",
    ":",
    ",",
    "[",
    "]",
    "\"",
    " ",
    "0",
    "1",
    "4",
    "8",
    "18446744073709551615",
    "\\n",
    "\\u00e9",
    "\"a\":{",
    "\"b\":{",
    "\"dtype\":",
    "\"shape\":",
    "\"data_offsets\":",
    "\"__metadata__\":{",
    "\"xxh64:a\":\"0123456789abcdef\"",
    "\"F32\"",
    "\"F4\"",
    "\"dtype\":\"U8\",",
    "\"shape\":[4],",
    "\"data_offsets\":[0,4]}",
    "\"data_offsets\":[4,8]}",
};

fn fuzzText(smith: *testing.Smith, pieces: []const []const u8, buffer: []u8) []u8 {
    if (smith.value(bool)) return buffer[0..smith.slice(buffer)];
    var length: usize = 0;
    while (!smith.eosWeightedSimple(31, 1)) {
        const byte = [1]u8{smith.value(u8)};
        const piece = if (smith.boolWeighted(1, 15)) pieces[smith.index(pieces.len)] else &byte;
        if (piece.len > buffer.len - length) break;
        @memcpy(buffer[length..][0..piece.len], piece);
        length += piece.len;
    }
    return buffer[0..length];
}

/// The input that makes `fuzzText` return `text`: the choice, the length, the text.
fn seed(comptime text: []const u8) []const u8 {
    comptime var start: [12]u8 = @splat(0);
    start[0] = 1;
    comptime std.mem.writeInt(u32, start[8..12], text.len, .little);
    const final = start;
    return &final ++ text;
}

test "fuzz: npy" {
    try testing.fuzz({}, fuzzNpy, .{ .corpus = &.{seed(npy_file[10 .. npy_file.len - 8])} });
}

fn fuzzNpy(_: void, smith: *testing.Smith) anyerror!void {
    var buffer: [600]u8 = @splat(0);
    buffer[0..8].* = (npy.magic ++ "\x01\x00").*;
    const text = fuzzText(smith, &python_pieces, buffer[10..512]);
    std.mem.writeInt(u16, buffer[8..10], @intCast(text.len), .little);
    try expectSound(.npy, buffer[0 .. 10 + text.len + smith.index(64)], 0);
}

test "fuzz: safetensors" {
    try testing.fuzz({}, fuzzSafetensors, .{ .corpus = &.{seed(safetensors_header)} });
}

fn fuzzSafetensors(_: void, smith: *testing.Smith) anyerror!void {
    var buffer: [600]u8 = @splat(0);
    const text = fuzzText(smith, &json_pieces, buffer[8..512]);
    std.mem.writeInt(u64, buffer[0..8], text.len, .little);
    try expectSound(.safetensors, buffer[0 .. 8 + text.len + smith.index(64)], 0);
}

test "fuzz: manifest" {
    try testing.fuzz({}, fuzzManifest, .{ .corpus = &.{seed(safetensors_header)} });
}

fn fuzzManifest(_: void, smith: *testing.Smith) anyerror!void {
    var buffer: [512]u8 = undefined;
    const text = fuzzText(smith, &json_pieces, &buffer);
    try expectSound(.manifest, text, smith.index(64));
}
