"""Runs the tests on every system there is, and keeps the table of what passed where.

One build of the unit tests and the programs of tests/c and tests/cpp for a platform, each run as
it is, by Wine or by qemu; where Python can be had, pytest too. What passed is counted for each
criterion of the requirements that a test names (R1.1, or r1_1 in the name of a test in C), and
kept in docs/platforms, of which docs/PLATFORMS.md is made.

    python tests/platforms.py run [--keep | --programs | --only PROGRAM] [PLATFORM…]
    python tests/platforms.py table

PLATFORM: default all that emulators of this machine are for. --keep: writes docs/platforms and the
table. --programs: no pytest. --only: no other program, and no pytest. A platform that this machine
lacks is skipped.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import importlib.util
import json
import os
import platform as machine
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "platforms"
TABLE = ROOT / "docs" / "PLATFORMS.md"
SYSTEMS = ROOT / "tests" / "systems"

CRITERIA = [f"R{number}.{part}" for number in range(1, 11) for part in range(1, 6)]
UNIT_TESTS = "memmgr-test"
PYTHON_TESTS = "pytest"
# The exit code of what a machine lacks.
SKIPPED = 77
# Of one program on the slowest emulator.
TIMEOUT_S = 1200


@dataclasses.dataclass(frozen=True)
class Platform:
    """A column of the table."""

    title: str
    how: str
    # Zig's name of what is built for; "" is this machine.
    target: str
    # What a program is the last argument of; None: it is compiled and linked, and not run.
    command: tuple[str, ...] | None = ()
    # What runs Python there; (): the Python that runs this.
    python: tuple[str, ...] | None = None


def _wine(version: str) -> tuple[str, ...]:
    return (str(SYSTEMS / "wine.sh"), "run", version)


def _qemu(page_size: int) -> tuple[str, ...]:
    return (str(SYSTEMS / "qemu.sh"), "run", str(page_size))


PLATFORMS = {
    "linux": Platform("Linux x86_64, glibc", "native", "x86_64-linux-gnu.2.17", python=()),
    "musl": Platform("Linux x86_64, musl", "native", "x86_64-linux-musl"),
    "qemu-4k": Platform("Linux aarch64, 4 KiB pages", "qemu", "aarch64-linux-musl", _qemu(4096)),
    "qemu-16k": Platform("Linux aarch64, 16 KiB pages", "qemu", "aarch64-linux-musl", _qemu(16384)),
    "qemu-64k": Platform("Linux aarch64, 64 KiB pages", "qemu", "aarch64-linux-musl", _qemu(65536)),
    "wine-10": Platform(
        "Windows, placeholders",
        "Wine 10",
        "x86_64-windows-gnu",
        _wine("10"),
        python=(str(SYSTEMS / "windows_python.sh"),),
    ),
    "wine-8": Platform("Windows, fallback", "Wine 8", "x86_64-windows-gnu", _wine("8")),
    "macos-aarch64": Platform("macOS aarch64", "compiled", "aarch64-macos.11.0", None),
    "macos-x86_64": Platform("macOS x86_64", "compiled", "x86_64-macos.11.0", None),
    "hosted-linux": Platform("Linux x86_64", "hosted", "", python=()),
    "hosted-linux-arm": Platform("Linux aarch64", "hosted", "", python=()),
    "hosted-macos": Platform("macOS aarch64", "hosted", "", python=()),
    "hosted-windows": Platform("Windows x86_64", "hosted", "", python=()),
}
EMULATED = ["musl", "qemu-4k", "qemu-16k", "qemu-64k", "wine-10", "wine-8"]


# Criteria ------------------------------------------------------------------------------------


def criteria_in(text: str) -> list[str]:
    """Returns the criteria that a text names, each once."""
    found = {f"R{number}.{part}" for number, part in re.findall(r"\b[Rr](\d+)[._](\d)", text)}
    return [criterion for criterion in CRITERIA if criterion in found]


def criteria_of_programs() -> dict[str, dict[str, list[str]]]:
    """Returns, for each program of C and C++, what each of its tests names: in its name, in the
    comment before it, or else in that at the top of the file.
    """
    programs = {}
    for path in sorted([*ROOT.glob("tests/c/*.c"), *ROOT.glob("tests/cpp/*.cpp")]):
        text = path.read_text(encoding="utf-8")
        top = text.partition("*/")[0]
        function = r"(?:/\*((?:(?!\*/).)*)\*/\s*)?^(?:static )?void (\w+)\((?:void)?\)\s*\{"
        tests = re.findall(function, text, flags=re.DOTALL | re.MULTILINE)
        programs[path.stem] = {
            name: criteria_in(f"{comment} {name}") or criteria_in(top) for comment, name in tests
        }
    return programs


# Running -------------------------------------------------------------------------------------

# Of each test: suite, what it names, and what became of it.
Outcome = tuple[str, list[str], str]


def run_zig(*arguments: str) -> bool:
    """Whether a step of the build succeeded; if not, prints what it said."""
    command = [sys.executable, "-m", "ziglang", "build", *arguments]
    environment = os.environ | {"ZIG_DEBUG_CMD": "1"}
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
    return done.returncode == 0


def run_program(path: Path, command: tuple[str, ...]) -> list[Outcome] | None:
    """Returns the outcome of each test of a program; None if its platform is not to be had."""
    try:
        done = subprocess.run(
            [*command, str(path)],
            cwd=ROOT,
            env=os.environ | {"MEMMGR_TESTS_LISTED": "1"},
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        print(f"{path.stem}: not done in {TIMEOUT_S} s", file=sys.stderr)
        return [(path.stem, [], "failed")]
    output = (done.stdout + b"\n" + done.stderr).decode(errors="replace")
    if done.returncode == SKIPPED:
        return None
    outcomes = (
        unit_outcomes(output) if path.stem == UNIT_TESTS else program_outcomes(path.stem, output)
    )
    if done.returncode != 0 or not outcomes:
        print(f"{path.stem}: exit code {done.returncode}\n{output}", file=sys.stderr)
        if not any(outcome == "failed" for _, _, outcome in outcomes):
            outcomes.append((path.stem, [], "failed"))
    return outcomes


def unit_outcomes(output: str) -> list[Outcome]:
    """Reads what Zig's test runner prints; a test may print lines between its name and its end."""
    words = {"OK": "passed", "SKIP": "skipped", "FAIL": "failed"}
    test = r"^\d+/\d+ ((?:(?!\.\.\.).)*)\.\.\.((?:(?!^\d+/\d+ ).)*?)(OK|SKIP|FAIL)\b"
    found = re.findall(test, output, flags=re.DOTALL | re.MULTILINE)
    return [(UNIT_TESTS, criteria_in(name), words[word]) for name, _, word in found]


