"""Prints what an array over a file costs, in nanoseconds: JSON, round by round, all ways in turn.

    access.py ROUNDS SCHEME…

Each round measures, for each scheme: `cost`, of a loop of it less that of an empty loop; and, of
those that are compared by threads, by 1 and by 100 at once `pace`, the time that passes for each
access of any thread, and `p99`, of one access between two looks at the clock, which are part of it.
"""

from __future__ import annotations

import json
import mmap
import sys
import tempfile
import threading
import time
import timeit
from array import array
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memmgr
import numpy as np

# What each scheme does in the loop; what it makes is dropped at once.
SCHEMES = {
    "layer": "dimension['layer']",
    "view": "dimension.view(4096, 4096)",
    "view_typed": "dimension.view(4096, dtype=f4, shape=(4, 256))",
    "slice": "memory[4096:8192]",
    "row": "table[3]",
    "frombuffer": "np.frombuffer(mapping, u1, 4096, 4096)",
    "memmap": "memmap[4096:8192]",
    "tensor_4k": "tensors.get_tensor('4 KiB')",
    "tensor_64k": "tensors.get_tensor('64 KiB')",
}
BY_THREADS = ("layer", "view", "slice", "frombuffer", "memmap", "tensor_4k")
THREADS = (1, 100)
# Of a round: how often in a loop; and how long by all threads, each of which has the GIL for 5 ms
# at a time, and so gives it up several times.
LOOPS = 50_000
PACE_NS = 1e9
CLOCK_NS = 100


def names(folder: Path, schemes: list[str]) -> dict[str, Any]:
    """What the schemes name, over files of the same bytes."""
    table = np.arange(1 << 20, dtype=np.float32).reshape(-1, 256)
    raw, npy = folder / "raw", folder / "layer.npy"
    table.tofile(raw)
    np.save(npy, table)
    manager = memmgr.Manager(1)
    layer = memmgr.Layer("layer", 0, dtype="F32", shape=table.shape)
    with raw.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    found: dict[str, Any] = {
        "np": np,
        "f4": np.dtype(np.float32),
        "u1": np.dtype(np.uint8),
        "manager": manager,
        "dimension": manager.load(0, raw, layers=[layer]),
        "memory": table.reshape(-1).view(np.uint8),
        "table": table,
        "mapping": mapping,
        "memmap": np.memmap(raw, np.uint8, "r"),
    }
    if any(scheme.startswith("tensor") for scheme in schemes):
        import safetensors
        import safetensors.numpy

        tensors = {"4 KiB": table[:4], "64 KiB": table[:64]}
        safetensors.numpy.save_file(tensors, folder / "tensors")
        found["tensors"] = safetensors.safe_open(folder / "tensors", "numpy")
    return found


def cost(statement: str, found: dict[str, Any]) -> float:
    """Nanoseconds of one access, made and dropped."""
    seconds = timeit.timeit(statement, globals=found, number=LOOPS)
    return (seconds - timeit.timeit("pass", number=LOOPS)) / LOOPS * 1e9


def function(body: str, found: dict[str, Any]) -> Callable[..., Any]:
    """A function of what is found, with nothing but local names in it."""
    source = f"def loop({', '.join(found)}):\n    def run(passes):\n{body}\n    return run\n"
    scope: dict[str, Any] = {"array": array, "clock": time.perf_counter_ns}
    exec(source, scope)
    return scope["loop"](**found)  # type: ignore[no-any-return]


def by_threads(count: int, run: Callable[[int], Any], passes: int) -> tuple[float, list[Any]]:
    """Nanoseconds until the last of them is done, and what each returned."""
    barrier = threading.Barrier(count + 1)
    results: list[Any] = []

    def work() -> None:
        barrier.wait()
        results.append(run(passes))

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    barrier.wait()
    begin = time.perf_counter_ns()
    for thread in threads:
        thread.join()
    return time.perf_counter_ns() - begin, results


def measure(scheme: str, found: dict[str, Any]) -> dict[str, float]:
    """One round of one scheme."""
    statement = SCHEMES[scheme]
    repeat = function(f"        for _ in range(passes):\n            {statement}", found)
    timed = function(
        "        times = array('Q', bytes(8 * passes))\n"
        "        for index in range(passes):\n"
        f"            begin = clock()\n            {statement}\n"
        "            times[index] = clock() - begin\n"
        "        return times",
        found,
    )
    values = {"cost": cost(statement, found)}
    if scheme not in BY_THREADS:
        return values
    for count in THREADS:
        passes = int(PACE_NS / values["cost"] / THREADS[-1])
        passed, _ = by_threads(count, repeat, passes * THREADS[-1] // count)
        values[f"pace_{count}"] = passed / passes / THREADS[-1]
        samples = int(PACE_NS / (values["cost"] + CLOCK_NS) / THREADS[-1])
        _, results = by_threads(count, timed, samples)
        values[f"p99_{count}"] = float(np.percentile(np.concatenate(results), 99))
    return values


def main() -> None:
    """Measures what the arguments say."""
    rounds, schemes = int(sys.argv[1]), sys.argv[2:]
    values: dict[str, dict[str, list[float]]] = {scheme: defaultdict(list) for scheme in schemes}
    with tempfile.TemporaryDirectory() as folder:
        found = names(Path(folder), schemes)
        # The first access of each learns what the next ones know.
        for scheme in schemes:
            eval(SCHEMES[scheme], found)
        for _ in range(rounds):
            for scheme in schemes:
                for what, value in measure(scheme, found).items():
                    values[scheme][what].append(value)
        found["manager"].close("defer")
    print(json.dumps(values))


if __name__ == "__main__":
    main()
