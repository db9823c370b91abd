"""Layers of all formats and types, and every way in which a header can lie."""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from .conftest import NAMES, Files, Unchanged

NUMPY_TYPES = [np.dtype(name) for name in NAMES if not name.startswith(("bfloat", "float8"))]
ML_TYPES = [name for name in NAMES if name.startswith(("bfloat", "float8"))]


def _bytes(dtype: Any, count: int) -> bytes:
    return np.arange(count * np.dtype(dtype).itemsize, dtype=np.uint8).tobytes()


@pytest.mark.parametrize("dtype", NUMPY_TYPES, ids=str)
def test_every_numpy_type_comes_back(
    manager: memmgr.Manager, files: Files, dtype: np.dtype[Any]
) -> None:
    array = np.frombuffer(_bytes(np.uint8, 24 * dtype.itemsize), dtype).reshape(2, 3, 4)
    dimension = manager.load("D01", files.safetensors({"x": array}))
    assert dimension["x"].dtype == dtype
    assert dimension["x"].tobytes() == array.tobytes()
    assert dimension["x"].shape == (2, 3, 4)
    assert dimension.layers["x"].dtype == NAMES[dtype.name]


@pytest.mark.parametrize("name", ML_TYPES)
def test_every_small_float_comes_back(manager: memmgr.Manager, files: Files, name: str) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, name))
    array = np.frombuffer(_bytes(dtype, 12), dtype).reshape(3, 4)
    dimension = manager.load("D01", files.safetensors({"x": array}))
    assert dimension["x"].dtype == dtype
    assert dimension["x"].tobytes() == array.tobytes()
    assert not dimension["x"].flags.writeable


