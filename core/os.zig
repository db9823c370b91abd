//! The only switch on the operating system, and the contract of everything below it.
//!
//! Preconditions of all functions: addresses that name a reservation, a slot or a part of one are
//! aligned to `granularity()`, sizes are not zero. A function that the system can refuse returns
//! `error.System` and leaves the system's own code (errno, GetLastError) in `code.*`; it has then
//! changed nothing. Everything else cannot fail. Every backend declares exactly the names of
//! `contract` with the same types (checked at compile time below), and one suite,
//! `os/contract.zig`, runs on each.
//!
//! Core calls `os.*`, which is the backend of the target seen through `simulated.zig`: the same
//! functions, each of which can be told to fail. That is how every error path is reached by a test
//! on every system; when nothing is told, it costs one relaxed load on the rare side.

const builtin = @import("builtin");
const std = @import("std");

const native = switch (builtin.os.tag) {
    .linux => @import("os/linux.zig"),
    .macos => @import("os/darwin.zig"),
    .windows => @import("os/windows.zig"),
    else => unreachable, // target.check
};

pub const contract = @import("os/contract.zig");
pub const simulated = @import("os/simulated.zig");
pub const target = @import("os/target.zig");
/// For tests.
pub const TempFile = @import("os/TempFile.zig");
const backend = simulated.Backend(native);

/// The system refused; its code is in the `code` argument.
pub const Error = error{System};

/// A file's bytes over a slot: how the pages relate to the file.
pub const Sharing = enum { shared_read, shared_write, private_write };

pub const Access = enum { read, read_write };

/// What `fstat` says that matters here; `regular` is false for directories, devices and pipes.
pub const Identity = struct {
    device: u64 = 0,
    inode: u64 = 0,
    /// Of file systems whose numbers have 128 bits.
    inode_high: u64 = 0,
    size: u64 = 0,
    mtime_ns: i64 = 0,
    regular: bool = false,
    directory: bool = false,
    /// A symbolic link, which only `identifyPath` can come to.
    link: bool = false,
    /// Names that it has.
    links: u64 = 1,

    pub fn isSame(identity: Identity, other: Identity) bool {
        return identity.device == other.device and identity.inode == other.inode and
            identity.inode_high == other.inode_high;
    }
};

/// A part of a file that has no place of its own on the disk.
pub const Gap = struct {
    start: u64,
    end: u64,
    kind: enum {
        /// Reads as zeros, and takes no room.
        hole,
        /// Stands in blocks that another file shares, so that a write needs others.
        shared,
        /// Something is missing in it, and the system does not say where.
        unknown,
    } = .hole,
};

/// What a name stands for that is a symbolic link: itself, or what it leads to.
pub const Link = enum { itself, followed };

/// A part of a reservation that one thing at a time can stand in.
pub const Slot = struct {
    base: [*]u8,
    size: usize,
    /// Visible slots appear as entries of their own in the process's map, where the system has
    /// such a thing and no other visible slot is adjacent.
    visible: bool,
};

/// What stands in a slot: made by `place` or `commit`, undone by `restore`.
pub const Placement = struct {
    slot: Slot,
    /// Bytes from the start of the slot that are mapped, rounded up to the page.
    mapped_size: usize,
    /// How the pages relate to the file; null: they are memory, without a file.
    sharing: ?Sharing,
    /// A second handle of the file, kept only by backends whose flush needs one.
    flush_file: ?File = null,

    /// Some pages of it, for what works on pages.
    pub fn part(placement: Placement, offset: usize, size: usize) Placement {
        var pages = placement;
        pages.slot.base += offset;
        pages.mapped_size = @min(size, placement.mapped_size - offset);
        return pages;
    }

    pub fn writable(placement: Placement) bool {
        const sharing = placement.sharing orelse return true;
        return switch (sharing) {
            .shared_read => false,
            .shared_write, .private_write => true,
        };
    }
};

