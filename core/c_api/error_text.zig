//! A failure in words: the one place where core's details become a memmgr_error.
//!
//! The sentence is: which dimension and layer; what could not be done, to which file; why; the
//! numbers that belong to the status; the system's own words and code. Names may come from files:
//! they are escaped, and the long ones shortened, so that the reason and the numbers are always
//! there.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const escape = @import("../base.zig").escape;
const sized = @import("sized.zig");
const types = @import("types.zig");

/// Where the caller's error has a file's name, which a call may keep it in; nowhere, if the struct
/// is not one.
pub fn fileNameOf(out: *types.Error) []u8 {
    return if (isOne(out)) out.file_name[0 .. out.file_name.len - 1] else &.{};
}

fn isOne(out: *const types.Error) bool {
    var ignored: Detail = .{};
    sized.check(types.Error, out.struct_size, &ignored) catch return false;
    return true;
}

/// Field by field, since the struct is larger than a page, and a stack may have little room left.
pub noinline fn write(out: *types.Error, status: types.Status, detail: *const Detail) void {
    // A struct that is not one gets nothing written into it: the status says enough.
    if (!isOne(out)) return;
    // Names may be those of the error that stands there yet: they are read for the message before
    // anything is written, and may be written over themselves.
    var message: [types.message_size]u8 = undefined;
    writeMessage(&message, status, detail);
    sized.writeText(&out.dimension_name, detail.dimension_name);
    writeLayerName(&out.layer_name, detail.layer_name);
    sized.writePath(&out.file_name, detail.file_name);
    @memcpy(&out.message, &message);
    out.status = @backingInt(status);
    out.operation = @backingInt(detail.operation);
    out.dimension = detail.dimension;
    out.layer = detail.layer;
    out.views = detail.views;
    out.system_code = detail.code;
    out.requested = detail.requested;
    out.used = detail.used;
    out.limit = detail.limit;
    out.offset = detail.offset;
    out.limit_kind = @backingInt(detail.limit_kind);
    out.struct_size = @sizeOf(types.Error);
    // A field that joins them later is written only where there is room for it.
    comptime std.debug.assert(@sizeOf(types.Error) == sized.sizeFirst(types.Error));
}

/// As it is, or escaped if the field could not hold the rest of it.
fn writeLayerName(field: []u8, name: []const u8) void {
    if (std.mem.findScalar(u8, name, 0) == null) return sized.writeText(field, name);
    var writer: std.Io.Writer = .fixed(field[0 .. field.len - 1]);
    escape.writeWithin(&writer, name, field.len - 1) catch {};
    @memset(field[writer.end..], 0);
}

fn writeMessage(message: []u8, status: types.Status, detail: *const Detail) void {
    // Why comes first, so that the names get what room it leaves. It always fits: reasons are
    // static, and the system's words are cut.
    var buffer: [types.message_size]u8 = undefined;
    var reason: std.Io.Writer = .fixed(buffer[0 .. message.len - 1]);
    writeReason(&reason, status, detail) catch {};
    var writer: std.Io.Writer = .fixed(message[0 .. message.len - 1]);
    writeSubject(&writer, detail, message.len - 1 - reason.end) catch {};
    writer.writeAll(reason.buffered()) catch {};
    @memset(message[writer.end..], 0);
}

/// What could not be done, in at most `room` bytes.
fn writeSubject(
    writer: *std.Io.Writer,
    detail: *const Detail,
    room: usize,
) std.Io.Writer.Error!void {
    const task = verb(detail);
    const words = " layer ''".len + ": cannot ".len + task.len + " ''".len;
    try escape.writeWithin(writer, detail.dimension_name, room -| words);
    if (detail.layer_name.len > 0) {
        if (writer.end > 0) try writer.writeAll(" ");
        try writer.writeAll("layer '");
        const left = room -| words -| writer.end;
        // The file's name needs some of it.
        try escape.writeWithin(writer, detail.layer_name, if (detail.file_name.len > 0)
            left / 2
        else
            left);
        try writer.writeAll("'");
    }
    if (writer.end > 0) try writer.writeAll(": ");
    try writer.print("cannot {s}", .{task});
    if (detail.file_name.len > 0) {
        try writer.writeAll(" '");
        try escape.writeWithin(writer, detail.file_name, room -| writer.end -| 1);
        try writer.writeAll("'");
    }
}

