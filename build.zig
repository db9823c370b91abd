//! The build: libmemmgr, its header and pkg-config files, and every test that Zig can run.
//!
//! `zig build` installs, `zig build test` runs what needs no other system. Steps stand first, then
//! the artifacts, then what each step is made of. The programs of tests/c, tests/cpp and examples
//! are found by listing these folders, so there is no list to forget one in.

const builtin = @import("builtin");
const std = @import("std");
const package = @import("build.zig.zon");

const zig_version = "0.17.1";

/// A constant, so that under another Zig nothing below is looked at and this is the one error.
pub const build = if (std.mem.eql(u8, builtin.zig_version_string, zig_version))
    declare
else
    @compileError("memmgr is built with Zig " ++ zig_version ++ ", and this is " ++
        builtin.zig_version_string ++ ": pip install ziglang==" ++ zig_version);

/// What `zig build check` compiles for. 2.17 is the glibc of manylinux2014, 11 the macOS of the
/// first ARM machines.
const targets_supported = [_][]const u8{
    "x86_64-linux-gnu.2.17",
    "aarch64-linux-gnu.2.17",
    "x86_64-linux-musl",
    "aarch64-linux-musl",
    "x86_64-macos.11.0",
    "aarch64-macos.11.0",
    "x86_64-windows-gnu",
};

/// Other systems that a Linux machine can run: each command takes a program as its last argument,
/// and exits with 77 where its emulator cannot be had.
const systems = [_]struct { target: []const u8, command: []const []const u8 }{
    .{ .target = "x86_64-windows-gnu", .command = &.{ "tests/systems/wine.sh", "run", "10" } },
    .{ .target = "x86_64-windows-gnu", .command = &.{ "tests/systems/wine.sh", "run", "8" } },
    .{ .target = "aarch64-linux-musl", .command = &.{ "tests/systems/qemu.sh", "run", "65536" } },
    .{ .target = "aarch64-linux-musl", .command = &.{ "tests/systems/qemu.sh", "run", "16384" } },
};

const warnings = [_][]const u8{ "-Wall", "-Wextra", "-pedantic", "-Werror" };
const c_standards = [_][]const u8{ "c99", "c11", "c17", "c23" };
const cpp_standards = [_][]const u8{ "c++11", "c++14", "c++17", "c++20" };

