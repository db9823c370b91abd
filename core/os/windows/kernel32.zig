//! What windows.zig uses of Windows: Microsoft's names and numbers in Zig's spelling, Microsoft's
//! order of arguments and fields. All functions but those given as types have been in kernel32
//! since Windows 7.

const std = @import("std");

// Codes of GetLastError.
pub const error_file_not_found = 2;
pub const error_path_not_found = 3;
pub const error_too_many_open_files = 4;
pub const error_access_denied = 5;
pub const error_not_enough_memory = 8;
pub const error_out_of_memory = 14;
pub const error_sharing_violation = 32;
pub const error_handle_eof = 38;
pub const error_handle_disk_full = 39;
pub const error_not_supported = 50;
pub const error_file_exists = 80;
pub const error_disk_full = 112;
pub const error_already_exists = 183;
pub const error_bad_file_type = 222;
pub const error_file_too_large = 223;
pub const error_more_data = 234;
pub const error_directory_not_supported = 336;
pub const error_invalid_address = 487;
pub const error_stopped_on_symlink = 681;
pub const error_noaccess = 998;
pub const error_swaperror = 999;
pub const error_disk_quota_exceeded = 1295;
pub const error_no_system_resources = 1450;
pub const error_working_set_quota = 1453;
pub const error_commitment_limit = 1455;
pub const error_invalid_user_buffer = 1784;
pub const error_not_enough_quota = 1816;

pub const Bool = c_int;
pub const this_process: *anyopaque = @ptrFromInt(std.math.maxInt(usize));
pub const invalid_handle: ?*anyopaque = @ptrFromInt(std.math.maxInt(usize));
pub const infinite: u32 = 0xffffffff;
pub const fls_out_of_indexes: u32 = 0xffffffff;

pub const mem_coalesce_placeholders = 0x1;
pub const mem_preserve_placeholder = 0x2;
pub const mem_commit = 0x1000;
pub const mem_reserve = 0x2000;
pub const mem_replace_placeholder = 0x4000;
pub const mem_decommit = 0x4000;
pub const mem_release = 0x8000;
pub const mem_free = 0x10000;
pub const mem_private = 0x20000;
pub const mem_reserve_placeholder = 0x40000;

pub const page_noaccess = 0x1;
pub const page_readonly = 0x2;
pub const page_readwrite = 0x4;
pub const page_writecopy = 0x8;

pub const file_map_copy = 0x1;
pub const file_map_write = 0x2;
pub const file_map_read = 0x4;

pub const generic_read = 0x80000000;
pub const generic_write = 0x40000000;
pub const file_share_read = 0x1;
pub const file_share_write = 0x2;
pub const file_share_delete = 0x4;
pub const create_new = 1;
pub const open_existing = 3;
pub const file_flag_open_reparse_point = 0x00200000;
pub const file_flag_backup_semantics = 0x02000000;
pub const security_sqos_present = 0x00100000;
pub const security_anonymous = 0;
pub const file_type_disk = 1;
pub const file_attribute_readonly = 0x1;
pub const file_attribute_directory = 0x10;
pub const file_attribute_normal = 0x80;
pub const file_attribute_sparse = 0x200;
pub const file_end_of_file_info = 6;
pub const file_attribute_tag_info = 9;
pub const file_id_info = 18;
pub const invalid_file_attributes = 0xffff_ffff;
pub const reparse_tag_mount_point = 0xa0000003;
pub const reparse_tag_symlink = 0xa000000c;
pub const movefile_replace_existing = 0x1;
pub const movefile_write_through = 0x8;
pub const duplicate_same_access = 0x2;
pub const fsctl_query_allocated_ranges = 0x940cf;
pub const fsctl_set_zero_data = 0x980c8;

pub const code_page_utf8 = 65001;
pub const invalid_is_error = 0x8;
pub const format_without_line_breaks = 0xff;
pub const format_ignore_inserts = 0x200;
pub const format_from_system = 0x1000;
pub const get_module_pin = 0x1;
pub const get_module_from_address = 0x4;

pub const SystemInfo = extern struct {
    processor_architecture: u16,
    reserved: u16,
    page_size: u32,
    lowest_address: ?*anyopaque,
    highest_address: ?*anyopaque,
    processor_mask: usize,
    processor_count: u32,
    processor_type: u32,
    allocation_granularity: u32,
    processor_level: u16,
    processor_revision: u16,
};

