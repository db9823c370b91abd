"""R6: every array that NumPy makes in a context from the pools (NEP 49), and what outlives it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import copy
import gc
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from .conftest import MIB

try:
    from numpy._core.multiarray import get_handler_name
except ImportError:  # NumPy 1
    from numpy.core.multiarray import get_handler_name  # type: ignore[no-redef]

POOL_LIMIT = 4 * MIB
DEFAULT = get_handler_name(np.empty(1))


@pytest.fixture
def pool() -> Iterator[memmgr.Manager]:
    """A manager with 4 MiB of pools, all blocks of which must be freed at the end of the test."""
    with memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT) as manager:
        yield manager
        gc.collect()  # pytest keeps exceptions in cycles with the frames they passed
        assert manager.pool_stats().blocks == 0
    assert _handler() == DEFAULT


def _handler() -> Any:
    """The handler of an array that is made now."""
    return get_handler_name(np.empty(1))


def test_arrays_come_from_the_pool(pool: memmgr.Manager) -> None:
    """R6.1: however they are made; and only within the block."""

    def make() -> dict[str, npt.NDArray[Any]]:
        return {
            "arange": np.arange(1000),
            "zeros": np.zeros(1000),
            "sum": np.ones(1000) + 1,
            "copy": np.ones(1000)[::2].copy(),
            "list": np.array([[1.0, 2.0], [3.0, 4.0]]),
            "sort": np.sort(np.arange(1000)[::-1]),
            "concatenate": np.concatenate([np.ones(10), np.zeros(10)]),
            "unique": np.unique(np.arange(1000) % 7),
            "fromiter": np.fromiter(range(1000), dtype=int),
            "object": np.array([object(), None, "x"], dtype=object),
        }

    make()  # what NumPy makes once and keeps is made outside
    with pool.numpy_allocator():
        made = make()
        handlers = {name: get_handler_name(array) for name, array in made.items()}
        assert handlers == dict.fromkeys(made, "memmgr")
        assert pool.pool_stats().blocks >= len(made)
    assert _handler() == DEFAULT
    assert get_handler_name(made["sum"] + 1) == DEFAULT
    assert made["sort"].tolist() == made["fromiter"].tolist() == list(range(1000))
    assert not made["zeros"].any()


def test_arrays_made_before_and_after_meet(pool: memmgr.Manager) -> None:
    """Each gives its memory back to where it is from, wherever it dies or is resized."""
    before = np.arange(1000)
    with pool.numpy_allocator():
        inside = np.arange(1000)
        before.resize(5000)
        assert get_handler_name(before) == DEFAULT
        before = inside + before[:1000]
    inside.resize(50_000)
    assert get_handler_name(inside) == "memmgr"
    assert inside[:1000].tolist() == list(range(1000))
    assert not inside[1000:].any()
    inside.resize(10)
    assert inside.tolist() == list(range(10))


def test_resize_keeps_alignment(pool: memmgr.Manager) -> None:
    with pool.numpy_allocator(alignment=4096):
        array = np.arange(100)
        assert array.ctypes.data % 4096 == 0
        for size in (10_000, 50, 100_000):
            array.resize(size)
            assert array.ctypes.data % 4096 == 0
            assert array[:50].tolist() == list(range(50))
    before = pool.pool_stats().blocks
    with pytest.raises(MemoryError):
        array.resize(POOL_LIMIT)
    assert pool.pool_stats().blocks == before
    assert array[:50].tolist() == list(range(50))


def test_blocks_nest(pool: memmgr.Manager) -> None:
    with memmgr.Manager(1, capacity="1 MiB") as other:
        with pool.numpy_allocator():
            with other.numpy_allocator():
                theirs = np.empty(10)
                assert other.pool_stats().blocks == 1
                with pool.numpy_allocator():
                    ours = np.empty(10)
                    assert pool.pool_stats().blocks == 1
                    del ours
                another = np.empty(10)
                assert other.pool_stats().blocks == 2
            assert _handler() == "memmgr"
            assert other.pool_stats().blocks == 2
        assert other.pool_stats().blocks == 2
        del theirs, another


def test_one_object_nests_in_itself(pool: memmgr.Manager) -> None:
    pooled = pool.numpy_allocator()
    with pooled:
        with pooled:
            with pooled:
                assert _handler() == "memmgr"
            assert _handler() == "memmgr"
        assert _handler() == "memmgr"
    assert _handler() == DEFAULT
    with pooled, pool.numpy_allocator(), pooled:
        assert _handler() == "memmgr"
    assert _handler() == DEFAULT


def test_blocks_that_end_in_another_order_leave_nothing_on(pool: memmgr.Manager) -> None:
    first, second = pool.numpy_allocator(), pool.numpy_allocator()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert _handler() == "memmgr"
    second.__exit__(None, None, None)
    assert _handler() == DEFAULT
    # Nor does one that was not entered here.
    second.__exit__(None, None, None)
    assert _handler() == DEFAULT


def test_one_object_in_several_threads(pool: memmgr.Manager) -> None:
    pooled, barrier = pool.numpy_allocator(), threading.Barrier(4)

    def work(_: int) -> tuple[Any, Any]:
        before = _handler()
        with pooled:
            barrier.wait(timeout=60)
            with pooled:
                inside = _handler()
            barrier.wait(timeout=60)
            inside = inside if _handler() == "memmgr" else None
        assert _handler() == before
        return before, inside

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        assert list(threads.map(work, range(4))) == [(DEFAULT, "memmgr")] * 4


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="the system has no interval timers")
def test_signals_leave_nothing_on(pool: memmgr.Manager) -> None:
    """Whatever a handler's exception gets between: the handler of NumPy is what it was."""

    class Signal(Exception):  # noqa: N818
        pass

    def interrupt(_number: int, _frame: object) -> None:
        raise Signal

    previous = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        while interrupted < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0001 + interrupted % 7 * 0.00003)
                while True:
                    with pool.numpy_allocator() as nothing, pool.numpy_allocator():
                        del nothing
            except Signal:
                interrupted += 1
                assert _handler() == DEFAULT
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def test_exceptions_restore_what_was_before(pool: memmgr.Manager) -> None:
    with pytest.raises(KeyError), pool.numpy_allocator():
        raise KeyError
    assert _handler() == DEFAULT
    with pytest.raises(ValueError, match="negative"):
        pool.empty(-1)
    assert _handler() == DEFAULT
    with pool.numpy_allocator():
        with pytest.raises(memmgr.LimitExceededError):
            pool.empty(10 * POOL_LIMIT)
        assert _handler() == "memmgr"


