"""Runs every test of this machine, and closes with one line: N passed, N failed.

First `zig build test` (core, ABI, header, C and C++ programs, layout), then pytest, then the tests
of views once more with MEMMGR_PURE=1, which has arrays made in Python and not in C. A step of the
build that fails without being a test, such as one that does not compile, counts as one failure.

    python tests/run.py [--slow] [ARGUMENT OF PYTEST…]

--slow: the tests marked slow and the long forms of C programs as well, and the core's tests in one
more mode.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
# What is true of views whichever way they are made.
OF_VIEWS = (
    "concurrency",
    "exit",
    "fork",
    "guard",
    "layers",
    "orders",
    "pure",
    "reload",
    "view",
    "write",
)


def run_pure() -> tuple[int, int]:
    """Returns how many tests of views passed and failed where Python makes the arrays."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        *(f"tests/python/test_{of}.py" for of in OF_VIEWS),
    ]
    process = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"MEMMGR_PURE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    print(process.stdout, flush=True)
    last = process.stdout.rstrip().rpartition("\n")[2]
    counts = {kind: int(count) for count, kind in re.findall(r"(\d+) (\w+)", last)}
    failed = counts.get("failed", 0) + counts.get("errors", 0) + counts.get("error", 0)
    return counts.get("passed", 0), max(failed, int(process.returncode != 0))


class Tally:
    """What passed and failed in one run of pytest."""

    passed = 0
    failed = 0

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Counts as pytest's own last line does; an error is a failure."""
        stats = terminalreporter.stats
        self.passed = len(stats.get("passed", [])) + len(stats.get("xfailed", []))
        self.failed = len(stats.get("failed", [])) + len(stats.get("error", []))


def run_zig(slow: bool) -> tuple[int, int]:
    """Returns how many tests passed and failed."""
    command = [sys.executable, "-m", "ziglang", "build", "test", "examples", "--summary", "all"]
    process = subprocess.Popen(
        command + ["-Dslow"] * slow,
        cwd=ROOT,
        # Zig compiles its own build system first: without optimizing it, in a fifth of the time.
        env=os.environ | {"ZIG_DEBUG_CMD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdout is not None
    lines = [line for line in process.stdout if not line.startswith("debug: ")]
    output = "".join(lines)
    print(output, flush=True)
    code = process.wait()

    passed = failed = 0
    if unit := re.search(r"(\d+)/(\d+) tests passed(?: \((\d+) skipped)?", output):
        passed, total, skipped = (int(group or 0) for group in unit.groups())
        failed = total - passed - skipped
    # A step that fails stands above as well, with what it printed.
    summary = output.partition("Build Summary:")[2]
    programs = re.findall(r"\+- test program \S+ (transitive failure|failure|success)", summary)
    passed += programs.count("success")
    failed += len(programs) - programs.count("success")
    return passed, max(failed, int(code != 0))


def main() -> int:
    """Returns the exit code."""
    arguments = sys.argv[1:]
    slow = "--slow" in arguments
    if slow:
        arguments.remove("--slow")
    passed, failed = run_zig(slow)
    tally = Tally()
    os.chdir(ROOT)
    code = pytest.main(["-q", *(["-m", ""] if slow else []), *arguments], plugins=[tally])
    passed += tally.passed
    failed += max(tally.failed, int(code != 0))
    if not arguments:
        counts = run_pure()
        passed, failed = passed + counts[0], failed + counts[1]
    print(f"{passed} passed, {failed} failed")
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
