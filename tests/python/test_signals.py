"""Signals: every call that waits or takes long hears them, ends, and leaves everything whole."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import memmgr
import numpy as np
import pytest

if sys.platform == "win32":
    pytest.skip("there is no signal to send to a thread", allow_module_level=True)

MIB = 2**20


class HeardError(Exception):
    """What the handler raises."""


class Handler:
    """Of SIGALRM: raises while it is armed, and counts."""

    def __init__(self) -> None:
        self.armed = False
        self.count = 0

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        if self.armed:
            self.count += 1
            raise HeardError


@pytest.fixture
def handler() -> Iterator[Handler]:
    """Installed for the test's time."""
    handler = Handler()
    before = signal.signal(signal.SIGALRM, handler)
    yield handler
    handler.armed = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "table.npy"
    np.save(path, np.ones((1000, 16), np.float32))
    return path


@contextlib.contextmanager
def writer_elsewhere(dimension: memmgr.Dimension) -> Iterator[None]:
    """Exclusive access of another thread, which keeps it to the block's end."""
    began, end = threading.Event(), threading.Event()

    def hold() -> None:
        with dimension.write():
            began.set()
            end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    began.wait()
    try:
        yield
    finally:
        end.set()
        thread.join()


def hears(handler: Handler, call: Callable[[], object]) -> None:
    """The call waits for ever, and a signal ends it."""
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    handler.armed = True
    try:
        with pytest.raises(HeardError):
            call()
    finally:
        handler.armed = False


