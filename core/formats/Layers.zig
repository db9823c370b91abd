//! The layers of one loaded file: what stands where, in the order of their offsets, and found by
//! name in constant time.
//!
//! A table that exists is true: every layer lies within the file, no two overlap, no two have the
//! same name, and a layer's length is what its type and shape come to. It is one allocation of
//! exactly the bytes that it needs, because layers are met twice: once to be checked and counted,
//! once to be stored.

const std = @import("std");
const Detail = @import("../base.zig").Detail;
const dtypes = @import("dtype.zig");

const Allocator = std.mem.Allocator;
pub const Dtype = dtypes.Dtype;

const Layers = @This();

/// In the order of their offsets. Layers of no bytes come before the one that begins at the same
/// offset; among themselves they are in the order of their names.
items: []const Layer,
/// Open addressing with linear probing: indices of `items`, or `vacant`. Never full.
slots: []const u32,
/// What else the file's header says: the JSON object that safetensors calls __metadata__, as it
/// stands there; "" if it has none.
notes: []const u8 = "",
/// What `items`, their shapes and names, `slots` and `notes` lie in.
memory: []align(@alignOf(Layer)) u8,

/// Mirrors MEMMGR_ORDER_… of the header.
pub const Order = enum(u32) { c = 0, fortran = 1 };

pub const Layer = struct {
    name: [:0]const u8,
    dtype: Dtype,
    order: Order,
    shape: []const u64,
    /// In bytes, from the start of the file.
    offset: u64,
    length: u64,
};

/// A layer as somebody describes it, not yet checked. Borrows everything.
pub const Spec = struct {
    name: []const u8,
    dtype: Dtype,
    order: Order = .c,
    shape: []const u64,
    offset: u64,
    /// 0: what the type and the shape come to. An `opaque` layer has the length given here, and
    /// either no axis or one of as many bytes.
    length: u64 = 0,

    /// Completes `length` of a layer within `data_size` bytes. Returns what is wrong with the
    /// layer, or null.
    pub fn settle(spec: *Spec, data_size: u64) ?[]const u8 {
        if (nameFault(spec.name)) |reason| return reason;
        if (spec.shape.len > rank_max) return "layer has more than 32 axes";
        if (spec.dtype == .@"opaque") {
            if (spec.shape.len > 1) return "layer of opaque bytes has more than one axis";
            if (spec.shape.len == 1 and spec.shape[0] != spec.length) {
                return "layer of opaque bytes has another length than its axis";
            }
        } else {
            const size_bits = product(dtypes.bits(spec.dtype), spec.shape) orelse
                return "layer's shape and type come to more bytes than can be addressed";
            if (size_bits % 8 != 0) return "layer's elements do not fill a whole number of bytes";
            if (spec.length != 0 and spec.length != size_bits / 8) {
                return "layer's length is not what its type and shape come to";
            }
            spec.length = size_bits / 8;
        }
        if (spec.offset > data_size or spec.length > data_size - spec.offset) {
            return "layer goes beyond the end of the data";
        }
        return null;
    }
};

/// Mirrors MEMMGR_RANK_MAX.
pub const rank_max = 32;
/// Mirrors MEMMGR_LAYER_NAME_SIZE, without the NUL.
pub const name_size_max = 255;

const vacant: u32 = Detail.none;

pub const empty: Layers = .{ .items = &.{}, .slots = &.{vacant}, .memory = &.{} };

/// The layers that a caller describes for a file of `data_size` bytes. Holes are allowed.
pub fn fromSpecs(
    gpa: Allocator,
    specs: []const Spec,
    data_size: u64,
    detail: *Detail,
) Detail.Error!Layers {
    var count: Count = .{};
    for (specs) |spec| {
        var settled = spec;
        if (settled.settle(data_size)) |reason| {
            detail.setLayerName(spec.name);
            return detail.fail(error.InvalidArgument, reason);
        }
        count.add(settled);
    }
    var builder: Builder = try .init(gpa, count, detail);
    errdefer builder.deinit();
    for (specs) |spec| {
        var settled = spec;
        // Nothing is wrong with it: that was looked at above.
        _ = settled.settle(data_size);
        builder.add(settled);
    }
    return builder.finish(.{ .refusal = error.InvalidArgument });
}

