//! Shims of the header's banner "Verify".

const std = @import("std");
const Verification = @import("../files.zig").Verification;
const Call = @import("Call.zig");
const save = @import("save.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_dimension_verify(
    manager: ?*types.Manager,
    dimension: u32,
    options: ?*const types.VerifyOptions,
    verification_out: ?*types.Verification,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.verify, error_out);
    return call.end(verify(&call, manager, dimension, options, verification_out));
}

fn verify(
    call: *Call,
    handle: ?*types.Manager,
    index: u32,
    options: ?*const types.VerifyOptions,
    verification_out: ?*types.Verification,
) Call.Error!void {
    const out = try call.output(types.Verification, verification_out);
    const target = try call.open(handle);
    const dimension = try call.dimension(target, index);
    const given: types.VerifyOptions = if (options) |pointer|
        try sized.read(types.VerifyOptions, pointer, &call.detail)
    else
        .{};
    if (given.flags & ~types.verify_checksums != 0) {
        return call.invalid("flags has bits that this version of the library does not know");
    }
    if (given.corrupt_layers == null and given.corrupt_capacity != 0) {
        return call.invalid("corrupt_layers is NULL, but corrupt_capacity is not 0");
    }
    var listener: save.Listener = .{ .function = given.progress, .user = given.user };
    const found = try target.manager.verify(dimension, target.handle, .{
        .checksums = given.flags & types.verify_checksums != 0,
        .manifest = if (given.manifest) |manifest| std.mem.span(manifest) else null,
        .progress = listener.progress(),
        .corrupt = if (given.corrupt_layers) |room| room[0..given.corrupt_capacity] else &.{},
    }, &call.detail);
    sized.write(types.Verification, out, .{
        .changes = @bitCast(found.changes),
        .generation = found.generation,
        .old_device = found.then.device,
        .old_inode = found.then.inode,
        .old_size = found.then.size,
        .old_mtime_ns = found.then.mtime_ns,
        .new_device = found.now.device,
        .new_inode = found.now.inode,
        .new_size = found.now.size,
        .new_mtime_ns = found.now.mtime_ns,
        .checked_count = found.checked_count,
        .unchecked_count = found.unchecked_count,
        .corrupt_count = found.corrupt_count,
    });
}
