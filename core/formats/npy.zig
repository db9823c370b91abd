//! The header of NumPy's .npy, versions 1 to 3: a Python literal such as
//! `{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }`.
//!
//! The file has one layer, called "data". Little-endian numbers have their type; every other type
//! of a fixed size (dates, text, big-endian numbers, records, what ml_dtypes saves) is opaque
//! bytes, because the file does not say enough to do more. Pickled objects are refused. Bytes
//! after the data are ignored, as NumPy does.

const std = @import("std");
const Detail = @import("../base.zig").Detail;
const dtypes = @import("dtype.zig");
const formats = @import("../formats.zig");
const Layers = @import("Layers.zig");

const Allocator = std.mem.Allocator;

pub const magic = "\x93NUMPY";
pub const layer_name = "data";

/// Versions 2 and 3 can say 4 GiB. A record of thousands of fields fits in this.
const header_size_max = 1 << 20;

/// Records in records; NumPy itself gives up at 32.
const depth_max = 32;

/// The table of an .npy file. The caller deinits it.
pub fn read(gpa: Allocator, source: formats.Source, detail: *Detail) Detail.Error!Layers {
    // Magic, major and minor version, then the header's size: 2 bytes in version 1, else 4.
    var start: [12]u8 = undefined;
    try source.read(start[0..10], 0, detail);
    if (!std.mem.startsWith(u8, &start, magic)) {
        return detail.fail(error.BadFormat, "file does not begin as an .npy file does");
    }
    if (start[6] < 1 or start[6] > 3 or start[7] != 0) {
        detail.offset = magic.len;
        return detail.fail(error.BadFormat, "version is not 1.0, 2.0 or 3.0");
    }
    const start_size: u64 = if (start[6] == 1) 10 else 12;
    try source.read(start[0..start_size], 0, detail);
    const size: u64 = if (start[6] == 1)
        std.mem.readInt(u16, start[8..10], .little)
    else
        std.mem.readInt(u32, start[8..12], .little);
    if (size > header_size_max) {
        detail.offset = magic.len + 2;
        return detail.fail(error.BadFormat, "header is longer than 1 MiB");
    }
    const header = try source.readAlloc(gpa, size, start_size, detail);
    defer gpa.free(header);

    var parser: Parser = .{ .text = header, .text_offset = start_size, .detail = detail };
    var spec = try parser.header();
    spec.offset = start_size + size;
    if (spec.settle(source.size)) |reason| {
        detail.layer_name = layer_name;
        detail.offset = spec.offset;
        return detail.fail(error.BadFormat, reason);
    }
    var count: Layers.Count = .{};
    count.add(spec);
    var builder: Layers.Builder = try .init(gpa, count, detail);
    errdefer builder.deinit();
    builder.add(spec);
    return builder.finish(.{ .refusal = error.BadFormat });
}

/// What a `descr` says of one element.
const Element = struct { dtype: dtypes.Dtype, size: u64 };

