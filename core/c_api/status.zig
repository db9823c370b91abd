//! Shims of the header's banners "Status" and "Error": core's errors as statuses of the header. A new
//! error does not compile until it has one.

const Detail = @import("../base.zig").Detail;
const types = @import("types.zig");

pub fn of(err: Detail.Error) types.Status {
    return switch (err) {
        error.InvalidArgument => .invalid_argument,
        error.LimitExceeded => .limit_exceeded,
        error.AllocationRefused => .allocation,
        error.AlreadyLoaded => .already_loaded,
        error.NotLoaded => .not_loaded,
        error.UnknownDimension => .unknown_dimension,
        error.UnknownLayer => .unknown_layer,
        error.OutOfBounds => .out_of_bounds,
        error.ViewsHeld => .views_held,
        error.WaitTimeout => .wait_timeout,
        error.InvalidAccess => .invalid_access,
        error.FileAccess => .file_access,
        error.BadFormat => .format,
        error.Faulted => .faulted,
        error.PoolCorruption => .pool_corruption,
        error.DiskFull => .disk_full,
        error.Cancelled => .cancelled,
    };
}

pub fn memmgr_status_name(status: i32) callconv(.c) [*:0]const u8 {
    return nameOf(types.Status, status);
}

pub fn memmgr_operation_name(operation: u32) callconv(.c) [*:0]const u8 {
    return nameOf(types.Operation, operation);
}

pub fn memmgr_limit_name(limit_kind: u32) callconv(.c) [*:0]const u8 {
    return nameOf(types.Limit, limit_kind);
}

fn nameOf(comptime T: type, value: anytype) [*:0]const u8 {
    const member = @import("std").enums.fromInt(T, value) orelse return "unknown";
    return @tagName(member);
}

test "status: names, known and unknown" {
    const std = @import("std");
    try std.testing.expectEqualStrings("limit_exceeded", std.mem.span(memmgr_status_name(2)));
    try std.testing.expectEqualStrings("ok", std.mem.span(memmgr_status_name(0)));
    try std.testing.expectEqualStrings("unknown", std.mem.span(memmgr_status_name(-7)));
    try std.testing.expectEqualStrings("map_entries", std.mem.span(memmgr_limit_name(9)));
    try std.testing.expectEqualStrings("unknown", std.mem.span(memmgr_limit_name(4711)));
    try std.testing.expectEqualStrings("load", std.mem.span(memmgr_operation_name(4)));
    try std.testing.expectEqualStrings("unknown", std.mem.span(memmgr_operation_name(4711)));
}