fn writeReason(
    writer: *std.Io.Writer,
    status: types.Status,
    detail: *const Detail,
) std.Io.Writer.Error!void {
    try writer.print(": {s}", .{detail.reason});
    const system_limit = systemLimit(detail.limit_kind);
    if (system_limit) |limit| try writer.print(": {s} is reached", .{limit});
    // Some cannot be asked for their value.
    if (system_limit != null and detail.limit != 0) {
        const unit = if (detail.limit_kind.countsBytes()) " bytes" else "";
        try writeNumber(writer, ": requested ", detail.requested, unit);
        try writeNumber(writer, ", used ", detail.used, "");
        try writeNumber(writer, ", limit ", detail.limit, "");
    } else switch (status) {
        .limit_exceeded => {
            try writeNumber(writer, ": requested ", detail.requested, " bytes");
            try writeNumber(writer, ", used ", detail.used, "");
            try writeNumber(writer, ", limit ", detail.limit, "");
        },
        .allocation, .disk_full => if (detail.requested != 0) {
            try writeNumber(writer, ": requested ", detail.requested, " bytes");
        },
        .out_of_bounds => {
            try writeNumber(writer, ": offset ", detail.requested, "");
            try writeNumber(writer, ", length ", detail.used, "");
            try writeNumber(writer, ", loaded ", detail.limit, " bytes");
        },
        .views_held, .wait_timeout => try writeNumber(writer, ": ", detail.views, " held"),
        .format, .faulted => try writeNumber(writer, ": at byte ", detail.offset, ""),
        .invalid_argument, .unknown_dimension => if (detail.limit != 0) {
            try writeNumber(writer, ": got ", detail.requested, "");
            try writeNumber(writer, ", limit ", detail.limit, "");
        },
        .ok,
        .already_loaded,
        .not_loaded,
        .unknown_layer,
        .invalid_access,
        .file_access,
        .pool_corruption,
        .cancelled,
        => {},
    }
    if (detail.code != 0) {
        var buffer: [256]u8 = undefined;
        try writer.writeAll(": ");
        try escape.write(writer, os.describe(detail.code, &buffer));
        try writer.print(" (system error {d})", .{detail.code});
    }
}

/// Not inlined: its copies would be a tenth of the library.
pub noinline fn writeNumber(
    writer: *std.Io.Writer,
    before: []const u8,
    number: u64,
    after: []const u8,
) std.Io.Writer.Error!void {
    try writer.print("{s}{d}{s}", .{ before, number, after });
}

/// The limit by the name that whoever can raise it knows it by; null if it is the manager's own,
/// which the reason tells.
fn systemLimit(kind: os.Limit.Kind) ?[]const u8 {
    return switch (kind) {
        .none, .budget, .capacity => null,
        .memory => "the machine's memory",
        .control_group => "the control group's limit of memory (memory.max)",
        .commit => "the system's commit limit",
        .address_space => "the limit of address space (RLIMIT_AS)",
        .data => "the limit of private memory (RLIMIT_DATA)",
        .locked_memory => "the limit of locked memory (RLIMIT_MEMLOCK)",
        .map_entries => "the limit of mappings (vm.max_map_count)",
        .descriptors => "the limit of open files (RLIMIT_NOFILE)",
        .system_files => "the system's limit of open files (fs.file-max)",
        .disk => "the room on the disk",
        .file_size => "the limit of file sizes (RLIMIT_FSIZE)",
        .quota => "the disk quota",
        .addressable => "what a process can address on this processor",
    };
}

fn verb(detail: *const Detail) []const u8 {
    return switch (detail.operation) {
        .none => "do it",
        .open => "open the manager",
        .close => "close the manager",
        // What has a name is named before.
        .find => if (detail.dimension == Detail.none or detail.layer_name.len > 0)
            "find it"
        else
            "find a layer",
        .load => "load",
        .reload => "reload",
        .unload => "unload",
        .deallocate => "deallocate",
        .acquire => "acquire a view",
        .release => "release the view",
        .write => "write",
        .flush => "flush",
        .evict => "evict",
        .stats => "describe the state",
        .log => "set the log function",
        .retire => "retire",
        .pressure => "relieve the pressure",
        .alloc => "allocate a block",
        .resize => "resize the block",
        .free => "free the block",
        .trim => "trim the pools",
        .grow => "grow a pool",
        .save => "save",
        .verify => "verify",
        .inject => "inject the failure",
        .warm => "warm",
        .lock => "lock the pages",
        .unlock => "unlock the pages",
        .scan => "scan",
        .interrupt => "set the interrupt function",
    };
}

fn expectMessage(expected: []const u8, status: types.Status, detail: Detail) !void {
    var out: types.Error = .{};
    write(&out, status, &detail);
    try std.testing.expectEqualStrings(expected, std.mem.sliceTo(&out.message, 0));
}

test "R9.1, R9.2 error_text: a limit error names the dimension and all three numbers" {
    try expectMessage(
        "D03: cannot load 'a.bin': the budget's limit is reached: requested 5 bytes, used 7, limit 9",
        .limit_exceeded,
        .{
            .operation = .load,
            .dimension = 2,
            .dimension_name = "D03",
            .file_name = "a.bin",
            .reason = "the budget's limit is reached",
            .requested = 5,
            .used = 7,
            .limit = 9,
        },
    );
}