def test_small_floats_without_ml_dtypes_say_what_to_install(
    manager: memmgr.Manager, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = {"x": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    dimension = manager.load("D01", files.safetensors_header(header, bytes(4)))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(memmgr.FormatError, match="pip install ml_dtypes") as caught:
        dimension["x"]
    assert (caught.value.dimension, caught.value.layer) == ("D01", "x")
    assert dimension.view(dimension.layers["x"].offset, 4).tobytes() == bytes(4)


@pytest.mark.parametrize(("dtype", "bits"), [("F4", 4), ("F6_E2M3", 6), ("F6_E3M2", 6)])
def test_types_below_a_byte_are_bytes(
    manager: memmgr.Manager, files: Files, dtype: str, bits: int
) -> None:
    header = {"x": {"dtype": dtype, "shape": [8], "data_offsets": [0, bits]}}
    dimension = manager.load("D01", files.safetensors_header(header, b"abcdef"[:bits]))
    with pytest.raises(memmgr.FormatError, match="view"):
        dimension["x"]
    layer = dimension.layers["x"]
    assert (layer.dtype, layer.shape, layer.length) == (dtype, (8,), bits)
    assert dimension.view(layer.offset, layer.length).tobytes() == b"abcdef"[:bits]


def test_structured_npy_is_bytes(manager: memmgr.Manager, files: Files) -> None:
    array = np.zeros(3, np.dtype([("a", "<i4"), ("b", "<f8")]))
    dimension = manager.load("D01", files.npy(array))
    with pytest.raises(memmgr.FormatError, match="OPAQUE"):
        dimension["data"]
    layer = dimension.layers["data"]
    again = dimension.view(layer.offset, layer.length, dtype=array.dtype)
    assert np.array_equal(again, array)


def test_fortran_order(manager: memmgr.Manager, files: Files) -> None:
    array = np.asfortranarray(np.arange(24.0).reshape(2, 3, 4))
    dimension = manager.load("D01", files.npy(array))
    assert dimension.layers["data"].order == "F"
    assert dimension["data"].flags.f_contiguous
    assert np.array_equal(dimension["data"], array)


@pytest.mark.parametrize("shape", [(), (0,), (0, 7), (3, 0, 2), (1,) * 32])
def test_scalars_empty_layers_and_many_axes(
    manager: memmgr.Manager, files: Files, shape: tuple[int, ...]
) -> None:
    array = np.ones(shape, np.float32)
    for dimension in (
        manager.load("D01", files.npy(array)),
        manager.load("D02", files.safetensors({"data": array, "more": np.ones(3, np.int8)})),
    ):
        assert dimension["data"].shape == shape
        assert np.array_equal(dimension["data"], array)


def test_misaligned_layer(manager: memmgr.Manager, files: Files) -> None:
    array = np.arange(10, dtype=np.float64)
    path = files.safetensors({"b": np.zeros(3, np.uint8), "x": array})
    dimension = manager.load("D01", path)
    assert dimension["x"].flags.aligned is False
    assert np.array_equal(dimension["x"], array)
    assert dimension.layers["x"].alignment < 8


def test_layers_in_the_order_of_their_offsets(manager: memmgr.Manager, files: Files) -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "second": {"dtype": "U8", "shape": [2], "data_offsets": [3, 5]},
        "first": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
    }
    dimension = manager.load("D01", files.safetensors_header(header, b"abcde"))
    assert list(dimension) == list(dimension.layers) == ["first", "second"]
    assert "first" in dimension
    assert "third" not in dimension
    assert dimension["second"].tobytes() == b"de"
    with pytest.raises(TypeError):
        dimension.layers["third"] = dimension.layers["first"]  # type: ignore[index]


def test_layer_names_are_unicode(manager: memmgr.Manager, files: Files) -> None:
    arrays = {"größe": np.arange(3), "\U0001f418": np.arange(4), 'quote"\n': np.arange(5)}
    dimension = manager.load("D01", files.safetensors(arrays))
    for name, array in arrays.items():
        assert np.array_equal(dimension[name], array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_versions(manager: memmgr.Manager, files: Files, version: tuple[int, int]) -> None:
    array = np.arange(5)
    path = files.folder / "v.npy"
    with path.open("wb") as file:
        np.lib.format.write_array(file, array, version=version)
    assert np.array_equal(manager.load("D01", path)["data"], array)


def test_files_of_the_safetensors_package(manager: memmgr.Manager, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    arrays: dict[str, npt.NDArray[Any]] = {
        "a": np.arange(12, dtype=np.float32).reshape(3, 4),
        "b": np.arange(5),
    }
    safetensors.save_file(arrays, tmp_path / "s.safetensors", metadata={"k": "v"})
    dimension = manager.load("D01", tmp_path / "s.safetensors")
    assert {name: dimension[name].tolist() for name in dimension} == {
        name: array.tolist() for name, array in arrays.items()
    }


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50
)
@given(
    arrays=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20).filter(
            lambda name: name != "__metadata__"
        ),
        hnp.arrays(st.sampled_from(NUMPY_TYPES), hnp.array_shapes(max_dims=4, min_side=0)),
        min_size=1,
        max_size=5,
    ),
    pad=st.integers(0, 9),
)
def test_any_safetensors_file_reads_back(
    arrays: dict[str, npt.NDArray[Any]], pad: int, files: Any
) -> None:
    path = files.safetensors(arrays, pad=pad)
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        dimension = manager.load(0, path)
        assert set(dimension) == arrays.keys()
        for name, array in arrays.items():
            again = dimension[name]
            assert (again.dtype, again.shape) == (array.dtype, array.shape)
            assert again.tobytes() == array.tobytes()


# Raw files ---------------------------------------------------------------------------------------


def test_raw_file_has_no_layers_of_its_own(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.raw(b"bytes"))
    assert dict(dimension.layers) == {}
    assert dimension.stats().format == "raw"
    with pytest.raises(memmgr.UnknownLayerError):
        dimension["data"]


def test_header_can_be_ignored(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.arange(3))
    dimension = manager.load("D01", path, format="raw")
    assert dimension.view().tobytes() == path.read_bytes()
    assert not dimension.layers


