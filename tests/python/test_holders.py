"""R4 with `track_views`: who holds what, where they got it, and nothing kept of it afterwards."""

from __future__ import annotations

import gc
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import memmgr
import numpy as np
import pytest

from .conftest import CAPACITY, Files

# So long that no test waits for it.
PATIENCE = 30.0


@pytest.fixture
def manager() -> Iterator[memmgr.Manager]:
    """As everywhere, but it keeps track."""
    names = ["D01", "D02", "D03"]
    with memmgr.Manager(
        names, capacity=CAPACITY, track_views=True, read_timeout=PATIENCE
    ) as manager:
        yield manager


@pytest.fixture
def private(manager: memmgr.Manager, files: Files) -> memmgr.Dimension:
    """D02, to be written to."""
    return manager.load("D02", files.npy(np.zeros(5)), mode="c")


def _remembered(manager: memmgr.Manager) -> int:
    assert manager._holders is not None
    return len(manager._holders._pins)


def _told(error: BaseException) -> str:
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def test_holder_says_what_who_since_when_and_where(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    def get_table() -> Any:
        return loaded["table"]

    table = get_table()
    time.sleep(0.02)
    part = loaded.view(8, 16)
    layer, view = sorted(loaded.holders(), key=lambda holder: -holder.length)
    known = loaded.layers["table"]
    assert (layer.dimension, layer.layer) == ("D01", "table")
    assert (layer.offset, layer.length) == (known.offset, known.length)
    assert (view.layer, view.offset, view.length) == (None, 8, 16)
    for holder in (layer, view):
        assert holder.generation == loaded.generation
        assert holder.thread == threading.get_native_id()
    assert layer.age_seconds >= 0.02
    assert 0 <= view.age_seconds <= layer.age_seconds - 0.02
    assert "in get_table" in layer.stack[-1]
    assert 'loaded["table"]' in layer.stack[-1]
    assert "part = loaded.view(8, 16)" in view.stack[-1]
    assert not any("memmgr/_" in line for line in layer.stack)
    assert str(layer).startswith("'table' of D01, for 0.")
    assert str(view).startswith("16 bytes at 8 of D01, for ")
    del table, part


def test_nothing_is_kept_of_a_released_view(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    """Reference counting alone; on whatever thread."""
    gc.disable()
    try:
        held = [loaded["table"][3:] for _ in range(10)]
        assert len(loaded.holders()) == _remembered(manager) == 10
        del held[5:]
        assert len(loaded.holders()) == _remembered(manager) == 5
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert loaded.holders() == []
        assert _remembered(manager) == 0
    finally:
        gc.enable()


def test_failed_access_is_not_remembered(manager: memmgr.Manager, loaded: memmgr.Dimension) -> None:
    with pytest.raises(memmgr.UnknownLayerError):
        loaded["none"]
    with pytest.raises(memmgr.OutOfBoundsError):
        loaded.view(0, CAPACITY)
    assert loaded.holders() == []
    assert _remembered(manager) == 0


def test_ticket_that_was_handed_on_is_not_mistaken(loaded: memmgr.Dimension) -> None:
    """The library gives a released view's ticket to the next one."""

    def first() -> Any:
        return loaded["ids"]

    def second() -> Any:
        return loaded["table"]

    for get, layer in [(first, "ids"), (second, "table")] * 3:
        held = get()
        (holder,) = loaded.holders()
        assert holder.layer == layer
        assert f"in {get.__name__}" in holder.stack[-1]
        del held


def test_without_being_asked_nobody_is_remembered(files: Files) -> None:
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        dimension = manager.load(0, files.npy(np.zeros(5)))
        held = dimension["data"]
        assert dimension.holders() == manager.holders() == []
        with pytest.raises(memmgr.ViewsHeldError) as caught:
            dimension.unload()
        assert caught.value.holders == ()
        assert _told(caught.value) == str(caught.value)
        del held


def test_holders_of_every_dimension_and_of_replaced_versions(
    manager: memmgr.Manager, loaded: memmgr.Dimension, private: memmgr.Dimension, files: Files
) -> None:
    old = loaded["table"]
    before = loaded.generation
    loaded.reload(files.npy(np.ones(3), "new.npy"))
    held = [old, loaded["data"], private["data"]]
    assert [h.layer for h in loaded.holders()] == ["table", "data"]
    assert [h.generation for h in loaded.holders()] == [before, loaded.generation]
    assert [h.dimension for h in private.holders()] == ["D02"]
    assert sorted(h.dimension for h in manager.holders()) == ["D01", "D01", "D02"]
    held.clear()


def test_closed_manager_has_no_holders(manager: memmgr.Manager, loaded: memmgr.Dimension) -> None:
    manager.close()
    for ask in (manager.holders, loaded.holders):
        with pytest.raises(memmgr.InvalidAccessError):
            ask()


# In errors --------------------------------------------------------------------------------------


def test_error_tells_who_is_in_the_way(
    manager: memmgr.Manager, loaded: memmgr.Dimension, private: memmgr.Dimension
) -> None:
    held = [loaded["table"], loaded["ids"], private["data"]]
    cases: list[tuple[Callable[[], None], int]] = [
        (loaded.unload, 2),
        (lambda: loaded.deallocate(on_views="wait", timeout=0.01), 2),
        (manager.close, 3),
        (lambda: manager.close(on_views="wait", timeout=0.01), 3),
    ]
    for refused, count in cases:
        with pytest.raises((memmgr.ViewsHeldError, memmgr.WaitTimeoutError)) as caught:
            refused()
        error: Any = caught.value
        assert len(error.holders) == count
        ages = [holder.age_seconds for holder in error.holders]
        assert ages == sorted(ages, reverse=True)
        told = _told(error)
        assert str(error.holders[0]) in told
        assert "held: 'table' of D01" in told
        assert f"thread {threading.get_native_id()}" in told
        assert "held = [loaded" in told
        assert ("__notes__" in vars(error)) == (sys.version_info >= (3, 11))
    held.clear()


def test_error_tells_the_first_few_and_how_many_more(loaded: memmgr.Dimension) -> None:
    held = [loaded["ids"] for _ in range(100)]
    with pytest.raises(memmgr.ViewsHeldError) as caught:
        loaded.unload()
    assert len(caught.value.holders) == 100
    assert _told(caught.value).count("\nheld: ") == 3
    assert "and 97 more" in _told(caught.value)
    held.clear()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_holders_survive_pickling(loaded: memmgr.Dimension, protocol: int) -> None:
    held = loaded["table"]
    with pytest.raises(memmgr.ViewsHeldError) as caught:
        loaded.unload()
    twin = pickle.loads(pickle.dumps(caught.value, protocol))
    assert twin.holders == caught.value.holders != ()
    assert _told(twin) == _told(caught.value)
    assert hash(twin.holders[0]) == hash(caught.value.holders[0])
    del held


def test_writer_is_told_who_keeps_it_out(private: memmgr.Dimension) -> None:
    with ThreadPoolExecutor(1) as pool:
        held = [pool.submit(lambda: private["data"]).result()]
        with pytest.raises(memmgr.WaitTimeoutError) as caught:
            private.write(timeout=0.01).__enter__()
        (holder,) = caught.value.holders
        assert holder.thread == pool.submit(threading.get_native_id).result()
        held.clear()
        # Which may take until the thread that got it runs again, where there is no GIL.
        with private.write() as w:
            w["data"] = 1


# A thread that would wait for itself -------------------------------------------------------------


def test_writing_while_holding_an_array_is_refused_at_once(private: memmgr.Dimension) -> None:
    held = private["data"]
    start = time.monotonic()
    with pytest.raises(memmgr.ViewsHeldError, match="itself") as caught:
        private.write(timeout=PATIENCE).__enter__()
    assert time.monotonic() - start < PATIENCE / 3
    assert [holder.layer for holder in caught.value.holders] == ["data"]
    del held
    with private.write(timeout=0) as w:
        w["data"] = 1


def test_reading_while_a_writer_waits_for_the_reader_is_refused_at_once(
    private: memmgr.Dimension,
) -> None:
    held = [private["data"]]
    entered = threading.Event()

    def write() -> None:
        with private.write(timeout=PATIENCE) as w:
            entered.set()
            w["data"] = 7

    writer = threading.Thread(target=write)
    writer.start()
    start = time.monotonic()
    # Until the writer is at the gate, and when it comes back to it, reading succeeds.
    with pytest.raises(memmgr.ViewsHeldError, match="itself") as caught:
        while time.monotonic() - start < PATIENCE:
            held.append(private["data"])
            held.pop()
    assert time.monotonic() - start < PATIENCE / 3
    assert not entered.is_set()
    assert caught.value.dimension == "D02"
    held.clear()
    writer.join()
    assert private["data"].tolist() == [7] * 5


def test_many_threads_are_kept_track_of(manager: memmgr.Manager, loaded: memmgr.Dimension) -> None:
    """Tickets go from thread to thread; each holder's stack is that of its own layer."""
    names = {"table": "in read_table", "ids": "in read_ids"}

    def read_table() -> Any:
        return loaded["table"]

    def read_ids() -> Any:
        return loaded["ids"]

    def work(read: Any) -> None:
        for _ in range(60):
            array = read()
            for holder in loaded.holders():
                if holder.stack:
                    assert holder.layer is not None
                    assert names[holder.layer] in holder.stack[-1]
            del array

    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(work, read) for read in [read_table, read_ids] * 4]:
            future.result()
    assert loaded.holders() == []
    assert _remembered(manager) == 0