fn declare(b: *std.Build) void {
    const steps = .{
        .check = b.step("check", "Compile library, C programs and unit tests for every target"),
        .examples = b.step("examples", "Build every example into PREFIX/examples"),
        .fuzz = b.step("fuzz", "Fuzz the unit tests that take random input (with --fuzz=200K)"),
        .@"test" = b.step("test", "Run test:unit, test:abi, test:header, test:c and test:fmt"),
        .test_unit = b.step("test:unit", "Run the tests at the foot of core's files"),
        .test_abi = b.step("test:abi", "Compare the Zig mirror of the header with the header"),
        .test_header = b.step("test:header", "Compile the header in every dialect of C and C++"),
        .test_c = b.step("test:c", "Run the programs of tests/c and tests/cpp, static and shared"),
        .test_fmt = b.step("test:fmt", "Check the layout of Zig files"),
        .test_tsan = b.step("test:tsan", "Run the unit tests under ThreadSanitizer"),
        .test_systems = b.step("test:systems", "Run unit tests and C programs on other systems"),
    };

    // -Dcpu=native is for who asks: what is built here is copied to other machines.
    const target = b.standardTargetOptions(.{ .default_target = .{ .cpu_model = .baseline } });
    const optimize = b.option(
        std.builtin.Optimize,
        "optimize",
        "Mode of the unit tests (default: debug); the library is always fast",
    ) orelse .debug;
    const filters = b.option([]const []const u8, "filter", "Run only unit tests whose name has it") orelse
        &.{};
    const slow = b.option(bool, "slow", "Run the unit tests in mode safe as well") orelse false;

    const static = addLibrary(b, target, .static);
    const shared = addLibrary(b, target, .dynamic);
    const test_programs = std.mem.concat(b.allocator, Program, &.{
        listPrograms(b, "tests/c"),
        listPrograms(b, "tests/cpp"),
    }) catch @panic("OOM");

    // Install -----------------------------------------------------------------------------------
    b.installArtifact(static);
    b.installArtifact(shared);
    const pkg_config = b.addWriteFiles();
    for ([_][]const u8{ "memmgr.pc", "memmgr-static.pc" }, [_][]const u8{
        "-L${libdir} -lmemmgr",
        b.fmt("${{libdir}}/{s}{s}", .{ static.out_filename, if (target.result.os.tag == .linux) " -pthread" else "" }),
    }) |name, libs| {
        const text = b.fmt(
            \\prefix=${{pcfiledir}}/../..
            \\includedir=${{prefix}}/include
            \\libdir=${{prefix}}/lib
            \\
            \\Name: memmgr
            \\Description: A memory budget for your memory-mapped tables
            \\Version: {s}
            \\Cflags: -I${{includedir}}
            \\Libs: {s}
            \\
        , .{ package.version, libs });
        const path = b.fmt("pkgconfig/{s}", .{name});
        b.getInstallStep().dependOn(&b.addInstallLibFile(pkg_config.add(name, text), path).step);
    }

    // Examples ----------------------------------------------------------------------------------
    _ = b.addModule("memmgr", .{ .root_source_file = b.path("core/memmgr.zig"), .target = target });
    for (listPrograms(b, "examples")) |program| {
        const install = b.addInstallArtifact(addProgram(b, program, target, static), .{
            .dest_dir = .{ .override = .{ .custom = "examples" } },
        });
        steps.examples.dependOn(&install.step);
    }

    // test:unit, test:tsan, fuzz ----------------------------------------------------------------
    const modes: []const std.builtin.Optimize = if (slow) &.{ optimize, .safe } else &.{optimize};
    for (modes) |mode| {
        const run = b.addRunArtifact(addUnitTest(b, target, .{ .optimize = mode, .filters = filters }));
        run.has_side_effects = true;
        steps.test_unit.dependOn(&run.step);
    }
    const tsan = b.addRunArtifact(addUnitTest(b, target, .{ .filters = filters, .tsan = true }));
    tsan.has_side_effects = true;
    steps.test_tsan.dependOn(&tsan.step);
    // Only code from LLVM carries the counters that the fuzzer reads.
    const fuzz = addUnitTest(b, target, .{ .filters = filters, .llvm = true });
    steps.fuzz.dependOn(&b.addRunArtifact(fuzz).step);

    // test:abi, test:header ---------------------------------------------------------------------
    const asserts = abiAsserts(b);
    steps.test_abi.dependOn(&addObject(b, target, asserts, "c11").step);
    const consumer = headerConsumer(b);
    const sources = b.addWriteFiles();
    for (c_standards) |standard| {
        const file = sources.add("header.c", consumer);
        steps.test_header.dependOn(&addObject(b, target, file, standard).step);
    }
    for (cpp_standards) |standard| {
        const file = sources.add("header.cpp", consumer);
        steps.test_header.dependOn(&addObject(b, target, file, standard).step);
    }

    // test:c ------------------------------------------------------------------------------------
    for (test_programs) |program| {
        for ([_]*std.Build.Step.Compile{ static, shared }) |library| {
            const run = b.addRunArtifact(addProgram(b, program, target, library));
            run.expectExitCode(0);
            run.has_side_effects = true;
            steps.test_c.dependOn(&run.step);
        }
    }

    // test:fmt ----------------------------------------------------------------------------------
    const fmt = b.addFmt(.{ .check = true, .paths = b.pathList(&.{
        "build.zig", "build.zig.zon", "core", "tests", "examples",
    }) });
    steps.test_fmt.dependOn(&fmt.step);

    steps.@"test".dependOn(steps.test_unit);
    steps.@"test".dependOn(steps.test_abi);
    steps.@"test".dependOn(steps.test_header);
    steps.@"test".dependOn(steps.test_c);
    steps.@"test".dependOn(steps.test_fmt);

    // test:systems ------------------------------------------------------------------------------
    for (systems) |system| {
        const other = resolveTarget(b, system.target);
        const library = addLibrary(b, other, .static);
        runOn(b, steps.test_systems, system.command, addUnitTest(b, other, .{ .filters = filters }));
        for (test_programs) |program| {
            runOn(b, steps.test_systems, system.command, addProgram(b, program, other, library));
        }
    }

    // check -------------------------------------------------------------------------------------
    for (targets_supported) |triple| {
        const other = resolveTarget(b, triple);
        steps.check.dependOn(&addLibrary(b, other, .dynamic).step);
        steps.check.dependOn(&addUnitTest(b, other, .{}).step);
        steps.check.dependOn(&addObject(b, other, asserts, "c11").step);
        const library = addLibrary(b, other, .static);
        steps.check.dependOn(&library.step);
        for (test_programs) |program| {
            steps.check.dependOn(&addProgram(b, program, other, library).step);
        }
    }
}

