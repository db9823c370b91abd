//! Prints a C file that compiles only if include/memmgr.h and core/c_api agree, and fails if the
//! header, given as the argument, has a name that core/c_api lacks.
//!
//! The C names, types, offsets and values all come from the Zig declarations by reflection. A
//! struct of the mirror has no padding, and so a field that only the header has would move an
//! offset or the size.

const std = @import("std");
const types = @import("libmemmgr").types;

const Writer = std.Io.Writer;

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    const header = try std.Io.Dir.cwd().readFileAlloc(io, args[1], arena, .unlimited);

    var text: Writer.Allocating = .init(arena);
    try writeAsserts(&text.writer);
    try requireNames(header, text.written());
    try std.Io.File.stdout().writeStreamingAll(io, text.written());
}

fn writeAsserts(w: *Writer) Writer.Error!void {
    try w.writeAll("#include <memmgr.h>\n");
    inline for (comptime std.meta.declarations(types)) |name| {
        const value = @field(types, name);
        if (@TypeOf(value) != type) {
            try writeConstant(w, comptime upper(name), value);
        } else switch (@typeInfo(value)) {
            .@"struct" => try writeStruct(w, value),
            .@"enum" => try writeEnum(w, comptime upper(snake(name)), value),
            // Nothing in them can differ; the structs and functions that use them are compared.
            .@"opaque", .@"fn" => {},
            else => @compileError("types." ++ name ++ " has no counterpart in C"),
        }
    }
}

fn writeConstant(w: *Writer, comptime name: []const u8, comptime value: comptime_int) Writer.Error!void {
    try w.print("_Static_assert(MEMMGR_{s} == {d}, \"MEMMGR_{s}\");\n", .{ name, value, name });
}

fn writeEnum(w: *Writer, comptime name: []const u8, comptime E: type) Writer.Error!void {
    inline for (comptime std.enums.values(E)) |member| {
        const prefix = if (E != types.Status) name ++ "_" else if (member == .ok) "" else "ERR_";
        try writeConstant(w, prefix ++ comptime upper(@tagName(member)), @backingInt(member));
    }
}

fn writeStruct(w: *Writer, comptime S: type) Writer.Error!void {
    const name = comptime cName(S);
    comptime var size = 0;
    inline for (comptime std.meta.fieldNames(S)) |field| {
        const Field = @FieldType(S, field);
        if (@offsetOf(S, field) != size) @compileError(name ++ " has padding before " ++ field);
        size += @sizeOf(Field);
        try w.print(
            \\_Static_assert(offsetof({[s]s}, {[f]s}) == {[offset]d}, "offset of {[s]s}.{[f]s}");
            \\_Static_assert(_Generic(&(({[s]s} *)0)->{[f]s}, {[type]s}: 1, default: 0), "type of {[s]s}.{[f]s}");
            \\
        , .{ .s = name, .f = field, .offset = @offsetOf(S, field), .type = comptime pointerTo(Field) });
    }
    if (@sizeOf(S) != size) @compileError(name ++ " has padding at its end");
    try w.print("_Static_assert(sizeof({s}) == {d}, \"size of {s}\");\n", .{ name, size, name });
}

/// "M * N" for a pointer to the C type of `T`.
fn pointerTo(comptime T: type) []const u8 {
    return switch (@typeInfo(T)) {
        .array => |array| std.fmt.comptimePrint("{s} (*)[{d}]", .{ cName(array.child), array.len }),
        else => cName(T) ++ " *",
    };
}

/// The C type that `T` mirrors.
fn cName(comptime T: type) []const u8 {
    for (std.meta.declarations(types)) |name| {
        const value = @field(types, name);
        if (@TypeOf(value) == type and value == T) return "memmgr_" ++ snake(name);
    }
    return switch (T) {
        // The only bytes in the header are text.
        u8 => "char",
        u32 => "uint32_t",
        i32 => "int32_t",
        u64 => "uint64_t",
        i64 => "int64_t",
        usize => "size_t",
        anyopaque => "void",
        else => switch (@typeInfo(T)) {
            .optional => |optional| cName(optional.child),
            .pointer => |pointer| (if (pointer.attrs.@"const") "const " else "") ++
                cName(pointer.child) ++ " *",
            else => @compileError(@typeName(T) ++ " has no counterpart in C"),
        },
    };
}

/// Every MEMMGR_ name of the header has to stand in `asserts`.
fn requireNames(header: []const u8, asserts: []const u8) !void {
    var words = std.mem.tokenizeAny(u8, header, " \t\n\r(),;:.*{}[]\"=…");
    var missing: usize = 0;
    while (words.next()) |word| {
        if (!std.mem.startsWith(u8, word, "MEMMGR_") or std.mem.endsWith(u8, word, "_")) continue;
        if (std.mem.endsWith(u8, word, "_INIT") or isSwitch(word)) continue;
        if (std.mem.find(u8, asserts, word) != null) continue;
        std.debug.print("core/c_api/types.zig lacks {s}\n", .{word});
        missing += 1;
    }
    if (missing != 0) return error.MirrorIncomplete;
}

/// A macro that is not a value.
fn isSwitch(word: []const u8) bool {
    for ([_][]const u8{ "MEMMGR_H", "MEMMGR_API", "MEMMGR_CFFI", "MEMMGR_SHARED" }) |name| {
        if (std.mem.eql(u8, word, name)) return true;
    }
    return false;
}

/// "DimensionSpec" as "dimension_spec".
fn snake(comptime name: []const u8) []const u8 {
    var result: []const u8 = "";
    for (name, 0..) |c, i| {
        if (std.ascii.isUpper(c) and i != 0) result = result ++ "_";
        result = result ++ [_]u8{std.ascii.toLower(c)};
    }
    return result;
}

fn upper(comptime name: []const u8) []const u8 {
    var result: [name.len]u8 = undefined;
    const final = std.ascii.upperString(&result, name)[0..].*;
    return &final;
}