/// What something may use of a resource, and what is used of it: in bytes, unless `kind` counts
/// something else.
pub const Limit = struct {
    kind: Kind,
    /// 0: the system does not tell.
    value: u64 = 0,
    used: u64 = 0,

    /// Mirrors MEMMGR_LIMIT_… of the header.
    pub const Kind = enum(u32) {
        none = 0,
        budget = 1,
        capacity = 2,
        memory = 3,
        control_group = 4,
        commit = 5,
        address_space = 6,
        data = 7,
        locked_memory = 8,
        map_entries = 9,
        descriptors = 10,
        system_files = 11,
        disk = 12,
        file_size = 13,
        quota = 14,
        addressable = 15,

        pub fn countsBytes(kind: Kind) bool {
            return switch (kind) {
                .map_entries, .descriptors, .system_files => false,
                else => true,
            };
        }
    };

    pub fn left(limit: Limit) u64 {
        return limit.value -| limit.used;
    }

    /// The one that leaves less.
    pub fn tighter(a: ?Limit, b: ?Limit) ?Limit {
        const first = a orelse return b;
        const second = b orelse return a;
        return if (second.left() < first.left()) second else first;
    }
};

/// What is about to be asked for.
pub const Need = struct {
    /// Bytes of address space.
    addresses: u64 = 0,
    /// Bytes of memory that only this process has and may write to.
    private: u64 = 0,
    /// Entries of the process's map.
    entries: u64 = 0,
    /// Bytes of memory that are not to be taken back.
    locked: u64 = 0,
};

/// Bytes of a range that are in memory: see memmgr_memory in the header.
pub const Use = struct {
    resident: u64 = 0,
    private_dirty: u64 = 0,
    huge: u64 = 0,

    pub fn add(total: *Use, use: Use) void {
        total.resident += use.resident;
        total.private_dirty += use.private_dirty;
        total.huge += use.huge;
    }
};

pub const Capabilities = struct {
    /// A process-wide barrier that really is one: the gate's readers may use plain stores.
    process_barrier: bool,
    /// `place` and `restore` never leave the slot's addresses free for another thread to take.
    atomic_placement: bool,
    /// System codes are errno values (otherwise those of GetLastError).
    codes_are_errno: bool,
    /// `catchFaults` and `zero` are to be had.
    fault_guard: bool,
    /// `preferHugePages` may bring something.
    huge_pages: bool,
};

/// A multiple of every page size and of every granularity.
pub const arena_unit = 64 << 10;

/// The moments of a fork, each on the thread that forks: before it, and after it in both processes.
pub const ForkStage = enum { before, in_parent, in_child };

/// A page that the system could not bring in.
pub const Fault = struct {
    /// What the program was about to look at, to the byte if the system tells it so.
    address: usize,
    /// Why. 0: nothing stands there, which on Windows is so for a moment while `zero` is at work.
    code: i64,
};

/// Called on the thread that has met a fault, between two of its instructions, with whatever locks
/// it holds: only atomics and `zero` are to be used. True: the instruction is tried again.
pub const FaultHook = *const fn (fault: Fault) bool;

/// Every system call that can be refused, for the switch that makes them fail.
pub const Call = simulated.Call;

/// System codes that core itself reports where no call was made.
pub const Code = struct {
    /// The path names a directory.
    pub const is_directory: i64 = native.code_is_directory;
    /// The path names what cannot be mapped: a device, a pipe, a socket.
    pub const not_mappable: i64 = native.code_not_mappable;
    /// A read of a file ended before its size.
    pub const short_read: i64 = native.code_short_read;
    /// The path names a symbolic link, which was not to be followed.
    pub const is_link: i64 = native.code_is_link;
};

/// An open file. The caller closes it.
pub const File = native.File;

/// Whether a thread could be cancelled before it was held off.
pub const Cancellation = native.Cancellation;

// Machine ---------------------------------------------------------------------------------------

