"""Runs every test of this machine, and closes with one line: N passed, N failed.

First `zig build test` (core, ABI, header, C and C++ programs, layout), then pytest. A step of the
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
    print(f"{passed} passed, {failed} failed")
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
