//! The suite that every backend passes: each function of `os.zig`, succeeding and failing, and
//! the switch in front of them. What only one system can show is tested in that system's file.

const builtin = @import("builtin");
const std = @import("std");
const os = @import("../os.zig");
const TempFile = @import("TempFile.zig");

const testing = std.testing;

/// Four slots of one reservation, every other one visible.
pub const Room = struct {
    base: [*]u8,
    slots: [4]os.Slot,

    pub fn init() !Room {
        const size = 4 * os.granularity();
        var code: i64 = 0;
        const base = try os.reserve(4 * size, os.granularity(), &code);
        errdefer os.unreserve(base, 4 * size);
        var slots: [4]os.Slot = undefined;
        for (&slots, 0..) |*slot, i| {
            slot.* = .{ .base = base + i * size, .size = size, .visible = i % 2 == 0 };
            try os.carve(slot.*, &code);
        }
        return .{ .base = base, .slots = slots };
    }

    /// Every slot is empty again.
    pub fn deinit(room: Room) void {
        os.unreserve(room.base, 4 * room.slots[0].size);
    }
};

/// Bytes that differ from page to page and within one.
pub fn pattern(size: usize) ![]u8 {
    const bytes = try testing.allocator.alloc(u8, size);
    for (bytes, 0..) |*byte, i| byte.* = @truncate(i *% 31 +% i / 4096 +% 1);
    return bytes;
}

pub fn place(slot: os.Slot, path: [*:0]const u8, size: usize, sharing: os.Sharing) !os.Placement {
    var code: i64 = 0;
    const file = try os.open(path, if (sharing == .shared_write) .read_write else .read, &code);
    defer os.close(file);
    return os.place(slot, file, size, sharing, &code);
}

pub fn restore(placement: os.Placement) !void {
    var code: i64 = 0;
    try os.restore(placement, &code);
}

/// True in an emulator of a single process (qemu-user). It passes on neither advice about pages
/// nor their size, and cannot map the last page of a file for shared writing if the machine's
/// pages are smaller and the file does not fill it. It has told this process of another entry
/// point than the kernel told the emulator, whose name for itself it lets through.
pub fn emulated() bool {
    if (builtin.os.tag != .linux) return false;
    const getauxval = @extern(*const fn (c_ulong) callconv(.c) c_ulong, .{ .name = "getauxval" });
    var words: [128]u64 = undefined;
    var code: i64 = 0;
    const file = os.open("/proc/thread-self/auxv", .read, &code) catch unreachable;
    defer os.close(file);
    _ = os.readAt(file, std.mem.asBytes(&words), 0, &code) catch unreachable;
    var i: usize = 0;
    while (words[i] != std.elf.AT.ENTRY) i += 2;
    return words[i + 1] != getauxval(std.elf.AT.ENTRY);
}

fn expectFile(expected: []const u8, path: [*:0]const u8) !void {
    var code: i64 = 0;
    const file = try os.open(path, .read, &code);
    defer os.close(file);
    const bytes = try testing.allocator.alloc(u8, expected.len + 1);
    defer testing.allocator.free(bytes);
    const size = try os.readAt(file, bytes, 0, &code);
    try testing.expectEqualSlices(u8, expected, bytes[0..size]);
}

test "pages and granularity are powers of two, one a multiple of the other" {
    try testing.expect(std.math.isPowerOfTwo(os.pageSize()));
    try testing.expect(std.math.isPowerOfTwo(os.granularity()));
    try testing.expect(os.pageSize() >= 4096 and os.pageSize() <= 65536);
    try testing.expect(os.granularity() >= os.pageSize());
}

test "capabilities stay the same" {
    try testing.expectEqual(os.capabilities(), os.capabilities());
}

test "memory available is a number or not known" {
    for ([_]?os.Limit{ os.memoryAvailable(), os.memoryToSpare(), os.memoryLimit(0) }) |known| {
        const limit = known orelse continue;
        try testing.expect(limit.left() > 0 and limit.left() < 1 << 50);
        try testing.expect(limit.kind != .none and limit.kind.countsBytes());
    }
}

