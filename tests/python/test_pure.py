"""Arrays are made in C where nothing is in the way, by Python otherwise, and are the same."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memmgr import _native
from memmgr._extension import FAST

from .conftest import Files

needs_fast = pytest.mark.skipif(not FAST, reason="arrays are made in Python")


def _made_in_c(array: npt.NDArray[Any]) -> bool:
    return type(array.base).__name__ == "Pin"


def _told(function: Callable[..., npt.NDArray[Any]], *args: Any, **options: Any) -> Any:
    """All there is to know of what a call made, or of what it raised."""
    try:
        array = function(*args, **options)
    except Exception as error:  # noqa: BLE001
        # Python's own message names the function.
        message = str(error).replace("_view()", "view()")
        return type(error), message, {**vars(error), "__notes__": None}
    return (
        array.__array_interface__,
        array.flags.num,
        array.dtype,
        array.tobytes(),
        type(array),
        array.nbytes,
    )


def test_which_way_arrays_are_made(loaded: memmgr.Dimension) -> None:
    """The first access of a version learns what the others know."""
    assert not any(map(_made_in_c, (loaded["table"], loaded["ids"])))
    for array in (
        loaded["table"],
        loaded["ids"],
        loaded.view(),
        loaded.view(8),
        loaded.view(0, 8),
        loaded.view(length=8, offset=8, dtype="<f4"),
        loaded.view(0, dtype=np.float32, shape=(2, 3)),
    ):
        assert _made_in_c(array) == FAST


@pytest.mark.parametrize(("pure", "made_in_c"), [("", True), ("0", True), ("1", False)])
def test_environment_chooses(files: Files, pure: str, made_in_c: bool) -> None:
    code = f"""
import memmgr
with memmgr.Manager(1, capacity="64 KiB") as manager:
    dimension = manager.load(0, {str(files.npy(np.zeros(3)))!r})
    arrays = [dimension["data"], dimension["data"], dimension.view(0, 3)]
    print(*(type(array.base).__name__ == "Pin" for array in arrays))
    del arrays
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"MEMMGR_PURE": pure},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["False", str(made_in_c), str(made_in_c)]


@needs_fast
def test_numpy_of_an_unknown_abi_is_not_called() -> None:
    """And the one that is known stays in use."""
    version = ctypes.CFUNCTYPE(ctypes.c_uint)(lambda: 0x03000000)
    table = (ctypes.c_void_p * 1)(ctypes.cast(version, ctypes.c_void_p))
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    assert _native.use_numpy(new(table, None, None)) is False
    with pytest.raises(ValueError, match="PyCapsule"):
        _native.use_numpy(object())
    with memmgr.Manager(1) as manager:
        assert manager.empty(3).shape == (3,)


VIEWS: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
    ((), {}),
    ((100,), {}),
    ((0, 0), {}),
    ((), {"offset": 4, "length": 8}),
    ((0, None), {"shape": None}),
    ((True, 8), {}),
    ((np.int64(8), np.uint8(8)), {}),
    ((0, 8), {"dtype": None}),
    ((0, 8), {"dtype": ">u2"}),
    ((1, 8), {"dtype": "f8"}),
    ((0, 8), {"dtype": np.dtype("M8[s]")}),
    ((0, 8), {"dtype": "?"}),
    ((0, 16), {"dtype": "e"}),
    ((0, 32), {"dtype": "G"}),
    ((0, 8), {"dtype": "S4"}),
    ((0, 8), {"dtype": "U1"}),
    ((0, 8), {"dtype": "V3"}),
    ((0, 16), {"dtype": [("a", "<i4"), ("b", "<f4")]}),
    ((0, 16), {"dtype": "(2,)f4"}),
    ((0, 8), {"dtype": "O"}),
    ((0, 8), {"dtype": "no such type"}),
    ((0, 8), {"dtype": object()}),
    ((0, 7), {"dtype": "f4"}),
    ((97,), {"dtype": "f4"}),
    ((), {"shape": ()}),
    ((), {"shape": (3, -1)}),
    ((), {"shape": [2, 2]}),
    ((), {"shape": (2.0,)}),
    ((), {"shape": (True, 3)}),
    ((), {"shape": 3}),
    ((), {"shape": (2, 2), "dtype": "f4"}),
    ((0, 16), {"shape": (2, 2), "dtype": "f4"}),
    ((0, 17), {"shape": (2, 2), "dtype": "f4"}),
    ((0, 0), {"shape": (0, 2**62, 2**62)}),
    ((), {"shape": (2**62, 2**62)}),
    ((), {"shape": (2**62, 8), "dtype": "f8"}),
    ((), {"shape": (1,) * 32}),
    ((), {"shape": (1,) * 33}),
    ((-1,), {}),
    ((0, -1), {}),
    ((101,), {}),
    ((101, 0), {}),
    ((2**64 - 1, 2), {}),
    ((2**64 - 1, 2**64 - 1), {}),
    ((2**64,), {}),
    ((0, 2**63), {}),
    ((1.5,), {}),
    (("0",), {}),
    ((None,), {}),
    ((0, 1), {"writable": False}),
    ((0, 1), {"writable": True}),
    ((0, 1, "u1"), {}),
    ((0,), {"offset": 0}),
    ((), {"lenght": 3}),
]


