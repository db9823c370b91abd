//! The header's structs and constants in Zig, each under the name it has in C.
//!
//! The names are the link: `DimensionSpec` is memmgr_dimension_spec, `rank_max` is
//! MEMMGR_RANK_MAX, and a member of the enum `Mode` is MEMMGR_MODE_…. `zig build test:abi` walks
//! this file and compiles what it finds against include/memmgr.h, so neither can drift. What a
//! caller may fill with any bits is an integer here; only what core already knows is an enum.

const os = @import("../os.zig");
const Detail = @import("../base.zig").Detail;
const Dimension = @import("../dimension.zig").Dimension;
const Generation = @import("../dimension.zig").Generation;
const Layers = @import("../formats.zig").Layers;
const Scan = @import("../Scan.zig");
const Changes = @import("../files.zig").Verification.Changes;
const Stop = @import("../dimension.zig").Warming.Stop;
const dtype = @import("../formats.zig").dtype;
const formats = @import("../formats.zig");

pub const version_major = 0;
pub const version_minor = 1;
pub const version_patch = 0;

pub const dimension_name_size = 64;
pub const layer_name_size = 256;
pub const file_name_size = 4096;
pub const message_size = 1024;

pub const rank_max = 32;
pub const dimensions_max = 65536;
pub const managers_max = 1024;

pub const none: u32 = 0xffff_ffff;
pub const unknown: u64 = 0x7fff_ffff_ffff_ffff;
pub const forever: i64 = -1;

pub const log_debug: i32 = 10;
pub const log_info: i32 = 20;
pub const log_warning: i32 = 30;
pub const log_error: i32 = 40;

pub const open_populate: u32 = 1;
pub const open_gate_atomic: u32 = 2;
pub const open_track_views: u32 = 4;
pub const open_poison: u32 = 8;
pub const open_guard_pages: u32 = 16;
pub const open_fault_guard: u32 = 32;

pub const open_limit_auto: u32 = 64;

pub const load_huge_pages: u32 = 1;

pub const write_any_thread: u32 = 1;

pub const save_checksums: u32 = 1;

pub const verify_checksums: u32 = 1;

pub const change_grown: u32 = change("grown");
pub const change_shrunk: u32 = change("shrunk");
pub const change_rewritten: u32 = change("rewritten");
pub const change_replaced: u32 = change("replaced");
pub const change_gone: u32 = change("gone");
pub const change_corrupt: u32 = change("corrupt");

fn change(comptime name: []const u8) u32 {
    var changes: Changes = .{};
    @field(changes, name) = true;
    return @bitCast(changes);
}

/// C: memmgr_status, MEMMGR_OK and MEMMGR_ERR_…
pub const Status = enum(i32) {
    ok = 0,
    invalid_argument = 1,
    limit_exceeded = 2,
    allocation = 3,
    already_loaded = 4,
    not_loaded = 5,
    unknown_dimension = 6,
    unknown_layer = 7,
    out_of_bounds = 8,
    views_held = 9,
    wait_timeout = 10,
    invalid_access = 11,
    file_access = 12,
    format = 13,
    faulted = 14,
    pool_corruption = 15,
    disk_full = 16,
    cancelled = 17,
};

/// C: MEMMGR_OPERATION_…
pub const Operation = Detail.Operation;

/// C: MEMMGR_CALL_…
pub const Call = os.Call;

/// C: MEMMGR_LIMIT_…
pub const Limit = os.Limit.Kind;

/// C: MEMMGR_GATE_…
pub const Gate = enum(u32) { atomic = 1, asymmetric = 2 };

/// C: MEMMGR_ON_VIEWS_…
pub const OnViews = Dimension.OnViews;

/// C: MEMMGR_STATE_…
pub const State = enum(u32) {
    empty = 0,
    loaded = 1,
    writing = 2,
    unloading = 3,
    deallocated = 4,
    faulted = 5,
};

/// C: MEMMGR_MODE_…
pub const Mode = Generation.Mode;

/// C: MEMMGR_PREFETCH_…
pub const Prefetch = Generation.Prefetch;

/// C: MEMMGR_WARM_…
pub const Warm = Stop;

/// C: MEMMGR_FORMAT_…
pub const Format = formats.Format;

/// C: MEMMGR_DTYPE_…
pub const Dtype = dtype.Dtype;

/// C: MEMMGR_ORDER_…
pub const Order = Layers.Order;

/// C: memmgr_manager
pub const Manager = opaque {};

/// C: memmgr_error
pub const Error = extern struct {
    struct_size: u32 = @sizeOf(Error),
    status: i32 = 0,
    operation: u32 = 0,
    dimension: u32 = 0,
    layer: u32 = 0,
    limit_kind: u32 = 0,
    views: u64 = 0,
    system_code: i64 = 0,
    requested: u64 = 0,
    used: u64 = 0,
    limit: u64 = 0,
    offset: u64 = 0,
    dimension_name: [dimension_name_size]u8 = @splat(0),
    layer_name: [layer_name_size]u8 = @splat(0),
    file_name: [file_name_size]u8 = @splat(0),
    message: [message_size]u8 = @splat(0),
};