test "the clock goes forward" {
    const start = os.nowNs();
    while (os.nowNs() == start) {}
    try testing.expect(os.nowNs() > start);
}

test "a reservation is aligned as asked" {
    var code: i64 = 0;
    for ([_]usize{ os.granularity(), 2 << 20, 64 << 20 }) |alignment| {
        const size = 3 * os.granularity();
        const base = try os.reserve(size, alignment, &code);
        defer os.unreserve(base, size);
        try testing.expect(std.mem.isAligned(@intFromPtr(base), alignment));
    }
}

test "a reservation that cannot be is an error with the system's code" {
    var code: i64 = 0;
    try testing.expectError(error.System, os.reserve(1 << 48, os.granularity(), &code));
    try testing.expect(code != 0);
}

test "a placed file reads as its bytes, then as zeros up to the page" {
    const room: Room = try .init();
    defer room.deinit();
    const page = os.pageSize();
    for ([_]usize{ 1, page - 1, page, page + 1, 3 * page - 7, room.slots[0].size }) |size| {
        const bytes = try pattern(size);
        defer testing.allocator.free(bytes);
        const file: TempFile = try .create(bytes);
        defer file.deinit();
        for (std.enums.values(os.Sharing)) |sharing| {
            if (sharing == .shared_write and size % page != 0 and emulated()) continue;
            const placement = try place(room.slots[1], file.path, size, sharing);
            try testing.expectEqual(std.mem.alignForward(usize, size, page), placement.mapped_size);
            try testing.expectEqual(sharing, placement.sharing.?);
            const mapped = room.slots[1].base[0..placement.mapped_size];
            try testing.expectEqualSlices(u8, bytes, mapped[0..size]);
            try testing.expect(std.mem.allEqual(u8, mapped[size..], 0));
            try restore(placement);
        }
    }
}

test "slots are filled and emptied without their neighbours noticing" {
    const room: Room = try .init();
    defer room.deinit();
    const page = os.pageSize();
    const small: TempFile = try .create("small");
    defer small.deinit();
    const bytes = try pattern(2 * page);
    defer testing.allocator.free(bytes);
    const large: TempFile = try .create(bytes);
    defer large.deinit();

    var code: i64 = 0;
    var placements: [4]os.Placement = undefined;
    placements[0] = try place(room.slots[0], small.path, 5, .shared_read);
    placements[1] = try place(room.slots[1], large.path, bytes.len, .private_write);
    placements[2] = try os.commit(room.slots[2], room.slots[2].size, &code);
    placements[3] = try place(room.slots[3], small.path, 5, .shared_read);
    // The middle two change their contents, each to what needs more or fewer pages.
    try restore(placements[1]);
    try restore(placements[2]);
    placements[1] = try os.commit(room.slots[1], 1, &code);
    placements[2] = try place(room.slots[2], large.path, bytes.len, .shared_read);

    try testing.expectEqualStrings("small", room.slots[0].base[0..5]);
    try testing.expectEqual(0, room.slots[1].base[0]);
    try testing.expectEqualSlices(u8, bytes, room.slots[2].base[0..bytes.len]);
    try testing.expectEqualStrings("small", room.slots[3].base[0..5]);
    for (placements) |placement| try restore(placement);
}

test "only a shared write reaches the file" {
    const room: Room = try .init();
    defer room.deinit();
    const size = if (emulated()) os.pageSize() else os.pageSize() + 10;
    const bytes = try pattern(size);
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();

    const private = try place(room.slots[0], file.path, size, .private_write);
    room.slots[0].base[0] +%= 1;
    var code: i64 = 0;
    try os.flush(private, &code);
    try expectFile(bytes, file.path);

    const shared = try place(room.slots[1], file.path, size, .shared_write);
    // What lies behind the file's end, to the end of the page, is nobody's.
    for (room.slots[1].base[size - 1 .. shared.mapped_size]) |*byte| byte.* +%= 1;
    bytes[size - 1] +%= 1;
    try os.flush(shared, &code);
    try restore(shared);
    try restore(private);
    try expectFile(bytes, file.path);
}