@pytest.mark.parametrize(("args", "options"), VIEWS, ids=str)
def test_view_is_what_the_reference_says(
    manager: memmgr.Manager, files: Files, args: tuple[Any, ...], options: dict[str, Any]
) -> None:
    dimension: Any = manager.load("D01", files.raw(bytes(range(100))))
    for _ in range(2):
        assert _told(dimension.view, *args, **options) == _told(dimension._view, *args, **options)
    assert manager.stats().views == 0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    offset=st.integers(-1, 110) | st.integers(2**63 - 1, 2**64 + 1),
    length=st.none() | st.integers(-1, 110) | st.integers(2**63 - 1, 2**64 + 1),
    options=st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["u1", "<u2", ">f4", "f8", "S3", "c16", "O"]),
            "shape": st.none() | st.lists(st.integers(-1, 5), max_size=4).map(tuple),
        }
    ),
)
def test_any_view_is_what_the_reference_says(
    manager: Any, files: Any, offset: int, length: int | None, options: dict[str, Any]
) -> None:
    dimension = manager["D01"]
    if dimension.state == "empty":
        manager.load("D01", files.raw(bytes(range(100))))
    assert _told(dimension.view, offset, length, **options) == _told(
        dimension._view, offset, length, **options
    )


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype="<i2"),
        np.arange(24.0).reshape(2, 3, 4),
        np.asfortranarray(np.arange(24.0).reshape(2, 3, 4)),
        np.float32(3),
        np.ones((0, 7)),
        np.ones((1,) * 32, bool),
        np.ones((3, 1), "c8").T,
    ],
    ids=lambda array: f"{array.dtype}{array.shape}",
)
def test_layer_is_what_the_reference_says(
    manager: memmgr.Manager, files: Files, array: npt.NDArray[Any]
) -> None:
    dimension = manager.load("D01", files.npy(np.asarray(array)))
    dimension["data"]
    assert _told(dimension.__getitem__, "data") == _told(dimension._layer, "data")
    for wrong in ("", "date", None, 0, ("data",), ["data"], b"data"):
        assert _told(dimension.__getitem__, wrong) == _told(dimension._layer, wrong)


def test_misaligned_layer_is_what_the_reference_says(manager: memmgr.Manager, files: Files) -> None:
    layers = {"a": np.zeros(1, np.uint8), "b": np.arange(5.0)}
    dimension = manager.load("D01", files.safetensors(layers))
    dimension["b"]
    assert not dimension["b"].flags.aligned
    assert _told(dimension.__getitem__, "b") == _told(dimension._layer, "b")


class _Name(str):
    __slots__ = ()


def test_layer_by_a_name_of_a_class_of_its_own(loaded: memmgr.Dimension) -> None:
    assert np.array_equal(loaded[_Name("ids")], loaded["ids"])


def test_every_version_is_learned_anew(manager: memmgr.Manager, files: Files) -> None:
    """What is known of a layer is of one version: type, shape and place may be others now."""
    versions: list[dict[str, npt.NDArray[Any]]] = [
        {"x": np.arange(6, dtype="f4").reshape(2, 3), "y": np.ones(1)},
        {"y": np.zeros((2, 2), "u2"), "x": np.arange(3, dtype="i8")},
        {"y": np.zeros(9)},
    ]
    dimension = manager.load("D01", files.safetensors(versions[0]))
    for number, version in enumerate(versions):
        if number:
            dimension.reload(files.safetensors(version, f"{number}.safetensors"))
        for _ in range(2):
            assert dimension.view().nbytes == dimension.stats().file_size
            for name in ("x", "y"):
                if name in version:
                    assert np.array_equal(dimension[name], version[name])
                    assert dimension[name].dtype == version[name].dtype
                else:
                    with pytest.raises(memmgr.UnknownLayerError):
                        dimension[name]
    # Names of older versions are not kept.
    assert set(dimension._cache.known) == {None, "y"}


