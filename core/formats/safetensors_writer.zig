//! The JSON of safetensors, for its header and for manifests: layers as they lie, notes taken over
//! from another file, and checksums.

const std = @import("std");
const dtypes = @import("dtype.zig");
const formats = @import("../formats.zig");
const safetensors = @import("safetensors.zig");
const Checksum = @import("Checksum.zig");
const Detail = @import("../base.zig").Detail;
const Layers = @import("Layers.zig");

const Writer = std.Io.Writer;

/// Of the first layer in the file: a cache line.
pub const data_alignment = 64;

pub const Content = struct {
    layers: *const Layers,
    /// False: only the notes are written, for a file whose own header describes its layers.
    described: bool = true,
    /// What the layers' offsets count from, and what that offset is called in the text.
    origin: u64 = 0,
    start: u64 = 0,
    /// An object of strings, of which checksums are not taken over: they were of other bytes.
    notes: []const u8 = "",
    /// One for each layer, if any.
    checksums: ?[]const u64 = null,
};

/// The header of a file, in memory that the caller frees: its size, the JSON, and spaces up to
/// where the data begins.
pub fn header(
    gpa: std.mem.Allocator,
    content: Content,
) error{ OutOfMemory, HeaderTooLarge }![]u8 {
    var text: Writer.Allocating = .init(gpa);
    defer text.deinit();
    const writer = &text.writer;
    fill(writer, content) catch return error.OutOfMemory;
    const size = text.written().len - 8;
    if (size > formats.header_size_max) return error.HeaderTooLarge;
    std.mem.writeInt(u64, text.written()[0..8], size, .little);
    return text.toOwnedSlice();
}

fn fill(writer: *Writer, content: Content) Writer.Error!void {
    // Its size, once that is known.
    try writer.writeAll(&@as([8]u8, @splat(0)));
    try writeObject(writer, content);
    const end = std.mem.alignForward(usize, writer.end, data_alignment);
    try writer.splatByteAll(' ', end - writer.end);
}

/// A manifest, in memory that the caller frees.
pub fn manifest(gpa: std.mem.Allocator, content: Content) error{OutOfMemory}![]u8 {
    var text: Writer.Allocating = .init(gpa);
    defer text.deinit();
    writeObject(&text.writer, content) catch return error.OutOfMemory;
    text.writer.writeByte('\n') catch return error.OutOfMemory;
    return text.toOwnedSlice();
}

fn writeObject(writer: *Writer, content: Content) Writer.Error!void {
    try writer.writeByte('{');
    var separator: []const u8 = "\"__metadata__\":{";
    var notes: Checksum.Notes = .{ .text = content.notes };
    while (notes.next()) |pair| {
        if (std.mem.startsWith(u8, pair.key, "\"" ++ Checksum.key_prefix)) continue;
        try writer.print("{s}{s}:{s}", .{ separator, pair.key, pair.value });
        separator = ",";
    }
    if (content.checksums) |checksums| {
        for (content.layers.items, checksums) |layer, checksum| {
            try writer.print("{s}\"{s}", .{ separator, Checksum.key_prefix });
            try std.json.Stringify.encodeJsonStringChars(layer.name, .{}, writer);
            try writer.print("\":\"{s}\"", .{&Checksum.format(checksum)});
            separator = ",";
        }
    }
    const noted = separator.len == 1;
    if (noted) try writer.writeByte('}');
    const described: []const Layers.Layer = if (content.described) content.layers.items else &.{};
    for (described, 0..) |layer, index| {
        if (noted or index > 0) try writer.writeByte(',');
        try std.json.Stringify.encodeJsonString(layer.name, .{}, writer);
        try writer.print(":{{\"dtype\":\"{s}\",\"shape\":[", .{dtypes.name(layer.dtype)});
        for (layer.shape, 0..) |extent, axis| {
            try writer.print("{s}{d}", .{ if (axis == 0) "" else ",", extent });
        }
        const begin = layer.offset - content.origin + content.start;
        try writer.print("],\"data_offsets\":[{d},{d}]}}", .{ begin, begin + layer.length });
    }
    try writer.writeByte('}');
}

const testing = std.testing;

