"""Saving: what comes back, what is refused, and that a file is the old or the new one, whole."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memmgr
import memmgr.testing
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from memmgr._dtypes import _ML_DTYPES, _NUMPY, numpy_dtype

from .conftest import CAPACITY, MIB, Files, Unchanged

ML_DTYPES = pytest.importorskip("ml_dtypes")
SUFFIXES = (".safetensors", ".npy", ".bin")


def array_of(name: str, shape: tuple[int, ...] = (3, 5)) -> npt.NDArray[Any]:
    """Some array of that type: every bit pattern of it is a value."""
    dtype = numpy_dtype(name, layer="", dimension="")
    count = int(np.prod(shape)) * dtype.itemsize
    content = (np.arange(count) % (2 if name == "BOOL" else 256)).astype(np.uint8)
    return content.view(dtype).reshape(shape)


def same(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """Type, shape and bytes: NaNs are equal to themselves."""
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def unfinished(folder: Path) -> list[Path]:
    return list(folder.glob(".memmgr-*"))


def load(
    manager: memmgr.Manager, path: Path, manifest: Path | None = None, name: str = "D01"
) -> memmgr.Dimension:
    return manager.load(name, path, manifest=manifest, mode="ram")


# What comes back --------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("dtype", [*_NUMPY, *_ML_DTYPES])
def test_every_type_comes_back(
    manager: memmgr.Manager, tmp_path: Path, dtype: str, suffix: str
) -> None:
    path, array = tmp_path / f"a{suffix}", array_of(dtype)
    manifest = tmp_path / "a.json" if suffix == ".bin" else None
    refused = {".safetensors": {"C128"}, ".npy": set(_ML_DTYPES), ".bin": set[str]()}[suffix]
    if dtype in refused:
        with pytest.raises(memmgr.InvalidArgumentError):
            memmgr.save(path, {"data": array})
        assert not path.exists()
        return
    memmgr.save(path, {"data": array}, manifest=manifest)
    assert same(load(manager, path, manifest)["data"], array)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0, 2), (2,) * 8])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_shape_comes_back(
    manager: memmgr.Manager, tmp_path: Path, shape: tuple[int, ...], suffix: str
) -> None:
    path, array = tmp_path / f"a{suffix}", array_of("F32", shape)
    manifest = tmp_path / "a.json" if suffix == ".bin" else None
    if suffix == ".bin" and array.size == 0:
        with pytest.raises(memmgr.InvalidArgumentError, match="empty"):
            memmgr.save(path, array, manifest=manifest)
        return
    memmgr.save(path, array, manifest=manifest)
    assert same(load(manager, path, manifest)["data"], array)


def test_views_are_aligned_to_a_cache_line(manager: memmgr.Manager, tmp_path: Path) -> None:
    """R10.4: every table whose size is a multiple of 64, whatever it is saved with."""
    arrays = {
        "odd": array_of("I8", (3,)),
        "doubles": array_of("F64", (3,)),
        "ids": array_of("I64", (8,)),
        "none": array_of("F32", (0, 4)),
        "table": array_of("F32", (16, 16)),
    }
    memmgr.save(tmp_path / "a.safetensors", arrays)
    memmgr.save(tmp_path / "a.bin", arrays, manifest=tmp_path / "a.json")
    memmgr.save(tmp_path / "a.npy", arrays["table"])
    for index, manifest in enumerate([None, tmp_path / "a.json", None]):
        path = tmp_path / f"a{SUFFIXES[(0, 2, 1)[index]]}"
        dimension = manager.load(index, path, manifest=manifest)
        for name in dimension:
            array = dimension[name]
            assert array.flags.aligned
            if path.suffix != ".safetensors" or name in ("ids", "table"):
                assert array.ctypes.data % 64 == 0 or array.size == 0, name


def test_official_readers_read_it(tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors")
    arrays = {name: array_of(name) for name in [*_NUMPY, *_ML_DTYPES] if name != "C128"}
    memmgr.save(tmp_path / "a.safetensors", arrays, checksums=True)
    read = dict(safetensors.deserialize((tmp_path / "a.safetensors").read_bytes()))
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        assert read[name]["dtype"] == name
        assert read[name]["shape"] == list(array.shape)
        assert bytes(read[name]["data"]) == array.tobytes()
    with safetensors.safe_open(tmp_path / "a.safetensors", "np") as file:
        assert file.metadata().keys() == {f"xxh64:{name}" for name in arrays}
    for name in _NUMPY:
        for array in (arrays.get(name, array_of(name)), np.asfortranarray(array_of(name))):
            memmgr.save(tmp_path / "a.npy", array)
            read_npy = np.load(tmp_path / "a.npy")
            assert same(read_npy, array)
            assert read_npy.flags.f_contiguous == array.flags.f_contiguous


names = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=60
)
any_array = hnp.arrays(
    st.sampled_from([np.dtype(spelling) for name, spelling in _NUMPY.items() if name != "C128"]),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(arrays=st.dictionaries(names, any_array, max_size=8), checksums=st.booleans())
def test_whatever_is_saved_comes_back(
    tmp_path: Path, arrays: dict[str, npt.NDArray[Any]], *, checksums: bool
) -> None:
    path, manifest = tmp_path / "a.safetensors", tmp_path / "a.json"
    arrays.pop("__metadata__", None)
    memmgr.save(path, arrays, checksums=checksums)
    with memmgr.Manager(2, capacity=CAPACITY) as manager:
        first = load(manager, path)
        assert first.layers.keys() == arrays.keys()
        for name, array in arrays.items():
            assert same(first[name], array)
        assert first.verify(checksums=checksums)
        first.save_as(path, checksums=checksums)
        assert load(manager, path, name="D02").layers.keys() == arrays.keys()
        if sum(array.nbytes for array in arrays.values()) == 0:
            return
        memmgr.save(tmp_path / "a.bin", arrays, manifest=manifest, checksums=checksums)
        second = manager["D02"]
        second.reload(tmp_path / "a.bin", manifest=manifest)
        for name, array in arrays.items():
            assert same(second[name], array)
        found = second.verify(checksums=checksums)
        assert found
        assert found.checked_count == (len(arrays) if checksums else 0)


def test_arrays_that_are_not_dense_or_swapped_are_copied(
    manager: memmgr.Manager, tmp_path: Path
) -> None:
    array = np.arange(24, dtype=">i4").reshape(4, 6)[::2, ::-2]
    memmgr.save(tmp_path / "a.safetensors", {"a": array, "f": np.asfortranarray(array)})
    dimension = load(manager, tmp_path / "a.safetensors")
    for name in ("a", "f"):
        assert (dimension[name] == array).all()


def test_dimension_is_saved_with_what_was_written(
    manager: memmgr.Manager, loaded: memmgr.Dimension, tmp_path: Path
) -> None:
    path = tmp_path / "written.safetensors"
    manager["D01"].reload(loaded.path or "", mode="ram")
    with loaded.write() as w:
        w["ids"] *= 3
    loaded.save_as(path, checksums=True)
    copy = manager.load("D02", path)
    assert (copy["ids"] == 3 * np.arange(1000)).all()
    assert same(copy["table"], loaded["table"])
    assert copy.verify(checksums=True).checked_count == 2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_dimension_is_saved_in_its_own_format(
    manager: memmgr.Manager, tmp_path: Path, suffix: str
) -> None:
    """Whatever the new file is called; and what a raw file cannot say stands in a manifest."""
    path, manifest = tmp_path / f"a{suffix}", tmp_path / "a.json"
    described = None if suffix == ".safetensors" else manifest
    memmgr.save(path, array_of("I16"), manifest=described)
    dimension = manager.load("D01", path, manifest=manifest if suffix == ".bin" else None)
    described = None if suffix == ".safetensors" else tmp_path / "b.json"
    dimension.save_as(tmp_path / "b", manifest=described, checksums=True)
    copy = manager.load("D02", tmp_path / "b", manifest=described if suffix == ".bin" else None)
    assert copy.stats().format == dimension.stats().format
    assert same(copy["data"], dimension["data"])
    assert copy.verify(checksums=True, manifest=described).checked_count == 1


def test_notes_of_other_programs_stay(manager: memmgr.Manager, files: Files) -> None:
    metadata = {"format": "pt", 'quote " \\ \n é 😀': "\x01", "xxh64:a": "0" * 16}
    layer = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    path = files.safetensors_header({"__metadata__": metadata, "a": layer}, b"data", pad=3)
    dimension = manager.load("D01", path)
    dimension.save_as(files.folder / "b.safetensors")
    content = (files.folder / "b.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert (8 + size) % 64 == 0
    del metadata["xxh64:a"]
    assert json.loads(content[8 : 8 + size])["__metadata__"] == metadata


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_file_that_is_mapped_here_is_refused(
    manager: memmgr.Manager, files: Files, mode: Any, unchanged: Unchanged
) -> None:
    """By whatever manager and under whatever name; the error says by which dimension."""
    path = files.npy(np.zeros(512), "mapped.npy")
    os.link(path, files.folder / "link.npy")
    manager.load("D02", path, mode=mode)
    other = manager.load("D03", files.npy(np.ones(4), "other.npy"))
    for name in (path, files.folder / "link.npy"):
        with unchanged(manager), pytest.raises(memmgr.AlreadyLoadedError, match="D02") as info:
            memmgr.save(name, np.ones(3))
        assert info.value.dimension == "D02"
        assert info.value.operation == "save"
        assert info.value.filename == name
        with pytest.raises(memmgr.AlreadyLoadedError, match="D02"):
            other.save_as(name)
    assert (np.load(path) == 0).all()
    assert unfinished(files.folder) == []
    manager["D02"].unload()
    other.save_as(path)
    assert (np.load(path) == 1).all()


def test_mode_ram_leaves_the_file_free(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.zeros(4))
    dimension = manager.load("D01", path, mode="ram")
    with dimension.write() as w:
        w["data"] = 5
    dimension.save_as(path)
    assert (np.load(path) == 5).all()


def test_what_a_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    one, two = {"data": np.ones(3)}, {"a": np.ones(3), "b": np.ones(3)}
    manifest = tmp_path / "m.json"
    cases: list[tuple[str, Any, dict[str, Any]]] = [
        ("a.npy", two, {}),
        ("a.npy", {"other": np.ones(3)}, {}),
        ("a.npy", one, {"checksums": True}),
        ("a.bin", two, {}),
        ("a.bin", one, {"checksums": True}),
        ("a.bin", {}, {}),
        ("a.safetensors", one, {"manifest": manifest}),
        ("a.safetensors", {"": np.ones(3)}, {}),
        ("a.safetensors", {"é" * 128: np.ones(3)}, {}),
        ("a.safetensors", {"a": np.array(["text"])}, {}),
        ("a.safetensors", {"a": np.array([object()])}, {}),
        ("a.safetensors", {"a": np.array([1], "M8[s]")}, {}),
        ("a.safetensors", {"a\0b": np.ones(3)}, {}),
        ("a.safetensors", one, {"format": "hdf5"}),
        ("a.bin", one, {"manifest": tmp_path / "a.bin"}),
        ("a\0.bin", one, {}),
    ]
    for name, arrays, options in cases:
        with pytest.raises(memmgr.InvalidArgumentError):
            memmgr.save(tmp_path / name, arrays, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "array",
    [
        np.array(["2020"], "M8[D]"),
        np.array([object()]),
        np.array(["text"]),
        np.zeros((1,) * 33),
    ],
    ids=["date", "object", "text", "axes"],
)
def test_one_array_of_many_that_cannot_be_saved_is_named(
    tmp_path: Path, array: npt.NDArray[Any]
) -> None:
    arrays = {f"column{i}": np.zeros(2) for i in range(100)} | {"when": array}
    with pytest.raises(memmgr.InvalidArgumentError, match="layer 'when'") as caught:
        memmgr.save(tmp_path / "a.safetensors", arrays)
    assert caught.value.layer == "when"
    assert not any(tmp_path.iterdir())


def test_names_that_are_no_files_are_refused(tmp_path: Path) -> None:
    """R9.3."""
    (tmp_path / "folder").mkdir()
    for name, code in [
        (tmp_path / "folder", errno.EISDIR),
        (tmp_path / "none" / "a.npy", errno.ENOENT),
    ]:
        with pytest.raises(memmgr.FileAccessError) as info:
            memmgr.save(name, np.ones(3))
        assert info.value.filename == name
        if os.name != "nt":
            assert info.value.errno == code


@pytest.mark.skipif(os.name == "nt", reason="Windows lets few users make links")
def test_symbolic_link_is_neither_followed_nor_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "target.npy", tmp_path / "link.npy"
    np.save(target, np.zeros(3))
    for where in (target, tmp_path / "nowhere"):
        link.unlink(missing_ok=True)
        link.symlink_to(where)
        with pytest.raises(memmgr.FileAccessError, match="symbolic link") as info:
            memmgr.save(link, np.ones(3))
        assert info.value.errno == errno.ELOOP
        assert link.is_symlink()
    assert (np.load(target) == 0).all()
    assert not (tmp_path / "nowhere").exists()
    # A folder that is a link is a folder.
    (tmp_path / "real").mkdir()
    (tmp_path / "linked").symlink_to("real")
    memmgr.save(tmp_path / "linked" / "a.npy", np.ones(3))
    assert (tmp_path / "real" / "a.npy").exists()


def test_manifest_is_never_the_file(tmp_path: Path) -> None:
    """However its name is spelled: the data is what it was."""
    path, arrays = tmp_path / "a.bin", {"x": np.ones(3), "y": np.zeros(2)}
    (tmp_path / "folder").mkdir()
    spellings = [str(path), f"{tmp_path}/./a.bin", f"{tmp_path}/folder/../a.bin"]
    if os.name != "nt":
        (tmp_path / "linked").symlink_to(tmp_path)
        spellings.append(f"{tmp_path}/linked/a.bin")
    for before in (None, b"old"):
        for spelling in spellings:
            if before is not None:
                path.write_bytes(before)
            with pytest.raises(memmgr.InvalidArgumentError, match="the name of the file"):
                memmgr.save(path, arrays, manifest=spelling)
            assert (path.read_bytes() if path.exists() else None) == before
    assert unfinished(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="the new file cannot be linked while it is written")
def test_manifest_that_leads_to_the_new_file_does_not_replace_it(tmp_path: Path) -> None:
    """As in a folder that takes `A` for `a`: here by a link that comes up meanwhile."""
    path, manifest = tmp_path / "a.bin", tmp_path / "A.BIN"
    arrays = {"x": np.ones(3), "y": np.zeros(2)}

    def link(_done: int, _total: int) -> None:
        if not manifest.exists():
            os.link(unfinished(tmp_path)[0], manifest)

    with pytest.raises(memmgr.InvalidArgumentError, match="in place without a manifest"):
        memmgr.save(path, arrays, manifest=manifest, progress=link)
    assert path.samefile(manifest)
    assert path.read_bytes()[:24] == arrays["x"].tobytes()
    assert unfinished(tmp_path) == []


@pytest.mark.parametrize("after", [0, 1])
def test_file_and_manifest_are_published_together(
    manager: memmgr.Manager, tmp_path: Path, after: int
) -> None:
    path, manifest = tmp_path / "t.bin", tmp_path / "t.json"
    old, new = np.arange(6, dtype="f4"), np.arange(9, dtype="f8")
    memmgr.save(path, {"t": old, "x": np.zeros(2)}, manifest=manifest)
    with (
        memmgr.testing.fail("sync_folder", errno="EIO", after=after),
        pytest.raises(memmgr.FileAccessError, match="in place") as info,
    ):
        memmgr.save(path, {"t": new, "x": np.zeros(2)}, manifest=manifest)
    assert info.value.filename == (manifest if after else path)
    assert same(load(manager, path, manifest)["t"], new)


def test_error_names_the_file_that_it_is_about(tmp_path: Path) -> None:
    """Also if the name of the one ends as the name of the other."""
    arrays = {"x": np.ones(3), "y": np.zeros(2)}
    folder = tmp_path / "m.json"
    folder.mkdir()
    with in_folder(tmp_path):
        for path, manifest in [("data/m.json", "m.json"), ("m.json/a", "a")]:
            Path(path).parent.mkdir(exist_ok=True)
            blocked = Path(manifest)
            if not blocked.exists():
                blocked.mkdir()
            with pytest.raises(memmgr.FileAccessError, match="is a directory") as info:
                memmgr.save(path, arrays, format="raw", manifest=manifest)
            assert info.value.filename == manifest


@pytest.mark.skipif(os.name == "nt", reason="Windows has permissions of another kind")
@pytest.mark.parametrize("as_root", [True, False])
def test_write_protected_file_is_not_replaced(tmp_path: Path, *, as_root: bool) -> None:
    """Neither for its owner nor for root, as whoever takes the right away expects."""
    if as_root and os.geteuid() != 0:
        pytest.skip("not run by root")
    code = """
        import errno, os, sys, numpy, memmgr
        os.chdir(sys.argv[1])
        if sys.argv[2] == "user" and os.geteuid() == 0:
            os.chown(".", 65534, 65534)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        memmgr.save("golden.npy", numpy.zeros(3))
        os.chmod("golden.npy", 0o444)
        for arguments in ({"path": "golden.npy"}, {"path": "b.npy", "manifest": "golden.npy"}):
            try:
                memmgr.save(arrays=numpy.ones(3), **arguments)
            except memmgr.FileAccessError as error:
                print(errno.errorcode[error.errno], error.filename, "write-protected" in str(error))
        print(numpy.load("golden.npy").sum(), os.listdir())
        os.chmod("golden.npy", 0o644)
        memmgr.save("golden.npy", numpy.ones(3))
    """
    (tmp_path / "own").mkdir()
    tmp_path.chmod(0o755)
    result = run_anywhere(code, tmp_path / "own", "root" if as_root else "user")
    refusal = "EACCES golden.npy True"
    assert result.stdout.splitlines() == [refusal, refusal, "0.0 ['golden.npy']"], result.stderr
    assert result.returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows has permissions of another kind")
def test_file_of_another_user_is_not_replaced(tmp_path: Path) -> None:
    """One that this user may read only, and one that a sticky folder keeps for its owner."""
    if os.geteuid() != 0:
        pytest.skip("takes two users")
    code = """
        import errno, os, sys, numpy, memmgr
        os.chdir(sys.argv[1])
        arrays = {"x": numpy.ones(3), "y": numpy.ones(2)}
        for folder, mode in (("open", 0o644), ("sticky", 0o666)):
            os.mkdir(folder)
            os.chmod(folder, 0o777 if folder == "open" else 0o1777)
            memmgr.save(f"{folder}/a.npy", numpy.zeros(3))
            os.chmod(f"{folder}/a.npy", mode)
            os.chown(f"{folder}/a.npy", 4711, 4711)
            os.chown(folder, 4712, 4712)
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        memmgr.save("sticky/own.bin", numpy.zeros(1))
        for folder in ("open", "sticky"):
            target = f"{folder}/a.npy"
            try:
                memmgr.save(target, numpy.ones(3))
            except memmgr.FileAccessError as error:
                print(errno.errorcode[error.errno], error.filename, numpy.load(target).sum())
            try:
                memmgr.save(f"{folder}/own.bin", arrays, manifest=target)
            except memmgr.FileAccessError as error:
                print(errno.errorcode[error.errno], error.filename, sorted(os.listdir(folder)))
        print(os.path.getsize("sticky/own.bin"))
    """
    (tmp_path / "own").mkdir()
    tmp_path.chmod(0o755)
    result = run_anywhere(code, tmp_path / "own")
    assert result.stdout.splitlines() == [
        "EACCES open/a.npy 0.0",
        "EACCES open/a.npy ['a.npy']",
        "EPERM sticky/a.npy 0.0",
        "EPERM sticky/a.npy ['a.npy', 'own.bin']",
        "8",
    ], result.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows has permissions of another kind")
def test_folder_that_may_not_be_read_takes_a_file(tmp_path: Path) -> None:
    code = """
        import os, sys, numpy, memmgr
        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.chown("drop", 4711, 4711)
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        for value in (1, 2):
            arrays = {"x": numpy.full(3, value), "y": numpy.ones(2)}
            memmgr.save("drop/a.bin", arrays, manifest="drop/a.json")
        manager = memmgr.Manager(1)
        print(manager.load(0, "drop/a.bin", manifest="drop/a.json")["x"])
    """
    tmp_path.chmod(0o755)
    (tmp_path / "drop").mkdir()
    (tmp_path / "drop").chmod(0o1733)
    result = run_anywhere(code, tmp_path)
    assert (result.returncode, result.stdout) == (0, "[2 2 2]\n"), result.stderr
    assert sorted(path.name for path in (tmp_path / "drop").iterdir()) == ["a.bin", "a.json"]


def access_list(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX access control list, as Linux keeps it: entries of tag, rights and number."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


UNNAMED = 0xFFFFFFFF
ACCESS = "system.posix_acl_access"
DEFAULT = "system.posix_acl_default"


def list_for(user: int, named: int, group: int, mask: int) -> bytes:
    return access_list(
        (0x01, 6, UNNAMED), (0x02, named, user), (0x04, group, UNNAMED), (0x10, mask, UNNAMED),
        (0x20, 0, UNNAMED),
    )  # fmt: skip


def set_list(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            pytest.skip("the file system keeps no such lists")
        raise


@pytest.mark.skipif(sys.platform != "linux", reason="lists of Linux")
def test_access_list_of_a_file_is_kept(tmp_path: Path) -> None:
    """The group has no rights, though the mode, which shows the list's mask, says rw."""
    path, expected = tmp_path / "a.npy", list_for(1111, 6, 0, 6)
    memmgr.save(path, np.zeros(3))
    set_list(path, ACCESS, expected)
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    memmgr.save(path, np.ones(3))
    assert os.getxattr(path, ACCESS) == expected
    assert stat.S_IMODE(path.stat().st_mode) == 0o660