/// C: memmgr_capabilities
pub const Capabilities = extern struct {
    struct_size: u32 = @sizeOf(Capabilities),
    gate: u32 = 0,
    page_size: u64 = 0,
    granularity: u64 = 0,
    atomic_placement: u32 = 0,
    system_code_kind: u32 = 0,
    fault_guard: u32 = 0,
    huge_pages: u32 = 0,
};

/// C: memmgr_log_record
pub const LogRecord = extern struct {
    struct_size: u32 = @sizeOf(LogRecord),
    level: i32 = 0,
    operation: u32 = 0,
    dimension: u32 = 0,
    bytes: u64 = 0,
    allocated: u64 = 0,
    limit: u64 = 0,
    message: ?[*:0]const u8 = null,
    threshold_percent: u32 = 0,
    reserved: u32 = 0,
};

/// C: memmgr_log_function
pub const LogFunction = fn (record: *const LogRecord, user: ?*anyopaque) callconv(.c) void;

/// C: memmgr_interrupt_function
pub const InterruptFunction = fn (user: ?*anyopaque) callconv(.c) i32;

/// C: memmgr_dimension_spec
pub const DimensionSpec = extern struct {
    struct_size: u32 = @sizeOf(DimensionSpec),
    reserved: u32 = 0,
    name: ?[*:0]const u8 = null,
    capacity: u64 = 0,
};

/// C: memmgr_manager_options
pub const ManagerOptions = extern struct {
    struct_size: u32 = @sizeOf(ManagerOptions),
    dimension_count: u32 = 0,
    dimensions: ?[*]const DimensionSpec = null,
    capacity: u64 = 0,
    limit: u64 = 0,
    pool_limit: u64 = 0,
    read_timeout_ns: i64 = 0,
    flags: u32 = 0,
    reserved: u32 = 0,
};

/// C: memmgr_layer
pub const Layer = extern struct {
    struct_size: u32 = @sizeOf(Layer),
    index: u32 = 0,
    dtype: u32 = 0,
    order: u32 = 0,
    rank: u32 = 0,
    alignment: u32 = 0,
    offset: u64 = 0,
    length: u64 = 0,
    shape: [rank_max]u64 = @splat(0),
    name: [layer_name_size]u8 = @splat(0),
};

/// C: memmgr_load_options
pub const LoadOptions = extern struct {
    struct_size: u32 = @sizeOf(LoadOptions),
    mode: u32 = 0,
    prefetch: u32 = 0,
    format: u32 = 0,
    manifest: ?[*:0]const u8 = null,
    layers: ?[*]const Layer = null,
    layer_count: usize = 0,
    flags: u32 = 0,
    reserved: u32 = 0,
};

/// C: memmgr_view
pub const View = extern struct {
    struct_size: u32 = @sizeOf(View),
    dimension: u32 = 0,
    data: ?*const anyopaque = null,
    length: usize = 0,
    offset: u64 = 0,
    generation: u64 = 0,
    token: [2]u64 = @splat(0),
};

/// C: memmgr_holder
pub const Holder = extern struct {
    struct_size: u32 = @sizeOf(Holder),
    dimension: u32 = 0,
    layer: u32 = 0,
    ticket: u32 = 0,
    generation: u64 = 0,
    offset: u64 = 0,
    length: u64 = 0,
    thread: u64 = 0,
    age_ns: u64 = 0,
};

/// C: memmgr_write
pub const Write = extern struct {
    struct_size: u32 = @sizeOf(Write),
    dimension: u32 = 0,
    data: ?*anyopaque = null,
    length: usize = 0,
    generation: u64 = 0,
    token: [2]u64 = @splat(0),
};

/// C: memmgr_pool_stats
pub const PoolStats = extern struct {
    struct_size: u32 = @sizeOf(PoolStats),
    class_count: u32 = 0,
    allocated: u64 = 0,
    peak: u64 = 0,
    limit: u64 = 0,
    blocks: u64 = 0,
    bytes: u64 = 0,
    large_blocks: u64 = 0,
    large_bytes: u64 = 0,
    free_bytes: u64 = 0,
    refusals: u64 = 0,
    double_frees: u64 = 0,
};

/// C: memmgr_pool_class
pub const PoolClass = extern struct {
    struct_size: u32 = @sizeOf(PoolClass),
    index: u32 = 0,
    block_size: u64 = 0,
    slab_size: u64 = 0,
    slabs: u64 = 0,
    blocks: u64 = 0,
    free_blocks: u64 = 0,
    hits: u64 = 0,
    misses: u64 = 0,
};

/// C: memmgr_stats
pub const Stats = extern struct {
    struct_size: u32 = @sizeOf(Stats),
    dimension_count: u32 = 0,
    loaded_count: u32 = 0,
    gate: u32 = 0,
    allocated: u64 = 0,
    peak: u64 = 0,
    limit: u64 = 0,
    pool_limit: u64 = 0,
    reserved: u64 = 0,
    mapped: u64 = 0,
    views: u64 = 0,
    loads: u64 = 0,
    reloads: u64 = 0,
    unloads: u64 = 0,
    refusals: u64 = 0,
    limit_kind: u32 = 0,
    unused: u32 = 0,
};