pub fn deinit(layers: *Layers, gpa: Allocator) void {
    gpa.free(layers.memory);
    layers.* = empty;
}

/// Index of the layer of that name.
pub fn find(layers: *const Layers, name: []const u8) ?u32 {
    const index = layers.slots[layers.probe(name)];
    return if (index == vacant) null else index;
}

/// Index of the layer that has the byte at `offset`.
pub fn findAt(layers: *const Layers, offset: u64) ?u32 {
    for (layers.items, 0..) |*layer, index| {
        if (offset -% layer.offset < layer.length) return @intCast(index);
    }
    return null;
}

/// The slot that holds the layer of that name, or the vacant one where it would stand.
fn probe(layers: *const Layers, name: []const u8) usize {
    // The table's address makes the hash another one in every process, so that no file can be
    // written whose names all fall into one place.
    const seed = @intFromPtr(layers.items.ptr);
    const mask = layers.slots.len - 1;
    var at = @as(usize, @truncate(std.hash.Wyhash.hash(seed, name))) & mask;
    while (layers.slots[at] != vacant) : (at = (at + 1) & mask) {
        if (std.mem.eql(u8, layers.items[layers.slots[at]].name, name)) break;
    }
    return at;
}

/// `unit` for each element of a shape; null if that does not fit. Extents of 0 do not excuse the
/// others: no array of such a shape can be made.
pub fn product(unit: u64, shape: []const u64) ?u64 {
    var result: u64 = unit;
    var nothing = false;
    for (shape) |extent| {
        if (extent == 0) nothing = true else result = std.math.mul(u64, result, extent) catch
            return null;
    }
    return if (nothing) 0 else result;
}

fn nameFault(name: []const u8) ?[]const u8 {
    if (name.len == 0) return "layer has an empty name, want 1 to 255 bytes";
    if (name.len > name_size_max) return "layer's name is longer than 255 bytes";
    if (!std.unicode.utf8ValidateSlice(name)) return "layer's name is not UTF-8";
    if (std.mem.findScalar(u8, name, 0) != null) return "layer's name has a NUL inside";
    return null;
}

/// How much a table has to hold. Cannot overflow: no memory holds 2^55 specs.
pub const Count = struct {
    layers: usize = 0,
    extents: usize = 0,
    name_bytes: usize = 0,
    note_bytes: usize = 0,

    pub fn add(count: *Count, spec: Spec) void {
        count.layers += 1;
        count.extents += spec.shape.len;
        count.name_bytes += spec.name.len + 1;
    }
};

