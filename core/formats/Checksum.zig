//! The checksum of a layer: XXH64 with seed 0, as `xxhsum -H64` prints it, over the layer's bytes.
//!
//! It finds what decays and what is cut, not what somebody forges (docs/decisions/0009). In a file
//! it is a note: `"xxh64:NAME": "0123456789abcdef"` in the `__metadata__` of safetensors, or of a
//! manifest. Bytes are read from the file in chunks, so that a mapping that cannot be read is no
//! fault, and whoever waits can be told how far it is.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Layers = @import("Layers.zig");
const Progress = @import("../base.zig").Progress;

/// What the key of a note begins with; the layer's name follows.
pub const key_prefix = "xxh64:";
/// What is read or written at a time. Where a chunk ends in a file, its offset is a multiple.
pub const chunk_size = 2 << 20;

/// Of a checksum as text.
pub const Text = [16]u8;

/// Of a part of a file, by way of `buffer`, which may be of any size.
pub fn ofFile(
    file: os.File,
    offset: u64,
    length: u64,
    buffer: []u8,
    progress: *Progress,
    detail: *Detail,
) Detail.Error!u64 {
    var hash: std.hash.XxHash64 = .init(0);
    var done: u64 = 0;
    while (done < length) {
        const chunk = buffer[0..@intCast(@min(length - done, buffer.len))];
        const count = os.readAt(file, chunk, offset + done, &detail.code) catch {
            return detail.fileRefused(0, "cannot read the file");
        };
        if (count < chunk.len) {
            detail.code = os.Code.short_read;
            return detail.fail(error.FileAccess, "the file became shorter while it was read");
        }
        hash.update(@as([]const u8, chunk));
        done += chunk.len;
        try progress.advance(chunk.len, detail);
    }
    return hash.final();
}

pub fn format(checksum: u64) Text {
    return std.fmt.hex(@byteSwap(checksum));
}

/// Null: it is not 16 hexadecimal digits in lower case.
pub fn parse(text: []const u8) ?u64 {
    if (text.len != 16) return null;
    for (text) |digit| switch (digit) {
        '0'...'9', 'a'...'f' => {},
        else => return null,
    };
    return std.fmt.parseUnsigned(u64, text, 16) catch unreachable; // it was looked at above
}

/// The checksums that notes have, each at its layer's index; null where there is none. Notes of
/// layers that there are not, and of other programs, are passed over.
pub fn fromNotes(
    layers: *const Layers,
    notes: []const u8,
    checksums: []?u64,
    detail: *Detail,
) Detail.Error!void {
    @memset(checksums, null);
    var pairs: Notes = .{ .text = notes };
    while (pairs.next()) |pair| {
        var key_buffer: [key_prefix.len + Layers.name_size_max]u8 = undefined;
        const key = decode(pair.key, &key_buffer) orelse continue;
        const name = std.mem.cutPrefix(u8, key, key_prefix) orelse continue;
        const index = layers.find(name) orelse continue;
        checksums[index] = parse(pair.value[1 .. pair.value.len - 1]) orelse {
            detail.setLayerName(name);
            return detail.fail(error.BadFormat, "checksum is not 16 hexadecimal digits");
        };
    }
}

/// The text of a JSON string, of which `quoted` has the quotes; null if it is too long.
fn decode(quoted: []const u8, buffer: []u8) ?[]const u8 {
    // A string opens no level.
    var scanner: std.json.Scanner = .initCompleteInput(std.mem.Allocator.failing, quoted);
    var length: usize = 0;
    while (true) {
        // It was valid when it was read.
        const token = scanner.next() catch unreachable;
        const part: []const u8 = switch (token) {
            .string => |part| part,
            .partial_string => |part| part,
            .partial_string_escaped_1 => |*part| part,
            .partial_string_escaped_2 => |*part| part,
            .partial_string_escaped_3 => |*part| part,
            .partial_string_escaped_4 => |*part| part,
            else => unreachable,
        };
        if (part.len > buffer.len - length) return null;
        @memcpy(buffer[length..][0..part.len], part);
        length += part.len;
        if (token == .string) return buffer[0..length];
    }
}

/// Walks through notes, which are an object of strings.
pub const Notes = struct {
    text: []const u8,
    at: usize = 0,

    /// Strings as they stand there, with their quotes.
    pub const Pair = struct { key: []const u8, value: []const u8 };

    pub fn next(notes: *Notes) ?Pair {
        const key = notes.string() orelse return null;
        return .{ .key = key, .value = notes.string().? };
    }

    fn string(notes: *Notes) ?[]const u8 {
        const start = std.mem.findScalarPos(u8, notes.text, notes.at, '"') orelse return null;
        var end = start + 1;
        while (notes.text[end] != '"') end += if (notes.text[end] == '\\') 2 else 1;
        notes.at = end + 1;
        return notes.text[start..notes.at];
    }
};

const testing = std.testing;
const TempFile = @import("../os.zig").TempFile;

test "a checksum is that of xxhsum, whatever the size of the chunks" {
    const file: TempFile = try .create("Nobody inspects the spammish repetition");
    defer file.deinit();
    var code: i64 = 0;
    const opened = try os.open(file.path, .read, &code);
    defer os.close(opened);
    var detail: Detail = .{};
    for ([_]usize{ 1, 3, 31, 32, 33, 100 }) |size| {
        var buffer: [100]u8 = undefined;
        var progress: Progress = .{};
        const got = try ofFile(opened, 0, 39, buffer[0..size], &progress, &detail);
        try testing.expectEqualStrings("fbcea83c8a378bf1", &format(got));
        try testing.expectEqual(39, progress.done);
        try testing.expectEqual(got, parse(&format(got)).?);
        try testing.expectError(
            error.FileAccess,
            ofFile(opened, 1, 39, buffer[0..size], &progress, &detail),
        );
    }
    for ([_][]const u8{ "", "fbcea83c8a378bf", "fbcea83c8a378bf10", "FBCEA83C8A378BF1" }) |text| {
        try testing.expectEqual(null, parse(text));
    }
}

test "checksums are found among other notes, under any name" {
    const specs = [_]Layers.Spec{
        .{ .name = "a", .dtype = .u8, .shape = &.{1}, .offset = 0 },
        .{ .name = "q\"\\\n😀", .dtype = .u8, .shape = &.{1}, .offset = 1 },
        .{ .name = "none", .dtype = .u8, .shape = &.{1}, .offset = 2 },
    };
    var detail: Detail = .{};
    var layers = try Layers.fromSpecs(testing.allocator, &specs, 3, &detail);
    defer layers.deinit(testing.allocator);
    var checksums: [3]?u64 = undefined;
    try fromNotes(&layers,
        \\{"format":"pt", "xxh64:q\"\\\n\ud83d\ude00" : "00000000000000ff","xxh64:gone":"x",
        \\ "xxh64:a":"0123456789abcdef", "k\"":"xxh64:none"}
    , &checksums, &detail);
    try testing.expectEqualSlices(?u64, &.{ 0x0123456789abcdef, 0xff, null }, &checksums);
    try fromNotes(&layers, "", &checksums, &detail);
    try testing.expectEqualSlices(?u64, &@as([3]?u64, @splat(null)), &checksums);
    try testing.expectError(
        error.BadFormat,
        fromNotes(&layers, "{\"xxh64:a\":\"0123\"}", &checksums, &detail),
    );
    try testing.expectEqualStrings("a", detail.layer_name);
}