const Parser = struct {
    text: []const u8,
    /// Where the text stands in the file, for error positions.
    text_offset: u64,
    detail: *Detail,
    at: usize = 0,
    shape_buffer: [Layers.rank_max]u64 = undefined,

    /// The layer, but for its offset; borrows from the parser.
    fn header(parser: *Parser) Detail.Error!Layers.Spec {
        var descr: ?Element = null;
        var fortran_order: ?bool = null;
        var shape: ?[]u64 = null;
        try parser.expect('{');
        while (!parser.take('}')) {
            const field = std.meta.stringToEnum(
                enum { descr, fortran_order, shape },
                try parser.string(),
            ) orelse return parser.fail("header has a key other than descr, fortran_order, shape");
            try parser.expect(':');
            switch (field) {
                .descr => {
                    if (descr != null) return parser.fail("header has descr twice");
                    descr = try parser.element(0);
                },
                .fortran_order => {
                    if (fortran_order != null) {
                        return parser.fail("header has fortran_order twice");
                    }
                    fortran_order = try parser.boolean();
                },
                .shape => {
                    if (shape != null) return parser.fail("header has shape twice");
                    shape = try parser.integers(&parser.shape_buffer);
                },
            }
            try parser.separate('}');
        }
        parser.skipSpace();
        if (parser.at != parser.text.len) return parser.fail("something follows the header's dict");

        const element_found = descr orelse return parser.fail("header has no descr");
        const extents = shape orelse return parser.fail("header has no shape");
        const fortran = fortran_order orelse return parser.fail("header has no fortran_order");
        var spec: Layers.Spec = .{
            .name = layer_name,
            .dtype = element_found.dtype,
            .order = if (fortran) .fortran else .c,
            .shape = extents,
            .offset = 0,
        };
        if (spec.dtype == .@"opaque") {
            spec.length = Layers.product(element_found.size, extents) orelse
                return parser.fail("shape and descr come to more bytes than can be addressed");
            spec.order = .c;
            parser.shape_buffer[0] = spec.length;
            spec.shape = parser.shape_buffer[0..1];
        }
        return spec;
    }

    /// A type string, or a list of fields: `[('a', '<f4'), (('title', 'b'), [...], (2, 3))]`.
    fn element(parser: *Parser, depth: usize) Detail.Error!Element {
        if (!parser.take('[')) return simple(try parser.string()) orelse parser.fail(
            "descr is not a type of a fixed size (pickled objects are none)",
        );
        if (depth == depth_max) return parser.fail("descr is nested deeper than 32 levels");
        var size: u64 = 0;
        while (!parser.take(']')) {
            try parser.expect('(');
            if (parser.take('(')) {
                _ = try parser.string();
                try parser.expect(',');
                _ = try parser.string();
                try parser.expect(')');
            } else {
                _ = try parser.string();
            }
            try parser.expect(',');
            const field = try parser.element(depth + 1);
            var extents: []const u64 = &.{};
            var buffer: [Layers.rank_max]u64 = undefined;
            if (!parser.take(')')) {
                try parser.expect(',');
                extents = try parser.integers(&buffer);
                try parser.expect(')');
            }
            const field_size = Layers.product(field.size, extents) orelse
                return parser.fail("a field of descr is larger than can be addressed");
            size = std.math.add(u64, size, field_size) catch
                return parser.fail("a record of descr is larger than can be addressed");
            try parser.separate(']');
        }
        return .{ .dtype = .@"opaque", .size = size };
    }

    /// A tuple of integers; a single one needs its comma, as in Python.
    fn integers(parser: *Parser, buffer: *[Layers.rank_max]u64) Detail.Error![]u64 {
        try parser.expect('(');
        var length: usize = 0;
        while (!parser.take(')')) {
            if (length == buffer.len) return parser.fail("shape has more than 32 axes");
            buffer[length] = try parser.integer();
            length += 1;
            if (length == 1) try parser.expect(',') else try parser.separate(')');
        }
        return buffer[0..length];
    }

    fn integer(parser: *Parser) Detail.Error!u64 {
        parser.skipSpace();
        const start = parser.at;
        while (parser.at < parser.text.len and std.ascii.isDigit(parser.text[parser.at])) {
            parser.at += 1;
        }
        const value = std.fmt.parseUnsigned(u64, parser.text[start..parser.at], 10) catch
            return parser.fail("expected an integer from 0 to 2^64 - 1");
        // Python 2 wrote some of them as 3L.
        _ = parser.take('L');
        return value;
    }

    fn boolean(parser: *Parser) Detail.Error!bool {
        parser.skipSpace();
        for ([_][]const u8{ "False", "True" }, [_]bool{ false, true }) |word, value| {
            if (!std.mem.startsWith(u8, parser.text[parser.at..], word)) continue;
            parser.at += word.len;
            return value;
        }
        return parser.fail("fortran_order is neither True nor False");
    }

    /// What stands between the quotes. Escapes are skipped, not resolved: no key and no type has
    /// any, and nothing else is used.
    fn string(parser: *Parser) Detail.Error![]const u8 {
        const quote = for ("'\"") |quote| {
            if (parser.take(quote)) break quote;
        } else return parser.fail("expected a string");
        const start = parser.at;
        while (parser.at < parser.text.len) : (parser.at += 1) {
            if (parser.text[parser.at] == quote) {
                parser.at += 1;
                return parser.text[start .. parser.at - 1];
            }
            if (parser.text[parser.at] == '\\') parser.at += 1;
        }
        return parser.fail("header ends inside a string");
    }

    /// A comma, or nothing if `closing` follows.
    fn separate(parser: *Parser, closing: u8) Detail.Error!void {
        if (parser.take(',')) return;
        parser.skipSpace();
        if (parser.at == parser.text.len or parser.text[parser.at] != closing) {
            return parser.fail("expected a comma or the end of what is open");
        }
    }

    fn expect(parser: *Parser, byte: u8) Detail.Error!void {
        if (!parser.take(byte)) return parser.fail(switch (byte) {
            '{' => "header is not a Python dict",
            ':' => "expected a colon",
            ',' => "expected a comma",
            '(' => "expected a tuple",
            else => "expected a closing parenthesis",
        });
    }

    fn take(parser: *Parser, byte: u8) bool {
        parser.skipSpace();
        if (parser.at == parser.text.len or parser.text[parser.at] != byte) return false;
        parser.at += 1;
        return true;
    }

    fn skipSpace(parser: *Parser) void {
        while (parser.at < parser.text.len and std.ascii.isWhitespace(parser.text[parser.at])) {
            parser.at += 1;
        }
    }

    fn fail(parser: *Parser, reason: []const u8) Detail.Error {
        parser.detail.offset = parser.text_offset + @min(parser.at, parser.text.len);
        return parser.detail.fail(error.BadFormat, reason);
    }
};

