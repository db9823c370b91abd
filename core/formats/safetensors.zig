//! The header of safetensors, and manifests, which are the same JSON for a raw file:
//! `{"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, …}`.
//!
//! As strict as the official reader and stricter: a key twice, an unknown key or type, a number
//! that is not a plain integer, data that is not covered exactly are refused. The header is walked
//! twice, to count and to store, so that nothing but the table itself is allocated; nothing is
//! ever nested deeper than the format.

const std = @import("std");
const Detail = @import("../base.zig").Detail;
const dtypes = @import("dtype.zig");
const formats = @import("../formats.zig");
const Layers = @import("Layers.zig");

const Allocator = std.mem.Allocator;
const Scanner = std.json.Scanner;

/// The table of a safetensors file. The caller deinits it.
pub fn read(gpa: Allocator, source: formats.Source, detail: *Detail) Detail.Error!Layers {
    var size_bytes: [8]u8 = undefined;
    try source.read(&size_bytes, 0, detail);
    const size = std.mem.readInt(u64, &size_bytes, .little);
    const header = try source.readAlloc(gpa, size, size_bytes.len, detail);
    defer gpa.free(header);
    const start = size_bytes.len + header.len;
    if (header.len == 0 or header[0] != '{') {
        detail.offset = size_bytes.len;
        return detail.fail(error.BadFormat, "header does not begin with a brace");
    }
    return parse(gpa, .{
        .header = header,
        .header_offset = size_bytes.len,
        .data_offset = start,
        .data_size = source.size - start,
    }, .{
        .refusal = error.BadFormat,
        .covered = .{ .start = start, .end = source.size },
    }, detail);
}

/// The table that a manifest describes for a raw file. The caller deinits it.
pub fn readManifest(
    gpa: Allocator,
    manifest: formats.Source,
    data_size: u64,
    detail: *Detail,
) Detail.Error!Layers {
    const header = try manifest.readAlloc(gpa, manifest.size, 0, detail);
    defer gpa.free(header);
    return parse(gpa, .{
        .header = header,
        .header_offset = 0,
        .data_offset = 0,
        .data_size = data_size,
    }, .{ .refusal = error.BadFormat }, detail);
}

const Input = struct {
    header: []const u8,
    /// Where the header stands in its file, for error positions.
    header_offset: u64,
    /// What the offsets in the header are counted from, and the bytes from there on.
    data_offset: u64,
    data_size: u64,
};

fn parse(
    gpa: Allocator,
    input: Input,
    rules: Layers.Builder.Rules,
    detail: *Detail,
) Detail.Error!Layers {
    var entries: Entries = undefined;
    var count: Layers.Count = .{};
    try entries.init(input, detail);
    while (try entries.next()) |spec| count.add(spec);
    const notes = entries.notes;
    count.note_bytes = notes.len;

    var builder: Layers.Builder = try .init(gpa, count, detail);
    errdefer builder.deinit();
    @memcpy(builder.notes, notes);
    try entries.init(input, detail);
    while (try entries.next()) |spec| builder.add(spec);
    return builder.finish(rules);
}