/// Unit of protection and residency; a power of two, 4 KiB to 64 KiB.
pub const pageSize: fn () usize = backend.pageSize;
/// What the address of a mapping must be aligned to; a multiple of the page.
pub const granularity: fn () usize = backend.granularity;
/// The same answer for the whole life of the process.
pub const capabilities: fn () Capabilities = backend.capabilities;
/// The machine or the control group that has the least memory left before it has to reclaim or
/// kill, whoever uses it; null if the system does not tell.
pub const memoryAvailable: fn () ?Limit = backend.memoryAvailable;
/// The same, where what this process has of files counts as used, although the system could take
/// it: how much more of them can be brought in without pushing out what is there already.
pub const memoryToSpare: fn () ?Limit = backend.memoryToSpare;
/// Of all limits on this process's memory the one that leaves it least, where `used` is what the
/// process itself has that no file could take back; null if the system does not tell. Where it is
/// addresses that are limited, so many more of them are needed than bytes that count.
pub const memoryLimit: fn (addresses: u64) ?Limit = backend.memoryLimit;
/// The limit that would refuse what is needed, if one is known to.
pub const shortOf: fn (need: Need) ?Limit = backend.shortOf;
/// The limit behind the code of a refused call, if it can be told: `size` is what the call asked
/// for, `path` the file that it was about, or "".
pub const exhausted: fn (code: i64, size: u64, path: []const u8) ?Limit = backend.exhausted;
/// Monotonic clock.
pub const nowNs: fn () u64 = backend.nowNs;
/// A number that no other running thread of this process has; never 0.
pub const threadId: fn () u64 = backend.threadId;
/// The system's text for a code, without a full stop, in `buffer`.
pub const describe: fn (code: i64, buffer: []u8) []const u8 = backend.describe;
/// True if a code means that memory, address space or map entries ran out.
pub const isMemoryCode: fn (code: i64) bool = backend.isMemoryCode;
/// True if a code means that the disk, a quota or the limit of file sizes has no room.
pub const isSpaceCode: fn (code: i64) bool = backend.isSpaceCode;
/// True if a code means that nothing has the name that was looked for.
pub const isMissingCode: fn (code: i64) bool = backend.isMissingCode;
/// True if a code means that the name was to be new, and is not.
pub const isExistsCode: fn (code: i64) bool = backend.isExistsCode;
/// True if a code means that bytes to be written could not be read from memory: a page of a mapped
/// file that is gone.
pub const isFaultCode: fn (code: i64) bool = backend.isFaultCode;

// Address space ---------------------------------------------------------------------------------

/// Reserves addresses without memory: no access, no commit charge. `alignment` is a power of two
/// of at least the granularity; the result is aligned to it.
pub const reserve: fn (size: usize, alignment: usize, code: *i64) Error![*]u8 = backend.reserve;
/// Gives back a whole reservation in which nothing stands any more.
pub const unreserve: fn (base: [*]u8, size: usize) void = backend.unreserve;
/// Makes a slot of a reservation one that `place` and `commit` can be used on (Windows splits its
/// placeholder here). Every slot of a reservation is carved once; together they cover it.
pub const carve: fn (slot: Slot, code: *i64) Error!void = backend.carve;
/// Maps the first `size` bytes of `file` over the start of a carved, empty slot. The rest of the
/// last page reads as zeros. The file may be closed afterwards.
pub const place: fn (
    slot: Slot,
    file: File,
    size: usize,
    sharing: Sharing,
    code: *i64,
) Error!Placement = backend.place;
/// Puts zeroed private memory for `size` bytes at the start of a carved, empty slot; huge pages
/// are asked for where the system has them.
pub const commit: fn (slot: Slot, size: usize, code: *i64) Error!Placement = backend.commit;
/// Empties a slot: its addresses are reserved and carved again, its memory is gone.
pub const restore: fn (placement: Placement, code: *i64) Error!void = backend.restore;
/// Reserves addresses for memory that comes and goes by parts, without any yet. `size` is a multiple
/// of `arena_unit`, and the result is aligned to it.
pub const reserveArena: fn (size: usize, code: *i64) Error![*]u8 = backend.reserveArena;
/// Gives back a whole arena, with what memory is in it.
pub const unreserveArena: fn (base: [*]u8, size: usize) void = backend.unreserveArena;
/// Makes a part of an arena readable and writable: zeros where it was not, unchanged where it was.
/// Parts are whole pages.
pub const take: fn (base: [*]u8, size: usize, code: *i64) Error!void = backend.take;
/// Makes a part that was taken zeros again, without memory until it is touched. It stays readable
/// meanwhile, except on Windows.
pub const renew: fn (base: [*]u8, size: usize, code: *i64) Error!void = backend.renew;
/// Gives the memory of a part back to the system; its addresses stay reserved.
pub const give: fn (base: [*]u8, size: usize, code: *i64) Error!void = backend.give;
/// Readable, writable, zeroed memory of the library's own that is never given back; page-aligned.
/// It uses a page of the machine only once that is touched (on Windows it is charged at once).
pub const permanent: fn (size: usize, code: *i64) Error![*]u8 = backend.permanent;

// Pages -----------------------------------------------------------------------------------------