/// A type string as NumPy writes it: byte order, kind, size, and a unit for dates. Null: not a
/// type whose elements all have the same size.
fn simple(descr: []const u8) ?Element {
    var text = descr;
    const big = std.mem.startsWith(u8, text, ">");
    if (text.len != 0 and std.mem.findScalar(u8, "<>|=", text[0]) != null) text = text[1..];
    if (text.len == 0 or !std.ascii.isAlphabetic(text[0])) return null;
    const kind = text[0];
    // 'O' is a pickled object, 'T' text of any length.
    if (kind == 'O' or kind == 'T') return null;
    const end = std.mem.findNone(u8, text[1..], "0123456789") orelse text.len - 1;
    const digits = text[1..][0..end];
    const unit = text[1..][end..];
    if (unit.len != 0) {
        if (kind != 'M' and kind != 'm') return null;
        if (unit[0] != '[' or unit[unit.len - 1] != ']') return null;
    }
    const count = std.fmt.parseUnsigned(u64, digits, 10) catch return null;
    // The size of 'U' is counted in characters of 4 bytes.
    const size = std.math.mul(u64, count, if (kind == 'U') 4 else 1) catch return null;
    const dtype: dtypes.Dtype = if (big and size > 1) .@"opaque" else switch (kind) {
        'b' => switch (size) {
            1 => .bool,
            else => .@"opaque",
        },
        'u' => switch (size) {
            1 => .u8,
            2 => .u16,
            4 => .u32,
            8 => .u64,
            else => .@"opaque",
        },
        'i' => switch (size) {
            1 => .i8,
            2 => .i16,
            4 => .i32,
            8 => .i64,
            else => .@"opaque",
        },
        'f' => switch (size) {
            2 => .f16,
            4 => .f32,
            8 => .f64,
            else => .@"opaque",
        },
        'c' => switch (size) {
            8 => .c64,
            16 => .c128,
            else => .@"opaque",
        },
        else => .@"opaque",
    };
    return .{ .dtype = dtype, .size = size };
}

const testing = std.testing;

var test_buffer: [4096]u8 = undefined;

/// A file of version 1.0, padded as NumPy does it; valid until the next one is made.
fn testFile(header: []const u8, data_size: usize) []const u8 {
    return testVersion("\x01\x00", 2, header, data_size);
}

fn testVersion(
    version: *const [2]u8,
    size_size: usize,
    header: []const u8,
    data_size: usize,
) []const u8 {
    const start_size = magic.len + version.len + size_size;
    const end = std.mem.alignForward(usize, start_size + header.len + 1, 64);
    @memset(test_buffer[0 .. end + data_size], 0);
    test_buffer[0..magic.len].* = magic.*;
    test_buffer[magic.len..][0..2].* = version.*;
    const size: u16 = @intCast(end - start_size);
    std.mem.writeInt(u16, test_buffer[magic.len + 2 ..][0..2], size, .little);
    @memset(test_buffer[start_size .. end - 1], ' ');
    @memcpy(test_buffer[start_size..][0..header.len], header);
    test_buffer[end - 1] = '\n';
    return test_buffer[0 .. end + data_size];
}