/// Stores settled layers, exactly those that were counted, in any order.
pub const Builder = struct {
    gpa: Allocator,
    detail: *Detail,
    memory: []align(@alignOf(Layer)) u8,
    items: []Layer,
    extents: []u64,
    slots: []u32,
    name_bytes: []u8,
    notes: []u8,
    /// Of each of the above, how much is used.
    used: Count = .{},

    pub fn init(gpa: Allocator, count: Count, detail: *Detail) Detail.Error!Builder {
        if (count.layers >= vacant) {
            return detail.fail(error.InvalidArgument, "there are more than 4,294,967,294 layers");
        }
        // At most two thirds are taken, and one slot is always vacant.
        const slot_count = if (count.layers == 0)
            0
        else
            std.math.ceilPowerOfTwoAssert(usize, count.layers + count.layers / 2 + 1);
        const items_size = count.layers * @sizeOf(Layer);
        const extents_size = count.extents * @sizeOf(u64);
        const slots_size = slot_count * @sizeOf(u32);
        const size = items_size + extents_size + slots_size + count.name_bytes + count.note_bytes;
        const memory = gpa.alignedAlloc(u8, .of(Layer), size) catch
            return detail.refused(size, "no memory for the layer table");
        const extents_start = items_size;
        const slots_start = extents_start + extents_size;
        const names_start = slots_start + slots_size;
        return .{
            .gpa = gpa,
            .detail = detail,
            .memory = memory,
            .items = @ptrCast(memory[0..items_size]),
            .extents = @ptrCast(@alignCast(memory[extents_start..slots_start])),
            .slots = @ptrCast(@alignCast(memory[slots_start..names_start])),
            .name_bytes = memory[names_start..][0..count.name_bytes],
            .notes = memory[names_start + count.name_bytes ..],
        };
    }

    /// Not after `finish` has succeeded.
    pub fn deinit(builder: *Builder) void {
        builder.gpa.free(builder.memory);
    }

    pub fn add(builder: *Builder, spec: Spec) void {
        const used = builder.used;
        builder.used.add(spec);
        const shape = builder.extents[used.extents..builder.used.extents];
        @memcpy(shape, spec.shape);
        const name = builder.name_bytes[used.name_bytes..builder.used.name_bytes];
        @memcpy(name[0..spec.name.len], spec.name);
        name[spec.name.len] = 0;
        builder.items[used.layers] = .{
            .name = name[0..spec.name.len :0],
            .dtype = spec.dtype,
            .order = spec.order,
            .shape = shape,
            .offset = spec.offset,
            .length = spec.length,
        };
    }

    pub const Rules = struct {
        /// What is returned if the layers do not go together.
        refusal: error{ InvalidArgument, BadFormat },
        /// The part of the file that the layers have to cover without a hole, if any.
        covered: ?struct { start: u64, end: u64 } = null,
    };

    /// The table, which takes the builder's memory over unless this fails.
    pub fn finish(builder: *Builder, rules: Rules) Detail.Error!Layers {
        // Files that were written in the order of their offsets cost one walk.
        std.sort.pdq(Layer, builder.items, {}, before);
        const layers = try builder.index(rules);
        var end: u64 = if (rules.covered) |range| range.start else 0;
        for (layers.items) |layer| {
            if (layer.offset < end) {
                return builder.refuse(rules, layer, "layer overlaps the one before it");
            }
            if (rules.covered != null and layer.offset > end) {
                return builder.refuse(rules, layer, "bytes before the layer belong to none");
            }
            end = layer.offset + layer.length;
        }
        if (rules.covered) |range| if (end != range.end) {
            builder.detail.offset = end;
            return builder.detail.fail(rules.refusal, "bytes after the last layer belong to none");
        };
        return layers;
    }

    fn index(builder: *Builder, rules: Rules) Detail.Error!Layers {
        @memset(builder.slots, vacant);
        const layers: Layers = .{
            .items = builder.items,
            .slots = if (builder.items.len == 0) empty.slots else builder.slots,
            .notes = builder.notes,
            .memory = builder.memory,
        };
        for (builder.items, 0..) |layer, position| {
            const slot = &builder.slots[layers.probe(layer.name)];
            if (slot.* != vacant) {
                return builder.refuse(rules, layer, "two layers have the same name");
            }
            slot.* = @intCast(position);
        }
        return layers;
    }

    fn refuse(builder: *Builder, rules: Rules, layer: Layer, reason: []const u8) Detail.Error {
        builder.detail.setLayerName(layer.name);
        builder.detail.offset = layer.offset;
        return builder.detail.fail(rules.refusal, reason);
    }

    fn before(_: void, a: Layer, b: Layer) bool {
        if (a.offset != b.offset) return a.offset < b.offset;
        if (a.length != b.length) return a.length < b.length;
        return std.mem.lessThan(u8, a.name, b.name);
    }
};

const testing = std.testing;

fn u8Spec(name: []const u8, shape: []const u64, offset: u64) Spec {
    return .{ .name = name, .dtype = .u8, .shape = shape, .offset = offset };
}

test "layers come in the order of their offsets, with their lengths, and are found by name" {
    const specs = [_]Spec{
        .{ .name = "matrix", .dtype = .f32, .order = .fortran, .shape = &.{ 2, 3 }, .offset = 40 },
        .{ .name = "packed", .dtype = .f6_e2m3, .shape = &.{4}, .offset = 0, .length = 3 },
        .{ .name = "bytes", .dtype = .@"opaque", .shape = &.{}, .offset = 8, .length = 5 },
        .{ .name = "octets", .dtype = .@"opaque", .shape = &.{9}, .offset = 20, .length = 9 },
        .{ .name = "skalär", .dtype = .c128, .shape = &.{}, .offset = 64 },
        .{ .name = "nothing", .dtype = .f32, .shape = &.{ 0, 7 }, .offset = 80 },
        .{ .name = "less", .dtype = .@"opaque", .shape = &.{}, .offset = 80 },
    };
    const names = [_][:0]const u8{
        "packed", "bytes",   "octets", "matrix",
        "skalär",
        "less",   "nothing",
    };
    const lengths = [_]u64{ 3, 5, 9, 24, 16, 0, 0 };
    var detail: Detail = .{};
    var layers = try fromSpecs(testing.allocator, &specs, 80, &detail);
    defer layers.deinit(testing.allocator);
    try testing.expectEqual(specs.len, layers.items.len);
    for (layers.items, names, lengths, 0..) |layer, name, length, at| {
        try testing.expectEqualSentinel(u8, 0, name, layer.name);
        try testing.expectEqual(length, layer.length);
        try testing.expectEqual(@as(u32, @intCast(at)), layers.find(name));
    }
    const matrix = layers.items[layers.find("matrix").?];
    try testing.expectEqual(.fortran, matrix.order);
    try testing.expectEqual(.f32, matrix.dtype);
    try testing.expectEqualSlices(u64, &.{ 2, 3 }, matrix.shape);
    for ([_][]const u8{ "", "matri", "matrixx", "Matrix" }) |name| {
        try testing.expectEqual(null, layers.find(name));
    }
}