const test_specs = [_]Layers.Spec{
    .{ .name = "b", .dtype = .f32, .shape = &.{ 2, 3 }, .offset = 100 },
    .{ .name = "q\"\\\n\x01é😀", .dtype = .bf16, .shape = &.{}, .offset = 124 },
    .{ .name = "none", .dtype = .i64, .shape = &.{ 0, 4 }, .offset = 126 },
};
const test_notes =
    \\{"format":"pt", "k\"\u00e9" : "v\\", "xxh64:b":"0000000000000000"}
;

test "what is written is read as the same layers, and other programs' notes stay" {
    var detail: Detail = .{};
    var layers = try Layers.fromSpecs(testing.allocator, &test_specs, 126, &detail);
    defer layers.deinit(testing.allocator);
    const content: Content = .{
        .layers = &layers,
        .origin = 100,
        .notes = test_notes,
        .checksums = &.{ 1, 2, 3 },
    };
    const text = try header(testing.allocator, content);
    defer testing.allocator.free(text);
    try testing.expectEqual(0, text.len % data_alignment);
    const file = try std.mem.concat(testing.allocator, u8, &.{ text, &@as([26]u8, @splat(7)) });
    defer testing.allocator.free(file);
    var again = try safetensors.read(testing.allocator, formats.fromBytes(file), &detail);
    defer again.deinit(testing.allocator);
    try testing.expectEqual(layers.items.len, again.items.len);
    for (layers.items, again.items) |before, after| {
        try testing.expectEqualStrings(before.name, after.name);
        try testing.expectEqual(before.dtype, after.dtype);
        try testing.expectEqual(before.length, after.length);
        try testing.expectEqual(before.offset - 100 + text.len, after.offset);
        try testing.expectEqualSlices(u64, before.shape, after.shape);
    }
    var checksums: [3]?u64 = undefined;
    try Checksum.fromNotes(&again, again.notes, &checksums, &detail);
    try testing.expectEqualSlices(?u64, &.{ 1, 2, 3 }, &checksums);
    for ([_][]const u8{ "\"format\":\"pt\"", "\"k\\\"\\u00e9\":\"v\\\\\"" }) |note| {
        try testing.expectEqual(1, std.mem.count(u8, again.notes, note));
    }
}

test "a manifest is read as the layers of its file; one without layers or notes is empty" {
    var detail: Detail = .{};
    var layers = try Layers.fromSpecs(testing.allocator, &test_specs, 126, &detail);
    defer layers.deinit(testing.allocator);
    const text = try manifest(testing.allocator, .{ .layers = &layers });
    defer testing.allocator.free(text);
    const source = formats.fromBytes(text);
    var again = try formats.readManifest(testing.allocator, source, 126, &detail);
    defer again.deinit(testing.allocator);
    for (layers.items, again.items) |before, after| {
        try testing.expectEqual(before.offset, after.offset);
    }
    try testing.expectEqualStrings("", again.notes);

    const none: Layers = .empty;
    const nothing = try manifest(testing.allocator, .{ .layers = &none });
    defer testing.allocator.free(nothing);
    try testing.expectEqualStrings("{}\n", nothing);
    const noted = try manifest(testing.allocator, .{ .layers = &none, .notes = "{\"a\":\"b\"}" });
    defer testing.allocator.free(noted);
    try testing.expectEqualStrings("{\"__metadata__\":{\"a\":\"b\"}}\n", noted);
    const bytes = formats.fromBytes(noted);
    var kept = try formats.readManifest(testing.allocator, bytes, 0, &detail);
    defer kept.deinit(testing.allocator);
    try testing.expectEqualStrings("{\"a\":\"b\"}", kept.notes);
}

test "memory that runs out is an error at every allocation, and none of it is lost" {
    var detail: Detail = .{};
    var layers = try Layers.fromSpecs(testing.allocator, &test_specs, 126, &detail);
    defer layers.deinit(testing.allocator);
    for (0..10) |index| {
        var failing: testing.FailingAllocator = .init(testing.allocator, .{ .fail_index = index });
        const text = header(failing.allocator(), .{ .layers = &layers, .origin = 100 }) catch |err| {
            try testing.expectEqual(error.OutOfMemory, err);
            continue;
        };
        return testing.allocator.free(text);
    }
    return error.TestUnexpectedResult;
}
