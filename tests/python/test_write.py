"""Writers: exclusive, inert after their block, and never left behind."""

from __future__ import annotations

import gc
import threading
from typing import Any

import memmgr
import numpy as np
import pytest

from .conftest import Files, Unchanged


@pytest.fixture
def private(manager: memmgr.Manager, files: Files) -> memmgr.Dimension:
    """D01 in mode "c", with layers "x" and "y"."""
    arrays = {"x": np.arange(8.0), "y": np.zeros(3, np.int32)}
    return manager.load("D01", files.safetensors(arrays), mode="c")


def test_r4_3_layers_are_written(private: memmgr.Dimension) -> None:
    """R4.3: assignment, in-place arithmetic, and through an array."""
    with private.write() as w:
        assert private.state == "writing"
        w["x"] = 5
        w["x"] *= 2
        w["y"][1:] = [7, 8]
        w["x"][0] += 1
    assert private.state == "loaded"
    assert private["x"].tolist() == [11.0] + [10.0] * 7
    assert private["y"].tolist() == [0, 7, 8]


def test_r_plus_reaches_the_file(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.zeros(5))
    dimension = manager.load("D01", path, mode="r+")
    with dimension.write() as w:
        w["data"] = np.arange(5)
    dimension.flush()
    assert np.load(path).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("mode", ["c", "ram"])
def test_other_modes_leave_the_file_alone(manager: memmgr.Manager, files: Files, mode: Any) -> None:
    path = files.npy(np.zeros(5))
    dimension = manager.load("D01", path, mode=mode)
    with dimension.write() as w:
        w[...] = 1
    dimension.flush()
    assert dimension["data"].tolist() == [1] * 5
    assert np.load(path).tolist() == [0] * 5


def test_whole_is_the_only_layer(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.npy(np.zeros((2, 3))), mode="c")
    with dimension.write() as w:
        assert w[...].shape == (2, 3)
        w[...] = 1
        w[1, 2] = 5
        w[:, 0] += 1
    assert dimension["data"].tolist() == [[2, 1, 1], [2, 1, 5]]


def test_whole_of_a_raw_file_is_its_bytes(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.raw(b"abcdef"), mode="c")
    with dimension.write() as w:
        w[2:4] = np.frombuffer(b"XY", np.uint8)
    assert dimension.view().tobytes() == b"abXYef"
    with dimension.write() as w:
        w[...] = 0
    assert dimension.view().tobytes() == bytes(6)


def test_whole_of_several_layers_is_refused(private: memmgr.Dimension) -> None:
    """It would overwrite the header."""
    with private.write() as w:
        with pytest.raises(memmgr.InvalidArgumentError, match="2 layers"):
            w[...] = 0
        with pytest.raises(memmgr.UnknownLayerError):
            w["z"] = 0
        with pytest.raises(ValueError, match="broadcast"):
            w["x"] = np.zeros(9)
    assert private["x"].tolist() == list(range(8))


def test_mode_r_cannot_be_written(
    manager: memmgr.Manager, loaded: memmgr.Dimension, unchanged: Unchanged
) -> None:
    with unchanged(manager), pytest.raises(memmgr.InvalidArgumentError, match="D01"):
        loaded.write().__enter__()


def test_writer_is_inert_outside_its_block(private: memmgr.Dimension) -> None:
    writer = private.write()
    assert private.state == "loaded"
    for _ in range(2):
        with pytest.raises(memmgr.InvalidAccessError, match="D01"):
            writer["x"] = 0
        with pytest.raises(memmgr.InvalidAccessError):
            writer[...]
        assert "inert" in repr(writer)
        with writer as same:
            assert same is writer
            assert "writing" in repr(writer)
            with pytest.raises(memmgr.InvalidArgumentError):
                writer.__enter__()


def test_writer_that_was_never_entered_holds_nothing(private: memmgr.Dimension) -> None:
    private.write()
    assert private["x"][1] == 1


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_wrong_timeout(private: memmgr.Dimension, timeout: float) -> None:
    with pytest.raises(memmgr.InvalidArgumentError, match="timeout"):
        private.write(timeout)


