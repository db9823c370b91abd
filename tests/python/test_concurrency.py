"""R4 from Python: many readers, writers that exclude them, reloads that do not."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import logging
import math
import re
import shutil
import signal
import subprocess
import sys
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
from memmgr._call import struct
from memmgr._native import ffi, lib

from .conftest import CAPACITY, Files, Unchanged

SECONDS = 0.5
# So long that no test waits for it.
PATIENCE = 30.0


@pytest.fixture(params=["auto", "atomic"])
def manager(request: pytest.FixtureRequest) -> Iterator[memmgr.Manager]:
    """As everywhere, under both gates; patient, since a busy machine is no failure."""
    names = ["D01", "D02", "D03"]
    with memmgr.Manager(
        names, capacity=CAPACITY, gate=request.param, read_timeout=PATIENCE
    ) as manager:
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


def test_r4_3_readers_of_a_written_region_are_blocked_and_no_others(
    manager: memmgr.Manager, files: Files
) -> None:
    """R4.3: a hundred readers wait in line, and all see what was written."""
    dimension = manager.load("D01", files.npy(np.zeros(100, np.int64)), mode="c")
    other = manager.load("D02", files.npy(np.ones(100, np.int64), "other.npy"))
    done = threading.Event()

    def read() -> int:
        array = dimension["data"]
        assert done.is_set()
        return int(array.sum())

    with ThreadPoolExecutor(100) as pool:
        with dimension.write() as w:
            w["data"] = 3
            waiting = [pool.submit(read) for _ in range(100)]
            assert int(other["data"].sum()) == 100
            time.sleep(0.05)
            assert not any(future.done() for future in waiting)
            done.set()
        assert {future.result() for future in waiting} == {300}


def test_readers_never_fail_during_reloads(manager: memmgr.Manager, files: Files) -> None:
    """Each array is of one version, of the dtype and shape of that version."""
    paths = [
        files.safetensors({"x": np.full(5000, 1, np.int32)}, "one"),
        files.safetensors({"pad": np.zeros(3), "x": np.full(700, 2, np.float64)}, "two"),
        files.safetensors({"x": np.full((30, 40), 3, np.int16)}, "three"),
    ]
    shapes = {1: (5000,), 2: (700,), 3: (30, 40)}
    dimension = manager.load("D01", paths[0])
    seen: set[int] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            array = dimension["x"]
            value = int(array.flat[0])
            assert array.shape == shapes[value]
            assert (array == value).all()
            assert "x" in dimension
            seen.add(value)
            del array

    def reload() -> None:
        end = time.monotonic() + PATIENCE
        try:
            count = 0
            while count < 10 or len(seen) < 3:
                assert time.monotonic() < end
                try:
                    dimension.reload(paths[(count + 1) % 3])
                    count += 1
                except memmgr.ViewsHeldError:
                    # Both older versions are still in use.
                    time.sleep(0)
        finally:
            over.set()

    _together([*[read] * 24, reload])
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


# The path of reading --------------------------------------------------------------------------


def test_r4_4_reload_that_is_stuck_stops_no_reader(
    loaded: memmgr.Dimension, files: Files, table: npt.NDArray[Any]
) -> None:
    """R4.4: held up in the middle, where it writes to the log."""
    path = files.npy(np.zeros(3))
    stuck, go_on = threading.Event(), threading.Event()

    class Handler(logging.Handler):
        def emit(self, _record: logging.LogRecord) -> None:
            stuck.set()
            assert go_on.wait(PATIENCE)

    logger, handler = logging.getLogger("memmgr"), Handler()
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        with ThreadPoolExecutor(1) as pool:
            reload = pool.submit(loaded.reload, path)
            assert stuck.wait(PATIENCE)
            try:
                assert set(
                    _together([lambda: sum(1 for _ in range(100) if loaded.view(0, 8)[0])] * 8)
                )
                assert not reload.done()
            finally:
                go_on.set()
            reload.result()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)


class _MallInfo(ctypes.Structure):
    """mallinfo2(3); uordblks is what is allocated."""

    _fields_ = [
        ("unused", ctypes.c_size_t * 7),
        ("uordblks", ctypes.c_size_t),
        ("unused_too", ctypes.c_size_t * 2),
    ]


def test_r10_2_library_allocates_nothing_to_read(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    """R10.2: the process's heap is the same while a thousand views are held."""
    try:
        info = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):
        pytest.skip("this C library does not count its heap")
    info.restype = _MallInfo
    handle, null = manager._handle, ffi.NULL
    views = [struct("memmgr_view") for _ in range(1000)]
    acquires: list[Callable[[Any], int]] = [
        lambda view: int(lib.memmgr_view_acquire(handle, 0, 8, 8, view, null)),
        lambda view: int(lib.memmgr_view_try_acquire(handle, 0, 8, 8, view, null)),
        lambda view: int(lib.memmgr_layer_acquire(handle, 0, b"table", null, view, null)),
    ]
    for acquire in acquires:
        grown = []
        for _ in range(10):
            before = info().uordblks
            for view in views:
                acquire(view)
            grown.append(info().uordblks - before)
            assert manager.stats().views == 1000
            for view in views:
                lib.memmgr_view_release(handle, view, null)
        # The interpreter allocates and frees too, not at all times.
        assert 0 in grown
    assert manager.stats().views == 0