def program_outcomes(program: str, output: str) -> list[Outcome]:
    """Reads what tests/c/test.h prints."""
    criteria = criteria_of_programs().get(program, {})
    lines = re.findall(r"^(\w+) (passed|failed|skipped)\b", output, flags=re.MULTILINE)
    # "12 passed" is the sum.
    return [
        (program, criteria.get(name, []), outcome)
        for name, outcome in lines
        if not name.isdecimal()
    ]


class Listener:
    """A plugin of pytest's that keeps what became of each test, by what its docstring names."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []
        self.criteria: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """As with programs: what the module names counts where the test names nothing."""
        for item in items:
            function, module = item.function, item.module
            own = criteria_in(f"{item.name} {function.__doc__ or ''}")
            self.criteria[item.nodeid] = own or criteria_in(module.__doc__ or "")

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test that is skipped or fails in its setup has no call."""
        if report.when == "call" or (report.when == "setup" and not report.passed):
            outcome = "passed" if report.outcome == "passed" else report.outcome
            self.outcomes.append((PYTHON_TESTS, self.criteria[report.nodeid], outcome))


def listen_to_pytest(out: str) -> None:
    """Runs Python's tests in this interpreter, and writes the outcome of each."""
    import pytest

    listener = Listener()
    os.chdir(ROOT)
    # What is handed out is built first.
    folders = ["tests/python", "tests/package"][: 2 if importlib.util.find_spec("ziglang") else 1]
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "-m", "not slow and not kept"]
    code = pytest.main([*options, *folders], plugins=[listener])
    if code != 0 and not any(outcome == "failed" for _, _, outcome in listener.outcomes):
        listener.outcomes.append((PYTHON_TESTS, [], "failed"))
    Path(out).write_text(json.dumps(listener.outcomes), encoding="utf-8")


def run_pytest(command: tuple[str, ...], folder: str) -> list[Outcome]:
    """Returns the outcome of each test of Python's; none where there is no Python."""
    out = Path(folder) / "outcomes.json"
    command = command or (sys.executable,)
    done = subprocess.run(
        [*command, "tests/platforms.py", "pytest", str(out)],
        cwd=ROOT,
        env=os.environ | {"PYTHON": sys.executable},
        check=False,
    )
    if done.returncode == SKIPPED:
        return []
    if not out.exists():
        return [(PYTHON_TESTS, [], "failed")]
    return [(suite, named, outcome) for suite, named, outcome in json.loads(out.read_text("utf-8"))]


def run(name: str, only: str | None, *, pytest: bool) -> dict[str, Any] | None:
    """Returns the result of one platform as it is kept; None if this machine has it not."""
    platform = PLATFORMS[name]
    outcomes: list[Outcome] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        target = [f"-Dtarget={platform.target}"] if platform.target else []
        if not run_zig("programs", "--prefix", folder, *target):
            outcomes.append(("build", [], "failed"))
        programs = sorted(
            path
            for path in Path(folder).glob("tests/*")
            if only in {None, path.stem} and path.suffix != ".pdb"
        )
        if (command := platform.command) is not None:
            with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
                for result in pool.map(lambda path: run_program(path, command), programs):
                    if result is None:
                        return None
                    outcomes += result
        else:
            outcomes += [(path.stem, [], "built") for path in programs]
        if platform.python is not None and pytest:
            outcomes += run_pytest(platform.python, folder)
    suites: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    criteria: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for suite, named, outcome in outcomes:
        suites[suite][outcome] += 1
        for criterion in named:
            criteria[criterion][outcome] += 1
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"{machine.system()} {machine.release()}, {machine.machine()}",
        "seconds": round(time.monotonic() - start),
        "suites": {key: dict(sorted(suites[key].items())) for key in sorted(suites)},
        "criteria": {key: dict(sorted(criteria[key].items())) for key in CRITERIA if criteria[key]},
    }


