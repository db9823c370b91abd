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

const warnings = [_][]const u8{ "-Wall", "-Wextra", "-pedantic", "-Werror" };
/// What only the headers have to be clean of.
const warnings_strict = warnings ++ .{ "-Wconversion", "-Wshadow" };
const c_standards = [_][]const u8{ "c99", "c11", "c17", "c23" };
const cpp_standards = [_][]const u8{ "c++11", "c++14", "c++17", "c++20", "c++23" };
/// Of memmgr.hpp: the oldest and the newest run its tests.
const hpp_standards = [_][]const u8{ "c++17", "c++20", "c++23" };

fn declare(b: *std.Build) void {
    const steps = .{
        .check = b.step("check", "Compile library, C programs and unit tests for every target"),
        .examples = b.step("examples", "Build every example into PREFIX/examples"),
        .programs = b.step("programs", "Build unit tests and C programs into PREFIX/tests"),
        .fuzz = b.step("fuzz", "Fuzz the unit tests that take random input (with --fuzz=200K)"),
        .@"test" = b.step("test", "Run test:unit, test:abi, test:header, test:c and test:fmt"),
        .test_unit = b.step("test:unit", "Run the tests at the foot of core's files"),
        .snapshot = b.step("snapshot", "Take tests/abi/snapshot.c anew: the ABI is to change"),
        .test_abi = b.step("test:abi", "Compare header, its Zig mirror and tests/abi/snapshot.c"),
        .test_header = b.step("test:header", "Compile the header in every dialect of C and C++"),
        .test_c = b.step("test:c", "Run the programs of tests/c and tests/cpp, static and shared"),
        .test_fmt = b.step("test:fmt", "Check the layout of Zig files"),
        .test_tsan = b.step("test:tsan", "Run the unit tests under ThreadSanitizer"),
    };

    // -Dcpu=native is for who asks: what is built here is copied to other machines.
    const target = b.standardTargetOptions(.{ .default_target = .{ .cpu_model = .baseline } });
    const mode = b.option(
        std.builtin.Optimize,
        "optimize",
        "Of the unit tests (default: debug); the library is always built fast",
    ) orelse .debug;
    const filters = b.option([]const []const u8, "filter", "Unit tests with this in their name");
    const slow = b.option(
        bool,
        "slow",
        "The long form of the C programs, and the unit tests in mode safe as well",
    ) orelse false;
    // Two libraries of one name are none that a package which depends on this one can ask for.
    const linkage = b.option(std.builtin.LinkMode, "linkage", "The library to install (both)");

    const static = addLibrary(b, target, .static);
    const shared = addLibrary(b, target, .dynamic);
    const programs = std.mem.concat(b.allocator, Program, &.{
        listPrograms(b, "tests/c"),
        listPrograms(b, "tests/cpp"),
    }) catch @panic("OOM");

    // The default: what is handed out.
    if (linkage != .dynamic) b.installArtifact(static);
    if (linkage != .static) installShared(b, shared);
    installPkgConfig(b, "memmgr", "-L${libdir} -lmemmgr");
    installPkgConfig(b, "memmgr-static", b.fmt("${{libdir}}/{s} -pthread", .{static.out_filename}));

    installCmakePackage(b);

    _ = b.addModule("memmgr", .{
        .root_source_file = b.path("core/memmgr.zig"),
        .target = target,
        .link_libc = target.result.os.tag != .windows,
    });
    for (listPrograms(b, "examples")) |program| {
        const install = b.addInstallArtifact(addProgram(b, program, static), .{
            .dest_dir = .{ .override = .{ .custom = "examples" } },
        });
        steps.examples.dependOn(&install.step);
    }

    const unit: UnitTest = .{ .target = target, .mode = mode, .filters = filters orelse &.{} };
    _ = runTest(b, steps.test_unit, addUnitTest(b, unit));
    if (slow) _ = runTest(b, steps.test_unit, addUnitTest(b, unit.with(.{ .mode = .safe })));
    _ = runTest(b, steps.test_tsan, addUnitTest(b, unit.with(.{ .tsan = true })));
    // The fuzzer starts and watches this one itself.
    steps.fuzz.dependOn(&b.addRunArtifact(addUnitTest(b, unit.with(.{ .llvm = true }))).step);

    const abi = addAbiPrinter(b);
    const asserts = printAbi(b, abi).captureStdOut(.{ .basename = "abi.c" });
    steps.test_abi.dependOn(&addObject(b, target, asserts, "c11").step);
    const comparison = printAbi(b, abi);
    comparison.addFileArg(b.path(abi_snapshot));
    steps.test_abi.dependOn(&comparison.step);
    const update = b.addUpdateSourceFiles();
    update.addCopyFileToSource(asserts, abi_snapshot);
    steps.snapshot.dependOn(&update.step);

    const consumers = writeHeaderConsumers(b);
    for (c_standards) |standard| {
        steps.test_header.dependOn(&addObject(b, target, consumers.c, standard).step);
    }
    for (cpp_standards) |standard| {
        steps.test_header.dependOn(&addObject(b, target, consumers.cpp, standard).step);
    }
    for (hpp_standards) |standard| {
        steps.test_header.dependOn(&addObject(b, target, consumers.hpp, standard).step);
    }

    for (programs) |program| {
        const run = runTest(b, steps.test_c, addProgram(b, program, static));
        // A program that has no longer form takes no notice.
        if (slow) run.addArg("--slow");
        _ = runTest(b, steps.test_c, addProgram(b, program, shared));
    }

    const zig_files = b.pathList(&.{ "build.zig", "build.zig.zon", "core", "examples", "tests" });
    steps.test_fmt.dependOn(&b.addFmt(.{ .check = true, .paths = zig_files }).step);

    for ([_]*std.Build.Step{
        steps.test_unit, steps.test_abi, steps.test_header, steps.test_c, steps.test_fmt,
    }) |part| steps.@"test".dependOn(part);

    // What tests/platforms.py runs, here or on an emulator.
    installTest(b, steps.programs, addUnitTest(b, unit));
    for (programs) |program| installTest(b, steps.programs, addProgram(b, program, static));

    for (targets_supported) |triple| {
        const other = resolveTarget(b, triple);
        const library = addLibrary(b, other, .static);
        const library_shared = addLibrary(b, other, .dynamic);
        steps.check.dependOn(&library.step);
        steps.check.dependOn(&library_shared.step);
        steps.check.dependOn(&addUnitTest(b, .{ .target = other }).step);
        steps.check.dependOn(&addObject(b, other, asserts, "c11").step);
        for (programs) |program| {
            steps.check.dependOn(&addProgram(b, program, library).step);
            steps.check.dependOn(&addProgram(b, program, library_shared).step);
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
        .root_module = createFastModule(b, b.path("core/libmemmgr.zig"), target),
    });
    library.root_module.link_libc = !windows;
    library.installHeader(b.path("include/memmgr.h"), "memmgr.h");
    library.installHeader(b.path("include/memmgr.hpp"), "memmgr.hpp");
    if (target.result.cpu.arch == .x86_64) {
        addKernels(b, library.root_module, "kernels_avx2", &features_avx2);
        addKernels(b, library.root_module, "kernels_avx512", &(features_avx2 ++ features_avx512));
    }
    return library;
}

