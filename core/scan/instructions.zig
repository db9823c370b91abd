//! Which of its kernels the processor that runs the library can run, and the one for a type.
//!
//! The library is compiled for the oldest processor of its architecture. For newer ones build.zig
//! compiles `kernels.zig` again, as modules that only the library has: a program that compiles the
//! core itself names its processor, and has the kernels for that one.

const builtin = @import("builtin");
const root = @import("root");
const std = @import("std");
const dtypes = @import("../formats.zig").dtype;
const kernels = @import("kernels.zig");

pub const Kernel = kernels.Kernel;
pub const streams = kernels.streams;

/// Mirrors MEMMGR_INSTRUCTIONS_… of the header, from old to new.
pub const Instructions = enum(u32) { auto = 0, baseline = 1, avx2 = 2, avx512 = 3 };

/// Two modules, if they are to be had.
const wider: ?struct { type, type } =
    if (@hasDecl(root, "wider_kernels")) root.wider_kernels else null;

/// Null if this processor cannot run them, or nobody compiled them.
pub fn choose(asked: Instructions) ?Instructions {
    const best = newest();
    if (asked == .auto) return best;
    return if (@backingInt(asked) <= @backingInt(best)) asked else null;
}

/// Null if rows of such elements have no scores. `chosen` is what `choose` gave.
pub fn kernel(chosen: Instructions, dtype: dtypes.Dtype) ?*const Kernel {
    const modules = wider orelse return ofModule(kernels, dtype);
    return switch (chosen) {
        .auto, .baseline => ofModule(kernels, dtype),
        .avx2 => ofModule(modules[0], dtype),
        .avx512 => ofModule(modules[1], dtype),
    };
}

fn ofModule(comptime module: type, dtype: dtypes.Dtype) ?*const Kernel {
    return switch (dtype) {
        .f32 => module.scoreF32,
        .f16 => module.scoreF16,
        .bf16 => module.scoreBf16,
        .i8 => module.scoreI8,
        else => null,
    };
}

/// Asked once: a virtual machine stops for it.
var newest_known: std.atomic.Value(Instructions) = .init(.auto);

fn newest() Instructions {
    const known = newest_known.load(.monotonic);
    if (known != .auto) return known;
    const found: Instructions = if (wider == null) .baseline else detect();
    newest_known.store(found, .monotonic);
    return found;
}

/// What build.zig compiles the modules for, and registers that the system keeps for each thread.
fn detect() Instructions {
    const basic = cpuid(1);
    const fma = 1 << 12;
    const osxsave = 1 << 27;
    const f16c = 1 << 29;
    if (~basic.ecx & (fma | osxsave | f16c) != 0 or cpuid(0).eax < 7) return .baseline;
    const extended = cpuid(7);
    const kept = xcr0();
    const ymm = 0b110;
    const avx2 = 1 << 5;
    if (~kept & ymm != 0 or ~extended.ebx & avx2 != 0) return .baseline;
    const zmm = 0b1110_0000;
    const avx512_f_dq_bw_vl: u32 = 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31;
    if (~kept & zmm != 0 or ~extended.ebx & avx512_f_dq_bw_vl != 0) return .avx2;
    return .avx512;
}

const Leaf = struct { eax: u32, ebx: u32, ecx: u32 };

fn cpuid(leaf: u32) Leaf {
    var eax: u32 = undefined;
    var ebx: u32 = undefined;
    var ecx: u32 = undefined;
    asm volatile ("cpuid"
        : [_] "={eax}" (eax),
          [_] "={ebx}" (ebx),
          [_] "={ecx}" (ecx),
        : [_] "{eax}" (leaf),
          [_] "{ecx}" (@as(u32, 0)),
        : .{ .edx = true });
    return .{ .eax = eax, .ebx = ebx, .ecx = ecx };
}

/// Which registers the system keeps.
fn xcr0() u32 {
    return asm volatile (
        \\ xgetbv
        : [_] "={eax}" (-> u32),
        : [_] "{ecx}" (@as(u32, 0)),
        : .{ .edx = true });
}

test "the baseline runs everywhere, and nothing runs that the processor lacks" {
    try std.testing.expectEqual(.baseline, choose(.baseline));
    const best = choose(.auto).?;
    for ([_]Instructions{ .baseline, .avx2, .avx512 }) |each| {
        const expected = if (@backingInt(each) <= @backingInt(best)) each else null;
        try std.testing.expectEqual(expected, choose(each));
        if (expected) |chosen| try std.testing.expect(kernel(chosen, .f32) != null);
    }
    try std.testing.expectEqual(null, kernel(best, .f64));
}
