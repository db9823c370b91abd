"""What calls cost, in numbers that no busy machine changes: they may gate.

Instructions (valgrind) and system calls (strace) of acquiring and releasing a view, allocations
meanwhile, instructions of taking and freeing a block, and the size of what is handed out.
`baseline.json` beside this holds, per architecture, what they were, and by how large a share they
may differ; better than it fails as well, so that the file stays true.

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
TOLERANCE = {
    "instructions_per_pair": 0.03,
    "instructions_per_block": 0.03,
    "instructions_per_block_of_a_batch": 0.03,
    "instructions_per_random_block": 0.03,
    "system_calls_per_1000_pairs": 0.0,
    "allocations_per_1000_pairs": 0.0,
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
    here = Path(__file__).parent
    program = build.program(here / "gate" / "count.c", prefix, shared=True)
    options = ["-DWITH_MEMMGR", str(build.library(prefix))]
    blocks = build.compiled(here / "pool" / "count.c", prefix / "count-blocks", options)
    few, many = str(PAIRS), str(2 * PAIRS)
    allocations = json.loads(build.run([str(program), few], cwd=prefix))["allocations"]
    views = ("view_acquire", "view_release")

    def of_block(workload: str) -> float:
        return instructions([str(blocks), workload], BLOCKS, ("block_alloc", "block_free"), prefix)

    return {
        "instructions_per_pair": instructions([str(program)], PAIRS, views, prefix),
        "instructions_per_block": of_block("pair"),
        "instructions_per_block_of_a_batch": of_block("batch"),
        "instructions_per_random_block": of_block("random"),
        "system_calls_per_1000_pairs": (
            system_calls(program, prefix, many) - system_calls(program, prefix, few)
        ),
        "allocations_per_1000_pairs": allocations,
        "shared_library_bytes": (prefix / "lib" / "libmemmgr.so").stat().st_size,
        "static_library_bytes": (prefix / "lib" / "libmemmgr.a").stat().st_size,
    }


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


def system_calls(program: Path, folder: Path, pairs: str) -> int:
    """Those of all threads."""
    output = folder / "strace.out"
    build.run(["strace", "-f", "-qq", "-o", str(output), str(program), pairs], cwd=folder)
    return len(output.read_text().splitlines())


def differences(counted: dict[str, float], baseline: dict[str, float]) -> list[str]:
    """Says in one sentence each what is not as it was."""
    return [
        f"{name} is {counted[name]:g}, and was {was:g} (±{TOLERANCE[name]:.0%})"
        for name, was in baseline.items()
        if abs(counted[name] - was) > TOLERANCE[name] * was
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