/// Walks through the layers of a header.
const Entries = struct {
    input: Input,
    detail: *Detail,
    scanner: Scanner,
    /// One bit a level; four levels are the most that is ever open.
    scanner_memory: [512]u8,
    scanner_allocator: std.heap.FixedBufferAllocator,
    /// The object of __metadata__, as it stands in the header, once it was met.
    notes: []const u8,
    /// The layer that is being read, for errors.
    name: []const u8,
    // What of a layer cannot be pointed at in the header itself.
    name_buffer: [Layers.name_size_max]u8,
    shape_buffer: [Layers.rank_max]u64,

    /// In place, because the scanner keeps a pointer to its memory.
    fn init(entries: *Entries, input: Input, detail: *Detail) Detail.Error!void {
        entries.input = input;
        entries.detail = detail;
        entries.scanner_allocator = .init(&entries.scanner_memory);
        entries.scanner = .initCompleteInput(
            entries.scanner_allocator.allocator(),
            input.header,
        );
        entries.notes = "";
        entries.name = "";
        try entries.expect(.object_begin, "header is not a JSON object");
    }

    /// The next layer, settled; what it borrows is valid until the next call. Null at the end.
    fn next(entries: *Entries) Detail.Error!?Layers.Spec {
        entries.name = "";
        while (try entries.key(&entries.name_buffer)) |name| {
            if (!std.mem.eql(u8, name, "__metadata__")) {
                entries.name = name;
                return try entries.layer();
            }
            if (entries.notes.len != 0) return entries.fail("__metadata__ is there twice");
            entries.notes = try entries.object();
        }
        try entries.expect(.end_of_document, "something follows the header's object");
        return null;
    }

    fn layer(entries: *Entries) Detail.Error!Layers.Spec {
        var dtype: ?dtypes.Dtype = null;
        var shape: ?[]const u64 = null;
        var range: ?[2]u64 = null;
        try entries.expect(.object_begin, "layer is not a JSON object");
        // Longer than any key and any type.
        var buffer: [16]u8 = undefined;
        while (try entries.key(&buffer)) |key_name| {
            const field = std.meta.stringToEnum(
                enum { dtype, shape, data_offsets },
                key_name,
            ) orelse return entries.fail("layer has a key other than dtype, shape, data_offsets");
            switch (field) {
                .dtype => {
                    if (dtype != null) return entries.fail("layer has dtype twice");
                    const text = try entries.string(try entries.token(), &buffer);
                    dtype = dtypes.fromName(text) orelse
                        return entries.fail("layer has an unknown dtype");
                },
                .shape => {
                    if (shape != null) return entries.fail("layer has shape twice");
                    shape = try entries.integers(
                        &entries.shape_buffer,
                        "layer has more than 32 axes",
                    );
                },
                .data_offsets => {
                    if (range != null) return entries.fail("layer has data_offsets twice");
                    range = @as([2]u64, undefined);
                    const want_two = "data_offsets are not two numbers";
                    const got = try entries.integers(&range.?, want_two);
                    if (got.len != 2) return entries.fail(want_two);
                },
            }
        }
        const begin, const end = range orelse return entries.fail("layer has no data_offsets");
        if (begin > end) return entries.fail("data_offsets end before they begin");
        var spec: Layers.Spec = .{
            .name = entries.name,
            .dtype = dtype orelse return entries.fail("layer has no dtype"),
            .shape = shape orelse return entries.fail("layer has no shape"),
            .offset = begin,
        };
        if (spec.settle(entries.input.data_size)) |reason| return entries.fail(reason);
        if (spec.length != end - begin) {
            return entries.fail("data_offsets are not as far apart as dtype and shape come to");
        }
        // Cannot overflow: begin is within the data, and the data within the file.
        spec.offset += entries.input.data_offset;
        return spec;
    }

    /// Free text of the writer's, checked to be what it should be and kept as it is.
    fn object(entries: *Entries) Detail.Error![]const u8 {
        const reason = "__metadata__ is not an object of strings";
        try entries.expect(.object_begin, reason);
        const header = entries.input.header;
        const start = entries.scanner.cursor - 1;
        while (true) switch (try entries.token()) {
            .object_end => return header[start..entries.scanner.cursor],
            .string,
            .partial_string,
            .partial_string_escaped_1,
            .partial_string_escaped_2,
            .partial_string_escaped_3,
            .partial_string_escaped_4,
            => {},
            else => return entries.fail(reason),
        };
    }

    /// The next key of the object that is open, or null when it is closed.
    fn key(entries: *Entries, buffer: []u8) Detail.Error!?[]const u8 {
        const first = try entries.token();
        if (first == .object_end) return null;
        return try entries.string(first, buffer);
    }

    /// A string that begins with the token `first`: a part of the header if it has no escapes,
    /// otherwise in `buffer`.
    fn string(entries: *Entries, first: Scanner.Token, buffer: []u8) Detail.Error![]const u8 {
        var length: usize = 0;
        var current = first;
        while (true) : (current = try entries.token()) {
            const part: []const u8 = switch (current) {
                .string => |part| if (length == 0) return part else part,
                .partial_string => |part| part,
                .partial_string_escaped_1 => |*part| part,
                .partial_string_escaped_2 => |*part| part,
                .partial_string_escaped_3 => |*part| part,
                .partial_string_escaped_4 => |*part| part,
                else => return entries.fail("expected a string"),
            };
            if (part.len > buffer.len - length) return entries.fail("string is too long");
            @memcpy(buffer[length..][0..part.len], part);
            length += part.len;
            if (current == .string) return buffer[0..length];
        }
    }

    /// An array of as many integers as `buffer` has room for, or fewer.
    fn integers(
        entries: *Entries,
        buffer: []u64,
        too_many: []const u8,
    ) Detail.Error![]const u64 {
        try entries.expect(.array_begin, "expected an array");
        var length: usize = 0;
        while (true) switch (try entries.token()) {
            .array_end => return buffer[0..length],
            .number => |digits| {
                if (length == buffer.len) return entries.fail(too_many);
                buffer[length] = std.fmt.parseUnsigned(u64, digits, 10) catch
                    return entries.fail("number is not an integer from 0 to 2^64 - 1");
                length += 1;
            },
            else => return entries.fail("expected an integer"),
        };
    }

    fn expect(
        entries: *Entries,
        want: std.meta.Tag(Scanner.Token),
        reason: []const u8,
    ) Detail.Error!void {
        if (try entries.token() != want) return entries.fail(reason);
    }

    fn token(entries: *Entries) Detail.Error!Scanner.Token {
        return entries.scanner.next() catch |err| switch (err) {
            error.SyntaxError => entries.fail("header is not JSON"),
            error.UnexpectedEndOfInput, error.BufferUnderrun => entries.fail(
                "header ends inside its JSON",
            ),
            error.OutOfMemory => entries.fail("header is nested too deep"),
        };
    }

    fn fail(entries: *Entries, reason: []const u8) Detail.Error {
        entries.detail.offset = entries.input.header_offset + entries.scanner.cursor;
        if (entries.name.len != 0) entries.detail.setLayerName(entries.name);
        return entries.detail.fail(error.BadFormat, reason);
    }
};