/// Reads the first huge page of a file as one, if it is to stand on such and nothing of it is in
/// memory: a small read would have its pages small. A hint.
pub const readFirstHugePage: fn (file: File, size: u64) void = backend.readFirstHugePage;
/// Asks for huge pages for a placement that is to be read from a device yet; a hint.
pub const preferHugePages: fn (placement: Placement) void = backend.preferHugePages;
/// Brings all pages of a placement in, ready to be written if `for_write` and it is writable.
pub const populate: fn (placement: Placement, for_write: bool, code: *i64) Error!void =
    backend.populate;
/// Writes changed pages to the file and waits until the device has them. Without effect on what
/// has no file to write to.
pub const flush: fn (placement: Placement, code: *i64) Error!void = backend.flush;
/// Asks for what stands in the file of a placement to be read, and does not wait for it; a hint.
pub const readAhead: fn (placement: Placement) void = backend.readAhead;
/// Drops pages from resident memory without changing what a reader sees; a hint. Not for pages
/// that are locked.
pub const evict: fn (placement: Placement) void = backend.evict;
/// Brings all pages of a placement in, and keeps them there until `unlock` or `restore`. What is
/// refused may be locked in part.
pub const lock: fn (placement: Placement, code: *i64) Error!void = backend.lock;
/// Lets the system take the pages of a locked placement again.
pub const unlock: fn (placement: Placement) void = backend.unlock;
/// What of a range is in memory.
pub const memoryUse: fn (base: [*]const u8, size: usize, code: *i64) Error!Use = backend.memoryUse;
/// Bytes of a placement that are in the system's memory, so that a touch does not wait for a
/// device; at least those that this process has. `path` is what was placed, or "".
pub const cached: fn (placement: Placement, path: [:0]const u8, code: *i64) Error!u64 =
    backend.cached;

// Faults ----------------------------------------------------------------------------------------

/// Has `hook` called for every fault, before anybody else's handler is. What the hook does not
/// want, and signals that somebody sent, go to the handlers that were there before. Made again, it
/// puts itself before those that have come since. Every call of a process names the same hook; one
/// thread at a time.
pub const catchFaults: fn (hook: FaultHook, code: *i64) Error!void = backend.catchFaults;
/// Puts zeroed private memory in place of a placement's pages, from that of `offset` to the end (on
/// Windows, of all of them). May be called by a hook for faults, and by several at once. What
/// stands there then is restored as before.
pub const zero: fn (pages: []u8, offset: usize, writable: bool, code: *i64) Error!void =
    backend.zero;

// Files -----------------------------------------------------------------------------------------

/// Opens without following into a pipe's wait; never creates.
pub const open: fn (path: [*:0]const u8, access: Access, code: *i64) Error!File = backend.open;
pub const close: fn (file: File) void = backend.close;
pub const identify: fn (file: File, code: *i64) Error!Identity = backend.identify;
/// Reads until `buffer` is full or the file ends; returns the bytes read.
pub const readAt: fn (file: File, buffer: []u8, offset: u64, code: *i64) Error!usize =
    backend.readAt;
/// What of the first `size` bytes has no place on the disk that a write could use, in the order of
/// the file. In memory of the heap.
pub const findGaps: fn (file: File, size: u64, code: *i64) Error![]Gap = backend.findGaps;
/// Fails if the disk has less room than the gaps take, as far as it can be told before anything is
/// written.
pub const canFill: fn (file: File, size: u64, gaps: []const Gap, code: *i64) Error!void =
    backend.canFill;
/// Gives a gap, or a part of one, its place on the disk, without changing a byte. Nobody else may
/// write to it meanwhile.
pub const fill: fn (file: File, gap: Gap, code: *i64) Error!void = backend.fill;
/// Gives back what `fill` took for a gap, where nothing but zeros stand in it.
pub const unfill: fn (file: File, gap: Gap) void = backend.unfill;

// New files -------------------------------------------------------------------------------------

