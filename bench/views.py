"""Arrays over files in Python, beside a slice of an ndarray and other ways to an array of a file.

`views/access.py` measures; this runs it, once more with MEMMGR_PURE=1, and reads what it prints.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import build
from figures import Figure, Section, Target, table

PROGRAM = Path(__file__).with_name("views") / "access.py"
OURS = {
    "layer": '**memmgr**, `d["layer"]`',
    "view": "**memmgr**, `d.view(offset, length)`",
    "view_typed": "**memmgr**, `d.view(offset, dtype=…, shape=…)`",
}
PEERS = {
    "slice": "slice of an ndarray in memory",
    "row": "row of an ndarray in memory",
    "frombuffer": "`np.frombuffer` of an mmap",
    "memmap": "slice of an np.memmap",
    "tensor_4k": "safetensors `get_tensor`, 4 KiB",
    "tensor_64k": "safetensors `get_tensor`, 64 KiB",
}
# How many times as fast as a peer each of the first two is to be.
SPEEDS = {"frombuffer": 3.0, "memmap": 15.0, "tensor_4k": 30.0, "tensor_64k": 40.0}
P99_LIMIT_NS = 1000.0
PACE_LIMIT = 0.85

Measured = dict[str, dict[str, list[float]]]


def measure(*, short: bool) -> list[Section]:
    """Returns the sections of the report."""
    cost = Section(
        "Arrays over a file in Python (R3.1, R3.3)",
        "Nanoseconds for an array that is made and dropped, in a loop, less the empty loop. "
        "memmgr's pins its version; a slice of an ndarray shares what is there already; "
        "safetensors copies.",
    )
    threads = Section(
        "Arrays over a file in Python, by many threads (R3.2, R4.4, R10.5)",
        "p99 of one array, with the two looks at the clock that it takes to know; and how many "
        "arrays 100 threads make in the time in which one makes one. The GIL lets them run in "
        "turns of 5 ms. The requirement is 1 ms.",
    )
    if importlib.util.find_spec("memmgr") is None:
        cost.notes.append("Skipped: memmgr, which is not installed here.")
        return [cost]
    peers = list(PEERS)
    if importlib.util.find_spec("safetensors") is None:
        peers = [name for name in peers if not name.startswith("tensor")]
        cost.notes.append("Skipped: safetensors, which is not installed here.")
    values = run(1 if short else 4, [*OURS, *peers], pure=False)
    pure = run(1 if short else 2, list(OURS), pure=True)
    fill_cost(cost, values, pure)
    fill_threads(threads, values, pure)
    return [cost, threads]


def run(rounds: int, schemes: list[str], *, pure: bool) -> Measured:
    """What the program prints."""
    command = [sys.executable, str(PROGRAM), str(rounds), *schemes]
    values: Measured = json.loads(
        build.run(command, env=os.environ | {"MEMMGR_PURE": str(int(pure))})
    )
    return values


def fill_cost(section: Section, values: Measured, pure: Measured) -> None:
    """What one costs."""
    for ours in ("layer", "view"):
        own = values[ours]["cost"]
        ratio = Figure.ratio(own, values["slice"]["cost"])
        section.targets.append(Target(f"{OURS[ours]}: / {PEERS['slice']}", ratio, 1.0))
        for peer, limit in SPEEDS.items():
            if peer in values:
                ratio = Figure.ratio(values[peer]["cost"], own)
                name = f"{OURS[ours]}: times as fast as {PEERS[peer]}"
                section.targets.append(Target(name, ratio, limit, at_least=True))
    rows = [[words, str(Figure.of(measured["cost"]))] for words, measured in labelled(values, pure)]
    section.tables.append(table(["", "ns"], rows))
    section.data = {"ways": values, "pure": pure}


def fill_threads(section: Section, values: Measured, pure: Measured) -> None:
    """What becomes of it with threads."""
    for ours in ("layer", "view"):
        own = values[ours]
        section.targets += [
            Target(f"{OURS[ours]}: p99 in ns, 100 T", Figure.of(own["p99_100"]), P99_LIMIT_NS),
            Target(
                f"{OURS[ours]}: throughput, 100 T / 1 T",
                Figure.ratio(own["pace_1"], own["pace_100"]),
                PACE_LIMIT,
                at_least=True,
            ),
        ]
    rows = [
        [
            words,
            str(Figure.of(measured["p99_1"])),
            str(Figure.of(measured["p99_100"])),
            str(Figure.ratio(measured["pace_1"], measured["pace_100"])),
        ]
        for words, measured in labelled(values, pure)
        if "p99_1" in measured
    ]
    head = ["", "p99 in ns, 1 T", "p99 in ns, 100 T", "throughput, 100 T / 1 T"]
    section.tables.append(table(head, rows))


def labelled(values: Measured, pure: Measured) -> list[tuple[str, dict[str, list[float]]]]:
    """All ways by what they are called."""
    return [
        *((OURS.get(name) or PEERS[name], measured) for name, measured in values.items()),
        *((f"{OURS[name]}, MEMMGR_PURE=1", measured) for name, measured in pure.items()),
    ]