/// C: memmgr_dimension_stats
pub const DimensionStats = extern struct {
    struct_size: u32 = @sizeOf(DimensionStats),
    dimension: u32 = 0,
    state: u32 = 0,
    mode: u32 = 0,
    prefetch: u32 = 0,
    format: u32 = 0,
    layer_count: u32 = 0,
    load_flags: u32 = 0,
    address: u64 = 0,
    capacity: u64 = 0,
    charged: u64 = 0,
    generation: u64 = 0,
    generation_address: u64 = 0,
    file_size: u64 = 0,
    file_device: u64 = 0,
    file_inode: u64 = 0,
    file_mtime_ns: i64 = 0,
    views: u64 = 0,
    retiring_views: u64 = 0,
    name: [dimension_name_size]u8 = @splat(0),
    file_name: [file_name_size]u8 = @splat(0),
};

/// C: memmgr_memory
pub const Memory = extern struct {
    struct_size: u32 = @sizeOf(Memory),
    dimension: u32 = 0,
    reserved: u64 = 0,
    mapped: u64 = 0,
    resident: u64 = 0,
    private_dirty: u64 = 0,
    huge: u64 = 0,
    locked: u64 = 0,
};

/// C: memmgr_progress_function
pub const ProgressFunction = fn (
    done: u64,
    total: u64,
    user: ?*anyopaque,
) callconv(.c) i32;

/// C: memmgr_save_options
pub const SaveOptions = extern struct {
    struct_size: u32 = @sizeOf(SaveOptions),
    format: u32 = 0,
    flags: u32 = 0,
    reserved: u32 = 0,
    manifest: ?[*:0]const u8 = null,
    progress: ?*const ProgressFunction = null,
    user: ?*anyopaque = null,
};

/// C: memmgr_array
pub const Array = extern struct {
    struct_size: u32 = @sizeOf(Array),
    dtype: u32 = 0,
    order: u32 = 0,
    rank: u32 = 0,
    name: ?[*:0]const u8 = null,
    data: ?*const anyopaque = null,
    length: u64 = 0,
    shape: [rank_max]u64 = @splat(0),
};

/// C: memmgr_verify_options
pub const VerifyOptions = extern struct {
    struct_size: u32 = @sizeOf(VerifyOptions),
    flags: u32 = 0,
    manifest: ?[*:0]const u8 = null,
    progress: ?*const ProgressFunction = null,
    user: ?*anyopaque = null,
    corrupt_layers: ?[*]u32 = null,
    corrupt_capacity: usize = 0,
};

/// C: memmgr_verification
pub const Verification = extern struct {
    struct_size: u32 = @sizeOf(Verification),
    changes: u32 = 0,
    generation: u64 = 0,
    old_device: u64 = 0,
    old_inode: u64 = 0,
    old_size: u64 = 0,
    old_mtime_ns: i64 = 0,
    new_device: u64 = 0,
    new_inode: u64 = 0,
    new_size: u64 = 0,
    new_mtime_ns: i64 = 0,
    checked_count: u32 = 0,
    unchecked_count: u32 = 0,
    corrupt_count: u32 = 0,
    reserved: u32 = 0,
};

/// C: memmgr_failure
pub const Failure = extern struct {
    struct_size: u32 = @sizeOf(Failure),
    call: u32 = 0,
    system_code: i64 = 0,
    after: u64 = 0,
    count: u64 = 0,
    dimension: ?[*:0]const u8 = null,
};

/// C: memmgr_warm_options
pub const WarmOptions = extern struct {
    struct_size: u32 = @sizeOf(WarmOptions),
    reserved: u32 = 0,
    bytes_per_second: u64 = 0,
    budget: u64 = 0,
    timeout_ns: i64 = 0,
    progress: ?*const ProgressFunction = null,
    user: ?*anyopaque = null,
};

/// C: memmgr_warming
pub const Warming = extern struct {
    struct_size: u32 = @sizeOf(Warming),
    stop: u32 = 0,
    limit_kind: u32 = 0,
    reserved: u32 = 0,
    generation: u64 = 0,
    size: u64 = 0,
    warm: u64 = 0,
    read: u64 = 0,
};

/// C: memmgr_residency
pub const Residency = extern struct {
    struct_size: u32 = @sizeOf(Residency),
    dimension: u32 = 0,
    generation: u64 = 0,
    offset: u64 = 0,
    length: u64 = 0,
    resident: u64 = 0,
    cached: u64 = 0,
    huge: u64 = 0,
    locked: u64 = 0,
};

/// C: MEMMGR_INSTRUCTIONS_…
pub const Instructions = Scan.Instructions;

/// C: memmgr_scan_options
pub const ScanOptions = extern struct {
    struct_size: u32 = @sizeOf(ScanOptions),
    instructions: u32 = 0,
    progress: ?*const ProgressFunction = null,
    user: ?*anyopaque = null,
};