def test_r6_5_runaway_computation_is_a_memory_error(pool: memmgr.Manager) -> None:
    """R6.5, R5.2: as NumPy's exception inside, and as the limit's with its numbers outside."""
    kept: list[npt.NDArray[Any]] = []
    with (
        pytest.raises(memmgr.LimitExceededError) as caught,
        pool.numpy_allocator(),
    ):
        while True:
            kept.append(np.full(1000 * (len(kept) + 1), len(kept), "i4"))
    assert isinstance(caught.value, MemoryError)
    assert isinstance(caught.value.__cause__, MemoryError)
    assert "array" in str(caught.value.__cause__)
    assert caught.value.limit == POOL_LIMIT
    assert pool.pool_stats().allocated <= POOL_LIMIT
    assert all((array == i).all() for i, array in enumerate(kept))
    kept.clear()
    with pool.numpy_allocator():
        try:
            np.empty(10 * POOL_LIMIT)
        except MemoryError as error:
            assert not isinstance(error, memmgr.MemmgrError)  # noqa: PT017
        assert np.ones(10).sum() == 10


def test_other_memory_errors_stay_what_they_are(pool: memmgr.Manager) -> None:
    with pytest.raises(MemoryError) as caught, pool.numpy_allocator():
        raise MemoryError("mine")
    assert str(caught.value) == "mine"
    with (
        pytest.raises(memmgr.UnknownDimensionError),
        pool.numpy_allocator(),
    ):
        with pytest.raises(MemoryError):
            np.empty(10 * POOL_LIMIT)
        pool["no such"]
    # Nor is the refusal above blamed for a later one.
    with pytest.raises(MemoryError) as caught, pool.numpy_allocator():
        raise MemoryError("mine")
    assert str(caught.value) == "mine"


def test_handled_refusal_is_not_raised_for_another_error(pool: memmgr.Manager) -> None:
    """Not for Python's own, and not for one of NumPy's that was raised after a request that was
    granted."""
    with pytest.raises(MemoryError) as caught, pool.numpy_allocator():
        with pytest.raises(MemoryError):
            np.empty(10 * POOL_LIMIT)
        raise MemoryError("mine")
    assert (type(caught.value), str(caught.value)) == (MemoryError, "mine")
    refused: list[BaseException] = []
    with pytest.raises(MemoryError) as caught, pool.numpy_allocator():
        try:
            np.empty(10 * POOL_LIMIT)
        except MemoryError as error:
            refused.append(error)
        np.ones(10)
        raise refused.pop()
    assert not isinstance(caught.value, memmgr.MemmgrError)


def test_refusal_keeps_nothing_alive(pool: memmgr.Manager) -> None:
    """Without the collector: the exception is in no cycle with frames that hold arrays."""

    def compute() -> None:
        with pool.numpy_allocator():
            held = np.zeros(1000)
            held = np.concatenate([held] * 10_000)

    gc.disable()
    try:
        with pytest.raises(memmgr.LimitExceededError):
            compute()
        assert pool.pool_stats().blocks == 0
    finally:
        gc.enable()