/// libmemmgr as it is handed out.
fn addLibrary(
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    linkage: std.builtin.LinkMode,
) *std.Build.Step.Compile {
    const windows = target.result.os.tag == .windows;
    const library = b.addLibrary(.{
        // On Windows the import library of memmgr.dll is called memmgr.lib.
        .name = if (windows and linkage == .static) "memmgr_static" else "memmgr",
        .linkage = linkage,
        .version = std.SemanticVersion.parse(package.version) catch unreachable,
        .root_module = b.createModule(.{
            .root_source_file = b.path("core/libmemmgr.zig"),
            .target = target,
            .optimize = .fast,
            .strip = true,
            .pic = true,
            // Its helper would be an undefined symbol for a C linker.
            .stack_check = false,
            .link_libc = !windows,
        }),
    });
    library.installHeader(b.path("include/memmgr.h"), "memmgr.h");
    return library;
}

const UnitTest = struct {
    optimize: std.builtin.Optimize = .debug,
    filters: []const []const u8 = &.{},
    llvm: bool = false,
    tsan: bool = false,
};

fn addUnitTest(
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    options: UnitTest,
) *std.Build.Step.Compile {
    return b.addTest(.{
        .name = "memmgr-test",
        .filters = options.filters,
        .use_llvm = if (options.llvm or options.tsan) true else null,
        .root_module = b.createModule(.{
            .root_source_file = b.path("core/memmgr.zig"),
            .target = target,
            .optimize = options.optimize,
            .sanitize_thread = options.tsan,
            .link_libc = target.result.os.tag != .windows,
        }),
    });
}

/// A source file that is a program of its own.
const Program = struct { name: []const u8, path: []const u8, language: enum { c, cpp, zig } };

fn listPrograms(b: *std.Build, folder: []const u8) []const Program {
    b.dependOnDirectoryContents(b.path(folder));
    const io = b.graph.io;
    var dir = b.root.openDir(io, folder, .{ .iterate = true }) catch |err|
        std.debug.panic("{s}: {t}", .{ folder, err });
    defer dir.close(io);
    var programs: std.ArrayList(Program) = .empty;
    var entries = dir.iterate();
    while (entries.next(io) catch |err| std.debug.panic("{s}: {t}", .{ folder, err })) |entry| {
        const name = b.dupe(std.fs.path.stem(entry.name));
        const extension = std.fs.path.extension(entry.name);
        programs.append(b.allocator, .{
            .name = name,
            .path = b.pathJoin(&.{ folder, entry.name }),
            .language = if (std.mem.eql(u8, extension, ".c"))
                .c
            else if (std.mem.eql(u8, extension, ".cpp"))
                .cpp
            else if (std.mem.eql(u8, extension, ".zig"))
                .zig
            else
                continue,
        }) catch @panic("OOM");
    }
    return programs.items;
}

fn addProgram(
    b: *std.Build,
    program: Program,
    target: std.Build.ResolvedTarget,
    library: *std.Build.Step.Compile,
) *std.Build.Step.Compile {
    const module = b.createModule(.{ .target = target, .optimize = .safe });
    switch (program.language) {
        .c, .cpp => {
            module.link_libc = true;
            module.link_libcpp = program.language == .cpp;
            module.addCSourceFile(.{
                .file = b.path(program.path),
                .flags = &(warnings ++ .{if (program.language == .c) "-std=c11" else "-std=c++17"}),
            });
            if (library.linkage == .dynamic) module.addCMacro("MEMMGR_SHARED", "1");
            module.linkLibrary(library);
        },
        .zig => {
            module.root_source_file = b.path(program.path);
            module.addImport("memmgr", b.modules.get("memmgr").?);
        },
    }
    const linkage = if (library.linkage == .dynamic) "-shared" else "";
    return b.addExecutable(.{
        .name = b.fmt("{s}{s}", .{ program.name, linkage }),
        .root_module = module,
    });
}