const testing = std.testing;

var test_buffer: [1024]u8 = undefined;

/// Valid until the next one is made.
fn testFile(header: []const u8, data_size: usize) []const u8 {
    std.mem.writeInt(u64, test_buffer[0..8], header.len, .little);
    @memcpy(test_buffer[8..][0..header.len], header);
    @memset(test_buffer[8 + header.len ..][0..data_size], 0);
    return test_buffer[0 .. 8 + header.len + data_size];
}

/// A layer "a" of 2 × F32 at 0, with other text in the place of one of its fields.
fn testLayer(
    comptime dtype: []const u8,
    comptime shape: []const u8,
    comptime range: []const u8,
) []const u8 {
    return "{\"a\":{\"dtype\":" ++ dtype ++ ",\"shape\":" ++ shape ++
        ",\"data_offsets\":" ++ range ++ "}}";
}

const good_header =
    \\{"__metadata__":{"format":"np","note":"\"{}\u00e9"},
    \\ "b":{"dtype":"F32","shape":[2,3],"data_offsets":[2,26]},
    \\ "a\u00e9\n\ud83d\ude00":{"shape":[2],"data_offsets":[0,2],"dtype":"F8_E4M3"},
    \\ "none":{"dtype":"I64","shape":[0,4],"data_offsets":[2,2]},
    \\ "scalar":{"dtype":"BF16","shape":[],"data_offsets":[26,28]}}
    \\
;

