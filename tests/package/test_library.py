"""What `zig build` installs links into C programs as it is, and exports the header, no more."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = r"""
#include <memmgr.h>
#include <stdio.h>

int main(void) {
    memmgr_manager *manager;
    memmgr_error error = MEMMGR_ERROR_INIT;
    if (memmgr_manager_open(NULL, &manager, &error) != MEMMGR_OK) {
        puts(error.message);
        return 1;
    }
    memmgr_stats stats = MEMMGR_STATS_INIT;
    memmgr_stats_get(manager, &stats, NULL);
    printf("%llu\n", (unsigned long long)stats.allocated);
    return memmgr_manager_close(manager, MEMMGR_ON_VIEWS_REFUSE, 0, NULL);
}
"""

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="the tools are those of ELF")


def need(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"no {program} here")


def run(*command: str | Path, **environment: str) -> str:
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment or None
    ).stdout


def header_functions() -> set[str]:
    text = (ROOT / "include" / "memmgr.h").read_text(encoding="utf-8")
    return set(re.findall(r"^MEMMGR_API[^;]*?(memmgr_\w+)\(", text, flags=re.MULTILINE))


def defined_symbols(option: str, library: Path) -> dict[str, str]:
    need("nm")
    lines = run("nm", "--defined-only", option, library).splitlines()
    return {fields[2]: fields[1] for fields in map(str.split, lines) if len(fields) == 3}


@linux_only
def test_shared_library_exports_the_header_and_no_more(prefix: Path) -> None:
    symbols = defined_symbols("-D", prefix / "lib" / "libmemmgr.so")
    assert symbols == dict.fromkeys(header_functions(), "T")


def test_import_library_of_windows_has_the_header_and_no_more(tmp_path: Path) -> None:
    pytest.importorskip("ziglang")
    subprocess.run(
        [sys.executable, "-m", "ziglang", "build", "-Dtarget=x86_64-windows-gnu", "-p", tmp_path],
        cwd=ROOT,
        env=os.environ | {"ZIG_DEBUG_CMD": "1"},
        check=True,
        capture_output=True,
    )
    # An archive: behind 8 bytes, and 60 that describe it, its index counts and lists all names.
    index = (tmp_path / "lib" / "memmgr.lib").read_bytes()[68:]
    count = int.from_bytes(index[:4], "big")
    names = {name.decode() for name in index[4 + 4 * count :].split(b"\0")[:count]}
    ends = {"__IMPORT_DESCRIPTOR_memmgr", "__NULL_IMPORT_DESCRIPTOR", "\x7fmemmgr_NULL_THUNK_DATA"}
    functions = header_functions()
    assert names - ends == functions | {f"__imp_{name}" for name in functions}


@linux_only
def test_static_library_defines_no_name_that_is_not_ours(prefix: Path) -> None:
    symbols = defined_symbols("-g", prefix / "lib" / "libmemmgr.a")
    assert header_functions() <= symbols.keys()
    assert [name for name in symbols if not name.startswith("memmgr_")] == []


@linux_only
def test_shared_library_is_named_by_its_abi(prefix: Path) -> None:
    need("readelf")
    dynamic = run("readelf", "-d", prefix / "lib" / "libmemmgr.so")
    assert re.findall(r"Library soname: \[(.*)\]", dynamic) == ["libmemmgr.so.0"]
    needed = set(re.findall(r"Shared library: \[(.*?)[.-]", dynamic))
    assert needed <= {"libc", "ld"}


@linux_only
def test_library_needs_no_newer_stack_than_others(prefix: Path) -> None:
    need("readelf")
    headers = run("readelf", "-lW", prefix / "lib" / "libmemmgr.so")
    (stack,) = re.findall(r"GNU_STACK.* (\S+) +0x", headers)
    assert "E" not in stack


@linux_only
def test_library_is_small(prefix: Path) -> None:
    # The default panic handler alone would add 300 KB; bench/baseline.json watches the rest.
    assert (prefix / "lib" / "libmemmgr.so").stat().st_size < 450_000


@linux_only
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("module", ["memmgr", "memmgr-static"])
def test_program_builds_by_pkg_config_wherever_the_prefix_is_moved(
    prefix: Path, tmp_path: Path, compiler: str, module: str
) -> None:
    need(compiler, "pkg-config")
    moved = tmp_path / "moved"
    shutil.copytree(prefix, moved, symlinks=True)
    source = tmp_path / "program.c"
    source.write_text(PROGRAM)
    flags = run(
        "pkg-config",
        "--cflags",
        "--libs",
        module,
        PATH=str(Path(shutil.which("pkg-config") or "").parent),
        PKG_CONFIG_PATH=str(moved / "lib" / "pkgconfig"),
    ).split()
    warnings = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror"]
    run(compiler, *warnings, source, *flags, "-o", tmp_path / "program")
    output = run(tmp_path / "program", LD_LIBRARY_PATH=str(moved / "lib"))
    assert output == f"{14 * 20 * 2**20}\n"