test "zeros take the place of what cannot be read, and are restored as it would have been" {
    if (!os.capabilities().fault_guard) return error.SkipZigTest;
    const room: Room = try .init();
    defer room.deinit();
    const page = os.pageSize();
    const bytes = try pattern(4 * page);
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    const slot = room.slots[1];
    const pages = slot.base[0..bytes.len];
    for (std.enums.values(os.Sharing)) |sharing| {
        const placement = try place(slot, file.path, bytes.len, sharing);
        var code: i64 = 0;
        // Twice, as by two threads, and then from an earlier page on.
        for ([_]usize{ 2 * page + 7, 3 * page, page }) |offset| {
            try os.zero(pages, offset, placement.writable(), &code);
            const from = std.mem.alignBackward(usize, offset, page);
            try testing.expect(std.mem.allEqual(u8, pages[from..], 0));
        }
        if (placement.writable()) pages[pages.len - 1] = 1;
        try restore(placement);
    }
    // Nothing of it has reached the file.
    try expectFile(bytes, file.path);
    const placement = try place(slot, file.path, bytes.len, .shared_read);
    try testing.expectEqualSlices(u8, bytes, pages);
    try restore(placement);
}

test "committed memory is zero each time" {
    const room: Room = try .init();
    defer room.deinit();
    var code: i64 = 0;
    for (0..2) |_| {
        const placement = try os.commit(room.slots[0], room.slots[0].size - 1, &code);
        try testing.expectEqual(null, placement.sharing);
        try testing.expectEqual(room.slots[0].size, placement.mapped_size);
        const memory = room.slots[0].base[0..placement.mapped_size];
        try testing.expect(std.mem.allEqual(u8, memory, 0));
        @memset(memory, 0xaa);
        try restore(placement);
    }
}

test "an arena's parts are zero when taken, unchanged when taken again, and can be given back" {
    const unit = os.pageSize();
    var code: i64 = 0;
    const base = try os.reserveArena(4 * os.arena_unit, &code);
    defer os.unreserveArena(base, 4 * os.arena_unit);
    try testing.expect(std.mem.isAligned(@intFromPtr(base), os.arena_unit));
    for (0..2) |_| {
        try os.take(base + unit, 2 * unit, &code);
        const part = base[unit .. 3 * unit];
        try testing.expect(std.mem.allEqual(u8, part, 0));
        @memset(part, 0xaa);
        try os.take(base, 4 * unit, &code);
        try testing.expect(std.mem.allEqual(u8, part, 0xaa));
        try testing.expectEqual(0, base[0]);
        try os.renew(base + unit, unit, &code);
        try testing.expect(std.mem.allEqual(u8, part[0..unit], 0));
        try testing.expect(std.mem.allEqual(u8, part[unit..], 0xaa));
        try os.give(base, 4 * unit, &code);
        try testing.expectEqual(os.Use{}, try os.memoryUse(base, 4 * unit, &code));
    }
    try os.take(base, unit, &code);
}

test "permanent memory is zero, writable and aligned" {
    var code: i64 = 0;
    const memory = (try os.permanent(3 * os.pageSize(), &code))[0 .. 3 * os.pageSize()];
    try testing.expect(std.mem.isAligned(@intFromPtr(memory.ptr), os.pageSize()));
    try testing.expect(std.mem.allEqual(u8, memory, 0));
    @memset(memory, 1);
}

test "reading ahead, populating and evicting change no byte" {
    const room: Room = try .init();
    defer room.deinit();
    const size = 3 * os.pageSize() - 9;
    const bytes = try pattern(size);
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    var code: i64 = 0;
    for (std.enums.values(os.Sharing)) |sharing| {
        if (sharing == .shared_write and emulated()) continue;
        for ([_]bool{ false, true }) |for_write| {
            const placement = try place(room.slots[0], file.path, size, sharing);
            os.readAhead(placement);
            try os.populate(placement, for_write, &code);
            const mapped = room.slots[0].base[0..size];
            try testing.expectEqualSlices(u8, bytes, mapped);
            if (placement.writable()) mapped[1] +%= 1;
            os.evict(placement);
            if (placement.writable()) mapped[1] -%= 1;
            try testing.expectEqualSlices(u8, bytes, mapped);
            try restore(placement);
        }
    }
    const placement = try os.commit(room.slots[1], size, &code);
    os.readAhead(placement);
    try os.populate(placement, false, &code);
    try os.populate(placement, true, &code);
    @memcpy(room.slots[1].base, bytes);
    os.evict(placement);
    try testing.expectEqualSlices(u8, bytes, room.slots[1].base[0..size]);
    try restore(placement);
}

