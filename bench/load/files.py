"""Prints what it takes in Python until a file can be read: an object of JSON per round.

    files.py ROUNDS

Times are nanoseconds. A child is a new interpreter with its imports done, given a pickled manager.
"""

from __future__ import annotations

import json
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memmgr
import numpy as np

SIZE = (20 << 20) - 128
TIMES = 50


def private_bytes() -> int:
    """Memory that only this process has; pages of files that nobody else maps do not count."""
    rollup = Path("/proc/self/smaps_rollup").read_text()
    return 1024 * sum(
        int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Private_Dirty:")
    )


def median_ns(make: Callable[[], Any], drop: Callable[[Any], object]) -> float:
    """Of making something many times, without what it takes to drop it."""
    times = []
    for _ in range(TIMES):
        begin = time.perf_counter_ns()
        made = make()
        times.append(time.perf_counter_ns() - begin)
        drop(made)
        del made
    return statistics.median(times)


def child() -> None:
    """What a child does with the manager that it is given."""
    pickled = sys.stdin.buffer.read()
    before, begin = private_bytes(), time.perf_counter_ns()
    manager = pickle.loads(pickled)
    word = manager["D01"]["data"][0]
    ns = time.perf_counter_ns() - begin
    print(json.dumps({"ns": ns, "private": private_bytes() - before, "word": int(word)}))


def spawned(pickled: bytes) -> dict[str, int]:
    """What a child says."""
    result = subprocess.run(
        [sys.executable, __file__, "child"], input=pickled, capture_output=True, check=True
    )
    answer: dict[str, int] = json.loads(result.stdout)
    return answer


def main(rounds: int) -> None:
    """Measures all in each round."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = str(Path(folder) / "saved.npy")
        memmgr.save(path, {"data": np.ones(SIZE // 8, np.int64)})
        schemes: dict[str, tuple[Callable[[], Any], Callable[[Any], object]]] = {}
        with memmgr.Manager() as manager, memmgr.Manager() as shared:
            shared.load("D01", path)
            pickled = pickle.dumps(shared)
            schemes = {
                "memmap": (lambda: np.memmap(path, np.int64, "r", 128), id),
                "load": (lambda: np.load(path, mmap_mode="r"), id),
                "memmgr": (lambda: manager.load("D01", path), lambda d: d.unload()),
                "populate": (
                    lambda: manager.load("D01", path, prefetch="populate"),
                    lambda d: d.unload(),
                ),
                "array": (
                    lambda: manager.load("D01", path)["data"],
                    lambda _: manager["D01"].unload("defer"),
                ),
            }
            for _ in range(rounds):
                times = {name: median_ns(*scheme) for name, scheme in schemes.items()}
                print(json.dumps(times | {"child": spawned(pickled)}))


if __name__ == "__main__":
    child() if sys.argv[1] == "child" else main(int(sys.argv[1]))
