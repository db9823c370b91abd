//! What memmgr is for, so that another target is refused by one sentence in place of a hundred
//! errors about integers.

const builtin = @import("builtin");

/// Fails to compile for a target that is not supported.
pub fn check() void {
    comptime {
        const named = @tagName(builtin.cpu.arch) ++ "-" ++ @tagName(builtin.os.tag);
        if (@bitSizeOf(usize) != 64 or builtin.cpu.arch.endian() != .little) {
            @compileError("memmgr needs a 64-bit little-endian processor, which " ++ named ++
                " has not");
        }
        switch (builtin.os.tag) {
            .linux, .macos, .windows => {},
            else => @compileError("memmgr runs on Linux, macOS and Windows, not on " ++ named),
        }
    }
}
