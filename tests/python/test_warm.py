"""What is in memory: brought there, kept there, dropped, and counted; and files on huge pages."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import pytest

from .conftest import MIB, Files, Unchanged

PAGE = memmgr.capabilities().page_size
SIZE = 5 * MIB - 100
PAGES = -(-SIZE // PAGE) * PAGE

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="how Linux does it")


@pytest.fixture
def manager() -> Any:
    with memmgr.Manager(["D01", "D02"], capacity=8 * MIB) as manager:
        yield manager


@pytest.fixture
def dimension(manager: memmgr.Manager, files: Files) -> memmgr.Dimension:
    """5 MiB in the system's memory, and none in the process's."""
    return manager.load("D01", files.raw(b"\x07" * SIZE))


@pytest.fixture
def cold(manager: memmgr.Manager, files: Files) -> memmgr.Dimension:
    """5 MiB that nobody has read yet: a hole."""
    path = files.raw(b"", "hole.bin")
    os.truncate(path, SIZE)
    return manager.load("D02", path, format="raw")


def test_r2_5_warming_brings_all_of_it_in(dimension: memmgr.Dimension) -> None:
    """R2.5: what is warm is there at once."""
    assert dimension.residency().resident == 0
    done = dimension.warm()
    assert done
    assert (done.stop, done.limit_kind, done.warm, done.size) == ("complete", None, SIZE, SIZE)
    found = dimension.residency()
    assert (found.resident, found.cached, found.locked) == (PAGES, PAGES, 0)
    assert (found.offset, found.length, found.generation) == (0, SIZE, dimension.generation)
    assert dimension.memory().resident == PAGES
    assert dimension.warm().read == 0


def test_evicted_pages_come_back_and_arrays_do_not_notice(dimension: memmgr.Dimension) -> None:
    array = dimension.view()
    dimension.warm()
    dimension.evict()
    if sys.platform == "linux":
        assert dimension.residency().resident == 0
    assert array.sum() == 7 * SIZE
    assert dimension.residency().resident == PAGES


@pytest.mark.parametrize("mode", ["r", "c", "r+", "ram"])
def test_every_mode_is_warmed_locked_and_evicted(
    manager: memmgr.Manager, files: Files, mode: Any
) -> None:
    dimension = manager.load("D01", files.raw(b"\x07" * MIB), mode=mode)
    if mode != "r":
        with dimension.write() as w:
            w[0] = 1
    for call in (dimension.warm, dimension.lock, dimension.evict, dimension.unlock):
        call()
    dimension.evict()
    view = dimension.view()
    assert (view[0], view[1:].min()) == (7 if mode == "r" else 1, 7)


def test_progress_is_told_from_nothing_to_all(dimension: memmgr.Dimension) -> None:
    told: list[tuple[int, int]] = []
    assert dimension.warm(progress=lambda done, total: told.append((done, total)))
    assert told == [(done, SIZE) for done in (0, 2 * MIB, 4 * MIB, SIZE)]


def test_warming_is_cancelled(dimension: memmgr.Dimension) -> None:
    done = dimension.warm(progress=lambda done, _total: done < 2 * MIB)
    assert not done
    assert (done.stop, done.warm) == ("cancelled", 2 * MIB)


def test_what_progress_raises_ends_the_warming(dimension: memmgr.Dimension) -> None:
    def fail(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dimension.warm(progress=fail)
    assert (dimension.residency().resident or 0) >= 2 * MIB
    assert dimension.warm()


def test_r4_5_progress_may_unload_what_is_being_warmed(dimension: memmgr.Dimension) -> None:
    """R4.5: nobody waits for a warming."""

    def unload(done: int, total: int) -> None:
        if done:
            dimension.unload()

    assert dimension.warm(progress=unload).stop == "unloaded"
    with pytest.raises(memmgr.NotLoadedError):
        dimension.warm()


def test_budget_is_of_bytes_that_are_read(cold: memmgr.Dimension) -> None:
    done = cold.warm(budget="3 MiB")
    assert (done.stop, done.warm, done.read) == ("budget", 2 * MIB, 2 * MIB)
    # Those do not count again.
    assert cold.warm(budget="4 MiB")


def test_rate_and_timeout(cold: memmgr.Dimension) -> None:
    start = time.monotonic()
    done = cold.warm(bytes_per_second="20 MiB", timeout=0.05)
    assert (done.stop, done.warm) == ("timeout", 2 * MIB)
    # Less a tick of Windows' clock.
    assert time.monotonic() - start >= 0.03
    assert cold.warm(timeout=0).stop == "timeout"
    start = time.monotonic()
    assert cold.warm(bytes_per_second=2**62, timeout=None)
    assert time.monotonic() - start < 5


def test_writers_do_not_wait_for_a_slow_warming(manager: memmgr.Manager, files: Files) -> None:
    path = files.raw(b"", "hole.bin")
    os.truncate(path, SIZE)
    dimension = manager.load("D02", path, format="raw", mode="c")
    end = threading.Event()
    results: list[memmgr.Warming] = []

    def warm() -> None:
        results.append(dimension.warm(bytes_per_second=MIB, progress=lambda *_: not end.is_set()))

    thread = threading.Thread(target=warm)
    thread.start()
    try:
        while (dimension.residency().resident or 0) < 2 * MIB:
            time.sleep(0.01)
        with dimension.write(timeout=1) as w:
            w[0] = 9
    finally:
        end.set()
        thread.join()
    assert results[0].stop == "cancelled"
    assert dimension.view()[0] == 9


@pytest.mark.parametrize(
    "options",
    [
        {"budget": 0},
        {"budget": "much"},
        {"bytes_per_second": -1},
        {"timeout": -1},
        {"timeout": float("nan")},
    ],
)
def test_bad_options_are_refused(
    manager: memmgr.Manager,
    dimension: memmgr.Dimension,
    options: dict[str, Any],
    unchanged: Unchanged,
) -> None:
    with unchanged(manager), pytest.raises(memmgr.InvalidArgumentError):
        dimension.warm(**options)


def test_nothing_is_loaded(manager: memmgr.Manager) -> None:
    for call in ("warm", "lock", "unlock", "evict", "residency"):
        with pytest.raises(memmgr.NotLoadedError) as caught:
            getattr(manager["D01"], call)()
        assert caught.value.dimension == "D01"


def test_residency_of_a_layer(manager: memmgr.Manager, files: Files) -> None:
    layers: dict[str, Any] = {
        "a": np.ones(PAGE, np.uint8),
        "b": np.ones(MIB, np.uint8),
        "none": np.ones(0),
    }
    dimension = manager.load("D01", files.safetensors(layers))
    dimension["b"].sum()
    found = dimension.residency("b")
    assert found.length == MIB
    assert MIB <= (found.resident or 0) <= MIB + PAGE
    assert dimension.residency("none").length == 0
    dimension.residency("a")
    with pytest.raises(memmgr.UnknownLayerError):
        dimension.residency("c")


def test_locked_pages_stay_until_unlocked(dimension: memmgr.Dimension, files: Files) -> None:
    dimension.lock()
    dimension.evict()
    found = dimension.residency()
    assert (found.locked, found.resident) == (PAGES, PAGES)
    assert dimension.memory().locked == PAGES
    dimension.unlock()
    assert dimension.residency().locked == 0
    dimension.lock()
    dimension.reload(files.raw(b"x" * PAGE, "other.bin"))
    assert dimension.memory().locked == 0


BEYOND = """
import os, resource, sys
import memmgr
resource.setrlimit(resource.RLIMIT_MEMLOCK, (2**20, 2**20))
manager = memmgr.Manager(1, capacity="8 MiB")
dimension = manager.load("D01", sys.argv[1])
if os.getuid() == 0:
    os.setuid(65534)