@pytest.mark.skipif(sys.platform != "linux", reason="lists of Linux")
def test_folder_gives_no_rights_that_the_old_file_withheld(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    memmgr.save(path, np.zeros(3))
    path.chmod(0o640)
    set_list(tmp_path, DEFAULT, list_for(1111, 6, 7, 7))
    memmgr.save(path, np.ones(3))
    assert os.listxattr(path) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    # A first version has what the folder gives.
    memmgr.save(tmp_path / "b.npy", np.ones(3))
    assert os.listxattr(tmp_path / "b.npy") == [ACCESS]


@pytest.mark.skipif(sys.platform != "linux", reason="lists of Linux")
def test_list_that_cannot_be_kept_leaves_rights_to_the_owner_only(tmp_path: Path) -> None:
    """Who saves is not in the file's group: nobody gets rights that the list withheld."""
    if os.geteuid() != 0:
        pytest.skip("takes two users")
    code = """
        import os, sys, numpy, memmgr
        os.chdir(sys.argv[1])
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        memmgr.save("a.npy", numpy.ones(3))
    """
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    tmp_path.chmod(0o755)
    path = folder / "a.npy"
    memmgr.save(path, np.zeros(3))
    os.chown(path, 4711, 4711)
    set_list(path, ACCESS, list_for(65534, 6, 0, 6))
    result = run_anywhere(code, folder)
    assert result.returncode == 0, result.stderr
    assert (np.load(path) == 1).all()
    assert os.listxattr(path) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(sys.platform != "linux", reason="attributes of Linux")
def test_notes_of_users_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    memmgr.save(path, np.zeros(3))
    notes = {"user.origin": b"audited", "user.empty": b"", "user.\u00e9": bytes(range(256))}
    for name, value in notes.items():
        set_list(path, name, value)
    memmgr.save(path, np.ones(3))
    assert {name: os.getxattr(path, name) for name in os.listxattr(path)} == notes


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o666, 0o200, 0o764])
def test_mode_of_a_file_is_kept(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a.npy"
    memmgr.save(path, np.ones(3))
    umask = os.umask(0o022)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    path.chmod(mode)
    seen: set[int] = set()

    def look(_done: int, _total: int) -> None:
        # The new bytes are never more open than the old file was.
        seen.update(stat.S_IMODE(p.stat().st_mode) for p in unfinished(tmp_path))

    memmgr.save(path, np.zeros(3), progress=look)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert seen == {mode}


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs to be root"
)
def test_owner_of_a_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    memmgr.save(path, np.ones(3))
    os.chown(path, 12345, 54321)
    memmgr.save(path, np.zeros(3))
    assert (path.stat().st_uid, path.stat().st_gid) == (12345, 54321)