fn testDescr(comptime descr: []const u8, data_size: usize) []const u8 {
    return testFile(
        "{'descr': " ++ descr ++ ", 'fortran_order': False, 'shape': (3,), }",
        data_size,
    );
}

const Expected = struct {
    dtype: dtypes.Dtype = .f32,
    order: Layers.Order = .c,
    shape: []const u64,
    length: u64,
};

fn expectLayer(file: []const u8, expected: Expected) !void {
    var detail: Detail = .{};
    var layers = read(testing.allocator, formats.fromBytes(file), &detail) catch |err| {
        std.debug.print("{s} at {d}\n", .{ detail.reason, detail.offset });
        return err;
    };
    defer layers.deinit(testing.allocator);
    try testing.expectEqual(1, layers.items.len);
    try testing.expectEqual(0, layers.find(layer_name));
    const layer = layers.items[0];
    try testing.expectEqualStrings("data", layer.name);
    try testing.expectEqual(expected.dtype, layer.dtype);
    try testing.expectEqual(expected.order, layer.order);
    try testing.expectEqualSlices(u64, expected.shape, layer.shape);
    try testing.expectEqual(expected.length, layer.length);
    try testing.expectEqual(0, layer.offset % 64);
}

fn expectRefusal(file: []const u8, reason: []const u8) !void {
    var detail: Detail = .{};
    const result = read(testing.allocator, formats.fromBytes(file), &detail);
    try testing.expectError(error.BadFormat, result);
    try testing.expectEqualStrings(reason, detail.reason);
    try testing.expect(detail.offset <= file.len);
}

test "a file that NumPy wrote has one layer of its type, shape and order" {
    const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }";
    const file = magic ++ "\x01\x00v\x00" ++ header ++ @as([58]u8, @splat(' ')) ++ "\n" ++
        @as([24]u8, @splat(0));
    try testing.expectEqualStrings(file, testFile(header, 24));
    try expectLayer(file, .{ .shape = &.{ 2, 3 }, .length = 24 });

    try expectLayer(
        testFile("{'descr': '<f8', 'fortran_order': True, 'shape': (2, 3, 4), }", 192),
        .{ .dtype = .f64, .order = .fortran, .shape = &.{ 2, 3, 4 }, .length = 192 },
    );
    // A scalar, an empty array, and bytes after the data.
    try expectLayer(
        testFile("{'descr': '<f4', 'fortran_order': False, 'shape': (), }", 4),
        .{ .shape = &.{}, .length = 4 },
    );
    try expectLayer(
        testFile("{'descr': '<f4', 'fortran_order': False, 'shape': (7, 0), }", 0),
        .{ .shape = &.{ 7, 0 }, .length = 0 },
    );
    try expectLayer(testDescr("'<f4'", 100), .{ .shape = &.{3}, .length = 12 });
}

test "all versions are read, and the header as tolerantly as Python reads a dict" {
    const header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";
    const expected: Expected = .{ .shape = &.{3}, .length = 12 };
    try expectLayer(testVersion("\x02\x00", 4, header, 12), expected);
    try expectLayer(testVersion("\x03\x00", 4, header, 12), expected);
    for ([_][]const u8{
        "{'shape':(3,),'fortran_order':False,'descr':'<f4'}",
        " \n{ \"shape\" :\t( 3 , ) ,\n'descr' : \"<f4\" , 'fortran_order' : False , } ",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }",
    }) |text| try expectLayer(testFile(text, 12), expected);
    try expectLayer(
        testFile("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 3,)}", 12),
        .{ .shape = &.{ 1, 3 }, .length = 12 },
    );
}