def test_what_cannot_be_had_at_once_is_waited_for(manager: memmgr.Manager, files: Files) -> None:
    """A writer in the way: others may run meanwhile, such as the writer."""
    dimension = manager.load("D01", files.npy(np.zeros(10)), mode="c")
    dimension["data"], dimension.view()
    entered, leave, seen = threading.Event(), threading.Event(), []

    def write() -> None:
        with dimension.write() as writer:
            writer["data"] = 1
            entered.set()
            leave.wait()

    def read() -> None:
        seen.append(dimension["data"].sum())
        seen.append(dimension.view(0, 80)[0])

    threads = [threading.Thread(target=write), threading.Thread(target=read)]
    threads[0].start()
    entered.wait()
    threads[1].start()
    threads[1].join(0.05)
    assert not seen
    leave.set()
    for thread in threads:
        thread.join()
    assert seen[0] == 10


def test_last_view_that_dies_of_an_exception_leaves_it_alone(
    manager: memmgr.Manager, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    """Its end is a record of the log, whose handler is Python and runs with an exception set."""
    dimension = manager.load("D01", files.npy(np.zeros(10)))
    dimension["data"]

    def arrays() -> Any:
        yield dimension["data"]
        dimension.unload("defer")
        yield 1 // 0

    with caplog.at_level(logging.DEBUG, "memmgr"), pytest.raises(ZeroDivisionError):
        list(arrays())
    assert any("unmapped" in record.message for record in caplog.records)
    assert manager.stats().mapped == 0


def test_access_keeps_no_reference(loaded: memmgr.Dimension) -> None:
    """Not to types, shapes or layouts, whether it succeeds or not."""
    kind = np.dtype(np.float32).newbyteorder()
    loaded["table"], loaded.view()
    layout = loaded._cache.known["table"]
    kept = [kind, layout, layout.dtype, layout.shape, np.dtype(np.uint8), loaded]

    def counts() -> list[int]:
        return [sys.getrefcount(thing) for thing in kept]

    before = counts()
    for _ in range(100):
        loaded["table"]
        loaded.view()
        loaded.view(0, 8, dtype=kind)
        loaded.view(0, dtype=kind, shape=(2,))
        for wrong in (
            {"length": 7},
            {"offset": 10**9, "length": 4},
            {"shape": (3, 3), "length": 4},
        ):
            with pytest.raises(memmgr.MemmgrError):
                loaded.view(dtype=kind, **wrong)
        with pytest.raises(memmgr.UnknownLayerError):
            loaded["none"]
    after = counts()
    assert all(new - old < 50 for old, new in zip(before, after, strict=True)), (before, after)


def test_unfinished_and_finished_dimensions(loaded: memmgr.Dimension) -> None:
    """What nobody is to do harms nobody."""
    unfinished: Any = memmgr.Dimension.__new__(memmgr.Dimension)
    with pytest.raises(AttributeError):
        unfinished["table"]
    with pytest.raises(AttributeError):
        unfinished.view()
    with pytest.raises(TypeError, match="before"):
        loaded.__init__(loaded._manager, 1, "D02")  # type: ignore[misc]
    assert loaded.name == "D01"
    loaded["table"]
    pin: Any = type(loaded["table"].base)
    if FAST:
        with contextlib.suppress(TypeError):
            pin()
    assert loaded._manager.stats().views == 0


def test_layouts_are_checked() -> None:
    make: Any = _native.Layout
    for wrong in ((-1,), (1, 2**62 * 4), [1], ("1",), (1,) * 33):
        with pytest.raises((ValueError, OverflowError)):
            make(1, 0, 0, 0, np.dtype("u1"), wrong, "C")
    with pytest.raises(TypeError):
        make(1)


def test_documentation_and_signature_of_what_is_c() -> None:
    """The one is known to `help`, the other to whoever changes it."""
    assert "offset" in (inspect.getdoc(memmgr.Dimension.view) or "")
    public, reference = (
        [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in list(inspect.signature(function).parameters.values())[1:]
        ]
        for function in (memmgr.Dimension.view, memmgr.Dimension._view)
    )
    assert public == reference
