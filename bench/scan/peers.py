"""The best ten rows of many dimensions, found by memmgr and by its peers in one process, in turns.

    peers.py ROUNDS FILE...

Every line printed is a JSON object: the milliseconds of one search through all files, which are
in memory. Every scheme runs on this thread alone. NumPy sees the same memory as memmgr; FAISS has
copied all rows into an index of its own before.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable

# Before NumPy, and FAISS, read it.
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import memmgr
import numpy as np

BEST = 10


def main() -> None:
    rounds, paths = int(sys.argv[1]), sys.argv[2:]
    with memmgr.Manager(len(paths)) as manager:
        for index, path in enumerate(paths):
            manager.load(index, path, prefetch="populate")
        schemes = searches(manager)
        # They have to find the same, or they are not peers.
        found = {name: sorted(search()) for name, search in schemes.items()}
        assert all(rows == found["memmgr"] for rows in found.values()), found
        for _ in range(rounds):
            for name, search in schemes.items():
                start = time.perf_counter()
                search()
                print(json.dumps({"scheme": name, "ms": (time.perf_counter() - start) * 1e3}))


def searches(manager: memmgr.Manager) -> dict[str, Callable[[], list[int]]]:
    """Each finds the best rows, counted through all dimensions."""
    matrices = [dimension["data"] for dimension in manager.values()]
    starts = np.cumsum([0, *(len(matrix) for matrix in matrices[:-1])])
    length: int = matrices[0].shape[1]
    query = np.random.default_rng(0).standard_normal(length, np.float32)

    def with_memmgr() -> list[int]:
        best = manager.topk(query, BEST)
        rows: list[int] = (starts[best.dimensions] + best.rows).tolist()
        return rows

    def with_numpy() -> list[int]:
        found: list[tuple[float, int]] = []
        for start, matrix in zip(starts, matrices, strict=True):
            scores = matrix @ query
            best = np.argpartition(scores, -BEST)[-BEST:]
            found += zip(scores[best].tolist(), (best + start).tolist(), strict=True)
        return [row for _, row in sorted(found, reverse=True)[:BEST]]

    if importlib.util.find_spec("faiss") is None:
        return {"memmgr": with_memmgr, "numpy": with_numpy}
    import faiss

    index = faiss.IndexFlatIP(length)
    for matrix in matrices:
        index.add(matrix)

    def with_faiss() -> list[int]:
        rows: list[int] = index.search(query[None], BEST)[1][0].tolist()
        return rows

    return {"memmgr": with_memmgr, "numpy": with_numpy, "faiss": with_faiss}


if __name__ == "__main__":
    main()
