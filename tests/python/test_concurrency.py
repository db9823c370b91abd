"""R4 from Python: many readers, writers that exclude them, reloads that do not."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest

from .conftest import CAPACITY, Files

SECONDS = 0.5


@pytest.fixture(params=["auto", "atomic"])
def manager(request: pytest.FixtureRequest) -> Iterator[memmgr.Manager]:
    """As everywhere, under both gates."""
    names = ["D01", "D02", "D03"]
    with memmgr.Manager(names, capacity=CAPACITY, gate=request.param) as manager:
        yield manager


def _together(functions: list[Callable[[], Any]]) -> list[Any]:
    """Runs all at once, and raises what any of them raises."""
    barrier = threading.Barrier(len(functions))

    def run(function: Callable[[], Any]) -> Any:
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return [future.result() for future in [pool.submit(run, f) for f in functions]]


def test_r4_2_hundred_threads_read_at_once(
    manager: memmgr.Manager, loaded: memmgr.Dimension, table: npt.NDArray[Any]
) -> None:
    """R4.1, R4.2: all hold their arrays at the same time."""
    held = threading.Barrier(100)

    def read() -> float:
        array = loaded["table"]
        held.wait()
        views = manager.stats().views
        held.wait()
        assert views == 100
        return float(array.sum())

    assert set(_together([read] * 100)) == {float(table.sum())}
    assert manager.stats().views == 0


def test_r4_1_readers_see_whole_writes(manager: memmgr.Manager, files: Files) -> None:
    """R4.1, R4.3: a writer stamps the layer; nobody ever sees two stamps."""
    dimension = manager.load("D01", files.npy(np.zeros(20_000, np.int64)), mode="c")
    end = time.monotonic() + SECONDS

    def write() -> int:
        stamp = 0
        while time.monotonic() < end:
            stamp += 1
            with dimension.write() as w:
                w["data"] = stamp
        return stamp

    def read() -> int:
        count = 0
        while time.monotonic() < end:
            array = dimension["data"]
            assert array.min() == array.max()
            del array
            count += 1
        return count

    results = _together([write, write, *[read] * 8])
    assert all(results)
    assert manager.stats().views == 0


def test_readers_never_fail_during_reloads(manager: memmgr.Manager, files: Files) -> None:
    """Each array is of one version, of the dtype and shape of that version."""
    paths = [
        files.safetensors({"x": np.full(5000, 1, np.int32)}, "one"),
        files.safetensors({"pad": np.zeros(3), "x": np.full(700, 2, np.float64)}, "two"),
        files.safetensors({"x": np.full((30, 40), 3, np.int16)}, "three"),
    ]
    shapes = {1: (5000,), 2: (700,), 3: (30, 40)}
    dimension = manager.load("D01", paths[0])
    end = time.monotonic() + SECONDS

    def read() -> set[int]:
        seen = set()
        while time.monotonic() < end:
            array = dimension["x"]
            value = int(array.flat[0])
            assert array.shape == shapes[value]
            assert (array == value).all()
            assert "x" in dimension
            seen.add(value)
            del array
        return seen

    def reload() -> int:
        count = 0
        while time.monotonic() < end:
            try:
                dimension.reload(paths[(count + 1) % 3])
                count += 1
            except memmgr.ViewsHeldError:
                # Both older versions are still in use.
                time.sleep(0)
        return count

    *seen, reloads = _together([*[read] * 8, reload])
    assert reloads > 0
    assert set().union(*seen) == {1, 2, 3}
    assert manager.stats().views == 0
    assert manager.stats().allocated == 3 * CAPACITY


def test_r4_5_access_during_unload_is_data_or_its_error(
    manager: memmgr.Manager, files: Files
) -> None:
    """R4.5: load and unload under readers; never a crash, never a wrong byte."""
    path = files.npy(np.full(5000, 7))
    dimension = manager["D01"]
    end = time.monotonic() + SECONDS

    def read() -> int:
        count = 0
        while time.monotonic() < end:
            try:
                array = dimension["data"]
                assert array.min() == array.max() == 7
                count += 1
            except (memmgr.NotLoadedError, memmgr.InvalidAccessError):
                time.sleep(0)
        return count

    def cycle() -> int:
        count = 0
        while time.monotonic() < end:
            try:
                manager.load("D01", path)
                on_views: Any = ("defer", "wait", "refuse")[count % 3]
                dimension.unload(on_views=on_views, timeout=5)
                count += 1
            except memmgr.AlreadyLoadedError:
                dimension.unload(on_views="defer")
            except memmgr.ViewsHeldError:
                # Of unload: it stays loaded. Of load: two older versions are still in use.
                time.sleep(0)
        return count

    *_, cycles = _together([*[read] * 8, cycle])
    assert cycles > 0
    if dimension.state == "loaded":
        dimension.unload(on_views="wait", timeout=5)
    assert manager.stats().views == 0
    assert manager.stats().allocated == 3 * CAPACITY


def test_only_one_of_many_loads_wins(manager: memmgr.Manager, files: Files) -> None:
    """R2.2, R7.2."""
    path = files.npy(np.arange(3))

    def load() -> bool:
        try:
            manager.load("D01", path)
        except memmgr.AlreadyLoadedError:
            return False
        return True

    for _ in range(20):
        assert sum(_together([load] * 8)) == 1
        manager["D01"].unload()


def test_r5_1_budget_holds_under_concurrent_loads(files: Files) -> None:
    """R5.1, R5.2: never above the limit, and exact when all is quiet."""
    paths = [files.raw(b"x", f"{number}") for number in range(16)]
    with memmgr.Manager(16, capacity="1 MiB", limit="16 MiB") as manager:
        size = manager[0].capacity
        for dimension in manager.values():
            dimension.deallocate()
        holders = [manager.load(i, path) for i, path in enumerate(paths[:8])]
        held = [dimension.view() for dimension in holders]

        def reload(index: int) -> bool:
            try:
                holders[index].reload(paths[8 + index])
            except memmgr.LimitExceededError:
                return False
            return True

        for dimension in list(manager.values())[8:14]:
            manager.load(dimension.name, files.raw(b"y", dimension.name))
        won = sum(_together([lambda i=i: reload(i) for i in range(8)]))  # type: ignore[misc]
        assert won == 2
        stats = manager.stats()
        assert (stats.allocated, stats.peak, stats.refusals) == (16 * size, 16 * size, 6)
        held.clear()
        assert manager.stats().allocated == 14 * size


def test_asyncio_to_thread(loaded: memmgr.Dimension, table: npt.NDArray[Any]) -> None:
    async def scan(name: str) -> float:
        return await asyncio.to_thread(lambda: float(loaded[name].sum()))

    async def main() -> list[float]:
        return await asyncio.gather(*(scan("table") for _ in range(50)))

    assert set(asyncio.run(main())) == {float(table.sum())}
    loaded.unload()


def test_arrays_travel_through_futures(loaded: memmgr.Dimension, manager: memmgr.Manager) -> None:
    """Acquired on one thread, used on a second, dropped on a third."""
    with ThreadPoolExecutor(8) as pool:
        arrays = [pool.submit(loaded.__getitem__, "ids") for _ in range(50)]
        sums = [pool.submit(f.result().sum) for f in as_completed(arrays)]
        assert {int(future.result()) for future in sums} == {499_500}
    del arrays, sums
    assert manager.stats().views == 0


def test_managers_open_and_close_at_once(files: Files) -> None:
    path = files.npy(np.arange(10))

    def life() -> int:
        with memmgr.Manager(2, capacity="1 MiB") as manager:
            return int(manager.load(0, path)["data"].sum())

    for _ in range(5):
        assert set(_together([life] * 16)) == {45}


def test_close_under_readers(files: Files) -> None:
    path = files.npy(np.full(1000, 3))
    manager = memmgr.Manager(1, capacity="1 MiB")
    dimension = manager.load(0, path)

    def read() -> None:
        while True:
            try:
                array = dimension["data"]
            except memmgr.InvalidAccessError:
                return
            assert array.sum() == 3000

    def close() -> None:
        time.sleep(0.05)
        manager.close(on_views="defer")

    _together([*[read] * 8, close])


@pytest.mark.parametrize("seed", [1, 2])
def test_everything_at_once(files: Files, seed: int) -> None:
    """Load, unload, reload, deallocate, write and read on all dimensions by 30 threads."""
    paths = [files.npy(np.full(2000 + n, n), f"{n}.npy") for n in range(4)]
    expected = (
        memmgr.AlreadyLoadedError,
        memmgr.NotLoadedError,
        memmgr.ViewsHeldError,
        memmgr.WaitTimeoutError,
        memmgr.InvalidAccessError,
        memmgr.LimitExceededError,
    )
    with memmgr.Manager(4, capacity="1 MiB", read_timeout=0.05) as manager:
        end = time.monotonic() + SECONDS

        def work(number: int) -> None:
            random = np.random.default_rng([seed, number])
            while time.monotonic() < end:
                dimension = manager[int(random.integers(4))]
                path: Path = paths[int(random.integers(4))]
                try:
                    match int(random.integers(12)):
                        case 0:
                            manager.load(dimension.name, path, mode="c")
                        case 1:
                            dimension.unload(on_views="defer")
                        case 2:
                            dimension.reload(path, mode="c")
                        case 3:
                            dimension.deallocate(on_views="wait", timeout=0.01)
                        case 4:
                            with dimension.write(0.01) as w:
                                w["data"] = int(random.integers(100))
                        case _:
                            array = dimension["data"]
                            assert array.min() == array.max()
                            del array
                except expected:
                    continue

        _together([lambda n=n: work(n) for n in range(30)])  # type: ignore[misc]
        assert manager.stats().views == 0
        for dimension in manager.values():
            dimension.deallocate()
        assert manager.stats().allocated == 0
        assert manager.stats().mapped == 0