test "huge pages and locks are asked for and given up without changing a byte" {
    const room: Room = try .init();
    defer room.deinit();
    const size = 2 * os.pageSize();
    const bytes = try pattern(size);
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    var code: i64 = 0;
    for (std.enums.values(os.Sharing)) |sharing| {
        const placement = try place(room.slots[0], file.path, size, sharing);
        os.preferHugePages(placement);
        // Twice, and in parts, and left to `restore`.
        try os.lock(placement, &code);
        try os.lock(placement, &code);
        os.unlock(placement);
        os.evict(placement);
        try os.lock(placement.part(os.pageSize(), size), &code);
        try testing.expectEqualSlices(u8, bytes, room.slots[0].base[0..size]);
        try restore(placement);
    }
    const memory = try os.commit(room.slots[0], size, &code);
    try os.lock(memory, &code);
    try testing.expect(std.mem.allEqual(u8, room.slots[0].base[0..size], 0));
    try restore(memory);
}

test "what of a file the system has in memory is at least what this process has" {
    const room: Room = try .init();
    defer room.deinit();
    const size = 3 * os.pageSize();
    const bytes = try pattern(size - 5);
    defer testing.allocator.free(bytes);
    const file: TempFile = try .create(bytes);
    defer file.deinit();
    var code: i64 = 0;
    const placement = try place(room.slots[0], file.path, bytes.len, .shared_read);
    for ([_][:0]const u8{ file.path, "" }) |path| {
        try os.populate(placement, false, &code);
        if (!emulated()) try testing.expectEqual(size, try os.cached(placement, path, &code));
        os.evict(placement);
        try testing.expect(try os.cached(placement, path, &code) <= size);
    }
    const part = placement.part(os.pageSize(), 100 * size);
    try testing.expectEqual(2 * os.pageSize(), part.mapped_size);
    try testing.expect(try os.cached(part, file.path, &code) <= part.mapped_size);
    try restore(placement);
}

test "memory in use is within the range asked about" {
    const room: Room = try .init();
    defer room.deinit();
    var code: i64 = 0;
    const slot = room.slots[0];
    try testing.expectEqual(os.Use{}, try os.memoryUse(slot.base, slot.size, &code));
    const placement = try os.commit(slot, slot.size, &code);
    try os.populate(placement, true, &code);
    @memset(slot.base[0..slot.size], 1);
    const use = try os.memoryUse(slot.base, slot.size, &code);
    try testing.expect(use.resident <= slot.size and use.private_dirty <= use.resident);
    try restore(placement);
    try testing.expectEqual(os.Use{}, try os.memoryUse(slot.base, slot.size, &code));
}

test "a missing file is an error with a code that has a text" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const missing = try std.mem.concatWithSentinel(testing.allocator, u8, &.{ file.path, "x" }, 0);
    defer testing.allocator.free(missing);
    for (std.enums.values(os.Access)) |access| {
        var code: i64 = 0;
        try testing.expectError(error.System, os.open(missing, access, &code));
        try testing.expect(code != 0 and !os.isMemoryCode(code));
        var buffer: [200]u8 = undefined;
        const text = os.describe(code, &buffer);
        try testing.expect(text.len > 5 and !std.mem.endsWith(u8, text, "."));
        // Nothing was created.
        try testing.expectError(error.System, os.open(missing, .read, &code));
    }
}

test "texts fit any buffer, for any code" {
    var buffer: [200]u8 = undefined;
    for ([_]i64{ 0, 1, -1, 99999, std.math.minInt(i64), std.math.maxInt(i64) }) |code| {
        for ([_]usize{ 0, 1, 2, 10, buffer.len }) |size| {
            const text = os.describe(code, buffer[0..size]);
            try testing.expect(text.len <= size and std.unicode.utf8ValidateSlice(text));
        }
    }
    for ([_]i64{ os.Code.is_directory, os.Code.not_mappable, os.Code.short_read }) |code| {
        try testing.expect(code != 0 and !os.isMemoryCode(code));
        try testing.expect(os.describe(code, &buffer).len > 5);
    }
}

