//! A failure in words: the one place where core's details become a memmgr_error.
//!
//! The sentence is: which dimension and layer; what could not be done, to which file; why; the
//! numbers that belong to the status; the system's own words and code.

const std = @import("std");
const os = @import("../os.zig");
const Detail = @import("../Detail.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn write(out: *types.Error, status: types.Status, detail: *const Detail) void {
    // A struct that is not one gets nothing written into it: the status says enough.
    var ignored: Detail = .{};
    sized.check(types.Error, out.struct_size, &ignored) catch return;
    var value: types.Error = .{
        .status = @backingInt(status),
        .operation = @backingInt(detail.operation),
        .dimension = detail.dimension,
        .layer = detail.layer,
        .views = detail.views,
        .system_code = detail.code,
        .requested = detail.requested,
        .used = detail.used,
        .limit = detail.limit,
        .offset = detail.offset,
        .limit_kind = @backingInt(detail.limit_kind),
    };
    sized.writeText(&value.dimension_name, detail.dimension_name);
    sized.writeText(&value.layer_name, detail.layer_name);
    sized.writePath(&value.file_name, detail.file_name);
    // What does not fit is cut; the numbers stand in fields of their own.
    var buffer: [types.message_size]u8 = undefined;
    var writer: std.Io.Writer = .fixed(&buffer);
    writeSentence(&writer, status, detail) catch {};
    sized.writeText(&value.message, writer.buffered());
    sized.write(types.Error, out, value);
}

fn writeSentence(
    writer: *std.Io.Writer,
    status: types.Status,
    detail: *const Detail,
) std.Io.Writer.Error!void {
    try writer.writeAll(detail.dimension_name);
    if (detail.layer_name.len > 0) {
        if (detail.dimension_name.len > 0) try writer.writeAll(" ");
        try writer.print("layer '{s}'", .{detail.layer_name});
    }
    if (writer.end > 0) try writer.writeAll(": ");
    try writer.print("cannot {s}", .{verb(detail.operation)});
    if (detail.file_name.len > 0) try writer.print(" '{s}'", .{detail.file_name});
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
        try writer.print(": {s} (system error {d})", .{
            os.describe(detail.code, &buffer),
            detail.code,
        });
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
    };
}

fn verb(operation: Detail.Operation) []const u8 {
    return switch (operation) {
        .none => "do it",
        .open => "open the manager",
        .close => "close the manager",
        .find => "find it",
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

test "error_text: a message that is too long is cut, and ends with NUL" {
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