def test_raw_layers_of_the_caller(manager: memmgr.Manager, files: Files) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = files.raw(b"head" + table.tobytes() + b"\x05\x06")
    layers = [
        memmgr.Layer("table", 4, dtype="float32", shape=(3, 4)),
        memmgr.Layer("tail", 4 + table.nbytes, dtype=np.uint8, shape=(2,)),
    ]
    dimension = manager.load("D01", path, layers=layers)
    assert np.array_equal(dimension["table"], table)
    assert dimension["tail"].tolist() == [5, 6]
    again = manager.load("D02", path, layers=dimension.layers)
    assert again.layers == dimension.layers


def test_raw_layers_of_a_manifest(manager: memmgr.Manager, files: Files) -> None:
    table = np.arange(12, dtype=np.float32).reshape(3, 4)
    path = files.raw(b"head" + table.tobytes())
    manifest = files.raw(
        json.dumps({"table": {"dtype": "F32", "shape": [3, 4], "data_offsets": [4, 52]}}).encode(),
        "manifest.json",
    )
    dimension = manager.load("D01", path, manifest=manifest)
    assert np.array_equal(dimension["table"], table)


def test_layer_describes_itself() -> None:
    layer = memmgr.Layer("x", 8, dtype="<f4", shape=(2, 3))
    assert (layer.dtype, layer.length, layer.order) == ("F32", 24, "C")
    assert layer == memmgr.Layer("x", 8, dtype=np.float32, shape=(2, 3), length=24)
    assert memmgr.Layer("x", 0, dtype="bfloat16", shape=(2,)).dtype == "BF16"
    assert memmgr.Layer("x", 0, dtype="F4", shape=(4,)).length == 2
    assert memmgr.Layer("x", 0, dtype="OPAQUE", shape=(), length=7).length == 7


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        (("x", -1), {"dtype": "U8", "shape": (1,)}),
        (("x", 2**64), {"dtype": "U8", "shape": (1,)}),
        (("x", 0), {"dtype": "U8", "shape": (-1,)}),
        (("x", 0), {"dtype": "F4", "shape": (1,)}),
        (("x", 0), {"dtype": "OPAQUE", "shape": (1,)}),
        (("x", 0), {"dtype": "no such type", "shape": (1,)}),
        (("x", 0), {"dtype": object, "shape": (1,)}),
        (("x", 0), {"dtype": ">f4", "shape": (1,)}),
        (("x", 0), {"dtype": "U8", "shape": (1,), "order": "K"}),
    ],
    ids=str,
)
def test_layer_that_cannot_be(arguments: Any, options: Any) -> None:
    with pytest.raises(memmgr.InvalidArgumentError):
        memmgr.Layer(*arguments, **options)


@pytest.mark.parametrize(
    "layers",
    [
        [memmgr.Layer("x", 0, dtype="U8", shape=(101,))],
        [memmgr.Layer("x", 100, dtype="U8", shape=(1,))],
        [memmgr.Layer("x", 2**64 - 1, dtype="U8", shape=(2,))],
        [memmgr.Layer("x", 0, dtype="U8", shape=(2**63, 2**63), length=0)],
        [memmgr.Layer("x", 0, dtype="U8", shape=(1,))] * 2,
        [memmgr.Layer("", 0, dtype="U8", shape=(1,))],
        [memmgr.Layer("x" * 256, 0, dtype="U8", shape=(1,))],
        [memmgr.Layer("x", 0, dtype="U8", shape=(1,) * 33)],
    ],
    ids=lambda layers: str(layers[0])[:60],
)
def test_raw_layers_that_do_not_fit(
    manager: memmgr.Manager, files: Files, layers: list[memmgr.Layer], unchanged: Unchanged
) -> None:
    path = files.raw(bytes(100))
    with (
        unchanged(manager),
        pytest.raises((memmgr.InvalidArgumentError, memmgr.FormatError, memmgr.OutOfBoundsError)),
    ):
        manager.load("D01", path, layers=layers)