test "a folder is refused or known as one" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const folder = try testing.allocator.dupeSentinel(u8, std.fs.path.dirname(file.path).?, 0);
    defer testing.allocator.free(folder);
    var code: i64 = 0;
    const opened = os.open(folder, .read, &code) catch |err| switch (err) {
        error.System => return testing.expect(code != 0),
    };
    defer os.close(opened);
    const identity = try os.identify(opened, &code);
    try testing.expect(identity.directory and !identity.regular);
}

test "names may hold any character" {
    const name = "Größe 表 🗺.bin";
    const file: TempFile = try .createNamed(name, name);
    defer file.deinit();
    try expectFile(name, file.path);
}

test "a file is the same by every handle, and no other" {
    const first: TempFile = try .create("first");
    defer first.deinit();
    const second: TempFile = try .create("second");
    defer second.deinit();
    var code: i64 = 0;
    var identities: [3]os.Identity = undefined;
    for (&identities, [_]TempFile{ first, first, second }) |*identity, file| {
        const handle = try os.open(file.path, .read, &code);
        defer os.close(handle);
        identity.* = try os.identify(handle, &code);
        try testing.expect(identity.regular and !identity.directory);
    }
    try testing.expectEqual(identities[0], identities[1]);
    try testing.expectEqual(5, identities[0].size);
    try testing.expectEqual(6, identities[2].size);
    try testing.expectEqual(identities[0].device, identities[2].device);
    try testing.expect(identities[0].inode != identities[2].inode);
    // A day of leeway: the clock of a network file system is another one.
    const now_ns: i64 = @intCast(std.Io.Timestamp.now(testing.io, .real).nanoseconds);
    try testing.expect(@abs(now_ns - identities[0].mtime_ns) < std.time.ns_per_day);
}

test "reads end with the file" {
    const file: TempFile = try .create("0123456789");
    defer file.deinit();
    var code: i64 = 0;
    const handle = try os.open(file.path, .read, &code);
    defer os.close(handle);
    var buffer: [20]u8 = undefined;
    try testing.expectEqual(10, try os.readAt(handle, &buffer, 0, &code));
    try testing.expectEqualStrings("0123456789", buffer[0..10]);
    try testing.expectEqual(4, try os.readAt(handle, buffer[0..4], 3, &code));
    try testing.expectEqualStrings("3456", buffer[0..4]);
    try testing.expectEqual(1, try os.readAt(handle, &buffer, 9, &code));
    try testing.expectEqual(0, try os.readAt(handle, &buffer, 10, &code));
    try testing.expectEqual(0, try os.readAt(handle, &buffer, 1 << 40, &code));
    try testing.expectEqual(0, try os.readAt(handle, buffer[0..0], 0, &code));
}

test "filling changes neither bytes nor size" {
    const size = 300_000;
    const file: TempFile = try .createSparse(size);
    defer file.deinit();
    var code: i64 = 0;
    const handle = try os.open(file.path, .read_write, &code);
    defer os.close(handle);
    const gaps = try os.findGaps(handle, size, &code);
    defer os.heap.free(gaps);
    try os.canFill(handle, size, gaps, &code);
    for (gaps) |gap| try os.fill(handle, gap, &code);
    try testing.expectEqual(size, (try os.identify(handle, &code)).size);
    const bytes = try testing.allocator.alloc(u8, size);
    defer testing.allocator.free(bytes);
    try testing.expectEqual(size, try os.readAt(handle, bytes, 0, &code));
    try testing.expect(std.mem.allEqual(u8, bytes, 0));
}

