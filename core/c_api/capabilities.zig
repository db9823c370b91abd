//! Shims of the header's banners "Version" and "Capabilities".

const os = @import("../os.zig");
const Call = @import("Call.zig");
const sized = @import("sized.zig");
const types = @import("types.zig");

pub fn memmgr_version() callconv(.c) u32 {
    return types.version_major << 16 | types.version_minor << 8 | types.version_patch;
}

pub fn memmgr_capabilities_get(
    capabilities_out: ?*types.Capabilities,
    error_out: ?*types.Error,
) callconv(.c) i32 {
    var call: Call = .begin(.stats, error_out);
    return call.end(get(&call, capabilities_out));
}

fn get(call: *Call, capabilities_out: ?*types.Capabilities) Call.Error!void {
    const out = try call.output(types.Capabilities, capabilities_out);
    const system = os.capabilities();
    sized.write(types.Capabilities, out, .{
        .gate = @backingInt(gateOf(system.process_barrier)),
        .page_size = os.pageSize(),
        .granularity = os.granularity(),
        .atomic_placement = @intFromBool(system.atomic_placement),
        .system_code_kind = if (system.codes_are_errno) 1 else 2,
        .fault_guard = @intFromBool(system.fault_guard),
        .huge_pages = @intFromBool(system.huge_pages),
    });
}

pub fn gateOf(asymmetric: bool) types.Gate {
    return if (asymmetric) .asymmetric else .atomic;
}