test "little-endian numbers have their type, everything else of a fixed size is opaque" {
    inline for (.{
        .{ "|b1", .bool, 1 }, .{ "|u1", .u8, 1 },     .{ "|i1", .i8, 1 },
        .{ "<u2", .u16, 2 },  .{ "<i2", .i16, 2 },    .{ "<f2", .f16, 2 },
        .{ "<u4", .u32, 4 },  .{ "<i4", .i32, 4 },    .{ "<f4", .f32, 4 },
        .{ "<u8", .u64, 8 },  .{ "<i8", .i64, 8 },    .{ "<f8", .f64, 8 },
        .{ "<c8", .c64, 8 },  .{ "<c16", .c128, 16 }, .{ "=f4", .f32, 4 },
        .{ "f4", .f32, 4 },   .{ ">u1", .u8, 1 },     .{ "|f4", .f32, 4 },
    }) |case| {
        try expectLayer(testDescr("'" ++ case[0] ++ "'", 3 * case[2]), .{
            .dtype = case[1],
            .shape = &.{3},
            .length = 3 * case[2],
        });
    }
    inline for (.{
        .{ ">f4", 4 },     .{ "<U10", 40 }, .{ "|S5", 5 },      .{ "|V2", 2 }, .{ "<V2", 2 },
        .{ "<f16", 16 },   .{ "<c32", 32 }, .{ "<f1", 1 },      .{ "<W4", 4 }, .{ "|V0", 0 },
        .{ "<M8[ns]", 8 }, .{ "<m8", 8 },   .{ "<m8[25s]", 8 },
    }) |case| {
        try expectLayer(testDescr("'" ++ case[0] ++ "'", 3 * case[1]), .{
            .dtype = .@"opaque",
            .shape = &.{3 * case[1]},
            .length = 3 * case[1],
        });
    }
    // Nothing knows the order of what has no elements.
    try expectLayer(
        testFile("{'descr': '>f4', 'fortran_order': True, 'shape': (2, 2), }", 16),
        .{ .dtype = .@"opaque", .shape = &.{16}, .length = 16 },
    );
}

test "records are opaque bytes of exactly their size" {
    inline for (.{
        .{ "[('a', '<f4'), ('b', '|u1')]", 5 },
        .{ "[]", 0 },
        .{ "[('a', '<f4'), ('', '|V4'), ('b', [('x', '>i2', (2, 3)), ], (2,))]", 32 },
        .{ "[(('a title', 'a'), '<U2'), ('it\\'s', '<M8[us]')]", 16 },
    }) |case| {
        try expectLayer(testDescr(case[0], 3 * case[1]), .{
            .dtype = .@"opaque",
            .shape = &.{3 * case[1]},
            .length = 3 * case[1],
        });
    }
}

