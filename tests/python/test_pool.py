"""R6: working memory from the manager's pools, as arrays and as blocks of bytes."""

from __future__ import annotations

import concurrent.futures
import contextlib
import faulthandler
import gc
import io
import logging
import os
import pickle
import queue
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from memmgr._call import call
from memmgr._native import ffi, lib

from .conftest import MIB, PROC, Unchanged

POOL_LIMIT = 4 * MIB


@pytest.fixture
def pool() -> Iterator[memmgr.Manager]:
    """A manager with 4 MiB of pools, all blocks of which must be freed at the end of the test."""
    with memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT) as manager:
        yield manager
        gc.collect()  # pytest keeps exceptions in cycles with the frames they passed
        assert manager.pool_stats().blocks == 0
        assert manager.pool_stats().bytes == 0


def _bytes(memory: Any) -> npt.NDArray[np.uint8]:
    return np.frombuffer(memory, np.uint8)


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def _alloc(manager: memmgr.Manager, size: int) -> int:
    return int(ffi.cast("uintptr_t", lib.memmgr_block_alloc(manager._handle, size, ffi.NULL)))


def _free(manager: memmgr.Manager, address: int) -> None:
    call(lib.memmgr_block_free, manager._handle, ffi.cast("void *", address))


# Arrays -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", np.int8, "<U5", "datetime64[s]", [("a", "i4")]])
@pytest.mark.parametrize("shape", [(), 0, 5, (3, 4), (2, 0, 3), np.int64(7)])
def test_empty_is_as_numpys(pool: memmgr.Manager, shape: Any, dtype: Any, order: Any) -> None:
    array, expected = pool.empty(shape, dtype, order=order), np.empty(shape, dtype, order)
    assert (array.shape, array.dtype, array.strides) == (
        expected.shape,
        expected.dtype,
        expected.strides,
    )
    assert array.flags.writeable
    assert array.flags.aligned


def test_default_dtype_is_that_of_numpy(pool: memmgr.Manager) -> None:
    assert pool.empty(3).dtype == pool.zeros(3).dtype == np.float64
    assert pool.full(3, 7).dtype == np.full(3, 7).dtype


def test_zeros_and_full(pool: memmgr.Manager) -> None:
    """Also where a block that is used again held something else."""
    for _ in range(3):
        dirty = pool.full((100, 100), 7.5, "float32")
        assert (dirty == 7.5).all()
        del dirty
        zeros = pool.zeros((100, 100), "float32")
        assert not zeros.any()
        del zeros
    assert pool.full((2, 3), [1, 2, 3], order="F").tolist() == [[1, 2, 3], [1, 2, 3]]


def test_elements_that_are_objects(pool: memmgr.Manager) -> None:
    array = pool.empty(100, object)
    assert array.tolist() == [None] * 100
    array[:] = [object() for _ in range(100)]
    del array


@pytest.mark.parametrize("alignment", [1, 16, 64, 4096])
@pytest.mark.parametrize("size", [1, 100, 5000, 200_000])
def test_alignment(pool: memmgr.Manager, alignment: int, size: int) -> None:
    array = pool.zeros(size, "u1", alignment=alignment)
    assert _address(array) % max(alignment, 16) == 0
    with pool.alloc(size, alignment=alignment) as block:
        assert _address(_bytes(block)) % max(alignment, 16) == 0
    array.resize(size * 3)
    assert _address(array) % max(alignment, 16) == 0
    assert not array.any()


@pytest.mark.parametrize("alignment", [0, 3, -16, 2**40, 2**70])
def test_alignment_that_cannot_be(
    pool: memmgr.Manager, unchanged: Unchanged, alignment: int
) -> None:
    with unchanged(pool):
        with pytest.raises(memmgr.InvalidArgumentError, match="alignment"):
            pool.empty(3, alignment=alignment)
        with pytest.raises(memmgr.InvalidArgumentError, match="alignment"):
            pool.alloc(3, alignment=alignment)
        with pytest.raises(memmgr.InvalidArgumentError, match="alignment"):
            pool.numpy_allocator(alignment=alignment)