def test_arrays_outlive_block_manager_and_close() -> None:
    manager = memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT)
    with manager.numpy_allocator():
        array, large, matrix = np.arange(100), np.arange(100_000), np.eye(5)
        view = large[50_000:].reshape(2, -1)
        manager.close()
        # Nothing new comes from a closed manager.
        with pytest.raises(MemoryError):
            np.empty(3)
    with pytest.raises(memmgr.InvalidAccessError):
        manager.numpy_allocator()
    del manager, large
    gc.collect()
    assert array.tolist() == list(range(100))
    assert view[0, 0] == 50_000
    assert np.linalg.det(matrix) == 1
    with pytest.raises(MemoryError):
        array.resize(100_000)
    assert array.tolist() == list(range(100))
    thread = threading.Thread(target=lambda held: held.clear(), args=([array, view],))
    del array, view
    thread.start()
    thread.join()
    del matrix


def test_manager_closed_within_is_told_at_the_end() -> None:
    manager = memmgr.Manager(1, capacity="1 MiB")
    with pytest.raises(memmgr.InvalidAccessError), manager.numpy_allocator():
        manager.close()
        np.empty(3)
    assert _handler() == DEFAULT


def test_threads_enter_it_themselves(pool: memmgr.Manager) -> None:
    def make(_: int) -> Any:
        outside = _handler()
        with pool.numpy_allocator():
            return outside, np.full(100, 7)

    with pool.numpy_allocator(), concurrent.futures.ThreadPoolExecutor(4) as threads:
        inherits = bool(getattr(sys.flags, "thread_inherit_context", False))
        for outside, array in threads.map(make, range(100)):
            assert outside == ("memmgr" if inherits else DEFAULT)
            assert get_handler_name(array) == "memmgr"
            assert (array == 7).all()


def test_contexts(pool: memmgr.Manager) -> None:
    """A copied context has it; asyncio's tasks do, and what they enter is their own."""
    with pool.numpy_allocator():
        context = contextvars.copy_context()
    assert context.run(_handler) == "memmgr"
    assert _handler() == DEFAULT

    async def enter(entered: asyncio.Event, leave: asyncio.Event) -> Any:
        with pool.numpy_allocator():
            entered.set()
            await leave.wait()
            return _handler()

    async def main() -> list[Any]:
        entered, leave = asyncio.Event(), asyncio.Event()
        task = asyncio.create_task(enter(entered, leave))
        await entered.wait()
        beside = _handler()
        leave.set()
        inside = await task
        with pool.numpy_allocator():
            in_thread = await asyncio.to_thread(_handler)
        return [beside, inside, in_thread]

    assert asyncio.run(main()) == [DEFAULT, "memmgr", "memmgr"]


def test_arrays_are_shared_between_threads(pool: memmgr.Manager) -> None:
    """Made by one thread, resized and dropped by others."""

    def work(seed: int) -> float:
        random = np.random.default_rng(seed)
        total = 0.0
        with pool.numpy_allocator():
            for _ in range(200):
                values = random.integers(0, 100, int(random.integers(1, 2000)))
                total += float(np.sort(values)[-1] + (values * 2).mean() * 0)
                box.append(values)
                other = box.pop(0)
                assert (other < 100).all()
        return total

    box: list[Any] = []
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        totals = list(threads.map(work, range(8)))
    assert len(set(totals)) > 1
    box.clear()


def test_copies_and_pickles_are_arrays_as_any(pool: memmgr.Manager) -> None:
    with pool.numpy_allocator():
        array = np.arange(10)
    for other in (copy.copy(array), copy.deepcopy(array), pickle.loads(pickle.dumps(array))):
        assert get_handler_name(other) == DEFAULT
        assert other.tolist() == list(range(10))


def test_interpreter_ends_with_arrays_alive() -> None:
    program = """
import memmgr, numpy as np
manager = memmgr.Manager(1, capacity="1 MiB")
allocator = manager.numpy_allocator()
allocator.__enter__()
arrays = [np.arange(n) for n in (1, 1000, 100_000)]
block = manager.alloc(1000)
view = memoryview(block)
manager.close()
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


_ELEMENTS = st.sampled_from(["f4", "f8", "i1", "i8", "c16", "?", "<U3", "M8[s]"])


@settings(max_examples=100, deadline=None)
@given(
    array=arrays.arrays(_ELEMENTS, arrays.array_shapes(max_side=30)),
    alignment=st.sampled_from([16, 64, 4096]),
    size=st.integers(0, 5000),
)
def test_results_are_those_without_it(array: Any, alignment: int, size: int) -> None:
    """The same operations, inside and outside, give the same bytes."""

    def work() -> list[bytes]:
        flat = array.ravel()
        results = [
            np.sort(flat),
            np.concatenate([array, array]),
            array.T.copy(),
            np.repeat(flat, 2),
            np.zeros_like(array),
            np.flip(array).astype(array.dtype),
            np.resize(array, size),
        ]
        grown = flat.copy()
        grown.resize(size)
        return [result.tobytes() for result in (*results, grown)]

    expected = work()
    with memmgr.Manager(1, capacity="4 KiB", pool_limit="16 MiB") as manager:
        with manager.numpy_allocator(alignment=alignment):
            assert work() == expected
        assert manager.pool_stats().blocks == 0
        assert manager.pool_stats().peak > 0