/// On Windows with an import library of our own: in the linker's the entry point and the TLS index
/// of memmgr.dll are names like all others, and a DLL that is linked with it could take them for
/// its own.
fn installShared(b: *std.Build, library: *std.Build.Step.Compile) void {
    const target = library.root_module.resolved_target.?.result;
    if (target.os.tag != .windows) return b.installArtifact(library);
    const install = b.addInstallArtifact(library, .{ .implib_dir = .disabled });
    b.getInstallStep().dependOn(&install.step);

    var exports: []const u8 = "LIBRARY memmgr.dll\nEXPORTS\n";
    var lines = std.mem.splitScalar(u8, readHeader(b), '\n');
    while (lines.next()) |line| {
        const declaration = std.mem.cutPrefix(u8, line, "MEMMGR_API ") orelse continue;
        const before, _ = std.mem.cutScalar(u8, declaration, '(') orelse continue;
        const start = std.mem.findLastAny(u8, before, " *").?;
        exports = b.fmt("{s}{s}\n", .{ exports, before[start + 1 ..] });
    }
    const dlltool = b.addSystemCommand(&.{
        b.graph.zig_exe, "dlltool", "-m", if (target.cpu.arch == .aarch64) "arm64" else "i386:x86-64",
        "-d",
    });
    dlltool.addFileArg(b.addWriteFile("memmgr.def", exports).getDirectory().path(b, "memmgr.def"));
    dlltool.addArg("-l");
    const import_library = b.addInstallLibFile(dlltool.addOutputFileArg("memmgr.lib"), "memmgr.lib");
    b.getInstallStep().dependOn(&import_library.step);
}