fn expectGood(layers: *const Layers, start: u64) !void {
    try testing.expectEqual(4, layers.items.len);
    const names = [_][]const u8{ "aé\n😀", "none", "b", "scalar" };
    const offsets = [_]u64{ 0, 2, 2, 26 };
    const lengths = [_]u64{ 2, 0, 24, 2 };
    const kinds = [_]dtypes.Dtype{ .f8_e4m3, .i64, .f32, .bf16 };
    const shapes = [_][]const u64{ &.{2}, &.{ 0, 4 }, &.{ 2, 3 }, &.{} };
    for (layers.items, 0..) |layer, at| {
        try testing.expectEqualStrings(names[at], layer.name);
        try testing.expectEqual(start + offsets[at], layer.offset);
        try testing.expectEqual(lengths[at], layer.length);
        try testing.expectEqual(kinds[at], layer.dtype);
        try testing.expectEqual(.c, layer.order);
        try testing.expectEqualSlices(u64, shapes[at], layer.shape);
        try testing.expectEqual(@as(u32, @intCast(at)), layers.find(names[at]));
    }
    try testing.expectEqual(null, layers.find("__metadata__"));
}

test "layers come in the order of their offsets, whatever the order in the header" {
    const file = testFile(good_header, 28);
    var detail: Detail = .{};
    var layers = try read(testing.allocator, formats.fromBytes(file), &detail);
    defer layers.deinit(testing.allocator);
    try expectGood(&layers, 8 + good_header.len);
}

test "a manifest counts from the start of the raw file, and may leave holes" {
    var detail: Detail = .{};
    const source = formats.fromBytes(" \n" ++ good_header);
    var layers = try readManifest(testing.allocator, source, 1000, &detail);
    defer layers.deinit(testing.allocator);
    try expectGood(&layers, 0);

    const holed = testLayer("\"U8\"", "[3]", "[500,503]");
    var one = try readManifest(testing.allocator, formats.fromBytes(holed), 503, &detail);
    defer one.deinit(testing.allocator);
    try testing.expectEqual(500, one.items[0].offset);
    var none = try readManifest(testing.allocator, formats.fromBytes("{}"), 503, &detail);
    defer none.deinit(testing.allocator);
    try testing.expectEqual(0, none.items.len);
}

test "a file that the official writer wrote is read, and one without layers" {
    // save({"w": float32 of 2 × 2, "i": int64 of 1}), with its padding.
    const header =
        \\{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},
    ++
        \\"w":{"dtype":"F32","shape":[2,2],"data_offsets":[8,24]}}
    ++ "       ";
    var detail: Detail = .{};
    var layers = try read(testing.allocator, formats.fromBytes(testFile(header, 24)), &detail);
    defer layers.deinit(testing.allocator);
    try testing.expectEqual(0, layers.find("i"));
    try testing.expectEqual(1, layers.find("w"));
    try testing.expectEqual(8 + header.len + 8, layers.items[1].offset);

    var none = try read(testing.allocator, formats.fromBytes(testFile("{}", 0)), &detail);
    defer none.deinit(testing.allocator);
    try testing.expectEqual(0, none.items.len);
    try testing.expectEqual(null, none.find("w"));
}

test "every type that safetensors has is read at its size" {
    for (std.enums.values(dtypes.Dtype)[1..]) |dtype| {
        const size = dtypes.bits(dtype);
        var buffer: [128]u8 = undefined;
        const header = try std.mem.print(
            &buffer,
            "{{\"a\":{{\"dtype\":\"{s}\",\"shape\":[4,2],\"data_offsets\":[0,{d}]}}}}",
            .{ dtypes.name(dtype), size },
        );
        var detail: Detail = .{};
        const source = formats.fromBytes(testFile(header, size));
        var layers = try read(testing.allocator, source, &detail);
        defer layers.deinit(testing.allocator);
        try testing.expectEqual(dtype, layers.items[0].dtype);
        try testing.expectEqual(size, layers.items[0].length);
    }
}

const Refusal = struct { []const u8, []const u8 };