READERS: dict[str, Callable[[memmgr.Dimension, Path], object]] = {
    "layer": lambda dimension, _: dimension["data"],
    "view": lambda dimension, _: dimension.view(),
    "topk": lambda dimension, _: dimension.topk(np.ones(16), 1),
    "save_as": lambda dimension, other: dimension.save_as(other.with_name("copy.npy")),
    "verify": lambda dimension, _: dimension.verify(checksums=True),
    "reload": lambda dimension, other: dimension.reload(other),
    "write": lambda dimension, _: dimension.write(timeout=None).__enter__(),
    "unload": lambda dimension, _: dimension.unload("wait"),
    "deallocate": lambda dimension, _: dimension.deallocate("wait"),
    "close": lambda dimension, _: dimension._manager.close("wait"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_wait_for_a_writer_hears_signals(
    name: str, handler: Handler, table: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((1000, 16), np.float32))
    with memmgr.Manager(1, capacity="1 MiB", read_timeout=None) as manager:
        dimension = manager.load(0, table, mode="c")
        with writer_elsewhere(dimension):
            hears(handler, lambda: READERS[name](dimension, other))
            assert dimension.state == "writing"
            # Layers are the same meanwhile: describing them does not wait.
            assert list(dimension.layers) == ["data"]
        assert dimension.stats().views == 0
        assert dimension["data"][0, 0] == 1
    assert sorted(os.listdir(tmp_path)) == ["other.npy", "table.npy"]


@pytest.mark.parametrize("name", ["write", "unload", "deallocate", "close"])
def test_a_wait_for_views_hears_signals(name: str, handler: Handler, table: Path) -> None:
    with memmgr.Manager(1, capacity="1 MiB", read_timeout=None) as manager:
        dimension = manager.load(0, table, mode="c")
        array = dimension["data"]
        hears(handler, lambda: READERS[name](dimension, table))
        assert dimension.stats().views == 1
        assert dimension["data"][0, 0] == array[0, 0]
        del array
        with dimension.write(timeout=0) as writer:
            writer["data"][0, 0] = 2


def test_a_thread_that_reads_what_it_writes_itself_hears_signals(
    handler: Handler, table: Path
) -> None:
    with memmgr.Manager(1, capacity="1 MiB", read_timeout=None) as manager:
        dimension = manager.load(0, table, mode="c")
        with dimension.write():
            hears(handler, lambda: dimension["data"])
        assert dimension["data"][0, 0] == 1


def test_a_handler_may_close_the_manager_whose_call_it_interrupts(table: Path) -> None:
    manager = memmgr.Manager(1, capacity="1 MiB", read_timeout=None)
    dimension = manager.load(0, table, mode="c")
    array = dimension["data"]
    refused: list[Exception] = []

    def close(_signal: int, _frame: FrameType | None) -> None:
        try:
            dimension.unload("wait")
        except memmgr.ViewsHeldError as error:
            refused.append(error)
        manager.close("defer")

    before = signal.signal(signal.SIGALRM, close)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        with pytest.raises(memmgr.InvalidAccessError):
            dimension.write(timeout=None).__enter__()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "this thread is inside a call that waits" in str(refused[0])
    assert manager.closed
    assert array[0, 0] == 1


def test_a_write_waits_no_longer_than_it_was_told_for_layers_that_nobody_read(
    table: Path,
) -> None:
    with memmgr.Manager(1, capacity="1 MiB", read_timeout=None) as manager:
        dimension = manager.load(0, table, mode="c")
        with writer_elsewhere(dimension):
            # As of a process that knows nothing of the dimension yet.
            dimension._cache.table = None
            with pytest.raises(memmgr.WaitTimeoutError):
                dimension.write(timeout=0.01).__enter__()


def files_open() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def operations(manager: memmgr.Manager, folder: Path, rng: random.Random) -> Callable[[], None]:
    """One of all operations, with or without somebody in its way."""
    name: Literal["r", "c", "ram"] = rng.choice(("r", "c", "ram"))
    dimension = manager[rng.randrange(2)]
    paths = [folder / "a.npy", folder / "b.npy"]

    def write() -> None:
        with dimension.write(timeout=0.01) as writer:
            writer["data"][0] += 1

    def held_unload() -> None:
        array = dimension["data"]
        with contextlib.suppress(memmgr.MemmgrError):
            dimension.unload("wait", timeout=0.02)
        del array

    choices: list[Callable[[], Any]] = [
        lambda: manager.load(dimension.name, rng.choice(paths), mode=name),
        lambda: manager.load(dimension.name, paths[0], mode=name, prefetch="populate"),
        lambda: dimension.reload(rng.choice(paths), mode=name),
        lambda: dimension.unload(rng.choice(["refuse", "defer"])),
        lambda: dimension.deallocate("refuse"),
        held_unload,
        write,
        dimension["data"].sum,
        lambda: dimension.view(0, 8),
        lambda: dimension.layers,
        lambda: dimension.topk(np.ones(16), 3),
        lambda: dimension.verify(checksums=True),
        lambda: dimension.save_as(folder / "copy.npy"),
        lambda: memmgr.save(folder / "new.npy", {"data": np.ones(4)}),
        dimension.warm,
        dimension.flush,
        dimension.evict,
        lambda: manager.alloc(5000),
        lambda: manager.zeros((100, 10)),
        manager.trim,
    ]
    return rng.choice(choices)


def storm(handler: Handler, folder: Path, signals: int) -> None:
    """So many signals into random operations, at random moments."""
    for name, value in (("a.npy", 1), ("b.npy", 2)):
        np.save(folder / name, np.full((5000, 16), value, np.float32))
    rng = random.Random(signals)
    with memmgr.Manager(2, capacity="1 MiB", read_timeout=0.02) as manager:
        base, descriptors = manager.stats().allocated, files_open()
        while handler.count < signals:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 2e-3))
            with contextlib.suppress(HeardError, memmgr.MemmgrError):
                handler.armed = True
                end = time.monotonic() + 0.003
                while time.monotonic() < end:
                    with contextlib.suppress(memmgr.MemmgrError):
                        operations(manager, folder, rng)()
            handler.armed = False
        gc.collect()
        for dimension in manager.values():
            assert dimension.stats().views == 0
            with contextlib.suppress(memmgr.NotLoadedError):
                dimension.unload("refuse")
            manager.load(dimension.name, folder / "a.npy", mode="c")
            with dimension.write(timeout=0) as writer:
                writer["data"][...] = 3
            assert (dimension["data"] == 3).all()
            dimension.unload("refuse")
        manager.trim()
        assert manager.stats().allocated == base
        assert files_open() == descriptors
        assert not [name for name in os.listdir(folder) if name.startswith(".memmgr-")]


def test_a_storm_of_signals_leaves_everything_whole(handler: Handler, tmp_path: Path) -> None:
    storm(handler, tmp_path, 100)


@pytest.mark.slow
def test_a_long_storm_of_signals_leaves_everything_whole(handler: Handler, tmp_path: Path) -> None:
    storm(handler, tmp_path, 3000)