try:
    dimension.lock()
except memmgr.AllocationError as error:
    assert error.limit_kind == "locked_memory", error.limit_kind
    assert (error.requested, error.limit) == (int(sys.argv[2]), 2**20)
    assert (error.operation, error.dimension) == ("lock", "D01")
    print(error)
"""


@linux_only
def test_r7_1_lock_beyond_the_limit_says_which(files: Files) -> None:
    """R7.1, R9.2, R9.3."""
    path = files.raw(b"\x07" * SIZE)
    # Who becomes nobody has to be let in.
    for folder in (files.folder, *files.folder.parents[:3]):
        if not folder.stat().st_mode & 1:
            folder.chmod(0o755)
    result = subprocess.run(
        [sys.executable, "-c", BEYOND, str(path), str(PAGES)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "RLIMIT_MEMLOCK" in result.stdout


def test_huge_pages_are_a_hint_and_are_told(manager: memmgr.Manager, tmp_path: Path) -> None:
    path = tmp_path / "saved.npy"
    memmgr.save(path, {"data": np.ones(6 * MIB - 128, np.uint8)})
    dimension = manager.load("D01", path, huge_pages=True, prefetch="populate")
    assert dimension.stats().huge_pages
    found = dimension.residency()
    assert found.resident == 6 * MIB
    assert dimension.memory().huge == found.huge
    if not memmgr.capabilities().huge_pages:
        assert found.huge == 0
    elif found.huge:
        # Where a file system has them at all, what was saved by us has nothing else.
        assert found.huge == 6 * MIB
    assert not manager.load("D02", path).stats().huge_pages


@linux_only
def test_cold_file_comes_in_on_huge_pages(manager: memmgr.Manager, tmp_path: Path) -> None:
    path = tmp_path / "cold.npy"
    np.save(path, np.ones(6 * MIB - 128, np.uint8))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    dimension = manager.load("D01", path, huge_pages=True)
    assert dimension.residency().resident == 0
    assert dimension.warm()
    found = dimension.residency()
    if not found.huge:
        pytest.skip("this file system, or this kernel, has no huge pages")
    assert found.huge == 6 * MIB
    # The next one to load it has them too.
    assert manager.load("D02", path, prefetch="populate").residency().huge == 6 * MIB


def test_pickled_manager_asks_for_huge_pages_again(manager: memmgr.Manager, files: Files) -> None:
    manager.load("D01", files.raw(b"x" * MIB), huge_pages=True)
    copy = pickle.loads(pickle.dumps(manager))
    assert copy["D01"].stats().huge_pages


def _residency_in_child(manager: memmgr.Manager, found: Any) -> None:
    found.put((manager["D01"].residency().locked, bool(manager["D01"].warm())))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_child_has_nothing_locked(manager: memmgr.Manager, dimension: memmgr.Dimension) -> None:
    dimension.lock()
    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    child = context.Process(target=_residency_in_child, args=(manager, found))
    child.start()
    assert found.get() == (0, True)
    child.join()
    assert dimension.residency().locked == PAGES


def test_threads_warm_evict_and_read_at_once(dimension: memmgr.Dimension) -> None:
    """R4.1."""
    end = threading.Event()
    wrong: list[int] = []

    def read() -> None:
        while not end.is_set():
            total = int(dimension.view()[::PAGE].sum())
            if total != 7 * len(range(0, SIZE, PAGE)):
                wrong.append(total)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        dimension.evict()
        dimension.warm()
        dimension.lock()
        dimension.residency()
        dimension.unlock()
    end.set()
    for thread in threads:
        thread.join()
    assert not wrong
