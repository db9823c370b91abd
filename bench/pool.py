"""The pools beside their peers: cost of a block, blocks that change threads, memory behind them.

`pool/pool.c` measures one allocator, `pool/arrays.py` arrays; this compiles the first once for each
allocator, and reads what they print.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import build
from figures import Figure, Section, Target, table

FOLDER = Path(__file__).with_name("pool")
OURS = {
    "memmgr": "**memmgr**",
    "batch_calls": "**memmgr**, a batch in one call",
    "nothing": "memmgr's calls doing nothing",
}
PEERS = {
    "mimalloc": "mimalloc",
    "jemalloc": "jemalloc",
    "tcmalloc": "tcmalloc (gperftools)",
    "libc": "the C library's malloc",
}
COSTS = {
    "pair": "64 B, freed at once",
    "batch_64": "1000 of 64 B",
    "batch_4k": "1000 of 4 KiB",
    "random_1k": "random, ≤ 1 KiB",
    "random_64k": "random, ≤ 64 KiB",
}
PASSED_ON = {
    "handover_64": "handed over, 64 B",
    "handover_1k": "handed over, ≤ 1 KiB",
    "stress": "stress, 8 threads",
}
HELD = {"memory_1k": "random, ≤ 1 KiB", "memory_64k": "random, ≤ 64 KiB"}
# How many times as fast as a peer it is to be.
SPEEDS = [
    ("pair", "mimalloc", 1.15),
    ("batch_64", "mimalloc", 1.0),
    ("batch_4k", "mimalloc", 5.0),
    ("random_1k", "mimalloc", 1.1),
    ("random_64k", "mimalloc", 1.8),
    ("random_64k", "tcmalloc", 1.0),
    ("handover_64", "mimalloc", 3.0),
    ("handover_1k", "mimalloc", 3.0),
]
HELD_LIMIT = 1.15
THREADS = (1, 2)
ARRAYS = {
    "numpy": "np.empty",
    "empty": "manager.empty",
    "handler": "np.empty in numpy_allocator()",
}
ARRAY_SIZES = {"4 KiB": 4 << 10, "64 KiB": 64 << 10, "256 KiB": 256 << 10, "1 MiB": 1 << 20}

Measured = dict[tuple[str, str], list[float]]


def measure(prefix: Path, *, short: bool) -> list[Section]:
    """Returns the sections of the report."""
    programs, notes = compile_all(prefix)

    def run(name: str, *workload: str) -> float:
        return float(build.run([str(programs[name]), *workload], cwd=prefix))

    def rounds(count: int, names: Iterable[str], workloads: Iterable[str]) -> Measured:
        values: Measured = defaultdict(list)
        for _ in range(count):
            for workload in workloads:
                for name in names:
                    if can(name, workload):
                        values[name, workload].append(run(name, *workload.split()))
        return values

    full = [name for name in programs if name in {"memmgr", *PEERS}]
    costs = [f"{workload} {threads}" for threads in THREADS for workload in COSTS]
    sections = [
        cost_section(rounds(3 if short else 20, programs, costs), notes),
        passed_section(rounds(3 if short else 20, full, PASSED_ON)),
    ]
    if sys.platform == "linux":
        own = run("libc", "memory_none") if "libc" in programs else 0.0
        sections.append(held_section(rounds(1 if short else 3, full, HELD), own))
    sections.append(array_section(2 if short else 10))
    return sections


def can(name: str, workload: str) -> bool:
    """Whether the program has something of its own to say of the workload."""
    return name != "batch_calls" or workload.startswith("batch")


def compile_all(prefix: Path) -> tuple[dict[str, Path], list[str]]:
    """Returns the programs by allocator, and what there is to say of the peers."""
    ours = ["-DWITH_MEMMGR", str(build.library(prefix))]
    nothing = build.compiled(
        FOLDER / "nothing.c",
        prefix / "lib" / "libnothing.so",
        ["-shared", "-fPIC", include(prefix)],
    )
    options = {
        "memmgr": ours,
        "batch_calls": ["-DWITH_BATCH_CALLS", *ours],
        "nothing": ["-DWITH_MEMMGR", str(nothing)],
        "mimalloc": mimalloc(),
        "jemalloc": ["-ljemalloc"],
        "tcmalloc": ["-ltcmalloc_minimal"],
        "libc": [],
    }
    programs, versions = {}, []
    notes = []
    for name, arguments in options.items():
        if arguments is None:
            notes.append(f"Skipped: {PEERS[name]}, which is not installed.")
            continue
        checked = [f'-DALLOCATOR="{name}"'] if name in PEERS else []
        try:
            output = prefix / f"pool-{name}"
            programs[name] = build.compiled(FOLDER / "pool.c", output, [*checked, *arguments])
            # Linked is not yet loaded, nor used.
            build.run([str(output), "pair"], cwd=prefix)
        except RuntimeError:
            if name not in PEERS:
                raise
            programs.pop(name, None)
            notes.append(f"Skipped: {PEERS[name]}, which is not installed.")
            continue
        if version := version_of(name):
            versions.append(f"{PEERS[name]} {version}")
    return programs, [f"Peers: {', '.join(versions)}.", *notes] if versions else notes


def include(prefix: Path) -> str:
    """Where the header is."""
    return f"-I{prefix / 'include'}"


def mimalloc() -> list[str] | None:
    """What links with the mimalloc of the package cmeel-mimalloc."""
    try:
        package = importlib.metadata.distribution("cmeel-mimalloc")
    except importlib.metadata.PackageNotFoundError:
        return None
    library = Path(str(package.locate_file("cmeel.prefix/lib/libmimalloc.so.3")))
    return [str(library), f"-Wl,-rpath,{library.parent}"]


def version_of(name: str) -> str:
    """What the peer's own package says, if it says anything."""
    if name == "mimalloc":
        return importlib.metadata.version("cmeel-mimalloc")
    package = {"jemalloc": "jemalloc", "tcmalloc": "libtcmalloc_minimal"}.get(name)
    if package is None or shutil.which("pkg-config") is None:
        return ""
    try:
        return build.run(["pkg-config", "--modversion", package]).strip()
    except RuntimeError:
        return ""