/// Wrong for files of 8 bytes of data and for manifests of as many.
const refusals = [_]Refusal{
    .{ "[]", "header is not a JSON object" },
    .{ "{", truncated },
    .{ "{\"a", truncated },
    .{ "{}x", no_json },
    .{ "{}{}", no_json },
    .{ "{}\x00", no_json },
    .{ "{a:1}", no_json },
    .{ "{\"\xff\":{}}", no_json },
    .{ "{\"\\ud800\":{}}", no_json },
    .{ "{\"a\":1}", "layer is not a JSON object" },
    .{ "{\"a\":[[[[[[[[[[", "layer is not a JSON object" },
    .{ "{\"__metadata__\":null}", no_metadata },
    .{ "{\"__metadata__\":{\"a\":1}}", no_metadata },
    .{ "{\"__metadata__\":{\"a\":{}}}", no_metadata },
    .{ "{\"__metadata__\":{},\"__metadata__\":{}}", "__metadata__ is there twice" },
    .{ "{\"__metadata__\":{},\"__metadata\\u005f_\":{}}", "__metadata__ is there twice" },
    .{ "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", "layer has no dtype" },
    .{ "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", "layer has no shape" },
    .{ "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", "layer has no data_offsets" },
    .{ "{\"a\":{},}", "layer has no data_offsets" },
    .{ testLayer("\"F32\",\"dtype\":\"F32\"", "[2]", "[0,8]"), "layer has dtype twice" },
    .{ testLayer("\"F32\",\"dtyp\\u0065\":\"F32\"", "[2]", "[0,8]"), "layer has dtype twice" },
    .{ testLayer("\"F32\"", "[2],\"shape\":[2]", "[0,8]"), "layer has shape twice" },
    .{
        testLayer("\"F32\"", "[2]", "[0,8],\"data_offsets\":[0,8]"),
        "layer has data_offsets twice",
    },
    .{
        testLayer("\"F32\"", "[2],\"x\":1", "[0,8]"),
        "layer has a key other than dtype, shape, data_offsets",
    },
    .{ testLayer("\"f32\"", "[2]", "[0,8]"), "layer has an unknown dtype" },
    .{ testLayer("\"OPAQUE\"", "[8]", "[0,8]"), "layer has an unknown dtype" },
    .{ testLayer("\"123456789012345\\n67\"", "[2]", "[0,8]"), "string is too long" },
    .{ testLayer("32", "[2]", "[0,8]"), "expected a string" },
    .{ testLayer("\"F32\"", "2", "[0,8]"), "expected an array" },
    .{ testLayer("\"F32\"", "[[2]]", "[0,8]"), "expected an integer" },
    .{ testLayer("\"F32\"", "[\"2\"]", "[0,8]"), "expected an integer" },
    .{ testLayer("\"F32\"", "[2.0]", "[0,8]"), no_integer },
    .{ testLayer("\"F32\"", "[2e0]", "[0,8]"), no_integer },
    .{ testLayer("\"F32\"", "[-2]", "[0,8]"), no_integer },
    .{ testLayer("\"F32\"", "[2]", "[-0,8]"), no_integer },
    .{ testLayer("\"U8\"", "[18446744073709551616]", "[0,8]"), no_integer },
    .{ testLayer("\"F32\"", "[02]", "[0,8]"), no_json },
    .{ testLayer("\"F32\"", "[2,]", "[0,8]"), no_json },
    .{ testLayer("\"U8\"", "[18446744073709551615]", "[0,8]"), too_large },
    .{ testLayer("\"U8\"", "[4294967296,4294967296]", "[0,8]"), too_large },
    .{ testLayer("\"U8\"", "[0,4294967296,4294967296]", "[0,0]"), too_large },
    .{ testLayer("\"F4\"", "[3]", "[0,1]"), no_whole_bytes },
    .{ testLayer("\"F6_E2M3\"", "[2]", "[0,1]"), no_whole_bytes },
    .{
        testLayer(
            "\"F32\"",
            "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,2]",
            "[0,8]",
        ),
        "layer has more than 32 axes",
    },
    .{ testLayer("\"F32\"", "[2]", "[0]"), "data_offsets are not two numbers" },
    .{ testLayer("\"F32\"", "[2]", "[0,8,8]"), "data_offsets are not two numbers" },
    .{ testLayer("\"F32\"", "[2]", "[8,0]"), "data_offsets end before they begin" },
    .{ testLayer("\"F32\"", "[2]", "[0,4]"), no_span },
    .{ testLayer("\"F32\"", "[2]", "[0,0]"), no_span },
    .{ testLayer("\"F32\"", "[0]", "[0,8]"), no_span },
    .{ testLayer("\"F32\"", "[3]", "[0,12]"), beyond },
    .{ testLayer("\"F32\"", "[2]", "[4,12]"), beyond },
    .{ testLayer("\"F32\"", "[2]", "[18446744073709551608,18446744073709551615]"), beyond },
    .{ "{\"\":" ++ eight_bytes ++ "}", "layer has an empty name, want 1 to 255 bytes" },
    .{ "{\"a\\u0000\":" ++ eight_bytes ++ "}", "layer's name has a NUL inside" },
    .{ "{\"a\":" ++ front_half ++ ",\"a\":" ++ back_half ++ "}", same_name },
    .{ "{\"a\":" ++ front_half ++ ",\"\\u0061\":" ++ back_half ++ "}", same_name },
    .{ "{\"a\":" ++ eight_bytes ++ ",\"b\":" ++ back_half ++ "}", overlaps },
    .{ "{\"a\":" ++ eight_bytes ++ ",\"b\":" ++ empty_inside ++ "}", overlaps },
};

