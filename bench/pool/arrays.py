"""Prints what a new array costs whose pages are all used: nanoseconds, and page faults.

    arrays.py numpy|empty|handler BYTES

`numpy` is np.empty, `empty` is manager.empty, and `handler` is np.empty in numpy_allocator().
"""

from __future__ import annotations

import contextlib
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import memmgr
import numpy as np

PAGE = 4096
HELD = 8
SECONDS = 0.05


def measure(empty: Callable[[int, str], Any], length: int) -> dict[str, float]:
    """One array after another, of which the last few are held."""
    held = [empty(length, "uint8") for _ in range(HELD)]
    count = 0

    def use() -> None:
        nonlocal count
        for _ in range(100):
            array = empty(length, "uint8")
            array[::PAGE] = 1
            held[count % HELD] = array
            count += 1

    use()
    used, faults, begin = (
        count,
        resource.getrusage(resource.RUSAGE_SELF).ru_minflt,
        time.process_time(),
    )
    while time.process_time() - begin < SECONDS:
        use()
    seconds = time.process_time() - begin
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return {"ns": seconds * 1e9 / (count - used), "faults": faults / (count - used)}


def main() -> None:
    """Measures what the arguments say."""
    scheme, length = sys.argv[1], int(sys.argv[2])
    with memmgr.Manager() as manager:
        handler = manager.numpy_allocator() if scheme == "handler" else contextlib.nullcontext()
        with handler:
            print(json.dumps(measure(manager.empty if scheme == "empty" else np.empty, length)))


if __name__ == "__main__":
    main()
