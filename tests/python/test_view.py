"""R3: arrays over the mapping itself, and how long they keep it."""

from __future__ import annotations

import gc
import time
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .conftest import CAPACITY, Files, Unchanged


def _address(array: npt.NDArray[Any]) -> int:
    return int(array.__array_interface__["data"][0])


def test_r3_1_array_points_into_the_mapping(loaded: memmgr.Dimension) -> None:
    """R3.1: two accesses give the same address, that of the layer in the generation."""
    layer = loaded.layers["table"]
    expected = loaded.stats().generation_address + layer.offset
    assert _address(loaded["table"]) == _address(loaded["table"]) == expected


def test_r3_2_access_is_timed(loaded: memmgr.Dimension) -> None:
    """R3.2, R10.5: here only that it answers at all; the demo prints p99, the bench compares it."""
    start = time.perf_counter()
    for _ in range(1000):
        loaded["table"]
    assert time.perf_counter() - start < 10


def test_r3_3_array_is_no_copy(manager: memmgr.Manager, files: Files) -> None:
    """R3.3: what a writer changes in the file shows in an array of another access."""
    path = files.npy(np.zeros(100))
    dimension = manager.load("D01", path, mode="r+")
    assert not dimension["data"].flags.owndata
    with dimension.write() as writer:
        writer["data"] = 7
    assert dimension["data"][50] == 7


def test_r3_4_unknown_layer(loaded: memmgr.Dimension, unchanged: Unchanged) -> None:
    """R3.4."""
    for name in ("weights", "", "Table", "x" * 1000):
        with (
            unchanged(loaded._manager),
            pytest.raises(memmgr.UnknownLayerError, match="D01") as caught,
        ):
            loaded[name]
        assert isinstance(caught.value, KeyError)
        assert caught.value.dimension == "D01"


@pytest.mark.parametrize("name", [0, None, b"table", ("table",)])
def test_layer_name_of_another_type(loaded: memmgr.Dimension, name: Any) -> None:
    with pytest.raises(TypeError, match="layer name"):
        loaded[name]


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (101, 0),
        (100, 1),
        (0, 101),
        (1, 100),
        (99, 2),
        (2**63, 1),
        (2**64 - 1, 1),
        (2**64 - 1, 2**64 - 1),
        (1, 2**64 - 1),
        (-1, 1),
        (0, -1),
        (2**64, 0),
        (0, 2**64),
        (101, None),
        (2**70, None),
    ],
)
def test_r3_5_range_beyond_the_end(
    manager: memmgr.Manager, files: Files, offset: int, length: int | None, unchanged: Unchanged
) -> None:
    """R3.5: also where offset + length would pass 64 bits."""
    dimension = manager.load("D01", files.raw(bytes(100)))
    with unchanged(manager), pytest.raises(memmgr.OutOfBoundsError, match="D01") as caught:
        dimension.view(offset, length)
    assert isinstance(caught.value, IndexError)
    assert caught.value.requested == offset


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(offset=st.integers(0, 120), length=st.integers(0, 120))
def test_r3_5_every_range_is_checked(offset: int, length: int, manager: Any, files: Any) -> None:
    """R3.5: what lies within gives exactly its bytes, everything else the error."""
    content = bytes(range(100))
    if manager["D01"].state == "empty":
        manager.load("D01", files.raw(content))
    if offset + length <= 100:
        view = manager["D01"].view(offset, length)
        assert view.tobytes() == content[offset : offset + length]
    else:
        with pytest.raises(memmgr.OutOfBoundsError):
            manager["D01"].view(offset, length)


def test_zero_length_is_allowed_up_to_the_end(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.raw(bytes(100)))
    for offset in (0, 50, 100):
        assert dimension.view(offset, 0).shape == (0,)
    assert dimension.view(100).shape == (0,)
    assert dimension.view(0, 0, shape=(0, 7), dtype="<f8").shape == (0, 7)


def test_view_with_dtype_and_shape(manager: memmgr.Manager, files: Files) -> None:
    array = np.arange(24, dtype="<i4")
    dimension = manager.load("D01", files.raw(array.tobytes()))
    assert np.array_equal(dimension.view(dtype="<i4"), array)
    assert np.array_equal(dimension.view(8, dtype="<i4", shape=(2, 3)), array[2:8].reshape(2, 3))
    assert np.array_equal(dimension.view(dtype="<i4", shape=(4, -1)), array.reshape(4, 6))
    assert dimension.view(1, 8, dtype="<i4").flags.aligned is False
    assert dimension.view(0, dtype=">i4", shape=())[()] == 0


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": object},
        {"dtype": "V0"},
        {"dtype": "<f8", "length": 7},
        {"shape": (3,), "length": 4},
        {"shape": (-1, -1)},
        {"shape": (-2,)},
        {"shape": (0, -1), "length": 8},
        {"shape": (-1, 7)},
        {"writable": True},
    ],
    ids=str,
)
def test_view_that_makes_no_array(
    manager: memmgr.Manager, files: Files, options: dict[str, Any], unchanged: Unchanged
) -> None:
    dimension = manager.load("D01", files.raw(bytes(100)))
    with unchanged(manager), pytest.raises(memmgr.InvalidArgumentError):
        dimension.view(**options)


