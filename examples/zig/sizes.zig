//! sizes FILE: the layers of a .npy or .safetensors file, and how many of their bytes are zero.
//!
//! The module is memmgr's core, without C between: what checks a C program's arguments is not there,
//! and what is not in the header may change with every version.

const std = @import("std");
const memmgr = @import("memmgr");

pub fn main(init: std.process.Init) !void {
    const args = try init.minimal.args.toSlice(init.arena.allocator());
    if (args.len != 2) fail("usage: sizes FILE", .{});
    var buffer: [1024]u8 = undefined;
    var output = std.Io.File.stdout().writer(init.io, &buffer);
    var detail: memmgr.Detail = .{};
    print(&output.interface, args[1], &detail) catch |err| fail("{t}: {s}", .{ err, detail.reason });
    try output.interface.flush();
}

const Error = memmgr.Detail.Error || std.Io.Writer.Error;

fn print(output: *std.Io.Writer, path: [:0]const u8, detail: *memmgr.Detail) Error!void {
    const manager = try memmgr.Managers.open(.{ .dimension_count = 1 }, detail);
    const handle = manager.handle.load(.monotonic);
    defer manager.close(handle, .@"defer", null, detail) catch unreachable; // it is open
    const dimension = &manager.dimensions()[0];
    try manager.load(dimension, handle, path, .{}, detail);

    const word = try dimension.enter(detail);
    defer dimension.leave(&manager.counters, dimension.index, word.slot);
    const generation = dimension.inside(word);
    const bytes = dimension.gate.slots[word.slot].base[0..generation.size];
    for (generation.layers.items) |layer| {
        const zeros = std.mem.countScalar(u8, bytes[layer.offset..][0..layer.length], 0);
        try output.print("{s}: {d} bytes, {d} of them 0\n", .{ layer.name, layer.length, zeros });
    }
}

fn fail(comptime format: []const u8, arguments: anytype) noreturn {
    std.debug.print("sizes: " ++ format ++ "\n", arguments);
    std.process.exit(1);
}
