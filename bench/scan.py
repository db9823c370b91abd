"""The best rows of all dimensions, beside reading the same bytes and beside NumPy and FAISS.

`scan/scan.c` measures the C ABI and the floor, `scan/peers.py` the Python package and its peers;
this makes the files, of 20 MiB each, and reads what they print.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import sys
from collections import defaultdict
from pathlib import Path

import build
from figures import Figure, Section, Target, table

FOLDER = Path(__file__).with_name("scan")
DIMENSIONS = 14
FILE_SIZE = 20 << 20
NPY_HEADER = 128
# Type and elements of a row; the first is what the targets are about.
SHAPES = [("float32", 384), ("float32", 64), ("float32", 1024), ("float16", 384), ("int8", 384)]
SCHEMES = {
    "sum": "sum of the bytes, one stream",
    "sum_streams": "sum of the bytes, four streams fetched ahead",
    "topk": "**memmgr**",
    "topk_baseline": "**memmgr**, SSE2 or NEON",
    "topk_avx2": "**memmgr**, AVX2",
    "topk_avx512": "**memmgr**, AVX-512",
}
PEERS = {
    "memmgr": "**memmgr**, `manager.topk`",
    "numpy": "NumPy, `matrix @ query` and `argpartition`",
    "faiss": "FAISS, `IndexFlatIP`",
}
FLOOR_SHARE = 0.95
# How many times as fast as a peer it is to be.
SPEEDS = {"numpy": 1.1, "faiss": 1.0}

Measured = dict[str, list[float]]


def measure(prefix: Path, *, short: bool) -> list[Section]:
    """Returns the sections of the report."""
    if importlib.util.find_spec("numpy") is None:
        text = "Skipped: NumPy, which makes the files, is not installed here."
        return [Section("The best ten rows of 14 dimensions", text)]
    program = build.program(FOLDER / "scan.c", prefix, shared=True)
    rounds = 5 if short else 41
    costs: dict[str, Measured] = {}
    peers: Measured = {}
    for dtype, length in SHAPES:
        paths = write_files(prefix, dtype, length)
        costs[f"{dtype} × {length}"] = read([str(program), str(rounds), *paths], prefix)
        if not peers and importlib.util.find_spec("memmgr") is not None:
            command = [sys.executable, str(FOLDER / "peers.py"), str(rounds), *paths]
            peers = read(command, prefix)
        for path in paths:
            Path(path).unlink()
    return [floor_section(costs), peer_section(peers)]


def write_files(folder: Path, dtype: str, length: int) -> list[str]:
    import numpy as np

    random = np.random.default_rng(1)
    rows = (FILE_SIZE - NPY_HEADER) // (np.dtype(dtype).itemsize * length)
    paths = [str(folder / f"{dtype}-{length}-{index}.npy") for index in range(DIMENSIONS)]
    for path in paths:
        matrix = random.standard_normal((rows, length), np.float32)
        if dtype == "int8":
            matrix = (matrix * 40).clip(-127, 127)
        np.save(path, matrix.astype(dtype))
    return paths


def read(command: list[str], folder: Path) -> Measured:
    values: Measured = defaultdict(list)
    for line in build.run(command, cwd=folder).splitlines():
        record = json.loads(line)
        values[record["scheme"]].append(record["ms"])
    return values


def floor(values: Measured) -> list[float]:
    """Of each round the faster of the two."""
    return [min(pair) for pair in zip(values["sum"], values["sum_streams"], strict=True)]


def floor_section(costs: dict[str, Measured]) -> Section:
    """Beside what memory gives."""
    section = Section(
        f"The best ten rows of {DIMENSIONS} dimensions of 20 MiB (R10.3)",
        "Milliseconds of one pass on one thread, through the C ABI: the rows with the largest dot "
        "products with a query, of all dimensions together. The floor is the sum of the same bytes "
        "as float32, of each round the faster of its two; 1 is as fast as that.",
        data={shape: dict(values) for shape, values in costs.items()},
    )
    shape, values = next(iter(costs.items()))
    ratio = Figure.ratio(floor(values), values["topk"])
    section.targets.append(Target(f"speed / floor, {shape}", ratio, FLOOR_SHARE, at_least=True))
    schemes = [name for name in SCHEMES if all(name in values for values in costs.values())]
    section.tables.append(
        table(
            ["ms", *costs],
            [
                [SCHEMES[name], *(str(Figure.of(values[name])) for values in costs.values())]
                for name in schemes
            ],
        )
    )
    section.tables.append(
        table(
            ["speed / floor", *costs],
            [
                [
                    SCHEMES[name],
                    *(str(Figure.ratio(floor(values), values[name])) for values in costs.values()),
                ]
                for name in schemes
                if name.startswith("topk")
            ],
        )
    )
    return section


def peer_section(peers: Measured) -> Section:
    """Beside what else finds them from Python."""
    dtype, length = SHAPES[0]
    section = Section(
        f"The same from Python, {dtype} × {length}",
        "Milliseconds of one search, everything on one thread. NumPy reads the arrays that memmgr "
        "gives; FAISS reads an index, into which it has copied all rows.",
        data=dict(peers),
    )
    if not peers:
        section.notes.append("Skipped: memmgr, which is not installed here.")
        return section
    for peer, limit in SPEEDS.items():
        if peer not in peers:
            section.notes.append(f"Skipped: {PEERS[peer]}, which is not installed.")
            continue
        ratio = Figure.ratio(peers[peer], peers["memmgr"])
        name = f"times the speed of {PEERS[peer]}"
        section.targets.append(Target(name, ratio, limit, at_least=True))
    packages = {"numpy": "numpy", "faiss": "faiss-cpu"}
    versions = [
        f"{packages[name]} {importlib.metadata.version(packages[name])}"
        for name in peers
        if name in packages
    ]
    section.notes.append(f"Peers: {', '.join(versions)}.")
    rows = [[PEERS[name], str(Figure.of(values))] for name, values in peers.items()]
    section.tables.append(table(["", "ms"], rows))
    return section