def test_views_hold_the_writer_out(manager: memmgr.Manager, private: memmgr.Dimension) -> None:
    """And afterwards readers go on."""
    held = private["x"]
    more = private["y"]
    for timeout in (0, 0.01):
        with pytest.raises(memmgr.WaitTimeoutError) as caught:
            private.write(timeout).__enter__()
        assert caught.value.views == 2
        assert caught.value.dimension == "D01"
    assert private.state == "loaded"
    assert private["x"].sum() == 28
    del held, more
    with private.write(0) as w:
        w["x"] = 0


def test_two_writers_exclude_each_other(private: memmgr.Dimension) -> None:
    with private.write() as w:
        w["x"] = 1
        with pytest.raises(memmgr.WaitTimeoutError):
            private.write(0.01).__enter__()
    with private.write(0.01) as w:
        w["x"] = 2


def test_r4_3_readers_wait_and_give_up_at_their_timeout(files: Files) -> None:
    """R4.3: readers of another dimension notice nothing."""
    with memmgr.Manager(2, capacity="1 MiB", read_timeout=0.05) as manager:
        first = manager.load(0, files.npy(np.zeros(5)), mode="c")
        other = manager.load(1, files.npy(np.ones(5), "other.npy"))
        with first.write() as w:
            w["data"] = 1
            with pytest.raises(memmgr.WaitTimeoutError, match="D01"):
                first["data"]
            with pytest.raises(memmgr.WaitTimeoutError):
                first.view(0, 1)
            assert other["data"].sum() == 5
        assert first["data"].sum() == 5


def test_kept_array_keeps_readers_out_until_it_is_gone(files: Files) -> None:
    with memmgr.Manager(1, capacity="1 MiB", read_timeout=0) as manager:
        dimension = manager.load(0, files.npy(np.zeros(5)), mode="c")
        with pytest.raises(memmgr.ViewsHeldError, match="D01") as caught, dimension.write() as w:
            kept = w["data"]
        assert caught.value.views == 1
        with pytest.raises(memmgr.WaitTimeoutError):
            dimension["data"]
        kept[:] = 3
        gc.disable()
        try:
            del kept
            assert dimension["data"].tolist() == [3] * 5
        finally:
            gc.enable()


def test_kept_array_may_die_on_another_thread(files: Files) -> None:
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        dimension = manager.load(0, files.npy(np.zeros(5)), mode="c")
        kept = []
        with pytest.raises(memmgr.ViewsHeldError), dimension.write() as w:
            kept.append(w["data"])
        thread = threading.Thread(target=kept.clear)
        thread.start()
        thread.join()
        assert dimension["data"].sum() == 0


def test_exception_of_the_block_is_not_displaced(private: memmgr.Dimension) -> None:
    def body() -> None:
        with private.write() as w:
            kept = w["x"]
            kept[0] = 1
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as caught:
        body()
    del caught
    assert private["x"][0] == 1


def test_manager_closes_under_a_kept_array(files: Files) -> None:
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        dimension = manager.load(0, files.npy(np.zeros(5)), mode="c")
        with pytest.raises(memmgr.ViewsHeldError), dimension.write() as w:
            kept = w["data"]
        with pytest.raises(memmgr.ViewsHeldError):
            manager.close()
    kept[:] = 4
    assert kept.sum() == 20


def test_layers_can_be_listed_while_writing(private: memmgr.Dimension) -> None:
    with private.write() as w:
        assert list(private.layers) == ["x", "y"]
        w["x"] = 0


def test_write_after_a_reload_sees_the_new_layers(private: memmgr.Dimension, files: Files) -> None:
    assert list(private.layers) == ["x", "y"]
    private.reload(files.safetensors({"z": np.zeros(3)}, "z.safetensors"), mode="c")
    with private.write() as w:
        w["z"] = 1
    assert private["z"].tolist() == [1, 1, 1]