const same_name = "two layers have the same name";
const overlaps = "layer overlaps the one before it";
const hole_after = "bytes after the last layer belong to none";
const hole_before = "bytes before the layer belong to none";
const truncated = "header ends inside its JSON";
const no_json = "header is not JSON";
const no_metadata = "__metadata__ is not an object of strings";
const no_integer = "number is not an integer from 0 to 2^64 - 1";
const no_whole_bytes = "layer's elements do not fill a whole number of bytes";
const no_span = "data_offsets are not as far apart as dtype and shape come to";
const too_large = "layer's shape and type come to more bytes than can be addressed";
const beyond = "layer goes beyond the end of the data";

const eight_bytes = "{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}";
const front_half = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";
const back_half = "{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,8]}";
const end_quarter = "{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[6,8]}";
const empty_inside = "{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}";

/// Holes, which only a manifest may have.
const holes = [_]Refusal{
    .{ "{}", hole_after },
    .{ "{\"a\":" ++ front_half ++ "}", hole_after },
    .{ "{\"a\":" ++ back_half ++ "}", hole_before },
    .{ "{\"a\":" ++ front_half ++ ",\"b\":" ++ end_quarter ++ "}", hole_before },
};

fn expectRefusal(file: []const u8, reason: []const u8) !void {
    var detail: Detail = .{};
    const result = read(testing.allocator, formats.fromBytes(file), &detail);
    try testing.expectError(error.BadFormat, result);
    try testing.expectEqualStrings(reason, detail.reason);
    try testing.expect(detail.offset <= file.len);
}

test "what is not a safetensors header is refused with the reason and the place" {
    inline for (refusals ++ holes) |case| {
        const reason = if (case[0][0] == '{') case[1] else "header does not begin with a brace";
        try expectRefusal(testFile(case[0], 8), reason);
    }
    const good = testFile(good_header, 28);
    for (0..8) |size| try expectRefusal(good[0..size], "file ends inside its header");
    for (8..8 + good_header.len) |size| {
        try expectRefusal(good[0..size], "header is longer than the file");
    }
    try expectRefusal(good[0 .. good.len - 1], "layer goes beyond the end of the data");
    try expectRefusal(test_buffer[0 .. good.len + 1], "bytes after the last layer belong to none");
    try expectRefusal(testFile("", 8), "header does not begin with a brace");
    try expectRefusal(testFile(" {}", 0), "header does not begin with a brace");
    try expectRefusal(
        "\x01\xe1\xf5\x05\x00\x00\x00\x00{}",
        "header is longer than 100,000,000 bytes",
    );
    try expectRefusal(
        "\xff\xff\xff\xff\xff\xff\xff\xff{}",
        "header is longer than 100,000,000 bytes",
    );
}