/// A C file of static asserts, printed by a program that walks the mirror.
fn abiAsserts(b: *std.Build) std.Build.LazyPath {
    const generator = b.addExecutable(.{
        .name = "abi",
        .root_module = b.createModule(.{
            .root_source_file = b.path("tests/abi/generate.zig"),
            .target = b.graph.host,
            .imports = &.{.{ .name = "libmemmgr", .module = b.createModule(.{
                .root_source_file = b.path("core/libmemmgr.zig"),
                .target = b.graph.host,
                .link_libc = b.graph.host.result.os.tag != .windows,
            }) }},
        }),
    });
    const run = b.addRunArtifact(generator);
    run.addFileArg(b.path("include/memmgr.h"));
    return run.captureStdOut(.{ .basename = "abi.c" });
}

/// A source file, C and C++ at once, that uses every initializer of the header.
fn headerConsumer(b: *std.Build) []const u8 {
    b.dependOnFileContents(b.path("include/memmgr.h"));
    const header = b.root.root_dir.handle.readFileAlloc(
        b.graph.io,
        b.pathJoin(&.{ b.root.sub_path, "include/memmgr.h" }),
        b.allocator,
        .unlimited,
    ) catch |err| std.debug.panic("include/memmgr.h: {t}", .{err});
    var text: std.ArrayList(u8) = .empty;
    text.appendSlice(b.allocator, "#include <memmgr.h>\n") catch @panic("OOM");
    var lines = std.mem.splitScalar(u8, header, '\n');
    while (lines.next()) |line| {
        const macro = std.mem.cutPrefix(u8, line, "#define ") orelse continue;
        const name = std.mem.cutScalar(u8, macro, ' ') orelse continue;
        const upper = std.mem.cutSuffix(u8, name[0], "_INIT") orelse continue;
        const lower = std.ascii.allocLowerString(b.allocator, upper) catch @panic("OOM");
        text.print(b.allocator, "{s} {s}_value = {s};\n", .{ lower, lower, name[0] }) catch
            @panic("OOM");
    }
    return text.items;
}

/// Compiles one file of C or C++ that includes the header, and links nothing.
fn addObject(
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    file: std.Build.LazyPath,
    standard: []const u8,
) *std.Build.Step.Compile {
    const module = b.createModule(.{ .target = target, .optimize = .safe, .link_libc = true });
    module.addIncludePath(b.path("include"));
    module.addCSourceFile(.{ .file = file, .flags = std.mem.concat(b.allocator, []const u8, &.{
        &warnings,
        &.{b.fmt("-std={s}", .{standard})},
    }) catch @panic("OOM") });
    return b.addObject(.{ .name = standard, .root_module = module });
}

/// Adds a run of `program` by an emulator's command to `step`.
fn runOn(
    b: *std.Build,
    step: *std.Build.Step,
    command: []const []const u8,
    program: *std.Build.Step.Compile,
) void {
    const run = b.addSystemCommand(&.{
        "sh", "-c", "\"$@\"; code=$?; [ $code -eq 77 ] && echo skipped: \"$@\" || exit $code", "sh",
    });
    run.setName(b.fmt("{s} {s} {s}", .{ command[0], command[2], program.name }));
    run.setCwd(b.path("."));
    run.addArgs(command);
    run.addArtifactArg(program);
    run.has_side_effects = true;
    step.dependOn(&run.step);
}

fn resolveTarget(b: *std.Build, triple: []const u8) std.Build.ResolvedTarget {
    return b.resolveTargetQuery(std.Target.Query.parse(.{
        .arch_os_abi = triple,
        .cpu_features = "baseline",
    }) catch unreachable);
}
