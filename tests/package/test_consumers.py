"""Programs that link the library: every compiler and dialect, CMake and Zig as build systems."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include" / "memmgr.h").read_text(encoding="utf-8")
INITIALIZERS = re.findall(r"^#define MEMMGR_(\w+)_INIT\b", HEADER, flags=re.MULTILINE)

WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror", "-Wconversion", "-Wshadow"]
# Compilers of a few years ago know the newest two as c2x and c++2b only.
C = ["c99", "c11", "c17", "c2x"]
CPP = ["c++11", "c++14", "c++17", "c++20", "c++2b"]
HPP = ["c++17", "c++20", "c++2b"]

posix_only = pytest.mark.skipif(os.name == "nt", reason="the commands are those of POSIX")


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")


def run(*command: str | Path, cwd: Path | None = None) -> str:
    # A build system that looks for Zig finds the one that belongs to this Python.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    result = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | {"PATH": path, "ZIG_DEBUG_CMD": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture
def table(tmp_path: Path) -> Path:
    header = json.dumps({"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path = tmp_path / "table.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + struct.pack("<2f", 0, 2))
    return path


@posix_only
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("standard", [*C, *CPP])
def test_header_compiles_without_a_warning(tmp_path: Path, compiler: str, standard: str) -> None:
    need(compiler)
    source = tmp_path / ("header.cpp" if standard in CPP else "header.c")
    assert len(INITIALIZERS) > 10
    values = (f"memmgr_{name.lower()} {name} = MEMMGR_{name}_INIT;" for name in INITIALIZERS)
    source.write_text("\n".join(["#include <memmgr.h>", *values, ""]))
    run(compiler, "-c", f"-std={standard}", *WARNINGS, f"-I{ROOT}/include", source, cwd=tmp_path)


@posix_only
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("standard", HPP)
def test_cpp_layer_compiles_without_a_warning(tmp_path: Path, compiler: str, standard: str) -> None:
    need(compiler)
    source = tmp_path / "layer.cpp"
    types = ("View<>", "View<double>", "Allocator<int>")
    text = "".join(f"template class memmgr::{name};\n" for name in types)
    source.write_text(f"#include <memmgr.hpp>\n{text}")
    warnings = [*WARNINGS, "-Wold-style-cast"]
    run(compiler, "-c", f"-std={standard}", *warnings, f"-I{ROOT}/include", source, cwd=tmp_path)


@posix_only
@pytest.mark.parametrize("compiler", ["g++", "clang++"])
@pytest.mark.parametrize("standard", ["c++17", "c++2b"])
def test_cpp_layer_does_what_its_tests_say(
    prefix: Path, tmp_path: Path, compiler: str, standard: str
) -> None:
    need(compiler)
    source = ROOT / "tests" / "cpp" / "memmgr.cpp"
    library = prefix / "lib" / "libmemmgr.a"
    program = tmp_path / "program"
    include = f"-I{prefix}/include"
    run(compiler, f"-std={standard}", "-O2", include, source, library, "-pthread", "-o", program)
    assert re.search(r"^\d+ passed, 0 failed$", run(program, cwd=tmp_path), flags=re.MULTILINE)


@posix_only
def test_cpp_of_the_readme_prints_what_stands_there(prefix: Path, tmp_path: Path) -> None:
    need("c++")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    ((code, output),) = re.findall(
        r"^```cpp\n(.*?)^```\n\n```text\n(.*?)^```", readme, flags=re.DOTALL | re.MULTILINE
    )
    np.save(tmp_path / "words.npy", np.ones((2, 4), np.float32))
    source = tmp_path / "readme.cpp"
    source.write_text(f"#include <memmgr.hpp>\nint main()\n{{\n{code}}}\n")
    library = prefix / "lib" / "libmemmgr.a"
    program = tmp_path / "readme"
    run("c++", "-std=c++17", f"-I{prefix}/include", source, library, "-pthread", "-o", program)
    assert run(program, cwd=tmp_path) == output


@posix_only
@pytest.mark.parametrize("source", ["installed", "subfolder"])
def test_examples_build_by_cmake(prefix: Path, tmp_path: Path, table: Path, source: str) -> None:
    need("cmake", "cc", "c++")
    if source == "installed":
        # A package goes where its folder goes.
        moved = tmp_path / "moved"
        shutil.copytree(prefix, moved, symlinks=True)
        option = f"-DCMAKE_PREFIX_PATH={moved}"
    else:
        option = f"-Dmemmgr_SOURCE={ROOT}"
    build = tmp_path / "build"
    run("cmake", "-S", ROOT / "examples" / "cmake", "-B", build, option)
    run("cmake", "--build", build)
    assert "t: 0 2, sum 2\n" in run(build / "inspect", table, "t")
    assert " 0 saw two at once" in run(build / "serve", "0.1", cwd=tmp_path)


@posix_only
@pytest.mark.parametrize(("version", "found"), [("0.1", True), ("0.2", False), ("1", False)])
def test_cmake_finds_the_version_that_is_asked_for(
    prefix: Path, tmp_path: Path, version: str, found: bool
) -> None:
    need("cmake")
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(version LANGUAGES C)\n"
        f"find_package(memmgr {version} CONFIG)\nmessage(STATUS found=${{memmgr_FOUND}})\n"
    )
    output = run("cmake", "-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={prefix}")
    assert f"found={int(found)}" in output


def test_zig_program_depends_on_the_package(tmp_path: Path, table: Path) -> None:
    pytest.importorskip("ziglang")
    package = ROOT / "examples" / "zig"
    cache = tmp_path / "cache"
    zig = (sys.executable, "-m", "ziglang")
    run(*zig, "build", "--prefix", tmp_path, "--cache-dir", cache, cwd=package)
    suffix = ".exe" if os.name == "nt" else ""
    assert run(tmp_path / "bin" / f"sizes{suffix}", table) == "t: 8 bytes, 7 of them 0\n"
    assert "t: 0 2, sum 2\n" in run(tmp_path / "bin" / f"inspect{suffix}", table, "t")