# Progress and cancelling ------------------------------------------------------------------------


def test_progress_is_told_and_can_stop(manager: memmgr.Manager, tmp_path: Path) -> None:
    table = np.zeros(5 * MIB, np.uint8)
    path = tmp_path / "a.safetensors"
    memmgr.save(path, {"a": table})
    seen: list[tuple[int, int]] = []
    memmgr.save(path, {"a": table}, checksums=True, progress=lambda *x: seen.append(x))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[0] == (0, seen[-1][0])
    assert seen[-1][1] >= 2 * table.nbytes
    before = path.read_bytes()
    for stop_at in range(len(seen)):
        calls = iter(range(len(seen) + 1))
        with pytest.raises(memmgr.CancelledError) as info:
            memmgr.save(
                path,
                {"a": table + 1},
                checksums=True,
                progress=lambda *_, calls=calls, stop_at=stop_at: next(calls) != stop_at,
            )
        assert info.value.filename == path
        assert unfinished(tmp_path) == []
    assert path.read_bytes() == before


@pytest.mark.parametrize("raised", [RuntimeError("mine"), KeyboardInterrupt()])
def test_what_progress_raises_stops_it(
    manager: memmgr.Manager,
    loaded: memmgr.Dimension,
    tmp_path: Path,
    raised: BaseException,
    unchanged: Unchanged,
) -> None:
    def fail(_done: int, _total: int) -> None:
        raise raised

    with unchanged(manager), pytest.raises(type(raised)) as info:
        loaded.save_as(tmp_path / "never", progress=fail)
    assert info.value is raised
    assert not (tmp_path / "never").exists()
    assert unfinished(tmp_path) == []