def test_arguments_that_numpy_refuses(pool: memmgr.Manager) -> None:
    with pytest.raises(ValueError, match="negative"):
        pool.empty(-1)
    with pytest.raises(TypeError):
        pool.empty(3, "no type")
    with pytest.raises(ValueError, match="order"):
        pool.empty(3, order="X")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"too big|maximum"):
        pool.empty((2**40, 2**40))


def test_r6_1_r6_2_pools_are_made_once(pool: memmgr.Manager) -> None:
    """R6.1, R6.2: a slab of a size that no pool has is charged; the next block comes from it."""
    before = pool.stats().allocated
    first = pool.alloc(1000)
    taken = pool.stats().allocated - before
    assert taken == pool.pool_stats().allocated > 0
    second = pool.alloc(1000)
    assert pool.stats().allocated == before + taken
    other = pool.alloc(100)
    assert pool.stats().allocated > before + taken
    del first, second, other


@pytest.mark.skipif(not (PROC / "smaps_rollup").exists(), reason="asks Linux")
def test_zeros_touch_no_page_that_is_zeros(pool: memmgr.Manager) -> None:
    """As numpy.zeros; what was used before is made zeros."""

    def resident() -> int:
        text = Path("/proc/self/smaps_rollup").read_text()
        return int(re.findall(r"^Rss:\s+(\d+) kB", text, re.MULTILINE)[0]) * 1024

    pool.full(100_000, 7, "u1")
    before = resident()
    array = pool.zeros(3 * MIB, "u1")
    assert resident() - before < MIB
    assert not array.any()


def test_resize_in_place(pool: memmgr.Manager) -> None:
    """A large array that is made smaller stays where it is, and its tail is free for others."""
    array = pool.full(3 * MIB, 7, "u1")
    address = _address(array)
    array.resize(MIB, refcheck=False)
    assert _address(array) == address
    assert pool.pool_stats().large_bytes == MIB
    other = pool.zeros(2 * MIB, "u1")
    assert (array == 7).all()
    assert not other.any()


def test_r6_4_memory_returns_with_the_last_view(pool: memmgr.Manager) -> None:
    """R6.4: without the collector."""
    gc.disable()
    try:
        array = pool.zeros(1000)
        assert pool.pool_stats().blocks == 1
        view = array[10:20].reshape(2, 5).T
        del array
        assert pool.pool_stats().blocks == 1
        assert not view.any()
        del view
        assert pool.pool_stats().blocks == 0
    finally:
        gc.enable()


def test_r6_4_a_freed_block_is_used_again(pool: memmgr.Manager) -> None:
    """R6.1, R6.4: a loop of arrays that die needs no more memory than one of them."""
    pool.empty(1000)
    before = pool.pool_stats().allocated
    addresses = {_address(pool.empty(1000)) for _ in range(1000)}
    assert pool.pool_stats().allocated == before
    assert len(addresses) == 1


def test_array_dies_on_another_thread(pool: memmgr.Manager) -> None:
    arrays = [pool.full(100, i) for i in range(1000)]

    def drop() -> None:
        while arrays:
            array = arrays.pop()
            assert (array == array[0]).all()

    thread = threading.Thread(target=drop)
    thread.start()
    thread.join()
    assert pool.pool_stats().blocks == 0


def test_array_outlives_the_manager() -> None:
    manager = memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT)
    arrays = [manager.full(size, 7, "u1") for size in (1, 1000, 100_000)]
    block = manager.alloc(1000)
    bytes_view = memoryview(block)
    bytes_view[:] = b"x" * 1000
    manager.close()
    with pytest.raises(memmgr.InvalidAccessError):
        manager.empty(3)
    with pytest.raises(memmgr.InvalidAccessError):
        manager.alloc(3)
    with pytest.raises(memmgr.InvalidAccessError):
        manager.trim()
    with pytest.raises(memmgr.InvalidAccessError):
        manager.pool_stats()
    del manager
    assert all((array == 7).all() for array in arrays)
    assert (arrays[2] + 1 == 8).all()
    assert bytes_view.tobytes() == b"x" * 1000
    del arrays
    block.free()
    bytes_view.release()


