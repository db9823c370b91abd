//! Text from outside, names above all, as it may stand in a message: in UTF-8, on one line, with
//! nothing that a terminal obeys or that hides what is beside it.
//!
//! What is not so is written as Python's repr does: `\n`, `\x1b`, `\u202e`. A byte that is not part
//! of a character is `\xff`.

const std = @import("std");

const Writer = std.Io.Writer;

/// One character, or one byte that is not part of one.
pub const Piece = struct {
    /// Bytes of the text.
    len: usize,
    is_character: bool,
    /// How it is shown: itself, or its escape.
    shown: []const u8,
};

/// Room for the longest escape, `\U000e0001`.
pub const Buffer = [10]u8;

/// The first piece of a text that is not empty.
pub fn next(text: []const u8, buffer: *Buffer) Piece {
    const len = std.unicode.utf8ByteSequenceLength(text[0]) catch return byte(text[0], buffer);
    if (len > text.len) return byte(text[0], buffer);
    const code = std.unicode.utf8Decode(text[0..len]) catch return byte(text[0], buffer);
    return .{
        .len = len,
        .is_character = true,
        .shown = if (isPlain(code)) text[0..len] else escape(code, buffer),
    };
}

fn byte(value: u8, buffer: *Buffer) Piece {
    return .{ .len = 1, .is_character = false, .shown = escape(value, buffer) };
}

fn escape(code: u21, buffer: *Buffer) []const u8 {
    const named: u8, const digits: usize = switch (code) {
        '\n' => .{ 'n', 0 },
        '\r' => .{ 'r', 0 },
        '\t' => .{ 't', 0 },
        else => if (code < 0x100)
            .{ 'x', 2 }
        else if (code < 0x10000) .{ 'u', 4 } else .{ 'U', 8 },
    };
    buffer[0..2].* = .{ '\\', named };
    for (0..digits) |index| {
        const shift: u5 = @intCast(4 * (digits - 1 - index));
        buffer[2 + index] = "0123456789abcdef"[@as(u32, code) >> shift & 0xf];
    }
    return buffer[0 .. 2 + digits];
}

/// Controls, line ends, marks of direction, and characters without width.
fn isPlain(code: u21) bool {
    return switch (code) {
        0...0x1f,
        0x7f...0x9f,
        0xad,
        0x61c,
        0x200b...0x200f,
        0x2028...0x202e,
        0x2060...0x206f,
        0xfeff,
        0xfff9...0xfffb,
        0xe0000...0xe007f,
        => false,
        else => true,
    };
}

/// Bytes of what `write` writes.
pub fn length(text: []const u8) usize {
    var buffer: Buffer = undefined;
    var sum: usize = 0;
    var rest = text;
    while (rest.len > 0) {
        const piece = next(rest, &buffer);
        sum += piece.shown.len;
        rest = rest[piece.len..];
    }
    return sum;
}

pub fn write(writer: *Writer, text: []const u8) Writer.Error!void {
    return writeWithin(writer, text, std.math.maxInt(usize));
}

const gap = "...";

/// At most `room` bytes: of a longer text the middle is left out, because a path says most at its
/// ends.
pub fn writeWithin(writer: *Writer, text: []const u8, room: usize) Writer.Error!void {
    const whole = length(text);
    const fits = whole <= room;
    const head = if (fits) whole else (room -| gap.len) / 2;
    const tail = if (fits) 0 else room -| gap.len -| head;
    var buffer: Buffer = undefined;
    var rest = text;
    // Of the whole, as it is shown.
    var position: usize = 0;
    while (rest.len > 0) {
        const piece = next(rest, &buffer);
        if (position + piece.shown.len > head) break;
        try writer.writeAll(piece.shown);
        position += piece.shown.len;
        rest = rest[piece.len..];
    }
    if (fits) return;
    if (room >= gap.len) try writer.writeAll(gap);
    while (rest.len > 0) {
        const piece = next(rest, &buffer);
        if (whole - position <= tail) try writer.writeAll(piece.shown);
        position += piece.shown.len;
        rest = rest[piece.len..];
    }
}

fn expectShown(expected: []const u8, text: []const u8, room: usize) !void {
    var buffer: [256]u8 = undefined;
    var writer: Writer = .fixed(&buffer);
    try writeWithin(&writer, text, room);
    try std.testing.expectEqualStrings(expected, writer.buffered());
    try std.testing.expect(writer.end <= room);
}

test "escape: what is not plain is written as an escape, all else as it is" {
    const whole = std.math.maxInt(usize);
    try expectShown("a[/b] caf\u{e9} \u{6f22}\\", "a[/b] caf\u{e9} \u{6f22}\\", whole);
    try expectShown("\\x1b]0;\\x07\\n\\r\\t\\x00\\x7f", "\x1b]0;\x07\n\r\t\x00\x7f", whole);
    try expectShown("\\x9b\\u202e\\ufeff\\U000e0001", "\u{9b}\u{202e}\u{feff}\u{e0001}", whole);
    // Not UTF-8: Latin-1, a character that is cut, an overlong one, a surrogate.
    try expectShown("caf\\xe9", "caf\xe9", whole);
    try expectShown("\\xe6\\xbc", "\u{6f22}"[0..2], whole);
    try expectShown("\\xc0\\xaf\\xed\\xa0\\x80", "\xc0\xaf\xed\xa0\x80", whole);
    try expectShown("", "", 0);
}

test "escape: of a text that is too long the middle is left out, between pieces" {
    try expectShown("/a/b/c.npy", "/a/b/c.npy", 10);
    try expectShown("/a/...npy", "/a/b/c.npy", 9);
    try expectShown("ab...yz", "abcdefghijklmnopqrstuvwxyz", 7);
    // Pieces of two and four bytes.
    try expectShown("\u{e9}...\u{e9}", "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}", 9);
    try expectShown("\\x1b...\\x1b", "\x1b\x1b\x1b\x1b", 11);
    try expectShown("...", "\x1b\x1b\x1b\x1b", 5);
    for (0..8) |room| {
        var buffer: [8]u8 = undefined;
        var writer: Writer = .fixed(&buffer);
        try writeWithin(&writer, "\u{6f22}\x1b\xffabcdef", room);
        try std.testing.expect(writer.end <= room);
    }
}