pub const MemoryStatus = extern struct {
    length: u32 = @sizeOf(MemoryStatus),
    load: u32 = 0,
    total_physical: u64 = 0,
    available_physical: u64 = 0,
    /// What Windows calls the page file is the limit of commitment, of the process if it has one.
    total_commit: u64 = 0,
    available_commit: u64 = 0,
    total_virtual: u64 = 0,
    available_virtual: u64 = 0,
    available_extended_virtual: u64 = 0,
};

/// MEMORY_BASIC_INFORMATION. Reservations, placeholders and views are allocations of their own, and
/// no region reaches from one into the next.
pub const Region = extern struct {
    base: [*]u8,
    allocation: [*]u8,
    allocation_protection: u32,
    partition: u16,
    size: usize,
    state: u32,
    protection: u32,
    type: u32,

    pub fn isReserved(region: Region, protection: u32) bool {
        return region.state == mem_reserve and region.allocation_protection == protection;
    }

    /// Bytes of the allocation before an address in it.
    pub fn before(region: Region, address: [*]u8) usize {
        return @intFromPtr(address) - @intFromPtr(region.allocation);
    }
};

pub const AddressRequirements = extern struct {
    lowest: ?*anyopaque = null,
    highest: ?*anyopaque = null,
    alignment: usize,
};

pub const ExtendedParameter = extern struct {
    /// MemExtendedParameterAddressRequirements.
    type: u64 = 1,
    pointer: *AddressRequirements,
};

pub const MemoryRange = extern struct { base: [*]u8, size: usize };

/// PSAPI_WORKING_SET_EX_INFORMATION.
pub const WorkingSetPage = packed struct(u128) {
    address: usize,
    valid: bool,
    share_count: u3,
    protection: u11,
    shared: bool,
    others: u48,
};

pub const FileTime = extern struct { low: u32, high: u32 };

/// BY_HANDLE_FILE_INFORMATION.
pub const FileInformation = extern struct {
    attributes: u32,
    creation_time: FileTime,
    access_time: FileTime,
    write_time: FileTime,
    volume: u32,
    size_high: u32,
    size_low: u32,
    links: u32,
    index_high: u32,
    index_low: u32,

    pub fn size(info: FileInformation) u64 {
        return @as(u64, info.size_high) << 32 | info.size_low;
    }
};

/// FILE_ID_INFO.
pub const FileId = extern struct { volume: u64, low: u64, high: u64 };

/// FILE_ATTRIBUTE_TAG_INFO.
pub const AttributeTag = extern struct { attributes: u32, tag: u32 };

pub const AllocatedRange = extern struct { offset: u64, length: u64 };

/// FILE_ZERO_DATA_INFORMATION.
pub const ZeroRange = extern struct { start: u64, end: u64 };

/// Only says where in the file; nothing here is asynchronous.
pub const Overlapped = extern struct {
    internal: usize = 0,
    internal_high: usize = 0,
    offset_low: u32,
    offset_high: u32,
    event: ?*anyopaque = null,

    pub fn at(offset: u64) Overlapped {
        return .{ .offset_low = @truncate(offset), .offset_high = @truncate(offset >> 32) };
    }
};

pub const status_access_violation = 0xc0000005;
pub const status_in_page_error = 0xc0000006;
pub const exception_continue_search = 0;
pub const exception_continue_execution = -1;

pub const ExceptionRecord = extern struct {
    status: u32,
    flags: u32,
    nested: ?*ExceptionRecord,
    instruction: ?*anyopaque,
    parameter_count: u32,
    /// Of the two above: what was tried, the address, and, of a page, the status of its reading.
    parameters: [15]usize,
};

pub const ExceptionPointers = extern struct {
    record: *ExceptionRecord,
    context: *anyopaque,
};

pub const ExceptionHandler = fn (exception: *ExceptionPointers) callconv(.winapi) i32;

pub const RtlNtStatusToDosError = fn (status: u32) callconv(.winapi) u32;
pub const InitOnce = fn (
    once: *?*anyopaque,
    parameter: ?*anyopaque,
    context: ?*?*anyopaque,
) callconv(.winapi) Bool;