test "a table keeps nothing of what its specs point at" {
    var name = "weights".*;
    var shape = [_]u64{ 2, 2 };
    var detail: Detail = .{};
    var layers = try fromSpecs(testing.allocator, &.{u8Spec(&name, &shape, 0)}, 4, &detail);
    defer layers.deinit(testing.allocator);
    @memset(&name, 'x');
    @memset(&shape, 9);
    try testing.expectEqual(0, layers.find("weights"));
    try testing.expectEqualSlices(u64, &.{ 2, 2 }, layers.items[0].shape);
}

test "a table without layers finds nothing and can be given back" {
    var none: Layers = .empty;
    try testing.expectEqual(null, none.find("a"));
    none.deinit(testing.allocator);
    var detail: Detail = .{};
    var layers = try fromSpecs(testing.allocator, &.{}, 0, &detail);
    try testing.expectEqual(null, layers.find(""));
    layers.deinit(testing.allocator);
    layers.deinit(testing.allocator);
}

test "specs that cannot be are refused with the reason and the layer (R3.5, R9.1)" {
    const long: [256]u8 = @splat('n');
    const max = std.math.maxInt(u64);
    const ones: [33]u64 = @splat(1);
    const too_large = "layer's shape and type come to more bytes than can be addressed";
    const beyond = "layer goes beyond the end of the data";
    const not_whole = "layer's elements do not fill a whole number of bytes";
    const Case = struct { Spec, []const u8 };
    const cases = [_]Case{
        .{ u8Spec("", &.{8}, 0), "layer has an empty name, want 1 to 255 bytes" },
        .{ u8Spec(&long, &.{8}, 0), "layer's name is longer than 255 bytes" },
        .{ u8Spec("\xff", &.{8}, 0), "layer's name is not UTF-8" },
        .{ u8Spec("a\x00", &.{8}, 0), "layer's name has a NUL inside" },
        .{ u8Spec("a", &ones, 0), "layer has more than 32 axes" },
        .{ u8Spec("a", &.{9}, 0), beyond },
        .{ u8Spec("a", &.{8}, 1), beyond },
        .{ u8Spec("a", &.{8}, max), beyond },
        .{ u8Spec("a", &.{0}, 9), beyond },
        .{ u8Spec("a", &.{max}, 0), too_large },
        .{ u8Spec("a", &.{ 1 << 32, 1 << 32 }, 0), too_large },
        .{ u8Spec("a", &.{ 1 << 32, 0, 1 << 32 }, 0), too_large },
        .{ u8Spec("a", &.{ 1 << 61, 0 }, 0), too_large },
        .{ .{ .name = "a", .dtype = .f4, .shape = &.{3}, .offset = 0 }, not_whole },
        .{
            .{ .name = "a", .dtype = .u8, .shape = &.{4}, .offset = 0, .length = 5 },
            "layer's length is not what its type and shape come to",
        },
        .{
            .{ .name = "a", .dtype = .@"opaque", .shape = &.{ 2, 4 }, .offset = 0, .length = 8 },
            "layer of opaque bytes has more than one axis",
        },
        .{
            .{ .name = "a", .dtype = .@"opaque", .shape = &.{8}, .offset = 0, .length = 7 },
            "layer of opaque bytes has another length than its axis",
        },
        .{
            .{ .name = "a", .dtype = .@"opaque", .shape = &.{}, .offset = 0, .length = 9 },
            beyond,
        },
    };
    for (cases) |case| {
        var detail: Detail = .{};
        const specs = [_]Spec{ u8Spec("fine", &.{0}, 0), case[0] };
        const result = fromSpecs(testing.allocator, &specs, 8, &detail);
        try testing.expectError(error.InvalidArgument, result);
        try testing.expectEqualStrings(case[1], detail.reason);
        if (std.unicode.utf8ValidateSlice(case[0].name)) {
            try testing.expect(std.mem.startsWith(u8, case[0].name, detail.layer_name));
        }
    }
}