test "a futex wait ends by the wrong value, by time, and by being woken" {
    var word: std.atomic.Value(u32) = .init(7);
    os.futexWait(&word, 8, null);

    const timeout_ns = 20 * std.time.ns_per_ms;
    const start = os.nowNs();
    os.futexWait(&word, 7, 0);
    // A wait may end for no reason, which is why it is repeated, here as everywhere.
    while (os.nowNs() - start < timeout_ns) os.futexWait(&word, 7, timeout_ns);

    const Waiter = struct {
        fn run(watched: *std.atomic.Value(u32), done: *std.atomic.Value(u32), timeout: ?u64) void {
            while (watched.load(.acquire) == 7) os.futexWait(watched, 7, timeout);
            _ = done.fetchAdd(1, .release);
            os.futexWakeOne(done);
        }
    };
    var done: std.atomic.Value(u32) = .init(0);
    var threads: [3]std.Thread = undefined;
    const timeouts = [_]?u64{ null, 3600 * std.time.ns_per_s, std.math.maxInt(u64) };
    for (&threads, timeouts) |*thread, timeout| {
        thread.* = try .spawn(.{}, Waiter.run, .{ &word, &done, timeout });
    }
    // Time for them to fall asleep; if one has not, it finds the word changed.
    os.futexWait(&done, 0, timeout_ns);
    word.store(8, .release);
    os.futexWakeAll(&word);
    for (threads) |thread| thread.join();
    try testing.expectEqual(3, done.load(.acquire));
}

test "every thread has a number of its own" {
    const Worker = struct {
        fn run(id: *u64) void {
            id.* = os.threadId();
        }
    };
    var ids: [2]u64 = .{ 0, 0 };
    for (&ids) |*id| {
        const thread: std.Thread = try .spawn(.{}, Worker.run, .{id});
        thread.join();
        try testing.expect(id.* != 0 and id.* != os.threadId());
    }
    try testing.expectEqual(os.threadId(), os.threadId());
}

var exit_sum: std.atomic.Value(usize) = .init(0);

/// The hook of this suite: a process has only one.
fn addAtExit(argument: usize) void {
    _ = exit_sum.fetchAdd(argument + 1, .monotonic);
}

test "the exit hook is called once per thread, with the last argument" {
    const Worker = struct {
        fn run(argument: usize, armed: *bool) void {
            armed.* = os.atThreadExit(addAtExit, 1000) and os.atThreadExit(addAtExit, argument);
        }
        fn idle() void {}
    };
    exit_sum.store(0, .monotonic);
    for ([_]usize{ 0, 41 }) |argument| {
        var armed = false;
        const thread: std.Thread = try .spawn(.{}, Worker.run, .{ argument, &armed });
        thread.join();
        try testing.expect(armed);
    }
    const thread: std.Thread = try .spawn(.{}, Worker.idle, .{});
    thread.join();
    try testing.expectEqual(0 + 1 + 41 + 1, exit_sum.load(.monotonic));
}

/// The name of another file in the same folder.
fn sibling(path: []const u8, suffix: []const u8) ![:0]u8 {
    return std.mem.concatWithSentinel(testing.allocator, u8, &.{ path, suffix }, 0);
}

test "a new file is written, read, made durable, and takes another's name" {
    const file: TempFile = try .create("old");
    defer file.deinit();
    const name = try sibling(file.path, ".new");
    defer testing.allocator.free(name);
    var code: i64 = 0;
    try testing.expectError(error.System, os.identifyPath(name, .itself, &code));
    try testing.expect(os.isMissingCode(code) and !os.isExistsCode(code));

    const bytes = try pattern(3 * os.pageSize() + 1);
    defer testing.allocator.free(bytes);
    const created = try os.create(name, file.path, &code);
    {
        defer os.close(created);
        try testing.expectError(error.System, os.create(name, null, &code));
        try testing.expect(os.isExistsCode(code) and !os.isMissingCode(code));
        try os.allocate(created, 0, bytes.len, &code);
        try os.writeAt(created, bytes[5..], 5, &code);
        try os.writeAt(created, bytes[0..5], 0, &code);
        const back = try testing.allocator.alloc(u8, bytes.len);
        defer testing.allocator.free(back);
        try testing.expectEqual(bytes.len, try os.readAt(created, back, 0, &code));
        try testing.expectEqualSlices(u8, bytes, back);
        try os.syncFile(created, &code);
    }
    const identity = try os.identifyPath(name, .itself, &code);
    try testing.expect(identity.regular and !identity.link);
    try testing.expectEqual(bytes.len, identity.size);
    try os.rename(name, file.path, &code);
    try os.syncFolder(file.path, &code);
    try expectFile(bytes, file.path);
    const handle = try os.open(file.path, .read, &code);
    defer os.close(handle);
    try testing.expectEqual(identity.inode, (try os.identify(handle, &code)).inode);
    try testing.expectError(error.System, os.identifyPath(name, .followed, &code));
    os.remove(name);
}

