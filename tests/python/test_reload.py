"""Reload, unload, deallocate, evict: what happens to arrays, and to the budget."""

from __future__ import annotations

import gc
import threading
from typing import Any

import memmgr
import numpy as np
import pytest

from .conftest import CAPACITY, Files, Unchanged, needs_process_map, process_map


def test_old_arrays_keep_the_old_version(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files
) -> None:
    first = loaded.generation
    old = loaded["table"]
    loaded.reload(files.safetensors({"table": np.full((2, 2), 9.0)}, "new.safetensors"))
    assert loaded.generation == first + 1
    assert old[0, 7] == 7
    assert loaded["table"].tolist() == [[9, 9], [9, 9]]
    assert list(loaded) == ["table"]
    stats = loaded.stats()
    assert (stats.views, stats.retiring_views) == (0, 1)
    del old
    assert loaded.stats().retiring_views == 0


@needs_process_map
def test_old_version_is_gone_with_its_last_array(
    loaded: memmgr.Dimension, files: Files, manager: memmgr.Manager
) -> None:
    first = loaded.path
    old = loaded["table"]
    loaded.reload(files.raw(b"new", "new.bin"))
    assert any(entry[3] == first for entry in process_map())
    del old
    assert not any(entry[3] == first for entry in process_map())
    assert manager.stats().allocated == 3 * CAPACITY


def test_cached_layers_do_not_go_stale(loaded: memmgr.Dimension, files: Files) -> None:
    """A name that means something else in each version."""
    for count in range(1, 20):
        array = np.arange(count, dtype=np.float32 if count % 2 else np.int16)
        loaded.reload(files.safetensors({"table": array}, f"v{count % 3}.safetensors"))
        assert loaded["table"].dtype == array.dtype
        assert np.array_equal(loaded["table"], array)
        assert loaded.layers["table"].shape == (count,)
    loaded.reload(files.raw(b"no layers", "raw"))
    with pytest.raises(memmgr.UnknownLayerError):
        loaded["table"]


def test_layers_survive_unload_and_load(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files
) -> None:
    loaded.unload()
    with pytest.raises(memmgr.NotLoadedError):
        loaded["table"]
    manager.load("D01", files.npy(np.zeros(3)))
    with pytest.raises(memmgr.UnknownLayerError):
        loaded["table"]
    assert list(loaded.layers) == ["data"]


def test_failed_reload_changes_nothing(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files, unchanged: Unchanged
) -> None:
    held = loaded["table"]
    with unchanged(manager):
        for path, error in (
            (files.folder / "none", memmgr.FileAccessError),
            (files.raw(b"", "empty"), memmgr.FormatError),
            (files.raw(bytes(CAPACITY + 1), "large"), memmgr.LimitExceededError),
            (files.raw(b"\x93NUMPY", "cut.npy"), memmgr.FormatError),
            (files.folder, memmgr.FileAccessError),
        ):
            with pytest.raises(error):
                loaded.reload(path)
    assert loaded["table"][0, 1] == held[0, 1] == 1


def test_same_file_is_refused_unless_to_ram(
    manager: memmgr.Manager, loaded: memmgr.Dimension, unchanged: Unchanged
) -> None:
    path = loaded.path
    assert path is not None
    with unchanged(manager), pytest.raises(memmgr.AlreadyLoadedError):
        loaded.reload(path)
    loaded.reload(path, mode="ram")
    assert loaded.mode == "ram"
    assert loaded["table"][0, 1] == 1


def test_third_generation_needs_a_free_slot(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files, unchanged: Unchanged
) -> None:
    first = loaded["table"]
    loaded.reload(files.raw(b"second", "second"))
    second = loaded.view()
    with unchanged(manager), pytest.raises(memmgr.ViewsHeldError):
        loaded.reload(files.raw(b"third", "third"))
    del first
    loaded.reload(files.folder / "third")
    assert (second.tobytes(), loaded.view().tobytes()) == (b"second", b"third")


def test_unload_refuses_waits_or_defers(loaded: memmgr.Dimension) -> None:
    held = loaded["table"]
    with pytest.raises(memmgr.ViewsHeldError):
        loaded.unload()
    with pytest.raises(memmgr.WaitTimeoutError):
        loaded.unload(on_views="wait", timeout=0.01)
    assert loaded["ids"][3] == 3
    with pytest.raises(memmgr.InvalidArgumentError, match="on_views"):
        loaded.unload(on_views="ask")  # type: ignore[arg-type]
    loaded.unload(on_views="defer")
    assert held[0, 1] == 1


def test_unload_waits_for_another_thread(loaded: memmgr.Dimension) -> None:
    box: list[Any] = [loaded["table"]]
    timer = threading.Timer(0.05, box.clear)
    timer.start()
    loaded.unload(on_views="wait", timeout=10)
    timer.join()
    assert loaded.state == "empty"


def test_r4_5_deferred_deallocation(manager: memmgr.Manager, loaded: memmgr.Dimension) -> None:
    """R4.5: new access is refused, the bytes are uncharged with the last array."""
    held = loaded["table"]
    loaded.deallocate(on_views="defer")
    with pytest.raises((memmgr.InvalidAccessError, memmgr.NotLoadedError)):
        loaded["table"]
    assert held[0, 1] == 1
    del held
    assert manager.stats().allocated == 2 * CAPACITY
    assert loaded.state == "deallocated"


def test_load_beside_a_deferred_unload(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files
) -> None:
    held = loaded["table"]
    loaded.unload(on_views="defer")
    manager.load("D01", files.raw(b"next", "next"))
    assert manager.stats().allocated == 4 * CAPACITY
    assert loaded.view().tobytes() == b"next"
    assert held[0, 1] == 1
    del held
    assert manager.stats().allocated == 3 * CAPACITY


@pytest.mark.parametrize("mode", ["r", "r+", "c", "ram"])
def test_evict_changes_no_byte(manager: memmgr.Manager, files: Files, mode: Any) -> None:
    array = np.arange(1000.0)
    dimension = manager.load("D01", files.npy(array), mode=mode)
    if mode != "r":
        with dimension.write() as w:
            w["data"] += 1
    held = dimension["data"]
    dimension.evict()
    assert np.array_equal(held, array + (mode != "r"))


def test_many_loads_leave_nothing(manager: memmgr.Manager, files: Files) -> None:
    """R7.2: the process map is as long after a thousand rounds as before them."""
    paths = [files.npy(np.arange(100.0)), files.npy(np.arange(200.0), "b.npy")]
    manager.load("D01", paths[0])
    manager["D01"].unload()
    gc.collect()  # what other tests left in cycles would go in between
    before = (len(process_map()), manager.stats().allocated)
    for _ in range(250):
        dimension = manager.load("D01", paths[0])
        held = dimension["data"]
        dimension.reload(paths[1])
        assert held.sum() == 4950
        del held
        dimension.unload()
    assert (len(process_map()), manager.stats().allocated) == before