def speed_targets(values: Measured, suffix: str = "") -> list[Target]:
    """Of the workloads that were measured."""
    return [
        Target(
            f"{label(workload + suffix)}: times {PEERS[peer]}'s speed", ratio, limit, at_least=True
        )
        for workload, peer, limit in SPEEDS
        if (peer, workload + suffix) in values
        for ratio in [
            Figure.ratio(values[peer, workload + suffix], values["memmgr", workload + suffix])
        ]
    ]


def label(workload: str) -> str:
    """The workload in words."""
    name, _, threads = workload.partition(" ")
    return (COSTS | PASSED_ON | HELD)[name] + (f", {threads} T" if threads else "")


def cells(values: Measured, name: str, workloads: Iterable[str]) -> list[str]:
    """The figures of an allocator."""
    return [
        str(Figure.of(values[name, workload])) if (name, workload) in values else "—"
        for workload in workloads
    ]


def allocators(values: Measured) -> dict[str, str]:
    """Those that were measured, in words."""
    measured = {name for name, _ in values}
    return {name: words for name, words in (OURS | PEERS).items() if name in measured}


def data_of(values: Measured) -> dict[str, object]:
    """Rounds as they are in the file for programs."""
    return {f"{name}/{workload}": rounds for (name, workload), rounds in values.items()}


def cost_section(values: Measured, notes: list[str]) -> Section:
    """Core-nanoseconds of one block."""
    section = Section(
        "Take and free a block (R6.1, R6.4)",
        "Core-nanoseconds of one block, taken, touched and freed, each allocator in a process of "
        "its own and behind its shared library. Batches are freed in the order in which they were "
        "taken; at random, one of 4096 live blocks is replaced by one of a random size, as many "
        "of each doubling as of the next. memmgr is called through its C ABI, checks every free, "
        "and stays within a limit; calls that do nothing are what this interface costs at least.",
        data=data_of(values),
        notes=notes,
    )
    for threads in THREADS:
        section.targets += speed_targets(values, f" {threads}")
        section.tables.append(
            table(
                [f"core-ns, {threads} T", *COSTS.values()],
                [
                    [words, *cells(values, name, [f"{workload} {threads}" for workload in COSTS])]
                    for name, words in allocators(values).items()
                ],
            )
        )
    return section


def passed_section(values: Measured) -> Section:
    """Blocks that another thread frees."""
    section = Section(
        "Blocks that another thread frees (R6.4)",
        "Handed over: one thread takes and writes blocks, another reads and frees them, through a "
        "ring of 1024; nanoseconds on the wall for one block. Stress is the pattern of mimalloc's "
        "own test: threads that come and go, hold objects, free them in no order, and exchange "
        "some, the content of each checked; nanoseconds of processor time for one object.",
        targets=speed_targets(values),
        data=data_of(values),
    )
    rows = [[words, *cells(values, name, PASSED_ON)] for name, words in allocators(values).items()]
    section.tables.append(table(["ns", *PASSED_ON.values()], rows))
    return section


def held_section(values: Measured, own: float) -> Section:
    """Memory at its peak."""
    for rounds in values.values():
        rounds[:] = [kib - own for kib in rounds]
    section = Section(
        "Memory behind blocks at the peak",
        "KiB of memory that no file stands behind, the allocator's own included and the program's "
        "not, while blocks that are written as a whole are replaced at random.",
        data=data_of(values),
    )
    for workload in HELD:
        peers = [name for name in PEERS if (name, workload) in values]
        if not peers:
            continue
        best = min(peers, key=lambda name: Figure.of(values[name, workload]).median)
        ratio = Figure.ratio(values["memmgr", workload], values[best, workload])
        name = f"{label(workload)}: / {PEERS[best]}, which holds least"
        section.targets.append(Target(name, ratio, HELD_LIMIT))
    rows = [[words, *cells(values, name, HELD)] for name, words in allocators(values).items()]
    section.tables.append(table(["KiB", *HELD.values()], rows))
    return section


def array_section(count: int) -> Section:
    """Arrays of the Python package."""
    section = Section(
        "New arrays in Python",
        "An array of bytes is made, one byte of each of its pages is written, and it replaces the "
        "oldest of eight: nanoseconds of processor time and page faults for one.",
    )
    if importlib.util.find_spec("memmgr") is None:
        section.notes.append("Skipped: memmgr, which is not installed here.")
        return section
    values: dict[str, Measured] = {"ns": defaultdict(list), "faults": defaultdict(list)}
    for _ in range(count):
        for size, length in ARRAY_SIZES.items():
            for scheme in ARRAYS:
                command = [sys.executable, str(FOLDER / "arrays.py"), scheme, str(length)]
                for what, value in json.loads(build.run(command)).items():
                    values[what][scheme, size].append(value)
    section.data = {what: data_of(measured) for what, measured in values.items()}
    for what, title in (("ns", "ns"), ("faults", "page faults")):
        rows = [[words, *cells(values[what], name, ARRAY_SIZES)] for name, words in ARRAYS.items()]
        section.tables.append(table([title, *ARRAY_SIZES], rows))
    return section