test "a relative path is told from the root on, and what is so already is left" {
    var room: [4096]u8 = undefined;
    const absolute = os.absolutePath("a.bin", &room).?;
    try testing.expect(std.fs.path.isAbsolute(absolute));
    try testing.expectEqualStrings("a.bin", std.fs.path.basename(absolute));
    const same = try testing.allocator.dupeSentinel(u8, absolute, 0);
    defer testing.allocator.free(same);
    try testing.expect(os.absolutePath(same, &room) == null);
    try testing.expect(os.absolutePath("a.bin", room[0..2]) == null);
    const long: [4096:0]u8 = @splat('x');
    try testing.expect(os.absolutePath(&long, &room) == null);
}

test "more than the disk has is an error that says so" {
    const file: TempFile = try .create("");
    defer file.deinit();
    const name = try sibling(file.path, ".new");
    defer testing.allocator.free(name);
    var code: i64 = 0;
    const created = try os.create(name, null, &code);
    defer os.remove(name);
    defer os.close(created);
    // Where files have no blocks that could be asked for, only the writes find out. Wine has one
    // code for files that are too large and for too little memory.
    os.allocate(created, 0, 1 << 60, &code) catch
        return testing.expect(os.isSpaceCode(code) or os.isMemoryCode(code));
}

/// Stands before the handlers of whoever runs the tests, and leaves everything to them.
fn expectNoFault(_: os.Fault) bool {
    return false;
}

/// Makes one call and undoes it.
fn attempt(call: os.Call, room: Room, file: os.File, path: [*:0]const u8, code: *i64) !void {
    const slot = room.slots[0];
    const size = os.pageSize();
    switch (call) {
        .reserve => os.unreserve(try os.reserve(size, os.granularity(), code), size),
        .carve => {
            const base = try os.reserve(slot.size, os.granularity(), code);
            defer os.unreserve(base, slot.size);
            try os.carve(.{ .base = base, .size = slot.size, .visible = false }, code);
        },
        .map => try restore(try os.place(slot, file, size, .shared_write, code)),
        .commit => try restore(try os.commit(slot, size, code)),
        .unmap => {
            const placement = try os.commit(slot, size, code);
            slot.base[0] = 1;
            os.restore(placement, code) catch |err| {
                // Nothing changed, and it can be done again.
                try testing.expectEqual(1, slot.base[0]);
                try restore(placement);
                return err;
            };
        },
        .reserve_arena => {
            os.unreserveArena(try os.reserveArena(os.arena_unit, code), os.arena_unit);
        },
        .take, .renew, .give => {
            var ignored: i64 = 0;
            const base = try os.reserveArena(os.arena_unit, &ignored);
            defer os.unreserveArena(base, os.arena_unit);
            if (call == .take) return os.take(base, os.arena_unit, code);
            try os.take(base, os.arena_unit, &ignored);
            base[0] = 1;
            errdefer std.debug.assert(base[0] == 1);
            if (call == .renew) try os.renew(base, os.arena_unit, code);
            if (call == .give) try os.give(base, os.arena_unit, code);
        },
        .permanent => _ = try os.permanent(size, code),
        .heap => {
            // Of no code: the one told is what the switch would have said.
            const memory = os.heap.alloc(u8, size) catch {
                code.* = 4711;
                return error.System;
            };
            os.heap.free(memory);
        },
        .populate, .flush, .lock, .cached => {
            const placement = try os.place(slot, file, size, .shared_write, code);
            defer restore(placement) catch unreachable;
            if (call == .flush) try os.flush(placement, code);
            if (call == .populate) try os.populate(placement, true, code);
            if (call == .lock) try os.lock(placement, code);
            if (call == .cached) _ = try os.cached(placement, std.mem.span(path), code);
        },
        .catch_faults => try os.catchFaults(expectNoFault, code),
        .zero => {
            const placement = try os.place(slot, file, size, .shared_write, code);
            defer restore(placement) catch unreachable;
            try os.zero(slot.base[0..size], 0, true, code);
        },
        .memory_use => _ = try os.memoryUse(slot.base, slot.size, code),
        .open => os.close(try os.open(path, .read, code)),
        .identify => _ = try os.identify(file, code),
        .read => {
            var byte: [1]u8 = undefined;
            _ = try os.readAt(file, &byte, 0, code);
        },
        .fill => {
            const gaps = try os.findGaps(file, size, code);
            defer os.heap.free(gaps);
            try os.canFill(file, size, gaps, code);
            // It is whole.
            for (gaps) |gap| try os.fill(file, gap, code);
        },
        .identify_path => _ = try os.identifyPath(path, .followed, code),
        .create, .allocate, .write, .sync_file, .rename => {
            const name = try sibling(std.mem.span(path), ".new");
            defer testing.allocator.free(name);
            const created = try os.create(name, path, code);
            defer os.remove(name);
            {
                defer os.close(created);
                if (call == .allocate) try os.allocate(created, 0, size, code);
                if (call == .write) try os.writeAt(created, "bytes", 0, code);
                if (call == .sync_file) try os.syncFile(created, code);
            }
            if (call == .rename) {
                const other = try sibling(name, "er");
                defer testing.allocator.free(other);
                try os.rename(name, other, code);
                os.remove(other);
            }
        },
        .sync_folder => try os.syncFolder(std.mem.span(path), code),
        .barrier => {
            const threads = [_]std.atomic.Value(u64){.init(os.threadId())};
            try os.processBarrier(&threads, code);
        },
    }
}