test "layers that overlap or share a name are refused" {
    const Case = struct { Spec, Spec, []const u8 };
    const overlaps = "layer overlaps the one before it";
    for ([_]Case{
        .{ u8Spec("b", &.{5}, 0), u8Spec("a", &.{4}, 4), overlaps },
        .{ u8Spec("B", &.{8}, 0), u8Spec("a", &.{8}, 0), overlaps },
        .{ u8Spec("b", &.{8}, 0), u8Spec("a", &.{0}, 4), overlaps },
        .{ u8Spec("a", &.{4}, 0), u8Spec("a", &.{4}, 4), "two layers have the same name" },
        .{ u8Spec("a", &.{0}, 0), u8Spec("a", &.{0}, 0), "two layers have the same name" },
    }) |case| {
        for ([_][2]Spec{ .{ case[0], case[1] }, .{ case[1], case[0] } }) |specs| {
            var detail: Detail = .{};
            const result = fromSpecs(testing.allocator, &specs, 8, &detail);
            try testing.expectError(error.InvalidArgument, result);
            try testing.expectEqualStrings(case[2], detail.reason);
            try testing.expectEqualStrings("a", detail.layer_name);
        }
    }
}

test "a million layers are built and found, in less than 100 bytes a layer (R3.2)" {
    const count = 1_000_000;
    const gpa = std.heap.page_allocator;
    const names = try gpa.alloc([8]u8, count);
    defer gpa.free(names);
    const specs = try gpa.alloc(Spec, count);
    defer gpa.free(specs);
    for (names, specs, 0..) |*name, *spec, at| {
        _ = try std.mem.print(name, "L{d:0>7}", .{at});
        // Against the order, to be sorted.
        spec.* = u8Spec(name, &.{2}, 2 * (count - 1 - at));
    }
    var detail: Detail = .{};
    var layers = try fromSpecs(gpa, specs, 2 * count, &detail);
    defer layers.deinit(gpa);
    try testing.expect(layers.memory.len < 100 * count);
    for (names, 0..) |name, at| {
        try testing.expectEqual(@as(u32, @intCast(count - 1 - at)), layers.find(&name));
    }
    try testing.expectEqual(null, layers.find("L1000000"));
}

test "a byte is in the layer that has it, and in none between or beyond them" {
    const specs = [_]Spec{
        u8Spec("a", &.{4}, 2),
        u8Spec("none", &.{0}, 6),
        u8Spec("b", &.{2}, 6),
        u8Spec("c", &.{1}, 9),
    };
    var detail: Detail = .{};
    var layers = try fromSpecs(testing.allocator, &specs, 20, &detail);
    defer layers.deinit(testing.allocator);
    for ([_]?[]const u8{ null, null, "a", "a", "a", "a", "b", "b", null, "c", null }, 0..) |name, byte| {
        const index = layers.findAt(byte) orelse {
            try testing.expectEqual(null, name);
            continue;
        };
        try testing.expectEqualStrings(name.?, layers.items[index].name);
    }
}

test "refused memory leaves nothing behind" {
    try testing.checkAllAllocationFailures(testing.allocator, fromSpecsOnce, .{});
}

fn fromSpecsOnce(gpa: Allocator) !void {
    var detail: Detail = .{};
    const specs = [_]Spec{ u8Spec("a", &.{4}, 0), u8Spec("b", &.{4}, 4) };
    var layers = fromSpecs(gpa, &specs, 8, &detail) catch |err| {
        try testing.expect(err == error.AllocationRefused and detail.requested != 0);
        return error.OutOfMemory;
    };
    layers.deinit(gpa);
}
