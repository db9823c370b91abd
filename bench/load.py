"""Opening, loading and growing, beside what the system and NumPy take for the same.

Requirements R1.5, R2.5, R3.2, R10.1 and R10.5, and the introduction's figures: a dimension scanned
in less than 100 ms, a query in less than 5 s. `load/load.c` measures, in Python `load/files.py`.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import build
from figures import Figure, Section, Target, number, table

FOLDER = Path(__file__).with_name("load")
MIB = 1 << 20
QUERIES = {
    "cold_lazy": "cold, lazy",
    "cold_populate": "cold, populated",
    "cold_huge": "cold, populated, `huge_pages`",
    "warm_lazy": "warm, lazy",
    "warm_populate": "warm, populated",
}
# What the requirements allow, in nanoseconds.
ALLOWED = {
    "open": ("open (R1.5)", 100e6),
    "load": ("load a dimension (R2.5)", 50e6),
    "access": ("first access to a layer (R3.2, R10.5)", 1e6),
    "scan": ("scan a dimension", 100e6),
    "all": ("a query: open, load and scan all 14", 5e9),
}

Rounds = list[dict[str, Any]]


def measure(prefix: Path, *, short: bool) -> list[Section]:
    """Returns the sections of the report."""
    if sys.platform != "linux":
        note = "Skipped: it is measured on Linux only."
        return [Section("Open and load", "", notes=[note])]
    library = [str(build.library(prefix))]
    program = build.compiled(FOLDER / "load.c", prefix / "load-files", library)

    def run(workload: str, rounds: int) -> Rounds:
        lines = build.run([str(program), workload, str(rounds)], cwd=prefix).splitlines()
        return [json.loads(line) for line in lines]

    count = 3 if short else 15
    python = python_rounds(prefix, 2 if short else 10)
    return [
        open_section(run("opens", count)),
        load_section(run("loads", count), python),
        growth_section(run("dimensions", count), run("layers", count)),
        child_section(run("children", count), python),
        query_section(run("queries", 1 if short else 7)),
    ]


def python_rounds(prefix: Path, rounds: int) -> Rounds:
    """None if there is no memmgr to import."""
    if not importlib.util.find_spec("memmgr"):
        return []
    output = build.run([sys.executable, str(FOLDER / "files.py"), str(rounds)], cwd=prefix)
    return [json.loads(line) for line in output.splitlines()]


def of(rounds: Rounds, name: str, scale: float = 1e3) -> list[float]:
    """The values of all rounds, by default in microseconds."""
    return [values[name] / scale for values in rounds]


def rows_of(rounds: Rounds, names: dict[str, str]) -> list[list[str]]:
    """A row for each, in microseconds."""
    return [[text, str(Figure.of(of(rounds, name)))] for name, text in names.items()]


def open_section(rounds: Rounds) -> Section:
    """R1.5, R10.1."""
    section = Section(
        "Open a manager (R1.5, R10.1)",
        "The default one, of 14 regions of 20 MiB, beside a reservation of 280 MiB of addresses by"
        " `mmap`: in one piece, which knows nothing of regions, and divided as little as makes the"
        " process's map show 14. memmgr reserves twice as much, so that a reload has its place.",
        data={"opens": rounds},
    )
    ours = of(rounds, "memmgr")
    section.targets += [
        Target("ms", Figure.of(value / 1e3 for value in ours), 1),
        Target("/ a reservation with 14 regions", Figure.ratio(ours, of(rounds, "regions")), 2),
    ]
    names = {
        "raw": "reservation in one piece",
        "regions": "reservation with 14 regions",
        "memmgr": "**memmgr**",
    }
    section.tables.append(table(["", "µs"], rows_of(rounds, names)))
    return section


def load_section(rounds: Rounds, python: Rounds) -> Section:
    """R2.5, warm."""
    huge = rounds[0]["huge"]
    section = Section(
        "Load a file that is in memory (R2.5)",
        "20 MiB that `memmgr.save` wrote, until it can be read; lazily, pages come in as they are"
        " touched, populated, all of them are there. In C beside open, fstat, mmap (with"
        " MAP_POPULATE) and close, which read no header; in Python beside `np.memmap`, which is"
        " told dtype and offset, and `np.load`, which reads the header as memmgr does.",
        notes=[
            f"Of the 20 MiB, huge pages map {number(huge / MIB)}.",
            "np.memmap leaves to the first touches what C with MAP_POPULATE does here.",
        ],
        data={"loads": rounds, "python": python},
    )
    lazily = Figure.ratio(of(rounds, "memmgr"), of(rounds, "raw"))
    populated = Figure.ratio(of(rounds, "memmgr_populate"), of(rounds, "raw_populate"))
    section.targets += [
        Target("lazy / the same in C", lazily, 1.5),
        Target("populated / the same in C", populated, 1.5),
    ]
    names = {
        "raw": "C: open, fstat, mmap, close",
        "memmgr": "C: **memmgr**, lazy",
        "raw_populate": "C: the same with MAP_POPULATE",
        "memmgr_populate": "C: **memmgr**, populated",
    }
    rows = rows_of(rounds, names)
    if not python:
        section.notes.append("Skipped: Python, for want of an installed memmgr.")
        section.tables.append(table(["", "µs"], rows))
        return section
    memmap, loaded = of(python, "memmap"), of(python, "load")
    section.targets += [
        Target(
            "np.memmap / load in Python, lazy",
            Figure.ratio(memmap, of(python, "memmgr")),
            3,
            at_least=True,
        ),
        Target(
            "np.load(mmap_mode) / load and array in Python",
            Figure.ratio(loaded, of(python, "array")),
            3,
            at_least=True,
        ),
    ]
    if huge:
        populate = of(python, "populate")
        section.targets += [
            Target(
                "load in Python, populated / np.memmap, lazy", Figure.ratio(populate, memmap), 1
            ),
            Target("the same / np.load(mmap_mode), lazy", Figure.ratio(populate, loaded), 1),
        ]
    rows += rows_of(
        python,
        {
            "memmap": "Python: np.memmap, lazy",
            "load": "Python: np.load(mmap_mode), lazy",
            "memmgr": "Python: **memmgr**, lazy",
            "array": "Python: **memmgr**, lazy, and an array of its layer",
            "populate": "Python: **memmgr**, populated",
        },
    )
    section.tables.append(table(["", "µs"], rows))
    return section


def growth_section(dimensions: Rounds, layers: Rounds) -> Section:
    """Per-operation cost over the same hot set."""
    section = Section(
        "Growth",
        "A view of one word, acquired by index or by the name of its layer, read and released, in"
        " turn over the same fourteen, spread over all that there are.",
        data={"dimensions": dimensions, "layers": layers},
    )
    for what, rounds, columns in (
        ("dimensions", dimensions, [14, 140, 1400, 14000]),
        ("layers", layers, [10, 1000, 100000, 1000000]),
    ):
        costs = {column: of(rounds, str(column), 1) for column in columns}
        first = columns[0]
        section.targets += [
            Target(
                f"{number(column)} {what} / {first}", Figure.ratio(costs[column], costs[first]), 1.2
            )
            for column in columns[1:]
        ]
        rows = [["ns per view", *(str(Figure.of(costs[column])) for column in columns)]]
        if what == "layers":
            times = rounds[0]["load_ms"]
            rows.append(["ms to load the file, once", *(number(ms) for ms in times)])
        section.tables.append(table([what, *map(number, columns)], rows))
    return section


def child_section(rounds: Rounds, python: Rounds) -> Section:
    """What a further process costs."""
    section = Section(
        "A child process",
        "Forked: from before the fork to its first view, beside a child that does nothing, and what"
        " looking at all 14 dimensions adds to its private memory. Spawned: a new interpreter that"
        " has imported what it needs, from the pickled manager to the first array.",
        data={"children": rounds},
    )
    extra = Figure.of((values["private"] - values["private_before"]) / MIB for values in rounds)
    section.targets += [
        Target("forked: private MiB more", extra, 1),
        Target("forked: ms to the first view", Figure.of(of(rounds, "first_view", 1e6)), 5),
    ]
    if python:
        spawned = [values["child"] for values in python]
        section.targets += [
            Target("spawned: private MiB more", Figure.of(of(spawned, "private", MIB)), 1),
            Target("spawned: ms to the first view", Figure.of(of(spawned, "ns", 1e6)), 5),
        ]
    names = {"fork": "a child that does nothing", "first_view": "to the first view"}
    section.tables.append(table(["forked", "µs"], rows_of(rounds, names)))
    return section


def query_section(rounds: Rounds) -> Section:
    """R1.5, R2.5, R3.2, R10.5, and the introduction."""
    section = Section(
        "What the requirements allow, and what it takes (R1.5, R2.5, R3.2, R10.5)",
        "A query of everything: open, load 14 files of 20 MiB, look at a layer of each for the"
        " first time, and sum each up, on one thread. Cold: no page of the files is in memory."
        " Of the 14, the slowest; behind it, how many times faster than allowed.",
        data={"queries": rounds},
    )
    rows = []
    for kind, text in QUERIES.items():
        cells = [text]
        for name, (what, allowed) in ALLOWED.items():
            times = [values[kind][name] for values in rounds]
            factor = Figure.of(allowed / ns for ns in times)
            cells.append(f"{Figure.of(ns / 1e6 for ns in times)}, {number(factor.median)} ×")
            # As a program does it that asks for nothing.
            if kind.endswith("lazy"):
                target = Target(f"times faster: {what}, {text}", factor, 1, at_least=True)
                section.targets.append(target)
        rows.append(cells)
    heads = [f"{what}, ms" for what, _ in ALLOWED.values()]
    section.tables.append(table(["", *heads], rows))
    return section