@pytest.mark.skipif(os.name == "nt", reason="the signal is one of POSIX")
def test_ctrl_c_is_heard_during_a_save(tmp_path: Path) -> None:
    code = """
        import os, signal, sys, threading, numpy, memmgr
        table = numpy.zeros(64 << 20, numpy.uint8)
        # A shell has its background jobs ignore it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            for _ in range(10_000):
                memmgr.save(sys.argv[1], table)
        except KeyboardInterrupt:
            print("heard")
    """
    result = run_python(code, tmp_path / "a.bin")
    assert result.stdout == "heard\n"
    assert unfinished(tmp_path) == []


@contextlib.contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run_anywhere(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """As another user may run it: everything is imported before the process becomes that user."""
    return run_python(code, *arguments, cwd="/")


def run_python(code: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


# Exhaustion and faults --------------------------------------------------------------------------


@pytest.mark.skipif(os.name == "nt", reason="the limit is one of POSIX")
def test_r7_2_limit_of_file_sizes_is_an_error_and_no_signal(tmp_path: Path) -> None:
    code = """
        import errno, os, resource, signal, sys, numpy, memmgr
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        memmgr.save(sys.argv[1], numpy.zeros(10))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        try:
            memmgr.save(sys.argv[1], numpy.ones(1 << 20))
        except memmgr.DiskFullError as error:
            print(errno.errorcode[error.errno], error.requested, numpy.load(sys.argv[1]).sum())
            print(os.listdir(os.path.dirname(sys.argv[1])), error.filename == sys.argv[1])
    """
    result = run_python(code, tmp_path / "a.npy")
    expected = f"EFBIG {(8 << 20) + 128} 0.0\n['a.npy'] True\n"
    assert (result.returncode, result.stdout) == (0, expected), result.stderr


def test_r7_2_full_disk_is_an_error_before_a_byte_is_written(tmp_path: Path) -> None:
    """R7.2, R9.3: a file system of 1 MiB, mounted where only this test sees it."""
    if shutil.which("unshare") is None:
        pytest.skip("no unshare here")
    code = """
        import errno, os, sys, numpy, memmgr
        os.chdir(sys.argv[1])
        memmgr.save("a.npy", numpy.zeros(1000))
        seen = []
        try:
            memmgr.save("a.npy", numpy.ones(1 << 20), progress=lambda *x: seen.append(x))
        except memmgr.DiskFullError as error:
            print(errno.errorcode[error.errno], error.requested, seen, os.listdir())
        manager = memmgr.Manager(1)
        dimension = manager.load(0, "a.npy")
        try:
            for n in range(1000):
                dimension.save_as(f"copy-{n}")
        except memmgr.DiskFullError as error:
            print(n > 10, error.dimension, len(os.listdir()) == n + 1)
        sparse = open("sparse", "wb")
        sparse.truncate(1 << 21)
        sparse.close()
        try:
            manager["D01"].reload("sparse", mode="r+")
        except memmgr.DiskFullError as error:
            print(error.requested, dimension["data"].sum())
        manager.close()
    """
    mount = 'mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"'
    command = ["unshare", "-rm", "sh", "-c", mount, str(tmp_path)]
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    result = subprocess.run(
        [*command, sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        f"ENOSPC {(8 << 20) + 128} [] ['a.npy']",
        "True D01 True",
        f"{2 << 20} 0.0",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a mapped file cannot be cut on Windows")
def test_r7_5_pages_that_are_gone_are_an_error_and_no_signal(
    manager: memmgr.Manager, tmp_path: Path, unchanged: Unchanged
) -> None:
    """R7.5, R9.1: the error says which layer, and where in the file."""
    path, target = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    arrays = {"first": np.zeros(1 << 18, np.uint8), "second": np.zeros(1 << 18, np.uint8)}
    memmgr.save(path, arrays)
    memmgr.save(target, {"old": np.zeros(3)})
    before = target.read_bytes()
    dimension = manager.load("D01", path)
    os.truncate(path, (1 << 18) + (1 << 17))
    for checksums in (False, True):
        with unchanged(manager), pytest.raises(memmgr.FaultedError) as info:
            dimension.save_as(target, checksums=checksums)
        assert (info.value.dimension, info.value.layer) == ("D01", "second")
        assert info.value.offset == (1 << 18) + (1 << 17)
    # An array of it is no better.
    with pytest.raises(memmgr.FaultedError) as info:
        memmgr.save(target, {"copy": dimension["second"]})
    assert info.value.layer == "copy"
    assert target.read_bytes() == before
    assert unfinished(tmp_path) == []


def test_descriptors_and_memory_are_given_back(
    manager: memmgr.Manager, loaded: memmgr.Dimension, tmp_path: Path, unchanged: Unchanged
) -> None:
    with unchanged(manager):
        for n in range(50):
            loaded.save_as(tmp_path / f"{n % 3}.safetensors", checksums=True)
            assert loaded.verify(checksums=True)
    assert len(list(tmp_path.iterdir())) == 4


# Threads and processes --------------------------------------------------------------------------


def test_r4_3_writers_wait_for_a_save_and_readers_do_not(
    manager: memmgr.Manager, loaded: memmgr.Dimension, tmp_path: Path
) -> None:
    """R4.3: what is saved is what was there between two writes."""
    loaded.reload(loaded.path or "", mode="ram")
    with loaded.write() as w:
        w["table"] = w["ids"] = 0
    stop = threading.Event()

    def write() -> None:
        value = 0
        while not stop.is_set():
            value += 1
            with loaded.write(timeout=30) as w:
                w["table"] = value
                w["ids"] = value

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            loaded.save_as(tmp_path / "copy.safetensors")
            copy = manager.load("D02", tmp_path / "copy.safetensors", mode="ram")
            values = {float(copy[name].flat[0]) for name in copy}
            assert len(values) == 1
            assert all((copy[name] == values.copy().pop()).all() for name in copy)
            del copy
            manager["D02"].unload()
    finally:
        stop.set()
        writer.join()

    def hold(_done: int, _total: int) -> None:
        assert loaded["ids"].size == 1000
        # It would wait for its own caller, whatever the timeout.
        with pytest.raises(memmgr.ViewsHeldError, match="inside a call"), loaded.write():
            pass

    loaded.save_as(tmp_path / "copy.safetensors", progress=hold)


def test_savers_of_one_name_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    errors: list[BaseException] = []

    def save(value: int) -> None:
        try:
            for _ in range(10):
                memmgr.save(path, {"a": np.full(100_000, value)}, checksums=True)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=save, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert unfinished(tmp_path) == []
    with memmgr.Manager(1) as manager:
        dimension = manager.load(0, path)
        assert dimension.verify(checksums=True)
        assert np.unique(dimension["a"]).size == 1


SAVER = """
    import os, sys, numpy, memmgr
    path = sys.argv[1]
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            value = int(line)
            while True:
                value += 1
                table = numpy.full(200_000, value)
                memmgr.save(path, {"a": table, "b": table}, checksums=True)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)
"""


@pytest.fixture
def saver(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Starts a saver for each line, and says its process id, then that it has ended."""
    if not hasattr(os, "fork"):
        pytest.skip("the system has no fork")
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SAVER), str(tmp_path / "a.safetensors")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield process
    process.communicate(timeout=30)


@pytest.mark.parametrize("rounds", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_killed_saver_leaves_the_old_file_or_the_new_one(
    saver: subprocess.Popen[str], tmp_path: Path, rounds: int
) -> None:
    """R7.2, and the worst that can happen to a save: SIGKILL at any moment."""
    assert saver.stdin is not None
    assert saver.stdout is not None
    path = tmp_path / "a.safetensors"
    memmgr.save(path, {"a": np.zeros(1, int), "b": np.zeros(1, int)}, checksums=True)
    chance = random.Random(4711)
    interrupted = last = 0
    versions = set()
    with memmgr.Manager(1, capacity="4 MiB") as manager:
        dimension = manager.load(0, path, mode="ram")
        for _ in range(rounds):
            saver.stdin.write(f"{last}\n")
            saver.stdin.flush()
            child = int(saver.stdout.readline())
            time.sleep(chance.uniform(0, 0.04))
            os.kill(child, signal.SIGKILL)
            assert saver.stdout.readline() == "ended\n"
            dimension.reload(path, mode="ram")
            assert dimension.verify(checksums=True).checked_count == 2
            (last,) = set(np.unique(dimension["a"])) | set(np.unique(dimension["b"]))
            versions.add(int(last))
            leftovers = unfinished(tmp_path)
            assert len(leftovers) <= 1
            interrupted += len(leftovers)
            for leftover in leftovers:
                leftover.unlink()
    # Some were killed in the middle, and some got to the end.
    assert interrupted > rounds // 10
    assert len(versions) > rounds // 10
