"""Builds libmemmgr as it is handed out, and C programs linked with it, in a folder of the caller's.

The library is the one of `zig build`: mode fast, for any processor of its architecture. Programs
are compiled by $CC, or by cc, or by Zig's compiler where there is neither.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ZIG = [sys.executable, "-m", "ziglang"]


def install(prefix: Path) -> Path:
    """Installs the library into prefix, and returns it."""
    run([*ZIG, "build", "--prefix", str(prefix)], cwd=ROOT, env=os.environ | {"ZIG_DEBUG_CMD": "1"})
    return prefix


def compiler() -> list[str]:
    """Returns the command that compiles C."""
    if "CC" in os.environ:
        return shlex.split(os.environ["CC"])
    return ["cc"] if shutil.which("cc") else [*ZIG, "cc"]


def program(source: Path, prefix: Path, *, shared: bool, options: list[str] | None = None) -> Path:
    """Compiles one source file with the library, and returns the program."""
    output = prefix / f"{source.stem}-{'shared' if shared else 'static'}"
    return compiled(source, output, [str(library(prefix, shared=shared)), *(options or [])])


def library(prefix: Path, *, shared: bool = True) -> Path:
    """Returns the library that is installed."""
    return prefix / "lib" / ("libmemmgr.so" if shared else "libmemmgr.a")


def compiled(source: Path, output: Path, options: list[str]) -> Path:
    """Compiles one source file, with the header at hand, and returns what comes out."""
    folder = output.parent
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{folder / 'include'}"]
    rest = ["-o", str(output), *options, f"-Wl,-rpath,{folder / 'lib'}", "-pthread"]
    run([*compiler(), *flags, str(source), *rest])
    return output


def run(command: list[str], cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    """Returns what a command prints; what it says when it fails is in the exception."""
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env)
    if result.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {result.stderr.strip()[-2000:]}")
    return result.stdout