def test_r6_5_limit_of_the_pools(pool: memmgr.Manager, unchanged: Unchanged) -> None:
    """R6.5: what passes it is a MemoryError with the numbers, and what is there stays usable."""
    with unchanged(pool), pytest.raises(memmgr.LimitExceededError) as caught:
        pool.empty(POOL_LIMIT + 1, "u1")
    assert isinstance(caught.value, MemoryError)
    assert (caught.value.operation, caught.value.limit) == ("alloc", POOL_LIMIT)
    assert caught.value.requested >= POOL_LIMIT + 1
    held: list[Any] = []
    with pytest.raises(memmgr.LimitExceededError):
        while True:
            held.append(pool.full(130_000, len(held), "u1"))
            assert pool.pool_stats().allocated <= POOL_LIMIT
    with pytest.raises(memmgr.LimitExceededError):
        while True:
            held.append(pool.alloc(130_000))
    assert len(held) * 130_000 > POOL_LIMIT * 0.8
    assert all((array == i).all() for i, array in enumerate(held) if isinstance(array, np.ndarray))
    assert pool.pool_stats().refusals >= 3
    held.clear()
    pool.empty(POOL_LIMIT // 2, "u1")


def test_r5_2_limit_of_the_budget() -> None:
    """R5.2: pools are inside it, whatever their own limit is."""
    with memmgr.Manager(1, capacity="1 MiB", limit="3 MiB", pool_limit="64 MiB") as manager:
        with pytest.raises(memmgr.LimitExceededError) as caught:
            manager.empty(3 * MIB, "u1")
        assert caught.value.limit == 3 * MIB
        array = manager.zeros(MIB, "u1")
        assert 2 * MIB <= manager.stats().allocated <= 3 * MIB
        del array
        manager.trim()
        assert manager.stats().allocated == MIB


def test_request_beyond_every_limit_is_told_with_its_own_size(pool: memmgr.Manager) -> None:
    """R5.2: the number is the caller's, whatever it would have been rounded to."""
    for size in (POOL_LIMIT + 1, 2**62, 2**63 - 1):
        with pytest.raises(memmgr.LimitExceededError) as caught:
            pool.alloc(size)
        assert caught.value.requested == size
        assert caught.value.limit == POOL_LIMIT
    assert pool.pool_stats().blocks == 0


@pytest.mark.parametrize("limit", [32 * 2**30 + 1, "33 GiB", 2**63])
def test_limit_that_the_pools_cannot_address(limit: int | str) -> None:
    """It is an error when the manager is opened, and not when memory runs out."""
    with pytest.raises(ValueError, match="at most 32 GiB"):
        memmgr.Manager(1, capacity="4 KiB", pool_limit=limit)
    with memmgr.Manager(1, capacity="4 KiB", pool_limit="32 GiB") as manager:
        assert manager.stats().pool_limit == 32 * 2**30
        manager.zeros(1000)


def test_refusal_keeps_nothing_alive(pool: memmgr.Manager) -> None:
    """The exception is in no cycle with the frames it passed, which may hold large arrays."""
    gc.disable()
    try:

        def compute() -> None:
            held = pool.empty(1000)
            pool.empty(10 * POOL_LIMIT)
            del held

        with pytest.raises(memmgr.LimitExceededError):
            compute()
        assert pool.pool_stats().blocks == 0
    finally:
        gc.enable()


def test_trim_gives_everything_back(pool: memmgr.Manager) -> None:
    before = pool.stats().allocated
    arrays = [pool.zeros(size, "u1") for size in (10, 1000, 50_000, MIB)]
    charged = pool.pool_stats().allocated
    assert charged >= MIB
    assert pool.stats().allocated == before + charged
    del arrays
    assert pool.trim() <= charged
    assert pool.pool_stats().allocated == 0
    assert pool.stats().allocated == before
    assert pool.trim() == 0


def test_trim_leaves_live_blocks(pool: memmgr.Manager) -> None:
    array = pool.full(1000, 3)
    pool.trim()
    assert (array == 3).all()
    assert pool.pool_stats().blocks == 1


# Blocks -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 4096, 100_000])
def test_block_has_the_buffer_protocol(pool: memmgr.Manager, length: int) -> None:
    block = pool.alloc(length)
    assert len(block) == length
    view = memoryview(block)
    assert (view.nbytes, view.format, view.itemsize, view.ndim) == (length, "B", 1, 1)
    assert not view.readonly
    assert view.c_contiguous
    assert bool(block)
    content = bytes(i % 251 for i in range(length))
    assert io.BytesIO(content).readinto(view) == length
    assert bytes(block) == content == _bytes(block).tobytes()
    assert bytes(memoryview(block)[1:7:2]) == content[1:7:2]
    view.release()
    block.free()


def test_block_given_to_c(pool: memmgr.Manager) -> None:
    """A flat buffer without a shape, which is what such callers ask for."""
    with pool.alloc(16) as block:
        ffi.memmove(ffi.from_buffer(block), b"0123456789abcdef", 16)
        assert bytes(block) == b"0123456789abcdef"


def test_freed_block(pool: memmgr.Manager) -> None:
    block = pool.alloc(100)
    assert repr(block) == "<memmgr.Block of 100 bytes>"
    for _ in range(3):
        block.free()
        assert pool.pool_stats().blocks == 0
    assert repr(block) == "<memmgr.Block, freed>"
    for use in (memoryview, len, bytes, _bytes, ffi.from_buffer):
        with pytest.raises(memmgr.InvalidAccessError, match="freed"):
            use(block)


def test_block_is_freed_by_its_with_and_by_its_end(pool: memmgr.Manager) -> None:
    with pool.alloc(100) as block:
        assert pool.pool_stats().blocks == 1
    assert pool.pool_stats().blocks == 0
    with pytest.raises(KeyError), pool.alloc(100) as block:
        raise KeyError
    assert pool.pool_stats().blocks == 0
    block = pool.alloc(100)
    del block
    assert pool.pool_stats().blocks == 0


def test_block_stays_while_it_is_exported(pool: memmgr.Manager) -> None:
    """Freed, its bytes are nobody else's until the last array of them is gone."""
    block = pool.alloc(1000)
    array = _bytes(block)
    array[:] = 5
    view = memoryview(block)[10:20]
    block.free()
    others = [pool.alloc(1000) for _ in range(100)]
    for other in others:
        memoryview(other)[:] = b"x" * 1000
    assert (array == 5).all()
    del other, others
    del array
    assert pool.pool_stats().blocks == 1
    assert view.tobytes() == b"\5" * 10
    view.release()
    assert pool.pool_stats().blocks == 0


@pytest.mark.parametrize("length", [-1, 2**63, 2**64, 2**70])
def test_length_that_cannot_be(pool: memmgr.Manager, unchanged: Unchanged, length: int) -> None:
    with unchanged(pool), pytest.raises(memmgr.InvalidArgumentError, match="length"):
        pool.alloc(length)


@pytest.mark.parametrize("length", [POOL_LIMIT + 1, 2**40, 2**63 - 1])
def test_length_beyond_the_limit(pool: memmgr.Manager, unchanged: Unchanged, length: int) -> None:
    with unchanged(pool), pytest.raises(memmgr.LimitExceededError) as caught:
        pool.alloc(length)
    assert caught.value.limit == POOL_LIMIT


def test_block_is_made_by_a_manager_only() -> None:
    for handle in (0, 1, 12345, 2**64 - 1):
        with pytest.raises(memmgr.MemmgrError):
            memmgr.Block(handle, 16, 16)


def test_block_cannot_be_pickled(pool: memmgr.Manager) -> None:
    with pool.alloc(3) as block, pytest.raises(TypeError):
        pickle.dumps(block)


def test_blocks_on_many_threads(pool: memmgr.Manager) -> None:
    """R4.1, R6.5: blocks are handed from thread to thread; nobody sees another's bytes, and only
    the limit refuses."""
    box: queue.SimpleQueue[tuple[memmgr.Block, int]] = queue.SimpleQueue()

    def check_one() -> None:
        block, mark = box.get_nowait()
        assert (_bytes(block) == mark).all()
        block.free()

    def work(seed: int) -> int:
        random = np.random.default_rng(seed)
        refused = 0
        for i in range(300):
            mark = (seed * 31 + i) % 256
            try:
                block = pool.alloc(int(random.integers(1, 30_000)))
            except memmgr.LimitExceededError:
                refused += 1
            else:
                _bytes(block)[:] = mark
                box.put((block, mark))
            if i >= 20:
                with contextlib.suppress(queue.Empty):
                    check_one()
        return refused

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        refused = sum(threads.map(work, range(8)))
    assert refused == pool.pool_stats().refusals
    assert pool.pool_stats().blocks == box.qsize()
    while not box.empty():
        check_one()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_child_of_a_fork_has_usable_pools(pool: memmgr.Manager) -> None:
    """Whatever eight other threads were doing in them."""
    kept = pool.full(1000, 5)
    stop = threading.Event()

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        while not stop.is_set():
            pool.full(int(random.integers(1, 20_000)), seed, "u1")

    def live() -> None:
        assert (kept == 5).all()
        arrays = [pool.full(100 * i, i, "u2") for i in range(50)]
        assert all((array == i).all() for i, array in enumerate(arrays))
        arrays.clear()
        pool.trim()
        with memmgr.Manager(1, capacity="1 MiB") as own:
            assert not own.zeros(100).any()
        pool.close()
        assert (kept == 5).all()

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                faulthandler.dump_traceback_later(20, exit=True)
                live()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(child, 0) == (child, 0)
    stop.set()
    for thread in threads:
        thread.join()
    assert (kept == 5).all()


# Corruption -------------------------------------------------------------------------------------


def test_corruption_is_an_error(pool: memmgr.Manager, unchanged: Unchanged) -> None:
    """R7.1: what is no live block of this manager's is told, and changes nothing."""
    foreign = np.zeros(100)
    with memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT) as other:
        theirs, ours = other.zeros(100), pool.zeros(100)
        free = _alloc(pool, 800)
        _free(pool, free)
        addresses = [free, free + 16, _address(ours) + 16, _address(ours) + 1, 16, 2**63]
        addresses += [_address(foreign), _address(theirs), pool["D01"].stats().address]
        with unchanged(pool), unchanged(other):
            for address in addresses:
                with pytest.raises(memmgr.PoolCorruptionError):
                    _free(pool, address)
        assert not ours.any()
        assert not theirs.any()
        del ours, theirs