pub const VirtualAlloc2 = fn (
    process: *anyopaque,
    base: ?[*]u8,
    size: usize,
    flags: u32,
    protection: u32,
    parameters: ?*ExtendedParameter,
    parameter_count: u32,
) callconv(.winapi) ?[*]u8;
pub const MapViewOfFile3 = fn (
    section: *anyopaque,
    process: *anyopaque,
    base: ?[*]u8,
    offset: u64,
    size: usize,
    flags: u32,
    protection: u32,
    parameters: ?*ExtendedParameter,
    parameter_count: u32,
) callconv(.winapi) ?[*]u8;
pub const UnmapViewOfFile2 = fn (
    process: *anyopaque,
    base: [*]u8,
    flags: u32,
) callconv(.winapi) Bool;
pub const PrefetchVirtualMemory = fn (
    process: *anyopaque,
    range_count: usize,
    ranges: *const MemoryRange,
    flags: u32,
) callconv(.winapi) Bool;
pub const WaitOnAddress = fn (
    address: *const anyopaque,
    compared: *const anyopaque,
    size: usize,
    milliseconds: u32,
) callconv(.winapi) Bool;
pub const WakeByAddress = fn (address: *const anyopaque) callconv(.winapi) void;

pub extern "kernel32" fn AddVectoredExceptionHandler(
    first: u32,
    handler: *const ExceptionHandler,
) callconv(.winapi) ?*anyopaque;
pub extern "kernel32" fn CloseHandle(handle: *anyopaque) callconv(.winapi) Bool;
pub extern "kernel32" fn CreateFileMappingW(
    file: *anyopaque,
    security: ?*anyopaque,
    protection: u32,
    size_high: u32,
    size_low: u32,
    name: ?[*:0]const u16,
) callconv(.winapi) ?*anyopaque;
pub extern "kernel32" fn CreateFileW(
    path: [*:0]const u16,
    access: u32,
    share: u32,
    security: ?*anyopaque,
    disposition: u32,
    flags: u32,
    template: ?*anyopaque,
) callconv(.winapi) ?*anyopaque;
pub extern "kernel32" fn DeleteFileW(path: [*:0]const u16) callconv(.winapi) Bool;
pub extern "kernel32" fn DeviceIoControl(
    file: *anyopaque,
    control: u32,
    input: ?*const anyopaque,
    input_size: u32,
    output: ?*anyopaque,
    output_size: u32,
    returned: *u32,
    overlapped: ?*Overlapped,
) callconv(.winapi) Bool;
pub extern "kernel32" fn DuplicateHandle(
    process: *anyopaque,
    handle: *anyopaque,
    target_process: *anyopaque,
    target: **anyopaque,
    access: u32,
    inherit: Bool,
    options: u32,
) callconv(.winapi) Bool;
pub extern "kernel32" fn FlsAlloc(
    callback: *const fn (value: ?*anyopaque) callconv(.winapi) void,
) callconv(.winapi) u32;
pub extern "kernel32" fn FlsSetValue(index: u32, value: ?*anyopaque) callconv(.winapi) Bool;
pub extern "kernel32" fn FlushFileBuffers(file: *anyopaque) callconv(.winapi) Bool;
pub extern "kernel32" fn FlushProcessWriteBuffers() callconv(.winapi) void;
pub extern "kernel32" fn FlushViewOfFile(base: [*]const u8, size: usize) callconv(.winapi) Bool;
pub extern "kernel32" fn FormatMessageW(
    flags: u32,
    source: ?*anyopaque,
    id: u32,
    language: u32,
    buffer: [*]u16,
    capacity: u32,
    arguments: ?*anyopaque,
) callconv(.winapi) u32;
pub extern "kernel32" fn GetCurrentThreadId() callconv(.winapi) u32;
pub extern "kernel32" fn GetFileAttributesW(path: [*:0]const u16) callconv(.winapi) u32;
pub extern "kernel32" fn GetFileInformationByHandle(
    file: *anyopaque,
    information: *FileInformation,
) callconv(.winapi) Bool;
pub extern "kernel32" fn GetFileInformationByHandleEx(
    file: *anyopaque,
    class: u32,
    information: *anyopaque,
    size: u32,
) callconv(.winapi) Bool;
pub extern "kernel32" fn GetFileType(file: *anyopaque) callconv(.winapi) u32;
pub extern "kernel32" fn GetFullPathNameW(
    path: [*]const u16,
    capacity: u32,
    buffer: ?[*]u16,
    file_part: ?*anyopaque,
) callconv(.winapi) u32;
pub extern "kernel32" fn GetLastError() callconv(.winapi) u32;
pub extern "kernel32" fn GetModuleHandleA(name: [*:0]const u8) callconv(.winapi) ?*anyopaque;
pub extern "kernel32" fn GetModuleHandleExW(
    flags: u32,
    name_or_address: *const anyopaque,
    module: **anyopaque,
) callconv(.winapi) Bool;
pub extern "kernel32" fn GetProcAddress(
    module: *anyopaque,
    name: [*:0]const u8,
) callconv(.winapi) ?*const anyopaque;
pub extern "kernel32" fn GetProcessHeap() callconv(.winapi) *anyopaque;
pub extern "kernel32" fn GetProcessWorkingSetSize(
    process: *anyopaque,
    least: *usize,
    most: *usize,
) callconv(.winapi) Bool;
pub extern "kernel32" fn GetSystemInfo(info: *SystemInfo) callconv(.winapi) void;
pub extern "kernel32" fn GlobalMemoryStatusEx(status: *MemoryStatus) callconv(.winapi) Bool;
pub extern "kernel32" fn HeapAlloc(
    process_heap: *anyopaque,
    flags: u32,
    size: usize,
) callconv(.winapi) ?[*]u8;
pub extern "kernel32" fn HeapFree(
    process_heap: *anyopaque,
    flags: u32,
    block: ?[*]u8,
) callconv(.winapi) Bool;
pub extern "kernel32" fn InitOnceExecuteOnce(
    once: *?*anyopaque,
    function: *const InitOnce,
    parameter: ?*anyopaque,
    context: ?*?*anyopaque,
) callconv(.winapi) Bool;
pub extern "kernel32" fn K32QueryWorkingSetEx(
    process: *anyopaque,
    pages: [*]WorkingSetPage,
    size: u32,
) callconv(.winapi) Bool;
pub extern "kernel32" fn MapViewOfFileEx(
    section: *anyopaque,
    access: u32,
    offset_high: u32,
    offset_low: u32,
    size: usize,
    base: ?[*]u8,
) callconv(.winapi) ?[*]u8;
pub extern "kernel32" fn MoveFileExW(
    from: [*:0]const u16,
    to: [*:0]const u16,
    flags: u32,
) callconv(.winapi) Bool;
pub extern "kernel32" fn MultiByteToWideChar(
    code_page: u32,
    flags: u32,
    text: [*:0]const u8,
    length: c_int,
    wide: ?[*]u16,
    capacity: c_int,
) callconv(.winapi) c_int;
pub extern "kernel32" fn QueryPerformanceCounter(ticks: *i64) callconv(.winapi) Bool;
pub extern "kernel32" fn QueryPerformanceFrequency(ticks_per_second: *i64) callconv(.winapi) Bool;
pub extern "kernel32" fn ReadFile(
    file: *anyopaque,
    buffer: [*]u8,
    size: u32,
    read: *u32,
    overlapped: *Overlapped,
) callconv(.winapi) Bool;
pub extern "kernel32" fn SetFileInformationByHandle(
    file: *anyopaque,
    class: u32,
    information: *const i64,
    size: u32,
) callconv(.winapi) Bool;
pub extern "kernel32" fn RaiseException(
    status: u32,
    flags: u32,
    parameter_count: u32,
    parameters: [*]const usize,
) callconv(.winapi) void;
pub extern "kernel32" fn RemoveVectoredExceptionHandler(handle: *anyopaque) callconv(.winapi) u32;
pub extern "kernel32" fn SetLastError(code: u32) callconv(.winapi) void;
pub extern "kernel32" fn SetProcessWorkingSetSize(
    process: *anyopaque,
    least: usize,
    most: usize,
) callconv(.winapi) Bool;
pub extern "kernel32" fn Sleep(milliseconds: u32) callconv(.winapi) void;
pub extern "kernel32" fn UnmapViewOfFile(base: [*]const u8) callconv(.winapi) Bool;
pub extern "kernel32" fn VirtualAlloc(
    base: ?[*]u8,
    size: usize,
    flags: u32,
    protection: u32,
) callconv(.winapi) ?[*]u8;
pub extern "kernel32" fn VirtualFree(base: [*]u8, size: usize, flags: u32) callconv(.winapi) Bool;
pub extern "kernel32" fn VirtualQuery(
    address: [*]const u8,
    region: *Region,
    size: usize,
) callconv(.winapi) usize;
pub extern "kernel32" fn VirtualLock(base: [*]u8, size: usize) callconv(.winapi) Bool;
pub extern "kernel32" fn VirtualUnlock(base: [*]u8, size: usize) callconv(.winapi) Bool;
pub extern "kernel32" fn WriteFile(
    file: *anyopaque,
    buffer: [*]const u8,
    size: u32,
    written: *u32,
    overlapped: *Overlapped,
) callconv(.winapi) Bool;
