"""The demo: the whole path from files to an answer, each step timed against its requirement."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._demo_files import DemoFile
from ._dimension import Dimension
from ._errors import FormatError
from ._manager import Manager
from ._stats import Memory

_ACCESSES = 100_000
_TOP = 10


@dataclasses.dataclass(frozen=True)
class Criterion:
    """A time that the requirements name, in seconds, and what was measured."""

    criterion: str
    what: str
    limit: float
    measured: float

    @property
    def factor(self) -> float:
        """How many times better than the limit."""
        return self.limit / self.measured


@dataclasses.dataclass(frozen=True)
class Hit:
    """A row that the query found."""

    dimension: str
    layer: str
    row: int
    score: float


@dataclasses.dataclass(frozen=True)
class Report:
    """What a run of the demo measured; times in seconds.

    `write` and `reload` are of the smallest file, in mode "c" so that it stays as it is.
    """

    criteria: list[Criterion]
    hits: list[Hit]
    write: float
    reload: float
    memory: Memory


class _Clock:
    """Times steps by name, and remembers the slowest of each."""

    def __init__(self) -> None:
        self.slowest: dict[str, float] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        elapsed = time.perf_counter() - start
        self.slowest[step] = max(elapsed, self.slowest.get(step, 0.0))


def run(files: Sequence[DemoFile], *, own: bool) -> Report:
    """Loads the files, asks for the rows nearest to one of theirs, writes and reloads.

    own: the files are the user's, so the dimensions are made to fit them.
    """
    sizes = [file.path.stat().st_size for file in files]
    smallest = sizes.index(min(sizes))
    clock = _Clock()
    with clock("open"):
        manager = Manager(capacity=max(*sizes, 1), dimensions=len(files)) if own else Manager()
    with manager:
        dimensions = []
        for index, file in enumerate(files):
            with clock("load"):
                dimension = manager.load(
                    index,
                    file.path,
                    mode="c" if index == smallest else "r",
                    manifest=file.manifest,
                )
            dimensions.append(dimension)
        for dimension in dimensions:
            with clock("scan"):
                dimension.view().max()
        with clock("query"):
            hits = _query(dimensions)
        p99 = _access_p99(dimensions)
        with clock("write"):
            _write_once(dimensions[smallest])
        with clock("reload"):
            dimensions[smallest].reload(
                files[smallest].path, mode="ram", manifest=files[smallest].manifest
            )
        memory = manager.memory()
    at = clock.slowest
    criteria = [
        Criterion("R1.5", "open the manager", 0.1, at["open"]),
        Criterion("R2.5", "load a dimension, slowest", 0.05, at["load"]),
        Criterion("R3.2, R10.5", "access a layer, p99", 0.001, p99),
        Criterion("introduction", "scan a dimension, slowest", 0.1, at["scan"]),
    ]
    if hits:
        what = f"query all for {_TOP} rows"
        criteria.append(Criterion("introduction", what, 5.0, at["query"]))
    return Report(criteria, hits, at["write"], at["reload"], memory)


def _tables(dimensions: Sequence[Dimension]) -> list[tuple[Dimension, str]]:
    """The layers to search: matrices of floats, all as wide as the first of them."""
    tables: list[tuple[Dimension, str]] = []
    width = None
    for dimension in dimensions:
        for layer in dimension.layers.values():
            if layer.dtype in ("F16", "F32", "F64") and len(layer.shape) == 2 and layer.length:
                width = width or layer.shape[1]
                if layer.shape[1] == width:
                    tables.append((dimension, layer.name))
    return tables


def _query(dimensions: Sequence[Dimension]) -> list[Hit]:
    """The rows with the largest dot products with one of them."""
    tables = _tables(dimensions)
    if not tables:
        return []
    dimension, name = tables[-1]
    query = dimension[name][-1].copy()
    hits = []
    for dimension, name in tables:
        # Not `@`: BLAS would wake its threads for each table, and wait for them longer than the
        # product takes.
        scores = np.einsum("ij,j->i", dimension[name], query)
        best = np.argpartition(scores, -min(_TOP, len(scores)))[-_TOP:]
        hits += [Hit(dimension.name, name, int(row), float(scores[row])) for row in best]
    return sorted(hits, key=lambda hit: -hit.score)[:_TOP]


def _readable(dimension: Dimension) -> str | None:
    """A layer that NumPy has a type for, None if there is none."""
    for layer in dimension.layers.values():
        try:
            if layer.length and dimension[layer.name].size:
                return layer.name
        except FormatError:
            continue
    return None


def _access_p99(dimensions: Sequence[Dimension]) -> float:
    """Seconds that 99 of 100 accesses are faster than."""
    names = [_readable(dimension) for dimension in dimensions]
    targets = list(zip(dimensions, names, strict=True))
    clock = time.perf_counter_ns
    times = np.empty(_ACCESSES, np.int64)
    for index in range(_ACCESSES):
        dimension, name = targets[index % len(targets)]
        start = clock()
        _: Any = dimension.view() if name is None else dimension[name]
        times[index] = clock() - start
    return float(np.percentile(times, 99)) / 1e9


def _write_once(dimension: Dimension) -> None:
    name = _readable(dimension)
    if name is not None or not dimension.layers:
        with dimension.write() as writer:
            writer[... if name is None else name].flat[0] = 0