fn isGuard(call: os.Call) bool {
    return call == .catch_faults or call == .zero;
}

test "every call fails when told to, with the code told, and leaves nothing behind" {
    const room: Room = try .init();
    defer room.deinit();
    const bytes = try pattern(os.pageSize());
    defer testing.allocator.free(bytes);
    const temp: TempFile = try .create(bytes);
    defer temp.deinit();
    var code: i64 = 0;
    const file = try os.open(temp.path, .read_write, &code);
    defer os.close(file);
    defer os.simulated.clear();

    for (std.enums.values(os.Call)) |call| {
        if (isGuard(call) and !os.capabilities().fault_guard) continue;
        if (call == .barrier and !os.capabilities().process_barrier) continue;
        os.simulated.clear();
        // A restore that failed is made good below, by one that must not.
        const times: u32 = if (call == .unmap) 1 else 2;
        os.simulated.failNext(call, 4711, .{ .after = 1, .times = times });
        for ([_]bool{ false, true, true, false }) |fails| {
            code = 0;
            // Undoing it makes a call of another kind, except for a restore that failed, which is
            // made good by a second one.
            if (fails) {
                try testing.expectError(error.System, attempt(call, room, file, temp.path, &code));
                try testing.expectEqual(4711, code);
                if (call == .unmap) break;
            } else {
                try attempt(call, room, file, temp.path, &code);
            }
        }
        if (call != .unmap) try testing.expectEqual(4, os.simulated.calls(call));
    }
    os.simulated.clear();
    try expectFile(bytes, temp.path);
}

test "calls are counted from when something is told, and reads end early when told" {
    const file: TempFile = try .create("0123456789");
    defer file.deinit();
    defer os.simulated.clear();
    try expectFile("0123456789", file.path);
    try testing.expectEqual(0, os.simulated.calls(.open));

    os.simulated.shortenReads(4);
    try expectFile("0123", file.path);
    try testing.expectEqual(1, os.simulated.calls(.open));
    try testing.expectEqual(1, os.simulated.calls(.read));

    os.simulated.clear();
    try expectFile("0123456789", file.path);
    try testing.expectEqual(0, os.simulated.calls(.open));
}