# The table -----------------------------------------------------------------------------------

INTRODUCTION = """# Platforms

What was run where: for each criterion of the requirements, how many tests that name it passed on
each platform. Made by `python tests/platforms.py run --keep`; not to be edited.

- *native*, *Wine*, *qemu*: run on one Linux machine. Wine stands in for Windows and is not it: its
  process-wide barrier does nothing, so the gate is the one of atomic additions there, and a
  mapped file can be deleted. Times under an emulator mean nothing.
- *hosted*: run by the matrix of `.github/workflows/ci.yml`, which hands its result out as a file
  for `docs/platforms`. A column is blank until somebody has put it there.
- *compiled*: library, unit tests and all programs were compiled and linked, and nothing was run.
- **n** passed; **n −m**: m of the tests were left out there, each by name and with its reason in
  what the run printed; **✗** one failed; blank: nothing was run that names it. Python's tests run
  natively, hosted, and in CPython for Windows under Wine 10. Criteria about time are
  theirs and the bench's.
"""


def load() -> dict[str, dict[str, Any]]:
    """Returns what is kept of each platform."""
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name in PLATFORMS
        if (path := RESULTS / f"{name}.json").exists()
    }


def cell(counts: dict[str, int] | None) -> str:
    """Returns what the table says of one criterion, or one suite, on one platform."""
    if not counts:
        return ""
    if counts.get("failed"):
        return "✗"
    if counts.get("built"):
        return "built"
    skipped = f" −{counts['skipped']}" if counts.get("skipped") else ""
    return f"{counts.get('passed', 0)}{skipped}"


def table(results: dict[str, dict[str, Any]]) -> str:
    """Returns docs/PLATFORMS.md."""

    def row(title: str, cells: list[str]) -> str:
        return f"| {title} | {' | '.join(cells)} |"

    def rows(key: str, titles: list[str]) -> list[str]:
        return [
            row(title, [cell(results.get(name, {}).get(key, {}).get(title)) for name in PLATFORMS])
            for title in titles
        ]

    def facts(key: str) -> list[str]:
        return [str(results.get(name, {}).get(key, "")) for name in PLATFORMS]

    head = [
        row("", [platform.title for platform in PLATFORMS.values()]),
        row("---", ["---"] * len(PLATFORMS)),
        row("how", [platform.how for platform in PLATFORMS.values()]),
        row("when", facts("date")),
    ]
    suites = sorted({suite for result in results.values() for suite in result["suites"]})
    return "\n".join(
        [
            INTRODUCTION,
            "## Criteria",
            "",
            *head,
            *rows("criteria", CRITERIA),
            "",
            "## Suites",
            "",
            "Tests of each suite: the core's unit tests (`memmgr-test`), the programs of `tests/c`",
            "and `tests/cpp`, and Python's.",
            "",
            *head,
            *rows("suites", suites),
            row("seconds, build included", facts("seconds")),
            "",
        ]
    )


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    if sys.argv[1:2] == ["pytest"]:
        listen_to_pytest(sys.argv[2])
        return 0
    parser.add_argument("action", choices=["run", "table"])
    parser.add_argument("platforms", nargs="*", metavar="PLATFORM", help=", ".join(PLATFORMS))
    extent = parser.add_mutually_exclusive_group()
    extent.add_argument("--keep", action="store_true")
    extent.add_argument("--programs", action="store_true")
    extent.add_argument("--only", metavar="PROGRAM")
    arguments = parser.parse_intermixed_args()
    if unknown := set(arguments.platforms) - set(PLATFORMS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    failed = 0
    for name in (arguments.platforms or EMULATED) if arguments.action == "run" else ():
        result = run(name, arguments.only, pytest=not (arguments.programs or arguments.only))
        if result is None:
            print(f"{name}: skipped", flush=True)
            continue
        sums = collections.Counter[str]()
        for counts in result["suites"].values():
            sums.update(counts)
        failed += sums["failed"]
        print(
            f"{name}: {', '.join(f'{sums[word]} {word}' for word in sorted(sums))}"
            f" in {result['seconds']} s",
            flush=True,
        )
        if arguments.keep:
            RESULTS.mkdir(exist_ok=True)
            text = json.dumps(result, indent=1) + "\n"
            (RESULTS / f"{name}.json").write_text(text, encoding="utf-8", newline="\n")
    if arguments.keep or arguments.action == "table":
        TABLE.write_text(table(load()), encoding="utf-8", newline="\n")
    return int(failed != 0)


if __name__ == "__main__":
    sys.exit(main())