def test_double_free_is_an_error(pool: memmgr.Manager) -> None:
    for size in (1, 64, 5000, 200_000):
        address = _alloc(pool, size)
        _free(pool, address)
        with pytest.raises(memmgr.PoolCorruptionError) as caught:
            _free(pool, address)
        assert caught.value.operation == "free"


def test_owner_whose_block_was_freed_behind_it(
    pool: memmgr.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody can catch what a destructor finds: sys.unraisablehook gets it."""
    found: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda told: found.append(told.exc_type))
    array = pool.empty(100)
    _free(pool, _address(array))
    del array
    assert found == [memmgr.PoolCorruptionError]
    block = pool.alloc(100)
    _free(pool, _address(_bytes(block)))
    block.free()
    assert found == [memmgr.PoolCorruptionError] * 2


def test_poison() -> None:
    with memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT, poison=True) as manager:
        for size in (100, 5000, 200_000):
            array = manager.empty(size, "u1")
            assert (array == 0xA5).all()
            del array
            assert not manager.zeros(size, "u1").any()


def test_guard_pages() -> None:
    with memmgr.Manager(1, capacity="1 MiB", pool_limit=POOL_LIMIT, guard_pages=True) as manager:
        arrays = [manager.full(size, 7, "u1") for size in (16, 100, 5000)]
        assert all((array == 7).all() for array in arrays)
        del arrays
        assert manager.pool_stats().blocks == 0


# Statistics and log -----------------------------------------------------------------------------


def test_r6_3_stats_by_class(pool: memmgr.Manager) -> None:
    """R6.2, R6.3: a pool for each size of blocks."""
    held = [pool.alloc(size) for size in (1, 16, 17, 1000, 1000, 60_000, 500_000)]
    stats = pool.pool_stats()
    assert [c.index for c in stats.classes] == list(range(len(stats.classes)))
    sizes = [c.block_size for c in stats.classes]
    assert sizes == sorted(set(sizes))
    assert (stats.blocks, stats.large_blocks) == (7, 1)
    assert sum(c.blocks for c in stats.classes) == 6
    in_classes = sum(c.blocks * c.block_size for c in stats.classes)
    assert stats.bytes == in_classes + stats.large_bytes
    assert stats.bytes >= sum(map(len, held))
    assert stats.peak >= stats.allocated >= stats.bytes
    assert stats.limit == POOL_LIMIT == pool.stats().pool_limit
    thousand = next(c for c in stats.classes if c.block_size >= 1000)
    assert thousand.blocks == 2
    assert thousand.block_size <= 1000 * 1.125
    assert thousand.slabs * thousand.slab_size >= 2000
    assert sum(c.hits + c.misses for c in stats.classes) >= 6
    with pytest.raises(AttributeError):
        stats.blocks = 1  # type: ignore[misc]
    del held


def test_r9_4_blocks_are_logged(pool: memmgr.Manager, caplog: pytest.LogCaptureFixture) -> None:
    """R9.4: whenever the logger wants it, also if that changes while the manager is open."""
    pool.alloc(300_000).free()
    assert not caplog.records
    with caplog.at_level(logging.DEBUG, "memmgr"):
        pool.alloc(300_000).free()
        pool.trim()
    pool.alloc(300_000).free()
    records = [record.memmgr for record in caplog.records]  # type: ignore[attr-defined]
    operations = [record["operation"] for record in records]
    assert operations.count("alloc") == operations.count("free") == 1
    assert "trim" in operations
    alloc = records[operations.index("alloc")]
    assert alloc["bytes"] >= 300_000


def test_r7_4_refusal_is_warned_of(pool: memmgr.Manager, caplog: pytest.LogCaptureFixture) -> None:
    """R7.4."""
    with pytest.raises(memmgr.LimitExceededError):
        pool.empty(POOL_LIMIT + 1, "u1")
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# Against a model --------------------------------------------------------------------------------


class PoolMachine(RuleBasedStateMachine):
    """Arrays and blocks in any order; each must keep its bytes, and the counts must be right."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = memmgr.Manager(1, capacity="1 MiB", pool_limit=2 * MIB)
        # Not in the bundle, of which Hypothesis may keep copies.
        self.memory: dict[int, Any] = {}
        self.last = 0

    held = Bundle("held")
    sizes = st.one_of(st.integers(0, 300), st.integers(300, 70_000), st.integers(70_000, 600_000))
    alignments = st.sampled_from([1, 16, 32, 128, 4096])

    def _hold(self, memory: Any) -> int:
        self.last += 1
        _bytes(memory)[:] = self.last % 256
        self.memory[self.last] = memory
        return self.last

    def _refused(self, size: int, error: memmgr.LimitExceededError) -> int:
        """Only if it really was full, of what cannot be given back."""
        assert error.requested >= size
        assert error.limit == 2 * MIB
        assert error.used + error.requested > error.limit
        assert error.used == self.manager.pool_stats().allocated
        assert self.manager.trim() == 0
        return 0

    @rule(target=held, size=sizes, alignment=alignments)
    def alloc(self, size: int, alignment: int) -> int:
        try:
            return self._hold(self.manager.alloc(size, alignment=alignment))
        except memmgr.LimitExceededError as error:
            return self._refused(size, error)

    @rule(target=held, size=sizes, alignment=alignments)
    def zeros(self, size: int, alignment: int) -> int:
        try:
            array = self.manager.zeros(size, "u1", alignment=alignment)
        except memmgr.LimitExceededError as error:
            return self._refused(size, error)
        assert not array.any()
        return self._hold(array)

    @rule(number=consumes(held), other_thread=st.booleans())
    def drop(self, number: int, other_thread: bool) -> None:
        memory = [self.memory.pop(number, b"")]
        assert (_bytes(memory[0]) == number % 256).all()
        if other_thread:
            thread = threading.Thread(target=memory.clear)
            thread.start()
            thread.join()
        elif isinstance(memory[0], memmgr.Block):
            memory[0].free()

    @rule()
    def trim(self) -> None:
        before = self.manager.pool_stats().allocated
        given_back = self.manager.trim()
        assert self.manager.pool_stats().allocated == before - given_back

    @invariant()
    def counts(self) -> None:
        stats = self.manager.pool_stats()
        assert stats.blocks == len(self.memory)
        asked_for = sum(map(len, self.memory.values()))
        assert asked_for <= stats.bytes <= stats.allocated <= stats.peak <= stats.limit
        assert self.manager.stats().allocated == MIB + stats.allocated

    def teardown(self) -> None:
        self.manager.close()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=30, stateful_step_count=50, deadline=None)