test "a name may have 255 bytes, escapes resolved, and not one more" {
    const tail = "\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}";
    const long: [254]u8 = @splat('n');
    var detail: Detail = .{};
    inline for (.{ "{\"" ++ long ++ "n" ++ tail, "{\"" ++ long ++ "\\u006e" ++ tail }) |text| {
        const file = testFile(text, 8);
        var layers = try read(testing.allocator, formats.fromBytes(file), &detail);
        defer layers.deinit(testing.allocator);
        try testing.expectEqual(0, layers.find(&long ++ "n"));
    }
    const too_long = "layer's name is longer than 255 bytes";
    try expectRefusal(testFile("{\"" ++ long ++ "nn" ++ tail, 8), too_long);
    try expectRefusal(testFile("{\"" ++ long ++ "n\\n" ++ tail, 8), "string is too long");
}

test "what is not a manifest is refused with the reason and the place" {
    for (refusals) |case| {
        var detail: Detail = .{};
        const source = formats.fromBytes(case[0]);
        const result = readManifest(testing.allocator, source, 8, &detail);
        try testing.expectError(error.BadFormat, result);
        try testing.expectEqualStrings(case[1], detail.reason);
    }
    for (holes) |case| {
        var detail: Detail = .{};
        var layers = try readManifest(testing.allocator, formats.fromBytes(case[0]), 8, &detail);
        layers.deinit(testing.allocator);
    }
    var detail: Detail = .{};
    try testing.expectError(
        error.BadFormat,
        readManifest(testing.allocator, formats.fromBytes(""), 8, &detail),
    );
    var large = formats.fromBytes("");
    large.size = formats.header_size_max + 1;
    try testing.expectError(
        error.BadFormat,
        readManifest(testing.allocator, large, 8, &detail),
    );
    try testing.expectEqualStrings("header is longer than 100,000,000 bytes", detail.reason);
}

test "a refusal names the layer, in memory that outlives the header (R9.1)" {
    var detail: Detail = .{};
    const unknown = testFile(testLayer("\"F33\"", "[2]", "[0,8]"), 8);
    try testing.expectError(
        error.BadFormat,
        read(testing.allocator, formats.fromBytes(unknown), &detail),
    );
    try testing.expectEqualStrings("a", detail.layer_name);
    try testing.expectEqual(std.mem.find(u8, unknown, "F33").? + "F33\"".len, detail.offset);

    const hole = testFile(testLayer("\"F32\"", "[1]", "[4,8]"), 8);
    detail = .{};
    try testing.expectError(
        error.BadFormat,
        read(testing.allocator, formats.fromBytes(hole), &detail),
    );
    try testing.expectEqualStrings("a", detail.layer_name);
    try testing.expectEqual(hole.len - 4, detail.offset);
}

test "refused memory leaves nothing behind" {
    try testing.checkAllAllocationFailures(testing.allocator, readOnce, .{});
    try testing.checkAllAllocationFailures(testing.allocator, readManifestOnce, .{});
}

fn readOnce(gpa: Allocator) !void {
    var detail: Detail = .{};
    var layers = read(gpa, formats.fromBytes(testFile(good_header, 28)), &detail) catch |err| {
        try testing.expect(err == error.AllocationRefused and detail.requested != 0);
        return error.OutOfMemory;
    };
    layers.deinit(gpa);
}

fn readManifestOnce(gpa: Allocator) !void {
    var detail: Detail = .{};
    const source = formats.fromBytes(good_header);
    var layers = readManifest(gpa, source, 28, &detail) catch |err| {
        try testing.expect(err == error.AllocationRefused and detail.requested != 0);
        return error.OutOfMemory;
    };
    layers.deinit(gpa);
}