def test_offsets_and_indices_are_whole_numbers(loaded: memmgr.Dimension) -> None:
    assert loaded.view(np.int64(8), np.uint64(8)).nbytes == 8
    assert loaded._manager[np.int8(0)] == loaded
    for wrong in (lambda: loaded.view(1.5), lambda: loaded._manager[0.0]):  # type: ignore[arg-type, index]
        with pytest.raises(TypeError):
            wrong()


# Lifetime ----------------------------------------------------------------------------------------


def test_dropping_an_array_releases_at_once(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    """No collector: reference counting alone."""
    gc.disable()
    try:
        array = loaded["table"]
        other = loaded.view(0, 10)
        assert manager.stats().views == 2
        del array
        assert manager.stats().views == 1
        del other
        assert manager.stats().views == 0
    finally:
        gc.enable()


@pytest.mark.parametrize(
    "derive",
    [
        lambda a: a[10:20],
        lambda a: a.T,
        lambda a: a.reshape(-1)[5:],
        lambda a: a.view(np.uint8),
        memoryview,
        lambda a: np.asarray(a)[::2, ::-1],
        iter,
        lambda a: a.flat,
        lambda a: a[3],
    ],
)
def test_what_is_derived_pins_too(
    manager: memmgr.Manager, loaded: memmgr.Dimension, derive: Any
) -> None:
    derived = derive(loaded["table"])
    assert manager.stats().views == 1
    with pytest.raises(memmgr.ViewsHeldError) as caught:
        loaded.unload()
    assert caught.value.views == 1
    del derived, caught
    assert manager.stats().views == 0
    loaded.unload()


def test_failed_access_pins_nothing_while_its_error_lives(
    manager: memmgr.Manager, files: Files
) -> None:
    """The traceback holds the frames of the call."""
    path = files.safetensors_header(
        {"tiny": {"dtype": "F4", "shape": [4], "data_offsets": [0, 2]}}, b"\0\0"
    )
    dimension = manager.load("D01", path, mode="r")
    with pytest.raises(memmgr.FormatError, match=r"view\(\)") as caught:
        dimension["tiny"]
    with pytest.raises(memmgr.InvalidArgumentError) as refused:
        dimension.view(writable=True)
    assert manager.stats().views == 0
    dimension.unload()
    del caught, refused


def test_array_cannot_be_made_writeable(loaded: memmgr.Dimension) -> None:
    for array in (
        loaded["table"],
        loaded["ids"][3:],
        loaded.view(),
        loaded.view(0, 8, dtype="<f8"),
    ):
        base: Any = array
        while isinstance(base, np.ndarray):
            assert not base.flags.writeable
            with pytest.raises(ValueError, match="WRITEABLE"):
                base.flags.writeable = True
            base = base.base
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_views_keep_memory_after_deferred_unload(
    manager: memmgr.Manager, loaded: memmgr.Dimension, table: npt.NDArray[Any]
) -> None:
    """R4.5: the dimension goes at once, what arrays see stays."""
    held = loaded["table"]
    loaded.unload(on_views="defer")
    with pytest.raises((memmgr.NotLoadedError, memmgr.InvalidAccessError)):
        loaded["table"]
    assert np.array_equal(held, table)
    assert manager.stats().mapped > 0
    del held
    assert manager.stats().mapped == 0
    assert manager.stats().allocated == 3 * CAPACITY


def test_writable_view_of_a_private_copy(manager: memmgr.Manager, files: Files) -> None:
    path = files.raw(bytes(100))
    dimension = manager.load("D01", path, mode="c")
    array = dimension.view(10, 4, writable=True)
    array[:] = 9
    assert dimension.view(8, 8).tolist() == [0, 0, 9, 9, 9, 9, 0, 0]
    assert path.read_bytes() == bytes(100)


def test_view_is_released_on_another_thread(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    import threading

    box = [loaded["table"]]
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()
    assert manager.stats().views == 0
    loaded.unload()
