"""Scanning: the best rows of a layer, and a function on the layers of many dimensions."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from ._arguments import encode, integer
from ._call import struct
from ._errors import InvalidArgumentError, MemmgrError
from ._native import ffi, lib
from ._progress import Listener, Progress
from ._words import INSTRUCTIONS, choice

if TYPE_CHECKING:
    from ._dimension import Dimension

T = TypeVar("T")
Instructions: TypeAlias = Literal["auto", "baseline", "avx2", "avx512"]

# More rows than this are looked up before there is room for them.
_PLAIN = 1 << 16


@dataclasses.dataclass(frozen=True, eq=False)
class Best:
    """The best rows of several dimensions, the best one first.

    Attributes:
        dimensions: the dimension of each row, as its index in the manager.
        rows: its index in the layer.
        scores: its dot product with the query.
    """

    dimensions: npt.NDArray[np.int64]
    rows: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[int, int, float]]:
        """Dimension, row and score of one after the other."""
        return zip(self.dimensions.tolist(), self.rows.tolist(), self.scores.tolist(), strict=True)


def as_query(query: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """What is asked for, as C reads it."""
    array = np.asarray(query)
    if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
        raise InvalidArgumentError(
            f"query has elements of type {array.dtype}, want real numbers", operation="scan"
        )
    if array.ndim != 1:
        raise InvalidArgumentError(
            f"query has the shape {array.shape}, want one axis", operation="scan"
        )
    return np.ascontiguousarray(array, dtype=np.float32)


def topk(
    dimension: Dimension,
    query: npt.NDArray[np.float32],
    k: SupportsIndex,
    layer: str | None,
    *,
    instructions: Instructions = "auto",
    progress: Progress | None = None,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows and scores of one dimension, the best first."""
    room = integer(k, "k")
    if room > _PLAIN:
        # A file of any version has no more rows than bytes.
        room = min(room, dimension.capacity)
    rows, scores = np.empty(room, np.int64), np.empty(room, np.float32)
    count = ffi.new("size_t *")
    options = struct("memmgr_scan_options")
    options.instructions = choice(INSTRUCTIONS, instructions, "instructions")
    arguments = (
        ffi.NULL if layer is None else encode(layer, "layer name"),
        ffi.from_buffer("float[]", query),
        len(query),
        room,
        options,
        ffi.from_buffer("uint64_t[]", rows, require_writable=True),
        ffi.from_buffer("float[]", scores, require_writable=True),
        count,
    )
    if progress is None:
        dimension._call(lib.memmgr_scan_topk, *arguments)
    else:
        with Listener(progress, options):
            dimension._call(lib.memmgr_scan_topk, *arguments)
    found = count[0]
    return (rows, scores) if found == room else (rows[:found].copy(), scores[:found].copy())


def topk_of_all(
    dimensions: list[Dimension],
    query: npt.NDArray[np.float32],
    k: SupportsIndex,
    layer: str | None,
    threads: int,
) -> Best:
    """The best rows of all of them, each one's with the others'."""
    found = in_threads(lambda dimension: topk(dimension, query, k, layer), dimensions, threads)
    indices = np.array([dimension._index for dimension in dimensions], np.int64)
    owners = np.repeat(indices, [len(rows) for rows, _ in found])
    rows = np.concatenate([np.empty(0, np.int64), *(rows for rows, _ in found)])
    scores = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
    # Of one score the first dimension and row; what is no number comes last.
    best = np.lexsort((rows, owners, -scores))[:k]
    return Best(owners[best], rows[best], scores[best])


def in_threads(function: Callable[[T], Any], items: Iterable[T], threads: int) -> list[Any]:
    """What the function returns for each, in order.

    What one call raises is raised, once the others that had begun have ended; no more begin.
    """
    if threads == 1:
        return [function(item) for item in items]
    stopped = threading.Event()

    def step(item: T) -> Any:
        if stopped.is_set():
            return None
        try:
            return function(item)
        except BaseException:
            stopped.set()
            raise

    with ThreadPoolExecutor(threads, thread_name_prefix="memmgr-scan") as pool:
        try:
            futures = [pool.submit(step, item) for item in items]
            wait(futures)
        finally:
            # Ctrl-C is heard by the thread that waits.
            stopped.set()
    return [future.result() for future in futures]


def scan(
    function: Callable[[npt.NDArray[Any]], T],
    dimensions: list[Dimension],
    layer: str | None,
    threads: int,
) -> list[T]:
    """The function's results, while what comes next is read ahead."""

    def run(index: int) -> T:
        if index + threads < len(dimensions):
            # What is wrong with it is told when its turn comes.
            with contextlib.suppress(MemmgrError):
                dimensions[index + threads]._call(lib.memmgr_scan_ahead)
        dimension = dimensions[index]
        return function(dimension.view() if layer is None else dimension[layer])

    return in_threads(run, range(len(dimensions)), threads)


def thread_count(threads: SupportsIndex | None, count: int) -> int:
    """As many as were asked for, or as there are processors, and not more than there is work."""
    if threads is None:
        affinity = getattr(os, "sched_getaffinity", None)
        wanted = len(affinity(0)) if affinity else os.cpu_count() or 1
    else:
        wanted = integer(threads, "threads", 1)
    return max(1, min(wanted, count))
