//! Files that are written, and files that are looked at again.

pub const AtomicFile = @import("files/AtomicFile.zig");
pub const Saver = @import("files/Saver.zig");
pub const Verification = @import("files/Verification.zig");

test {
    _ = AtomicFile;
    _ = Saver;
    _ = Verification;
}
