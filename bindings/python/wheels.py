"""Builds the wheels of every platform on this machine, from one sdist, without a network.

Each wheel is built from the unpacked sdist by the usual way, told by MEMMGR_WHEEL what to compile
for (build_ffi.py). It takes a CPython with a GIL that has the requirements for building installed.

    python bindings/python/wheels.py [--out FOLDER] [PLATFORM…]

PLATFORM: the last part of a wheel's name; default all.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import build_ffi


def build_sdist(out: Path) -> Path:
    """Returns the sdist of this tree."""
    code = "import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", code, out],
        cwd=build_ffi.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return out / done.stdout.splitlines()[-1]


def build_wheel(sdist: Path, platform: str, out: Path) -> None:
    """Builds one wheel."""
    options = ["--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(out)]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-q", *options, str(sdist)],
        env=os.environ | {"MEMMGR_WHEEL": platform},
        check=True,
    )


def main() -> None:
    """Builds what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM")
    parser.add_argument("--out", type=Path, default=build_ffi.ROOT / "dist")
    arguments = parser.parse_args()
    if unknown := set(arguments.platforms) - set(build_ffi.WHEELS):
        parser.error(f"not one of {', '.join(build_ffi.WHEELS)}: {', '.join(sorted(unknown))}")
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        sdist = build_sdist(Path(folder))
        for platform in arguments.platforms or build_ffi.WHEELS:
            print(platform, flush=True)
            build_wheel(sdist, platform, out)


if __name__ == "__main__":
    main()