test "what is not an .npy file is refused with the reason and the place" {
    const no_type = "descr is not a type of a fixed size (pickled objects are none)";
    const too_large = "layer's shape and type come to more bytes than can be addressed";
    inline for (.{
        "|O",      "|O8",    "|T16", "<",    "",                       "<f", "4", "<f4x",
        "<f4[ns]", "<M8[ns", "<f4 ", "<f-4", "<U18446744073709551615",
    }) |descr| {
        try expectRefusal(testDescr("'" ++ descr ++ "'", 100), no_type);
    }
    inline for (.{
        .{ "[('a', '|O')]", no_type },
        .{ "[('a', '<f4')", "expected a tuple" },
        .{ "[('a', '<f4') ('b', '<f4')]", "expected a comma or the end of what is open" },
        .{ "[('a', '<f4'), 'b']", "expected a tuple" },
        .{ "[('a')]", "expected a comma" },
        .{ "[(('a', 'b', 'c'), '<f4')]", "expected a closing parenthesis" },
        .{ "[('a', '<f4', (2,), 3)]", "expected a closing parenthesis" },
        .{ "[('a', '<f4', (2))]", "expected a comma" },
        .{
            "[('a', '|V9', (9223372036854775807,))]",
            "a field of descr is larger than can be addressed",
        },
        .{
            "[('a', '|V1', (9223372036854775807, 2)), ('b', '|V2')]",
            "a record of descr is larger than can be addressed",
        },
        .{
            "[('a', '|V9223372036854775807')]",
            "shape and descr come to more bytes than can be addressed",
        },
        .{ "('<f4', (2,))", "expected a string" },
        .{ "None", "expected a string" },
        .{ "b'<f4'", "expected a string" },
        .{ "'<f4', 'descr': '<f4'", "header has descr twice" },
        .{ "'<f4', 'shape': ()", "header has shape twice" },
        .{ "'<f4', 'fortran_order': True", "header has fortran_order twice" },
        .{ "'<f4', 'order': 'C'", "header has a key other than descr, fortran_order, shape" },
    }) |case| try expectRefusal(testDescr(case[0], 100), case[1]);
    const deep: [33]u8 = @splat('[');
    comptime var nested: []const u8 = "";
    inline for (deep) |bracket| nested = nested ++ .{bracket} ++ "('a', ";
    try expectRefusal(testDescr(nested, 0), "descr is nested deeper than 32 levels");

    inline for (.{
        .{ "", "header is not a Python dict" },
        .{ "[]", "header is not a Python dict" },
        .{ "{}", "header has no descr" },
        .{ "{,}", "expected a string" },
        .{ "{'descr'}", "expected a colon" },
        .{ "{'descr", "header ends inside a string" },
        .{ "{'descr\\", "header ends inside a string" },
        .{ "{'descr': '<f4', 'shape': (3,)}", "header has no fortran_order" },
        .{ "{'descr': '<f4', 'fortran_order': False}", "header has no shape" },
        .{ "{'shape': (3,), 'fortran_order': False}", "header has no descr" },
        .{
            "{'descr': '<f4', 'fortran_order': 0, 'shape': (3,)}",
            "fortran_order is neither True nor False",
        },
        .{
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)",
            "expected a comma or the end of what is open",
        },
        .{
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}}",
            "something follows the header's dict",
        },
    }) |case| try expectRefusal(testFile(case[0], 100), case[1]);

    inline for (.{
        .{ "3", "expected a tuple" },
        .{ "[3]", "expected a tuple" },
        .{ "(3)", "expected a comma" },
        .{ "(-1,)", "expected an integer from 0 to 2^64 - 1" },
        .{ "(1.5,)", "expected a comma" },
        .{ "(1, 2 3)", "expected a comma or the end of what is open" },
        .{ "(1_0,)", "expected a comma" },
        .{ "(18446744073709551616,)", "expected an integer from 0 to 2^64 - 1" },
        .{ "(18446744073709551615,)", too_large },
        .{ "(4294967296, 4294967296)", too_large },
        .{ "(0, 4294967296, 4294967296)", too_large },
        .{ "(4611686018427387904,)", too_large },
        .{
            "(1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1)",
            "shape has more than 32 axes",
        },
        .{ "(26,)", "layer goes beyond the end of the data" },
    }) |case| try expectRefusal(
        testFile("{'descr': '<f4', 'fortran_order': False, 'shape': " ++ case[0] ++ "}", 100),
        case[1],
    );

    const good = testDescr("'<f4'", 12);
    for (0..10) |size| try expectRefusal(good[0..size], "file ends inside its header");
    for (10..128) |size| try expectRefusal(good[0..size], "header is longer than the file");
    for (128..good.len) |size| {
        try expectRefusal(good[0..size], "layer goes beyond the end of the data");
    }
    for ([_][]const u8{ "\x00\x00", "\x04\x00", "\x01\x01" }) |version| {
        @memcpy(test_buffer[magic.len..][0..2], version);
        try expectRefusal(good, "version is not 1.0, 2.0 or 3.0");
    }
    test_buffer[0] = 'N';
    try expectRefusal(good, "file does not begin as an .npy file does");
    const long = magic ++ "\x02\x00\x01\x00\x10\x00";
    try expectRefusal(long, "header is longer than 1 MiB");
    try expectRefusal(long[0 .. long.len - 1], "file ends inside its header");
}

test "a missing end of the data is reported with the layer and where the data begins" {
    const file = testDescr("'<f4'", 11);
    var detail: Detail = .{};
    const result = read(testing.allocator, formats.fromBytes(file), &detail);
    try testing.expectError(error.BadFormat, result);
    try testing.expectEqualStrings("data", detail.layer_name);
    try testing.expectEqual(128, detail.offset);
}

test "refused memory leaves nothing behind" {
    try testing.checkAllAllocationFailures(testing.allocator, readOnce, .{});
}

fn readOnce(gpa: Allocator) !void {
    var detail: Detail = .{};
    const source = formats.fromBytes(testDescr("[('a', '<f4')]", 12));
    var layers = read(gpa, source, &detail) catch |err| {
        try testing.expect(err == error.AllocationRefused and detail.requested != 0);
        return error.OutOfMemory;
    };
    layers.deinit(gpa);
}