/// A relative path from the root on, which stays what it is when the process changes its working
/// folder; null for one that is so already, or cannot be said in the room there is.
pub const absolutePath: fn (path: [:0]const u8, room: []u8) ?[]const u8 = backend.absolutePath;
/// What a path names, without opening it.
pub const identifyPath: fn (path: [*:0]const u8, link: Link, code: *i64) Error!Identity = backend.identifyPath;
/// Fails if this user may not write to the file of that name, if nobody may, or if its folder lets
/// only the file's owner replace it. On POSIX systems root too has to make such a file writable
/// first.
pub const checkWritable: fn (path: [*:0]const u8, code: *i64) Error!void = backend.checkWritable;
/// Creates a file to be written and read, where nothing has that name, not even a link. With
/// `like`, the name of another one, it is this user's alone at first. It is then given that file's
/// permissions, and what else says who may do what with it; of what cannot be kept, nobody gets
/// more than he had. Notes that users have attached to that file are kept as far as they can be.
/// Windows gives every file the permissions of its folder, and keeps no notes.
pub const create: fn (path: [*:0]const u8, like: ?[*:0]const u8, code: *i64) Error!File =
    backend.create;
/// Gives a new file's bytes from `start`, where it ends so far, to `end` blocks of the disk, or says
/// that there are too few. Where a file system cannot, the writes find out.
pub const allocate: fn (file: File, start: u64, end: u64, code: *i64) Error!void =
    backend.allocate;
/// Writes all of `bytes`. Bytes that are mapped and cannot be read are an error, not a fault.
pub const writeAt: fn (file: File, bytes: []const u8, offset: u64, code: *i64) Error!void =
    backend.writeAt;
/// Waits until the device has the file's bytes and size.
pub const syncFile: fn (file: File, code: *i64) Error!void = backend.syncFile;
/// Gives a closed file another name of the same folder, in one step that whoever looks sees all or
/// nothing of. A file that has that name already loses it.
pub const rename: fn (from: [*:0]const u8, to: [*:0]const u8, code: *i64) Error!void =
    backend.rename;
/// Waits until the device has the names of the folder that the file `path` is in. Where this user
/// may not read the folder, it asks the same of the file instead, which many file systems take to
/// be about its name too.
pub const syncFolder: fn (path: [:0]const u8, code: *i64) Error!void = backend.syncFolder;
/// Removes a file of the caller's own. If the system refuses, nothing can be done about it.
pub const remove: fn (path: [*:0]const u8) void = backend.remove;

// Threads ---------------------------------------------------------------------------------------

/// Sleeps while `word.*` is `expected`, at most `timeout_ns` (null: for ever). Returns also when
/// woken for no reason; the caller looks again.
pub const futexWait: fn (
    word: *const std.atomic.Value(u32),
    expected: u32,
    timeout_ns: ?u64,
) void = backend.futexWait;
pub const futexWakeAll: fn (word: *const std.atomic.Value(u32)) void = backend.futexWakeAll;
pub const futexWakeOne: fn (word: *const std.atomic.Value(u32)) void = backend.futexWakeOne;
/// Each of the threads passes a full memory barrier between the call and its return: those whose
/// numbers (`threadId`) are there, zeros apart, and those whose numbers are stored meanwhile. Only
/// where `capabilities().process_barrier`; a system that had it then can refuse it now. It may move
/// the calling thread from processor to processor meanwhile.
pub const processBarrier: fn (threads: []const std.atomic.Value(u64), code: *i64) Error!void =
    backend.processBarrier;
/// Has `hook(argument)` called when the calling thread ends, once per thread; the last argument
/// given counts and is not the largest usize. Every call of a process names the same hook. False:
/// the system has no room for it.
pub const atThreadExit: fn (hook: *const fn (argument: usize) void, argument: usize) bool =
    backend.atThreadExit;
/// Keeps the module that this code is in loaded to the end of the process, as far as the system
/// can: threads call it when they end. Called under no lock, as the dynamic linker takes its own.
pub const stayLoaded: fn () void = backend.stayLoaded;
/// Has `hook` called at every stage of every fork from now on; called once in a process. Nothing is
/// ever called where processes cannot be forked. False: the system has no room for it.
pub const atFork: fn (hook: *const fn (stage: ForkStage) void) bool = backend.atFork;

/// Until it is given back to `releaseCancellation`, the calling thread cannot be cancelled. They nest.
pub const holdCancellation: fn () Cancellation = backend.holdCancellation;
pub const releaseCancellation: fn (before: Cancellation) void = backend.releaseCancellation;

/// General-purpose memory for what is not on a hot path: layer tables, names.
pub const heap: std.mem.Allocator = backend.heap;

test {
    _ = @import("os/contract.zig");
    _ = simulated;
}
