//! A package that depends on memmgr: a Zig program by its module, a C program by its library.

const std = @import("std");

pub fn build(b: *std.Build) void {
    const target = b.standardTargetOptions(.{});
    const optimize = b.standardOptimizeOption(.{});
    const memmgr = b.dependency("memmgr", .{ .target = target, .linkage = .static });

    b.installArtifact(b.addExecutable(.{
        .name = "sizes",
        .root_module = b.createModule(.{
            .root_source_file = b.path("sizes.zig"),
            .target = target,
            .optimize = optimize,
            .imports = &.{.{ .name = "memmgr", .module = memmgr.module("memmgr") }},
        }),
    }));

    const inspect = b.createModule(.{ .target = target, .optimize = optimize, .link_libc = true });
    inspect.addCSourceFile(.{ .file = memmgr.path("examples/inspect.c") });
    inspect.linkLibrary(memmgr.artifact("memmgr"));
    b.installArtifact(b.addExecutable(.{ .name = "inspect", .root_module = inspect }));
}