fn readHeader(b: *std.Build) []const u8 {
    b.dependOnFileContents(b.path("include/memmgr.h"));
    const io = b.graph.io;
    const dir = b.root.openDir(io, "include", .{}) catch @panic("no folder include");
    defer dir.close(io);
    return dir.readFileAlloc(io, "memmgr.h", b.allocator, .unlimited) catch
        @panic("no file include/memmgr.h");
}

fn createFastModule(
    b: *std.Build,
    file: std.Build.LazyPath,
    target: std.Build.ResolvedTarget,
) *std.Build.Module {
    return b.createModule(.{
        .root_source_file = file,
        .target = target,
        .optimize = .fast,
        .strip = true,
        .pic = true,
        // Calls of a few instructions would spend an eighth of them on it.
        .omit_frame_pointer = true,
        // Its helper would be an undefined symbol for a C linker.
        .stack_check = false,
    });
}

// What core/scan/instructions.zig asks the processor for.
const features_avx2 = [_]std.Target.x86.Feature{ .avx2, .fma, .f16c };
const features_avx512 = [_]std.Target.x86.Feature{ .avx512f, .avx512dq, .avx512bw, .avx512vl };

/// The scan's kernels once more, for processors that have these features: a module of its own, so
/// that no other code is compiled for them.
fn addKernels(
    b: *std.Build,
    library: *std.Build.Module,
    name: []const u8,
    features: []const std.Target.x86.Feature,
) void {
    var query = library.resolved_target.?.query;
    for (features) |feature| query.cpu_features_add.addFeature(@backingInt(feature));
    // A file is part of one module only.
    const copy = b.addWriteFiles().addCopyFile(
        b.path("core/scan/kernels.zig"),
        b.fmt("{s}.zig", .{name}),
    );
    library.addImport(name, createFastModule(b, copy, b.resolveTargetQuery(query)));
}

/// A pkg-config file that goes where its folder goes.
fn installPkgConfig(b: *std.Build, name: []const u8, libs: []const u8) void {
    const file_name = b.fmt("{s}.pc", .{name});
    const files = b.addWriteFile(file_name, b.fmt(
        \\prefix=${{pcfiledir}}/../..
        \\includedir=${{prefix}}/include
        \\libdir=${{prefix}}/lib
        \\
        \\Name: {s}
        \\Description: A memory budget for your memory-mapped tables
        \\Version: {s}
        \\Cflags: -I${{includedir}}
        \\Libs: {s}
        \\
    , .{ name, package.version, libs }));
    const file = files.getDirectory().path(b, file_name);
    const install = b.addInstallLibFile(file, b.fmt("pkgconfig/{s}", .{file_name}));
    b.getInstallStep().dependOn(&install.step);
}