def test_layers_and_manifest_together(
    manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    path, manifest = files.raw(bytes(100)), files.raw(b"{}", "m.json")
    layers = [memmgr.Layer("x", 0, dtype="U8", shape=(1,))]
    with unchanged(manager), pytest.raises(memmgr.InvalidArgumentError):
        manager.load("D01", path, layers=layers, manifest=manifest)


def test_missing_manifest_is_named(
    manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    path, manifest = files.raw(bytes(100)), files.folder / "none.json"
    with unchanged(manager), pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", path, manifest=manifest)
    assert caught.value.filename is manifest


# Lying headers -----------------------------------------------------------------------------------


def _entry(dtype: Any = "U8", shape: Any = (4,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"x": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


LYING_HEADERS: dict[str, Any] = {
    "beyond the end": _entry(shape=[5], offsets=[0, 5]),
    "backwards": _entry(offsets=[4, 0]),
    "negative": _entry(offsets=[-4, 0]),
    "wrong length": _entry(shape=[3]),
    "shape overflows": _entry(shape=[2**32, 2**32], offsets=[0, 0]),
    "offset overflows": _entry(offsets=[0, 2**64]),
    "unknown type": _entry(dtype="F128"),
    "type is a number": _entry(dtype=3),
    "shape is text": _entry(shape="4"),
    "shape is a fraction": _entry(shape=[4.5]),
    "three offsets": _entry(offsets=[0, 2, 4]),
    "no offsets": {"x": {"dtype": "U8", "shape": [4]}},
    "entry is a number": {"x": 3},
    "overlap": {
        "x": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]},
        "y": {"dtype": "U8", "shape": [2], "data_offsets": [2, 4]},
    },
    "same bytes twice": {
        "x": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
        "y": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]},
    },
    "a hole": _entry(shape=[2], offsets=[2, 4]),
    "an unused tail": _entry(shape=[2], offsets=[0, 2]),
    "sub-byte remainder": _entry(dtype="F4", shape=[3], offsets=[0, 4]),
    "33 axes": _entry(shape=[1] * 33, offsets=[0, 1]),
    "long name": {"x" * 300: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}},
    "empty name": {"": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}},
    "same name twice": (
        b'{"x":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},'
        b'"x":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}}'
    ),
    "not JSON": b"{]",
    "cut JSON": b'{"x":{"dtype":"U8","shape":[4],',
    "deep JSON": b'{"x":' + b"[" * 10_000,
    "not UTF-8": b'{"\xff":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}',
    "a list": b"[]     ",
}


@pytest.mark.parametrize("header", LYING_HEADERS.values(), ids=LYING_HEADERS)
def test_lying_safetensors_header(
    manager: memmgr.Manager, files: Files, header: Any, unchanged: Unchanged
) -> None:
    path = files.safetensors_header(header, b"abcd")
    with unchanged(manager), pytest.raises(memmgr.FormatError) as caught:
        manager.load("D01", path, format="safetensors")
    assert caught.value.filename is path
    assert caught.value.dimension == "D01"


@pytest.mark.parametrize("length", [2**64 - 1, 2**63, 2**40, 100_000_001, 1000, 0, 1])
def test_safetensors_header_of_a_wrong_length(
    manager: memmgr.Manager, files: Files, length: int, unchanged: Unchanged
) -> None:
    path = files.raw(struct.pack("<Q", length) + b'{"x":{}}'.ljust(100))
    with unchanged(manager), pytest.raises(memmgr.FormatError):
        manager.load("D01", path, format="safetensors")


def test_safetensors_cut_anywhere(manager: memmgr.Manager, files: Files) -> None:
    whole = files.safetensors({"x": np.arange(4, dtype=np.uint8)}).read_bytes()
    for size in range(1, len(whole)):
        path = files.raw(whole[:size], "cut.safetensors")
        with pytest.raises(memmgr.FormatError):
            manager.load("D01", path, format="safetensors")
        assert manager["D01"].state == "empty"


