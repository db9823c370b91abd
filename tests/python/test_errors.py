"""R7.1, R9.1–R9.3: one class per status, and nothing lost when an error is pickled or copied."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import sys
from pathlib import Path

import memmgr
import numpy as np
import pytest
from memmgr._errors import CLASSES

from .conftest import CAPACITY, Files, Unchanged

HEADER = Path(__file__).parents[2] / "include" / "memmgr.h"
DETAIL = {
    "operation": "load",
    "dimension": "D01",
    "layer": "weights",
    "requested": 3,
    "used": 2,
    "limit": 1,
    "limit_kind": "budget",
    "offset": 7,
    "views": 4,
    "system_code": errno.ENOENT,
    "errno": errno.ENOENT,
    "strerror": "No such file or directory",
    "filename": Path("a.npy"),
}
BUILT_INS = {
    "NotLoadedError": LookupError,
    "UnknownDimensionError": KeyError,
    "UnknownLayerError": KeyError,
    "OutOfBoundsError": IndexError,
    "ViewsHeldError": BufferError,
    "WaitTimeoutError": TimeoutError,
    "DiskFullError": OSError,
    "FileAccessError": OSError,
    "FormatError": ValueError,
    "InvalidArgumentError": ValueError,
}
every_class = pytest.mark.parametrize(
    "cls", [memmgr.MemmgrError, *CLASSES.values()], ids=lambda cls: cls.__name__
)


def test_r7_1_every_status_of_the_header_has_a_class() -> None:
    """R7.1."""
    if not HEADER.exists():
        pytest.skip("the header is not beside the tests")
    statuses = re.findall(r"^    MEMMGR_ERR_(\w+) = ", HEADER.read_text(), re.MULTILINE)
    assert {status.lower() for status in statuses} == CLASSES.keys()


@every_class
def test_class_is_memory_error_and_what_python_would_catch(cls: type[memmgr.MemmgrError]) -> None:
    assert cls.__module__ == "memmgr"
    assert getattr(memmgr, cls.__name__) is cls
    assert issubclass(cls, MemoryError)
    assert issubclass(cls, BUILT_INS.get(cls.__name__, MemoryError))
    assert cls.__doc__


@every_class
@pytest.mark.parametrize(
    "again",
    [
        *(
            lambda e, p=p: pickle.loads(pickle.dumps(e, p))
            for p in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
        copy.copy,
        copy.deepcopy,
    ],
    ids=[*(f"pickle{p}" for p in range(pickle.HIGHEST_PROTOCOL + 1)), "copy", "deepcopy"],
)
def test_every_error_survives(cls: type[memmgr.MemmgrError], again: object) -> None:
    error = cls("no such thing", **DETAIL)  # type: ignore[arg-type]
    error.__dict__["mine"] = "kept"
    twin = again(error)  # type: ignore[operator]
    assert type(twin) is cls
    assert str(twin) == str(error) == "no such thing"
    assert twin.args == error.args == ("no such thing",)
    for name, value in DETAIL.items():
        assert getattr(twin, name) == getattr(error, name) == value, name
    assert vars(twin)["mine"] == "kept"
    assert twin.status == cls.status


def test_error_of_one_word_has_all_fields() -> None:
    error = memmgr.WaitTimeoutError("late")
    assert str(error) == "late"
    assert (error.errno, error.filename, error.views, error.dimension) == (None, None, 0, None)


def test_r9_1_dimension_and_layer_are_in_the_message(loaded: memmgr.Dimension) -> None:
    """R9.1."""
    with pytest.raises(memmgr.UnknownLayerError) as caught:
        loaded["nope"]
    assert caught.value.dimension == "D01"
    assert caught.value.layer == "nope"
    assert "D01" in str(caught.value)
    assert "nope" in str(caught.value)
    assert caught.value.operation == "acquire"


def test_r9_2_limit_errors_tell_requested_used_and_limit(
    files: Files, unchanged: Unchanged
) -> None:
    """R9.2, R2.3: in the fields and in the sentence."""
    path = files.npy(np.zeros(1000))
    with memmgr.Manager(["a", "b"], capacity="1 MiB", limit="2 MiB") as manager:
        dimension = manager.load("a", path)
        held = dimension["data"]
        with unchanged(manager), pytest.raises(memmgr.LimitExceededError) as caught:
            dimension.reload(files.raw(b"x", "x.bin"))
        error = caught.value
        assert (error.requested, error.used, error.limit) == (2**20, 2**21, 2**21)
        assert error.limit_kind == "budget"
        for number in (2**20, 2**21):
            assert str(number) in str(error)
        assert "a" in str(error)
        assert held.sum() == 0
        assert manager.stats().refusals == 1


def test_r9_3_file_errors_tell_system_code_and_file(
    manager: memmgr.Manager, tmp_path: Path, unchanged: Unchanged
) -> None:
    """R9.3, R7.3: errno, its text, and the file as the caller named it."""
    path = tmp_path / "missing.npy"
    with unchanged(manager), pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", path)
    error = caught.value
    assert error.system_code != 0
    assert error.errno == errno.ENOENT
    assert error.filename is path
    assert error.strerror
    assert "missing.npy" in str(error)
    assert error.dimension == "D01"
    assert isinstance(error, OSError)


def test_file_name_that_is_bytes_is_told_as_bytes(manager: memmgr.Manager, tmp_path: Path) -> None:
    path = str(tmp_path / "missing").encode()
    with pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", path)
    assert caught.value.filename is path


def test_errors_of_two_threads_do_not_mix(manager: memmgr.Manager) -> None:
    from concurrent.futures import ThreadPoolExecutor

    def fail(name: str) -> str:
        with pytest.raises(memmgr.UnknownDimensionError) as caught:
            manager[name]
        return str(caught.value)

    names = [f"thread-{number}" for number in range(200)]
    with ThreadPoolExecutor(16) as pool:
        for name, message in zip(names, pool.map(fail, names), strict=True):
            assert name in message


def test_names_are_seen_and_not_obeyed(files: Files) -> None:
    """Wherever Python puts a name into words: reprs, its own messages, what verify found."""
    name, layer = "D\x1b[31m", "\x1b]0;owned\x07"
    seen = r"D\x1b[31m"
    with memmgr.Manager([name], capacity="1 MiB", track_views=True) as manager:
        dimension = manager.load(0, files.safetensors({layer: np.zeros(2, np.float32)}), mode="c")
        held = dimension[layer]
        words = [repr(dimension), *map(str, dimension.holders()), repr(dimension.write())]
        del held
        for call in (
            lambda: dimension.view(0, 1, writable=True) and dimension.view(2**64),
            lambda: dimension.write()["x"],
            lambda: dimension["\x1b"],
            lambda: manager.load(0, files.raw(b"x", "x.bin")),
        ):
            with pytest.raises(memmgr.MemmgrError) as caught:
                call()
            words.append(str(caught.value))
        for text in words:
            assert seen in text
            assert text.isprintable(), text
        assert dimension.holders() == []
    found = memmgr.Verification(frozenset(["corrupt"]), 1, None, None, 1, 0, (layer,))  # type: ignore[arg-type]
    assert str(found) == r"corrupt (\x1b]0;owned\x07)"


def test_reason_is_there_however_the_names_are(manager: memmgr.Manager, files: Files) -> None:
    header = {"a\0\x1bb": {"dtype": "U8", "shape": [8], "data_offsets": [0, 8]}}
    nul = files.safetensors_header(header, bytes(8))
    with pytest.raises(memmgr.FormatError) as caught:
        manager.load(0, nul)
    assert "layer's name has a NUL inside: at byte " in str(caught.value)
    assert caught.value.layer == r"a\x00\x1bb"
    large = os.path.join(files.folder, *["."] * 600, "large.npy")
    np.save(files.folder / "large.npy", np.zeros(CAPACITY))
    with pytest.raises(memmgr.LimitExceededError) as refused:
        manager.load(0, large)
    message = str(refused.value)
    assert re.search(
        r"\./\.\.\..*large\.npy': .*: requested \d+ bytes, used 0, limit \d+$", message
    )
    assert len(message) < 1024
    assert refused.value.filename is large


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names are Unicode there")
def test_name_that_is_not_text_is_text_in_words(manager: memmgr.Manager, files: Files) -> None:
    path = os.fsencode(files.npy(np.zeros(8))).replace(b"array", b"caf\xe9")
    os.rename(files.folder / "array.npy", path)
    dimension = manager.load(0, path)
    shown = os.path.join(files.folder, r"caf\xe9.npy")
    assert manager.dump()["dimensions"][0]["loaded"]["file"]["name"] == shown
    with pytest.raises(memmgr.AlreadyLoadedError) as caught:
        manager.load(0, path)
    assert f"'{shown}'" in str(caught.value)
    assert caught.value.filename is path
    str(caught.value).encode()
    assert os.fsencode(dimension.path or "") == path