/// What CMake's find_package looks for. A version is compatible with those of its minor version.
fn installCmakePackage(b: *std.Build) void {
    const version = std.SemanticVersion.parse(package.version) catch unreachable;
    const files = b.addWriteFile("memmgr-config-version.cmake", b.fmt(
        \\set(PACKAGE_VERSION {s})
        \\if(PACKAGE_FIND_VERSION_MAJOR EQUAL {d} AND PACKAGE_FIND_VERSION_MINOR EQUAL {d}
        \\   AND NOT PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION
        \\   AND CMAKE_SIZEOF_VOID_P EQUAL 8)
        \\  set(PACKAGE_VERSION_COMPATIBLE TRUE)
        \\endif()
        \\if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
        \\  set(PACKAGE_VERSION_EXACT TRUE)
        \\endif()
        \\
    , .{ package.version, version.major, version.minor }));
    const name = "memmgr-config-version.cmake";
    for ([_]*std.Build.Step.InstallFile{
        b.addInstallLibFile(b.path("cmake/memmgr-config.cmake"), "cmake/memmgr/memmgr-config.cmake"),
        b.addInstallLibFile(files.getDirectory().path(b, name), "cmake/memmgr/" ++ name),
    }) |install| b.getInstallStep().dependOn(&install.step);
}

const UnitTest = struct {
    target: std.Build.ResolvedTarget,
    mode: std.builtin.Optimize = .debug,
    filters: []const []const u8 = &.{},
    /// Only code from LLVM carries the counters that the fuzzer reads.
    llvm: bool = false,
    tsan: bool = false,

    fn with(base: UnitTest, changes: anytype) UnitTest {
        var result = base;
        inline for (comptime std.meta.fieldNames(@TypeOf(changes))) |name| {
            @field(result, name) = @field(changes, name);
        }
        return result;
    }
};

fn addUnitTest(b: *std.Build, options: UnitTest) *std.Build.Step.Compile {
    return b.addTest(.{
        .name = "memmgr-test",
        .filters = options.filters,
        .use_llvm = if (options.llvm or options.tsan) true else null,
        .root_module = b.createModule(.{
            .root_source_file = b.path("core/memmgr.zig"),
            .target = options.target,
            .optimize = options.mode,
            .sanitize_thread = options.tsan,
            .link_libc = options.target.result.os.tag != .windows,
        }),
    });
}

/// Runs a program whenever it is asked to: what it finds depends on more than its file.
fn runTest(
    b: *std.Build,
    step: *std.Build.Step,
    program: *std.Build.Step.Compile,
) *std.Build.Step.Run {
    const run = b.addRunArtifact(program);
    if (program.kind == .exe) {
        run.setName(b.fmt("test program {s}", .{program.name}));
        run.expectExitCode(0);
    }
    run.has_side_effects = true;
    step.dependOn(&run.step);
    return run;
}

/// A source file that is a program of its own.
const Program = struct { name: []const u8, path: []const u8, language: enum { c, cpp, zig } };