def _npy(header: bytes, content: bytes = bytes(32), version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version == b"\x01\x00" else "<I", len(header))
    return b"\x93NUMPY" + version + length + header + content


LYING_NPY = {
    "version": _npy(
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (4,), }\n", version=b"\x09\0"
    ),
    "shape too large": _npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (5,), }\n"),
    "shape overflows": _npy(
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296), }\n"
    ),
    "negative shape": _npy(b"{'descr': '<f8', 'fortran_order': False, 'shape': (-4,), }\n"),
    "objects": _npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (4,), }\n"),
    "no shape": _npy(b"{'descr': '<f8', 'fortran_order': False, }\n"),
    "no type": _npy(b"{'fortran_order': False, 'shape': (4,), }\n"),
    "no order": _npy(b"{'descr': '<f8', 'shape': (4,), }\n"),
    "33 axes": _npy(
        b"{'descr': '<f8', 'fortran_order': False, 'shape': (" + b"1, " * 33 + b"), }\n"
    ),
    "code": _npy(b"__import__('os').abort()\n"),
    "empty": _npy(b""),
    "header beyond the end": b"\x93NUMPY\x01\x00\xff\xff{'descr': '<f8'",
    "nothing else": b"\x93NUMPY",
}


@pytest.mark.parametrize("content", LYING_NPY.values(), ids=LYING_NPY)
def test_lying_npy_header(
    manager: memmgr.Manager, files: Files, content: bytes, unchanged: Unchanged
) -> None:
    path = files.raw(content, "lying.npy")
    with unchanged(manager), pytest.raises(memmgr.FormatError) as caught:
        manager.load("D01", path, format="npy")
    assert caught.value.filename is path


def test_npy_cut_anywhere(manager: memmgr.Manager, files: Files) -> None:
    whole = files.npy(np.arange(4)).read_bytes()
    for size in range(1, len(whole)):
        path = files.raw(whole[:size], "cut.npy")
        with pytest.raises(memmgr.FormatError):
            manager.load("D01", path, format="npy")
        assert manager["D01"].state == "empty"


LYING_MANIFESTS: dict[str, bytes] = {
    name: header if isinstance(header, bytes) else json.dumps(header).encode()
    for name, header in LYING_HEADERS.items()
    # The bytes of a raw file need not all be those of a layer.
    if name not in ("a hole", "an unused tail")
} | {"empty": b""}


@pytest.mark.parametrize("content", LYING_MANIFESTS.values(), ids=LYING_MANIFESTS)
def test_lying_manifest(
    manager: memmgr.Manager, files: Files, content: bytes, unchanged: Unchanged
) -> None:
    path, manifest = files.raw(b"abcd"), files.raw(content, "manifest.json")
    with unchanged(manager), pytest.raises(memmgr.FormatError) as caught:
        manager.load("D01", path, manifest=manifest)
    assert caught.value.filename is manifest


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200
)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(data: st.DataObject, files: Any) -> None:
    """R7.5: any bytes changed anywhere: layers within the file, or one of two errors."""
    whole = data.draw(
        st.sampled_from(
            [
                files.safetensors({"x": np.arange(6.0), "y": np.ones((2, 2), np.int8)}, "w.bin"),
                files.npy(np.arange(6.0), "w.npy"),
            ]
        )
    ).read_bytes()
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = files.raw(bytes(damaged), "damaged")
    with memmgr.Manager(1, capacity="1 MiB") as manager:
        try:
            dimension = manager.load(0, path)
        except memmgr.FormatError:
            return
        for name, layer in dimension.layers.items():
            assert layer.offset + layer.length <= len(damaged)
            try:
                assert dimension[name].nbytes == layer.length
            except memmgr.FormatError:
                continue