test "R7.1, R9.2 error_text: a limit of the system's is told by its name, in its own unit" {
    try expectMessage(
        "D03: cannot load 'a.bin': cannot map the file: the limit of mappings " ++
            "(vm.max_map_count) is reached: requested 1, used 65530, limit 65530",
        .allocation,
        .{
            .operation = .load,
            .dimension_name = "D03",
            .file_name = "a.bin",
            .reason = "cannot map the file",
            .requested = 1,
            .used = 65530,
            .limit = 65530,
            .limit_kind = .map_entries,
        },
    );
    try expectMessage(
        "cannot load: cannot open the file: the system's limit of open files (fs.file-max) " ++
            "is reached",
        .file_access,
        .{ .operation = .load, .reason = "cannot open the file", .limit_kind = .system_files },
    );
}

test "R9.1 error_text: bounds and layers" {
    try expectMessage(
        "D01 layer 'w': cannot acquire a view: beyond: offset 1, length 2, loaded 3 bytes",
        .out_of_bounds,
        .{
            .operation = .acquire,
            .dimension_name = "D01",
            .layer_name = "w",
            .reason = "beyond",
            .requested = 1,
            .used = 2,
            .limit = 3,
        },
    );
}

test "error_text: what is loaded from where nothing is has no layer to find" {
    try expectMessage("a: cannot find a layer: no file is loaded", .not_loaded, .{
        .operation = .find,
        .dimension = 0,
        .dimension_name = "a",
        .reason = "no file is loaded",
    });
    try expectMessage("a: cannot find it: no dimension has this name", .unknown_dimension, .{
        .operation = .find,
        .dimension_name = "a",
        .reason = "no dimension has this name",
    });
}

test "error_text: names are seen and not obeyed" {
    try expectMessage(
        "D\\n layer 'a\\x00b': cannot load '\\x1b[31mcaf\\xe9.npy': bad: at byte 7",
        .format,
        .{
            .operation = .load,
            .dimension_name = "D\n",
            .layer_name = "a\x00b",
            .file_name = "\x1b[31mcaf\xe9.npy",
            .reason = "bad",
            .offset = 7,
        },
    );
    var out: types.Error = .{};
    write(&out, .format, &.{ .layer_name = "a\x00b", .file_name = "caf\xe9" });
    try std.testing.expectEqualStrings("a\\x00b", std.mem.sliceTo(&out.layer_name, 0));
    try std.testing.expectEqualStrings("caf\xe9", std.mem.sliceTo(&out.file_name, 0));
}

test "error_text: the reason and the numbers are there however long the names are" {
    const names = [_][4095]u8{ @splat('x'), @splat('/'), @splat(0), @splat(0xff), @splat('\n') };
    for (names) |name| for ([_]usize{ 1, 63, 255, 1000, 1023, 1024, 4095 }) |length| {
        var out: types.Error = .{};
        write(&out, .limit_exceeded, &.{
            .operation = .deallocate,
            .dimension_name = name[0..@min(length, 63)],
            .layer_name = name[0..@min(length, 255)],
            .file_name = name[0..length],
            .reason = "the limit is reached",
            .requested = std.math.maxInt(u64),
            .used = 1,
            .limit = std.math.maxInt(u64),
            .code = 2,
        });
        const message = std.mem.sliceTo(&out.message, 0);
        try std.testing.expect(message.len < types.message_size);
        const end = std.mem.find(u8, message, ": the limit is reached: requested " ++
            "18446744073709551615 bytes, used 1, limit 18446744073709551615: ").?;
        try std.testing.expect(std.mem.endsWith(u8, message, " (system error 2)"));
        try std.testing.expect(std.mem.find(u8, message[0..end], ": cannot deallocate '") != null);
        try std.testing.expect(std.unicode.utf8ValidateSlice(message));
        // No room is left over where something was left out.
        if (length > 1023) try std.testing.expect(message.len > types.message_size - 16);
    };
}

test "error_text: of a long path both ends are there" {
    var out: types.Error = .{};
    const deep: [1000]u8 = @splat('d');
    write(&out, .limit_exceeded, &.{
        .operation = .load,
        .file_name = "/data/" ++ deep ++ "/words.npy",
        .reason = "r",
    });
    const message = std.mem.sliceTo(&out.message, 0);
    try std.testing.expect(std.mem.startsWith(u8, message, "cannot load '/data/ddd"));
    try std.testing.expect(std.mem.find(u8, message, "ddd...ddd") != null);
    try std.testing.expect(std.mem.find(u8, message, "ddd/words.npy': r: requested 0") != null);
}

test "error_text: a file name that is too long is cut at its front, and ends with NUL" {
    var out: types.Error = .{};
    const long: [5000]u8 = @splat('x');
    write(&out, .file_access, &.{ .file_name = &long, .reason = "r" });
    try std.testing.expectEqual(0, out.message[types.message_size - 1]);
    try std.testing.expectEqual(types.file_name_size - 1, std.mem.len(@as(
        [*:0]const u8,
        @ptrCast(&out.file_name),
    )));
}

test "error_text: a struct of no valid size is left alone" {
    var out: types.Error = .{ .struct_size = 8, .status = 99 };
    write(&out, .file_access, &.{});
    try std.testing.expectEqual(99, out.status);
}
