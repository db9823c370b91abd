"""What calls cost, in numbers that no busy machine changes: they may gate.

Instructions (valgrind) and system calls (strace) of acquiring and releasing a view, allocations
and missing pages meanwhile; instructions of taking and freeing a block; system calls, allocations
and copied bytes of opening a manager, and of loading and reloading a file; and the size of what is
handed out. `baseline.json` beside this holds, per architecture, what they were; instructions and
sizes may differ by a small share, all else by nothing; better than it fails as well, so that the
file stays true.

    python bench/counters.py [--write]
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import sys
import tempfile
from pathlib import Path

import build

BASELINE = Path(__file__).with_name("baseline.json")
PAIRS = 1000
BLOCKS = 20000
LOADS = 100
TOLERANCE = {
    "instructions_per_pair": 0.03,
    "instructions_per_block": 0.03,
    "instructions_per_block_of_a_batch": 0.03,
    "instructions_per_random_block": 0.03,
    "shared_library_bytes": 0.15,
    "static_library_bytes": 0.15,
}


def missing_tools() -> list[str]:
    """Names what cannot be had here."""
    if sys.platform != "linux":
        return ["Linux"]
    return [tool for tool in ("valgrind", "strace") if shutil.which(tool) is None]


def measure(prefix: Path) -> dict[str, float]:
    """Counts in a folder that the library is installed into."""
    here, library = Path(__file__).parent, str(build.library(prefix))
    program = build.program(here / "gate" / "count.c", prefix, shared=True)
    loads = build.compiled(here / "load" / "count.c", prefix / "count-loads", [library])
    options = ["-DWITH_MEMMGR", library]
    blocks = build.compiled(here / "pool" / "count.c", prefix / "count-blocks", options)
    views = ("view_acquire", "view_release")
    reading = difference([str(program)], PAIRS, prefix)

    def of_block(workload: str) -> float:
        return instructions([str(blocks), workload], BLOCKS, ("block_alloc", "block_free"), prefix)

    counted = {
        "instructions_per_pair": instructions([str(program)], PAIRS, views, prefix),
        "instructions_per_block": of_block("pair"),
        "instructions_per_block_of_a_batch": of_block("batch"),
        "instructions_per_random_block": of_block("random"),
        "system_calls_per_1000_pairs": reading["system_calls"],
        "allocations_per_1000_pairs": reading["allocations"],
        "page_faults_per_1000_pairs": reading["page_faults"],
    }
    for workload in ("open", "load", "reload"):
        used = difference([str(loads), workload], LOADS, prefix)
        counted |= {
            f"{name}_per_{workload}": used[name] / LOADS
            for name in ("system_calls", "allocations", "bytes_copied")
        }
    for name, file in (("shared", "libmemmgr.so"), ("static", "libmemmgr.a")):
        counted[f"{name}_library_bytes"] = (prefix / "lib" / file).stat().st_size
    return counted


def difference(command: list[str], count: int, folder: Path) -> dict[str, int]:
    """What `count` more of what the program does used: all else is the same in both runs."""
    few, many = (usage([*command, str(times * count)], folder) for times in (1, 2))
    return {name: many[name] - few[name] for name in few}


def instructions(command: list[str], count: int, functions: tuple[str, ...], folder: Path) -> float:
    """Those of the functions and of what they call, for one of `count` more."""
    output = folder / "callgrind.out"
    options = [f"--toggle-collect=memmgr_{name}" for name in functions]
    options += ["--tool=callgrind", f"--callgrind-out-file={output}"]
    totals = []
    for repeat in (1, 2):
        build.run(["valgrind", *options, *command, str(repeat * count)], cwd=folder)
        text = output.read_text()
        found = re.search(r"^(?:summary|totals): (\d+)", text, flags=re.MULTILINE)
        assert found is not None
        totals.append(int(found[1]))
    return (totals[1] - totals[0]) / count


def usage(command: list[str], folder: Path) -> dict[str, int]:
    """What a program used: as it counts itself, and what the system was asked for, by all threads.

    Bytes are copied where a file is read and not mapped.
    """
    output = folder / "strace.out"
    text = build.run(["strace", "-f", "-qq", "-o", str(output), *command], cwd=folder)
    calls = output.read_text().splitlines()
    read = [found for call in calls if (found := re.search(r" p?read(?:64)?\(.* = (\d+)$", call))]
    counts: dict[str, int] = json.loads(text)
    return counts | {
        "system_calls": len(calls),
        "bytes_copied": sum(int(found[1]) for found in read),
    }


def differences(counted: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Says in one sentence each what is not as it was."""
    return [
        f"{name} is {counted[name]:g}, and was {was:g} (±{TOLERANCE.get(name, 0):.0%})"
        for name, was in baseline.items()
        if abs(counted[name] - was) > TOLERANCE.get(name, 0) * was
    ]


def read_baseline() -> dict[str, float] | None:
    """What it was on this architecture, if that is known."""
    baselines: dict[str, dict[str, float]] = json.loads(BASELINE.read_text())
    return baselines.get(platform.machine())


def main() -> int:
    """Returns the exit code."""
    with tempfile.TemporaryDirectory() as folder:
        counted = measure(build.install(Path(folder)))
    print(json.dumps(counted, indent=4))
    if "--write" in sys.argv:
        baselines = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
        baselines[platform.machine()] = counted
        BASELINE.write_text(json.dumps(baselines, indent=4) + "\n")
        return 0
    found = differences(counted, read_baseline() or {})
    print("\n".join(found) or "as in the baseline")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
