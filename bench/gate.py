"""The gate beside its peers: cost of a view, throughput, a writer's wait, readers that are refused.

Requirements R4.2, R4.3, R4.4, R10.2 and R10.4: threads that read share no cache line.
`gate/gate.c` measures, this reads what it prints.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import build
from figures import Curves, Figure, Section, Target, number, percentile, table

SCHEMES = {
    "payload": "nothing: bounds and payload alone",
    "empty_calls": "two calls that do nothing",
    "memmgr": "**memmgr**",
    "memmgr_atomic": "**memmgr**, gate of atomic additions",
    "memmgr_tracked": "**memmgr**, with `track_views`",
    "striped_adds": "striped, padded atomic additions",
    "striped_call": "the same behind two calls with a view",
    "shared_count": "one shared atomic count",
    "rwlock": "pthread_rwlock",
    "urcu_inline": "liburcu memb, inline (keeps no writer out)",
    "urcu_call": "liburcu memb, called (keeps no writer out)",
}
THREADS = (1, 2, 100)

Key = tuple[str, int]


def measure(prefix: Path, *, short: bool) -> list[Section]:
    """Returns the sections of the report."""
    source = Path(__file__).with_name("gate") / "gate.c"
    notes = []
    urcu = ["-DWITH_URCU", "-lurcu-memb"]
    try:
        build.program(source, prefix, shared=True, options=urcu)
    except RuntimeError:
        urcu = []
        notes.append("Skipped: liburcu, which is not installed (liburcu-dev).")
    programs = {
        "shared": build.program(source, prefix, shared=True, options=urcu),
        "static": build.program(source, prefix, shared=False, options=urcu),
    }

    def run(library: str, what: str, rounds: int) -> list[dict[str, Any]]:
        lines = build.run([str(programs[library]), what, str(rounds)], cwd=prefix).splitlines()
        return [json.loads(line) for line in lines]

    pins: dict[str, list[dict[str, Any]]] = {"shared": [], "static": []}
    for _ in range(1 if short else 4):
        for library in programs:
            pins[library] += run(library, "pin", 4 if short else 6)
    sections = [pin_section(library, records, notes) for library, records in pins.items()]
    sections.append(throughput_section(run("shared", "throughput", 1 if short else 8)))
    sections.append(drain_section(run("shared", "drain", 1 if short else 10)))
    sections.append(refusal_section(run("shared", "refusal", 1 if short else 5)))
    return sections


def by_scheme(records: list[dict[str, Any]], field: str) -> dict[Key, list[float]]:
    """Groups the values of a field, in the order of the rounds."""
    groups: dict[Key, list[float]] = defaultdict(list)
    for record in records:
        groups[record["scheme"], record["threads"]].append(record[field])
    return groups


def data_of(groups: dict[Key, list[float]]) -> dict[str, object]:
    """Rounds as they are in the file for programs."""
    return {f"{scheme}/{threads}": values for (scheme, threads), values in groups.items()}


def pin_section(library: str, records: list[dict[str, Any]], notes: list[str]) -> Section:
    """Core-nanoseconds of one view."""
    costs = by_scheme(records, "ns")
    section = Section(
        f"Acquire and release a view: {library} library (R4.4, R10.2, R10.4)",
        "Core-nanoseconds of one pass: acquire 4 KiB, bounds checked, touch one word, release. "
        "memmgr is called through its C ABI; the peers are compiled into the loop. 100 threads "
        "cost what one does where none writes a cache line of another's.",
        data=data_of(costs),
        notes=list(notes),
    )
    for peer, limit in (("striped_adds", 0.3), ("rwlock", 0.25)):
        for threads in THREADS:
            ratio = Figure.ratio(costs["memmgr", threads], costs[peer, threads])
            section.targets.append(Target(f"/ {SCHEMES[peer]}, {threads} T", ratio, limit))
    for threads in THREADS:
        ratio = Figure.ratio(costs["memmgr", threads], costs["striped_call", threads])
        section.targets.append(Target(f"/ {SCHEMES['striped_call']}, {threads} T", ratio, 1))
        if ("urcu_call", threads) in costs:
            ratio = Figure.ratio(costs["memmgr", threads], costs["urcu_call", threads])
            section.targets.append(Target(f"/ {SCHEMES['urcu_call']}, {threads} T", ratio, 1))
    scaling = Figure.ratio(costs["memmgr", 100], costs["memmgr", 1])
    section.targets.append(Target("100 T / 1 T", scaling, 1.2))
    for threads in THREADS:
        ratio = Figure.ratio(costs["memmgr_atomic", threads], costs["striped_adds", threads])
        section.targets.append(
            Target(f"gate of atomic additions / striped additions, {threads} T", ratio, 1.1)
        )
    section.tables.append(
        table(
            ["core-ns", *(f"{threads} T" for threads in THREADS)],
            [
                [name, *(str(Figure.of(costs[scheme, threads])) for threads in THREADS)]
                for scheme, name in SCHEMES.items()
                if (scheme, 1) in costs
            ],
        )
    )
    return section


def throughput_section(records: list[dict[str, Any]]) -> Section:
    """R4.2: many readers read as fast as few."""
    wall = by_scheme(records, "gb_per_s")
    core = by_scheme(records, "gb_per_core_s")
    section = Section(
        "Read whole layers of 64 KiB (R4.2)",
        "Random layers of one dimension of 20 MiB, each summed within a view of its own. Time on "
        "the wall is what the requirement means; where other programs run, 100 threads get more "
        "of the machine than two, and what was read per second of processor time tells more.",
        data={"gb_per_s": data_of(wall), "gb_per_core_s": data_of(core)},
    )
    for name, values in (("GB/s", wall), ("GB per core-second", core)):
        ratio = Figure.ratio(values["memmgr", 100], values["memmgr", 2])
        section.targets.append(Target(f"{name}, 100 T / 2 T", ratio, 0.98, at_least=True))
    section.tables.append(
        table(
            ["", "GB/s, 2 T", "GB/s, 100 T", "GB per core-s, 2 T", "GB per core-s, 100 T"],
            [
                [
                    SCHEMES[scheme],
                    *(str(Figure.of(wall[scheme, threads])) for threads in (2, 100)),
                    *(str(Figure.of(core[scheme, threads])) for threads in (2, 100)),
                ]
                for scheme in ("payload", "memmgr", "rwlock")
            ],
        )
    )
    section.curves.append(
        Curves(
            "throughput",
            "threads",
            "GB/s",
            {
                SCHEMES[scheme]: [
                    (threads, Figure.of(values))
                    for (other, threads), values in sorted(wall.items())
                    if other == scheme
                ]
                for scheme in ("payload", "memmgr", "rwlock")
            },
        )
    )
    return section


def drain_section(records: list[dict[str, Any]]) -> Section:
    """How long a writer waits."""
    waits = by_scheme(records, "us")
    section = Section(
        "How long a writer waits for readers who come and go (R4.3)",
        "memmgr_write_begin, 2 ms after the write before, while every reader acquires a view, "
        "reads 32 KiB, releases it and starts over without a pause. The rwlock is one that puts "
        "writers first.",
        data=data_of(waits),
    )
    many = waits["memmgr", 100]
    for percent, limit in ((50, 1000), (99, 10000)):
        value = percentile(many, percent)
        figure = Figure(value, value, value, len(many))
        section.targets.append(Target(f"100 readers, p{percent}, µs", figure, limit))
    section.tables.append(
        table(
            ["µs", "readers", "writes", "p50", "p99", "longest"],
            [
                [
                    SCHEMES[scheme],
                    str(threads),
                    str(len(values)),
                    *(number(percentile(values, percent)) for percent in (50, 99, 100)),
                ]
                for (scheme, threads), values in waits.items()
            ],
        )
    )
    return section


def refusal_section(records: list[dict[str, Any]]) -> Section:
    """What a reader pays for not being let in."""
    statuses = sorted({record["status"] for record in records})
    section = Section(
        "Readers that a writer keeps out for longer than they wait",
        "100 readers ask at once, with a read timeout of 20 ms, while a writer is in for 100 ms. "
        f"All {len(records)} calls ended with: {', '.join(statuses)}.",
        data={"records": records},
    )
    rows = []
    for name, field in (("later than the timeout", "late_us"), ("processor time", "cpu_us")):
        values = [record[field] for record in records]
        rows.append([name, *(number(percentile(values, percent)) for percent in (50, 99, 100))])
    section.tables.append(table(["µs of one refused call", "p50", "p99", "longest"], rows))
    return section
