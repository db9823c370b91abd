//! Prints a C file that compiles only if include/memmgr.h and core/c_api agree, and fails if the
//! header, given as the argument, has a name that core/c_api lacks.
//!
//! A second argument is the same file as it once was, tests/abi/snapshot.c: instead of printing, it
//! fails if anything is different now, which for programs that are compiled already it would be too.
//!
//! The C names, types, offsets, values and prototypes all come from the Zig declarations by
//! reflection. A struct of the mirror has no padding, and so a field that only the header has
//! would move an offset or the size.

const std = @import("std");
const libmemmgr = @import("libmemmgr");
const types = libmemmgr.types;

const Writer = std.Io.Writer;

const prelude =
    \\#include <memmgr.h>
    \\#define CONSTANT(NAME, VALUE) _Static_assert(NAME == VALUE, #NAME)
    \\#define SIZE(STRUCT, BYTES) _Static_assert(sizeof(STRUCT) == BYTES, "size of " #STRUCT)
    \\#define FIELD(STRUCT, NAME, OFFSET, POINTER) \
    \\    _Static_assert(offsetof(STRUCT, NAME) == OFFSET, "offset of " #STRUCT "." #NAME); \
    \\    _Static_assert(_Generic(&((STRUCT *)0)->NAME, POINTER: 1, default: 0), \
    \\                   "type of " #STRUCT "." #NAME)
    \\memmgr_status status_type(void);
    \\int32_t status_type(void);
    \\
;

pub fn main(init: std.process.Init) !void {
    const io = init.io;
    const arena = init.arena.allocator();
    const args = try init.minimal.args.toSlice(arena);
    const header = try std.Io.Dir.cwd().readFileAlloc(io, args[1], arena, .unlimited);

    var text: Writer.Allocating = .init(arena);
    try writeAsserts(&text.writer);
    try requireNames(header, text.written());
    if (args.len == 2) return std.Io.File.stdout().writeStreamingAll(io, text.written());
    const snapshot = try std.Io.Dir.cwd().readFileAlloc(io, args[2], arena, .unlimited);
    try requireSame(snapshot, text.written());
}

/// Says which lines only one of the two has.
fn requireSame(snapshot: []const u8, now: []const u8) !void {
    if (std.mem.eql(u8, snapshot, now)) return;
    std.debug.print("the ABI is not that of the snapshot; if it is meant to change, and by the " ++
        "rules of docs/ABI.md: zig build snapshot\n", .{});
    printMissing("-", snapshot, now);
    printMissing("+", now, snapshot);
    return error.AbiChanged;
}

fn printMissing(sign: []const u8, lines: []const u8, others: []const u8) void {
    var each = std.mem.tokenizeScalar(u8, lines, '\n');
    while (each.next()) |line| {
        var known = std.mem.tokenizeScalar(u8, others, '\n');
        while (known.next()) |other| {
            if (std.mem.eql(u8, line, other)) break;
        } else std.debug.print("{s} {s}\n", .{ sign, line });
    }
}

fn writeAsserts(w: *Writer) Writer.Error!void {
    try w.writeAll(prelude);
    @setEvalBranchQuota(100_000);
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
    inline for (libmemmgr.shims) |shim| {
        inline for (comptime std.meta.declarations(shim)) |name| {
            if (comptime std.mem.startsWith(u8, name, "memmgr_")) {
                try writePrototype(w, name, @TypeOf(@field(shim, name)));
            }
        }
    }
}

fn writeConstant(w: *Writer, name: []const u8, value: i64) Writer.Error!void {
    try w.print("CONSTANT(MEMMGR_{s}, {d});\n", .{ name, value });
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
        const pointer = comptime pointerTo(Field);
        try w.print("FIELD({s}, {s}, {d}, {s});\n", .{ name, field, size, pointer });
        size += @sizeOf(Field);
    }
    if (@sizeOf(S) != size) @compileError(name ++ " has padding at its end");
    try w.print("SIZE({s}, {d});\n", .{ name, size });
}

/// C has two declarations of a function agree in every type.
fn writePrototype(w: *Writer, comptime name: []const u8, comptime F: type) Writer.Error!void {
    const function = @typeInfo(F).@"fn";
    try w.print("{s} {s}(", .{ comptime cName(function.return_type.?), name });
    if (function.param_types.len == 0) try w.writeAll("void");
    inline for (function.param_types, 0..) |Parameter, i| {
        try w.writeAll((if (i == 0) "" else ", ") ++ comptime cName(Parameter.?));
    }
    try w.writeAll(");\n");
}

/// The C type of a pointer to what `T` mirrors.
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
        f32 => "float",
        anyopaque => "void",
        else => switch (@typeInfo(T)) {
            .optional => |optional| cName(optional.child),
            .pointer => |pointer| switch (@typeInfo(pointer.child)) {
                // The typedef names the pointer.
                .@"fn" => cName(pointer.child),
                // On the right, where it is also right for a pointer to pointers.
                else => cName(pointer.child) ++
                    (if (pointer.attrs.@"const") " const *" else " *"),
            },
            else => @compileError(@typeName(T) ++ " has no counterpart in C"),
        },
    };
}

/// Every name of the header has to stand in `asserts`.
fn requireNames(header: []const u8, asserts: []const u8) !void {
    var missing = false;
    var words = tokenize(header);
    while (words.next()) |word| {
        if (!std.ascii.startsWithIgnoreCase(word, "memmgr_") or isNoDeclaration(word)) continue;
        var known = tokenize(asserts);
        while (known.next()) |name| {
            if (std.mem.eql(u8, name, word)) break;
        } else {
            std.debug.print("core/c_api has nothing for {s}\n", .{word});
            missing = true;
        }
    }
    if (missing) return error.MirrorIncomplete;
}

fn tokenize(text: []const u8) std.mem.TokenIterator(u8, .any) {
    return std.mem.tokenizeAny(u8, text, " \n(),;:.*{}[]\"");
}

/// Initializers, which test:header compiles, the switches of the preprocessor, and MEMMGR_MODE_....
fn isNoDeclaration(word: []const u8) bool {
    if (std.mem.endsWith(u8, word, "_INIT") or std.mem.endsWith(u8, word, "_")) return true;
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