fn listPrograms(b: *std.Build, folder: []const u8) []const Program {
    const io = b.graph.io;
    var dir = b.root.openDir(io, folder, .{ .iterate = true }) catch |err| switch (err) {
        // A package of the library alone has none.
        error.FileNotFound => return &.{},
        else => std.debug.panic("{s}: {t}", .{ folder, err }),
    };
    defer dir.close(io);
    b.dependOnDirectoryContents(b.path(folder));
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

/// The program for the library's target, linked with the library.
fn addProgram(
    b: *std.Build,
    program: Program,
    library: *std.Build.Step.Compile,
) *std.Build.Step.Compile {
    const module = b.createModule(.{ .target = library.root_module.resolved_target.? });
    switch (program.language) {
        .c, .cpp => {
            // Debug would link a runtime in, and with it what the library may lack.
            module.optimize = .safe;
            module.link_libc = true;
            module.link_libcpp = program.language == .cpp;
            module.addCSourceFile(.{
                .file = b.path(program.path),
                .flags = &(warnings ++ .{if (program.language == .c)
                    "-std=c11"
                else if (library.linkage == .static) "-std=c++17" else "-std=c++23"}),
            });
            if (library.linkage == .dynamic) module.addCMacro("MEMMGR_SHARED", "1");
            module.linkLibrary(library);
        },
        .zig => {
            module.root_source_file = b.path(program.path);
            module.addImport("memmgr", b.modules.get("memmgr").?);
        },
    }
    const suffix = if (library.linkage == .dynamic) "-shared" else "";
    return b.addExecutable(.{
        .name = b.fmt("{s}{s}", .{ program.name, suffix }),
        .root_module = module,
    });
}

const abi_snapshot = "tests/abi/snapshot.c";

/// Prints a C file of static asserts, from a walk through the mirror.
fn addAbiPrinter(b: *std.Build) *std.Build.Step.Compile {
    return b.addExecutable(.{
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
}

fn printAbi(b: *std.Build, printer: *std.Build.Step.Compile) *std.Build.Step.Run {
    const run = b.addRunArtifact(printer);
    run.addFileArg(b.path("include/memmgr.h"));
    return run;
}

const HeaderConsumers = struct {
    c: std.Build.LazyPath,
    cpp: std.Build.LazyPath,
    hpp: std.Build.LazyPath,
};

/// A source file, in C and C++ the same, that uses every initializer of the header, and one that
/// instantiates the templates of memmgr.hpp.
fn writeHeaderConsumers(b: *std.Build) HeaderConsumers {
    var text: []const u8 = "#include <memmgr.h>\n";
    var lines = std.mem.splitScalar(u8, readHeader(b), '\n');
    while (lines.next()) |line| {
        const macro = std.mem.cutPrefix(u8, line, "#define ") orelse continue;
        const name, _ = std.mem.cutScalar(u8, macro, ' ') orelse continue;
        const prefix = std.mem.cutSuffix(u8, name, "_INIT") orelse continue;
        const lower = std.ascii.allocLowerString(b.allocator, prefix) catch @panic("OOM");
        text = b.fmt("{s}{s} {s}_value = {s};\n", .{ text, lower, lower, name });
    }
    return .{
        .c = b.addWriteFile("header.c", text).getDirectory().path(b, "header.c"),
        .cpp = b.addWriteFile("header.cpp", text).getDirectory().path(b, "header.cpp"),
        .hpp = b.addWriteFile("hpp.cpp",
            \\#include <memmgr.hpp>
            \\template class memmgr::View<>;
            \\template class memmgr::View<double>;
            \\template class memmgr::View<const double>;
            \\template class memmgr::Allocator<int>;
            \\
        ).getDirectory().path(b, "hpp.cpp"),
    };
}

/// Compiles one file of C or C++ that includes the header, and links nothing.
fn addObject(
    b: *std.Build,
    target: std.Build.ResolvedTarget,
    file: std.Build.LazyPath,
    standard: []const u8,
) *std.Build.Step.Compile {
    const module = b.createModule(.{
        .target = target,
        .optimize = .safe,
        .link_libc = true,
        .link_libcpp = std.mem.startsWith(u8, standard, "c++"),
    });
    module.addIncludePath(b.path("include"));
    module.addCSourceFile(.{ .file = file, .flags = std.mem.concat(b.allocator, []const u8, &.{
        &warnings_strict,
        &.{b.fmt("-std={s}", .{standard})},
    }) catch @panic("OOM") });
    return b.addObject(.{ .name = standard, .root_module = module });
}

fn installTest(
    b: *std.Build,
    step: *std.Build.Step,
    program: *std.Build.Step.Compile,
) void {
    const install = b.addInstallArtifact(program, .{
        .dest_dir = .{ .override = .{ .custom = "tests" } },
        .pdb_dir = .disabled,
    });
    step.dependOn(&install.step);
}

fn resolveTarget(b: *std.Build, triple: []const u8) std.Build.ResolvedTarget {
    return b.resolveTargetQuery(std.Target.Query.parse(.{
        .arch_os_abi = triple,
        .cpu_features = "baseline",
    }) catch unreachable);
}