def test_r10_2_reading_leaves_no_object_behind(loaded: memmgr.Dimension) -> None:
    """R10.2: what an array needs in Python goes with it."""
    loaded["table"]
    loaded.view(0, 8)
    gc.collect()
    before = sys.getallocatedblocks()
    for _ in range(1000):
        loaded["table"]
        loaded.view(0, 8)
    # One block of each access would be 2000; without the GIL some are given back late.
    assert sys.getallocatedblocks() - before < 1000


@pytest.mark.parametrize("gate", ["auto", "atomic"])
def test_r4_4_r10_2_reading_makes_no_system_call(files: Files, gate: str) -> None:
    """R4.4, R10.2: no lock that could sleep, no memory from the system; as strace counts."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    code = f"""
import gc, os
import numpy as np
import memmgr
manager = memmgr.Manager(1, capacity="1 MiB", gate={gate!r})
dimension = manager.load(0, {str(files.npy(np.zeros(100)))!r})
def read():
    for _ in range(1000):
        dimension["data"][3]
        dimension.view(0, 8)
read()
gc.disable()
os.access("/begin", os.F_OK)
read()
os.access("/end", os.F_OK)
manager.close()
"""
    trace = files.folder / "trace"
    result = subprocess.run(
        [strace, "-f", "-o", str(trace), sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if "ptrace" in result.stderr:
        pytest.skip("strace may not trace here")
    assert (result.returncode, result.stderr) == (0, "")
    between = re.search(r'[^\n]*"/begin"[^\n]*\n(.*?)[^\n]*"/end"', trace.read_text(), re.DOTALL)
    assert between is not None
    assert between[1] == ""


def test_r10_4_regions_begin_on_cache_lines(manager: memmgr.Manager) -> None:
    """R10.4: on pages, which do."""
    page = memmgr.capabilities().page_size
    assert page % 64 == 0
    assert [d.stats().address % page for d in manager.values()] == [0, 0, 0]


# Who holds a writer out --------------------------------------------------------------------------


def test_writer_waits_for_no_hidden_view(manager: memmgr.Manager, files: Files) -> None:
    """What the package remembers of a dimension holds nothing: no collector needed, no wait."""
    arrays = {"x": np.arange(8.0), "y": np.zeros((2, 3), np.int32)}
    dimension = manager.load("D01", files.safetensors(arrays), mode="c")
    gc.disable()
    try:
        for _ in range(3):
            held = [dimension[name] for name in dimension]
            held += [dimension.view(), dimension.view(0, 8), dimension.view(8, 4, writable=True)]
            assert manager.stats().views == 5
            held.clear()
            assert manager.stats().views == 0
            with dimension.write(timeout=0) as w:
                w["x"] += 1
    finally:
        gc.enable()
    assert dimension["x"][0] == 3


def test_reader_that_never_returns_while_the_manager_closes(files: Files) -> None:
    """Refused, waited for in vain, and in the end left behind with what it reads."""
    manager = memmgr.Manager(2, capacity="1 MiB")
    dimension = manager.load(0, files.npy(np.full(1000, 7)))
    reading, leave = threading.Event(), threading.Event()

    def read() -> int:
        array = dimension["data"]
        reading.set()
        assert leave.wait(PATIENCE)
        return int(array.sum())

    with ThreadPoolExecutor(1) as pool:
        reader = pool.submit(read)
        assert reading.wait(PATIENCE)
        with pytest.raises(memmgr.ViewsHeldError) as refused:
            manager.close()
        with pytest.raises(memmgr.WaitTimeoutError) as late:
            manager.close(on_views="wait", timeout=0.02)
        assert refused.value.views == late.value.views == 1
        assert dimension["data"][0] == 7
        manager.close(on_views="defer")
        with pytest.raises(memmgr.InvalidAccessError):
            dimension["data"]
        leave.set()
        assert reader.result() == 7000


# Timeouts ----------------------------------------------------------------------------------------


def test_timeout_of_zero_looks_once(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.npy(np.zeros(5)), mode="c")
    held = dimension["data"]
    start = time.monotonic()
    with pytest.raises(memmgr.WaitTimeoutError):
        dimension.write(timeout=0).__enter__()
    for leave in (dimension.unload, dimension.deallocate, manager.close):
        with pytest.raises(memmgr.WaitTimeoutError):
            leave(on_views="wait", timeout=0)
    assert time.monotonic() - start < 5
    del held
    with dimension.write(timeout=0):
        pass
    dimension.unload(on_views="wait", timeout=0)


@pytest.mark.parametrize("timeout", [-1, -1e-9, -math.inf, math.nan])
def test_negative_timeout_is_refused(
    loaded: memmgr.Dimension, timeout: float, unchanged: Unchanged
) -> None:
    """Also where nobody would have to wait."""
    manager = loaded._manager
    with unchanged(manager):
        for wait in (
            lambda: loaded.write(timeout),
            lambda: loaded.unload(on_views="wait", timeout=timeout),
            lambda: loaded.deallocate(on_views="wait", timeout=timeout),
            lambda: manager.close(on_views="wait", timeout=timeout),
            lambda: memmgr.Manager(1, capacity=1, read_timeout=timeout),
        ):
            with pytest.raises(memmgr.InvalidArgumentError, match="timeout"):
                wait()
    assert not manager.closed


@pytest.mark.parametrize("forever", [None, math.inf, 1e300])
def test_timeout_without_end(files: Files, forever: float | None) -> None:
    """Writers, readers, unload and close each wait for as long as the other side takes."""
    manager = memmgr.Manager(1, capacity="1 MiB", read_timeout=forever)
    dimension = manager.load(0, files.npy(np.zeros(5)), mode="c")
    box: list[Any] = [dimension["data"]]

    def later() -> None:
        # Longer than the first turn of a wait.
        time.sleep(0.15)
        box.clear()

    def write() -> float:
        with dimension.write(timeout=forever) as w:
            w["data"] = 1
            reader = pool.submit(lambda: float(dimension["data"].sum()))
            time.sleep(0.15)
            w["data"] = 2
        return reader.result()

    with ThreadPoolExecutor(3) as pool:
        for wait in (
            write,
            lambda: dimension.unload(on_views="wait", timeout=forever),
            lambda: manager.close(on_views="wait", timeout=forever),
        ):
            if dimension.state == "empty":
                manager.load(0, files.npy(np.zeros(5)))
            box.append(pool.submit(dimension.__getitem__, "data").result())
            dropped = pool.submit(later)
            assert wait() in (None, 10.0)
            dropped.result()
    assert manager.closed


# Ctrl-C ------------------------------------------------------------------------------------------

needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no such timer")


class _InterruptError(Exception):
    """As a KeyboardInterrupt comes, but not from the keyboard."""


@pytest.fixture
def interrupting() -> Iterator[Callable[[float], None]]:
    """Raises an _InterruptError in this thread after so many seconds."""

    def interrupt(_signal: int, _frame: Any) -> None:
        raise _InterruptError

    before = signal.signal(signal.SIGALRM, interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds) and None
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@needs_timer
def test_interrupted_access_leaves_no_pin(
    manager: memmgr.Manager, files: Files, interrupting: Callable[[float], None]
) -> None:
    """Wherever in reading and writing it comes."""
    dimension = manager.load("D01", files.npy(np.zeros(5)), mode="c")
    random = np.random.default_rng(1)

    def work() -> None:
        while True:
            dimension["data"]
            dimension.view(0, 8)
            with dimension.write(timeout=0) as w:
                w["data"] = 1

    for delay in random.uniform(20e-6, 500e-6, 300):
        with pytest.raises(_InterruptError):
            interrupting(delay)
            work()
        assert manager.stats().views == 0
        assert dimension.state == "loaded"


@needs_timer
def test_waits_can_be_interrupted(
    manager: memmgr.Manager, files: Files, interrupting: Callable[[float], None]
) -> None:
    dimension = manager.load("D01", files.npy(np.zeros(5)), mode="c")
    held = dimension["data"]
    for wait in (
        lambda: dimension.write(timeout=None).__enter__(),
        lambda: dimension.unload(on_views="wait"),
        lambda: manager.close(on_views="wait"),
    ):
        with pytest.raises(_InterruptError):
            interrupting(0.03)
            wait()
        assert dimension.state == "loaded"
    assert held.sum() == 0


# All of it ---------------------------------------------------------------------------------------


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
