"""What became of a file: told when asked, never an error by itself; and checksums."""

from __future__ import annotations

import gc
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from memmgr._verify import CHANGES

from .conftest import MIB, Files, Unchanged
from .test_commands import _invoke

posix_only = pytest.mark.skipif(os.name == "nt", reason="Windows keeps mapped files from it")


@pytest.fixture
def path(files: Files) -> Path:
    """Three layers with their checksums."""
    path = files.folder / "saved.safetensors"
    arrays: dict[str, npt.NDArray[Any]] = {
        'é"': np.arange(1000, dtype=np.float32),
        "b": np.arange(7, dtype=np.int8),
        "none": np.zeros((0, 3)),
    }
    memmgr.save(path, arrays, checksums=True)
    return path


def touch(path: Path, seconds: int = 1_000_000_000) -> None:
    os.utime(path, ns=(seconds * 10**9, seconds * 10**9))


def damage(path: Path, offset: int = -1) -> None:
    """Changes a byte, and the time with it."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 0x40
    with open(path, "r+b") as file:
        file.write(content)
    touch(path)


@pytest.mark.parametrize("mode", ["r", "c", "r+", "ram"])
def test_unchanged_file(
    manager: memmgr.Manager, path: Path, mode: Any, unchanged: Unchanged
) -> None:
    """R9.5: the numbers are those of `stat`."""
    dimension = manager.load("D01", path, mode=mode)
    with unchanged(manager):
        found = dimension.verify()
    assert found
    assert str(found) == "unchanged"
    status = path.stat()
    known = memmgr.FileIdentity(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    if os.name != "nt":
        assert found.new == known
    assert found.old == found.new
    assert found.generation == dimension.generation
    assert (found.checked_count, found.unchecked_count) == (0, 0)
    with unchanged(manager):
        found = dimension.verify(checksums=True)
    assert found
    assert (found.checked_count, found.unchecked_count) == (3, 0)


def grow(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    other = path.with_name("other")
    shutil.copy2(path, other)
    os.replace(other, path)


def become_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@posix_only
@pytest.mark.parametrize(
    ("change", "word"),
    [
        (grow, "grown"),
        (lambda path: os.truncate(path, 100), "shrunk"),
        (lambda path: os.truncate(path, 0), "shrunk"),
        (touch, "rewritten"),
        (replace, "replaced"),
        (become_folder, "replaced"),
        (os.unlink, "gone"),
        (lambda path: shutil.rmtree(path.parent), "gone"),
    ],
)
@pytest.mark.parametrize("checksums", [False, True])
def test_each_change_is_told(
    manager: memmgr.Manager,
    path: Path,
    change: Callable[[Path], None],
    word: str,
    *,
    checksums: bool,
) -> None:
    """Also of a file that is a copy with the same time; and arrays stay what they were."""
    dimension = manager.load("D01", path, mode="ram")
    size = path.stat().st_size
    change(path)
    found = dimension.verify(checksums=checksums)
    assert not found
    assert found.changes == {word}
    assert str(found) == word
    assert found.old.size == size
    assert (found.new is None) == (word == "gone")
    if checksums:
        # What is another file, or has another size, is not compared.
        compared = 3 if word == "rewritten" else 0
        assert (found.checked_count, found.unchecked_count) == (compared, 3 - compared)
    assert dimension["b"].sum() == 21


@posix_only
def test_changes_under_readers_are_told_and_their_views_stay(
    manager: memmgr.Manager, path: Path
) -> None:
    """100 threads scan a table while its file is replaced, deleted and rewritten."""
    dimension = manager.load("D01", path)
    stop = threading.Event()
    errors: list[BaseException] = []

    def scan() -> None:
        try:
            while not stop.is_set():
                assert dimension['é"'].sum() == 499_500
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=scan) for _ in range(100)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            assert dimension.verify(checksums=True)
        touch(path)
        assert dimension.verify(checksums=True).changes == {"rewritten"}
        replace(path)
        assert dimension.verify(checksums=True).changes == {"replaced"}
        path.unlink()
        assert dimension.verify(checksums=True).changes == {"gone"}
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_own_writes_are_no_change_once_they_are_flushed(
    manager: memmgr.Manager, files: Files
) -> None:
    path = files.npy(np.zeros(1000))
    touch(path)
    dimension = manager.load("D01", path, mode="r+")
    assert dimension.verify()
    for _ in range(2):
        with dimension.write() as w:
            w["data"] += 1
        assert dimension.verify()
        dimension.flush()
        assert dimension.verify()
    try:
        touch(path)
    except PermissionError:
        pytest.skip("the times of a file that is mapped to be written to cannot be set here")
    assert dimension.verify().changes == {"rewritten"}


def test_reload_starts_anew(manager: memmgr.Manager, path: Path) -> None:
    dimension = manager.load("D01", path, mode="ram")
    touch(path)
    assert not dimension.verify()
    dimension.reload(path, mode="ram")
    assert dimension.verify()
    dimension.unload()
    for checksums in (False, True):
        with pytest.raises(memmgr.NotLoadedError):
            dimension.verify(checksums=checksums)


# Checksums --------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".safetensors", ".npy", ".bin"])
def test_every_damaged_byte_is_found(manager: memmgr.Manager, tmp_path: Path, suffix: str) -> None:
    path, manifest = tmp_path / f"a{suffix}", tmp_path / "a.json"
    described = None if suffix == ".safetensors" else manifest
    array = np.arange(16, dtype=np.int16)
    memmgr.save(path, array, manifest=described, checksums=True)
    raw = manifest if suffix == ".bin" else None
    dimension = manager.load("D01", path, manifest=raw, mode="ram")
    layer = dimension.layers["data"]
    before = path.read_bytes()
    for offset in range(layer.offset, layer.offset + layer.length):
        damage(path, offset)
        found = dimension.verify(checksums=True, manifest=described)
        assert found.changes == {"rewritten", "corrupt"}
        assert found.corrupt_layers == ("data",)
        assert str(found) == "rewritten, corrupt (data)"
        path.write_bytes(before)
    assert dimension.verify(checksums=True, manifest=described).corrupt_layers == ()


def test_each_corrupt_layer_is_named(manager: memmgr.Manager, path: Path) -> None:
    dimension = manager.load("D01", path, mode="ram")
    for name in ('é"', "b"):
        damage(path, dimension.layers[name].offset)
    found = dimension.verify(checksums=True)
    assert set(found.corrupt_layers) == {'é"', "b"}
    assert found.checked_count == 3


def test_checksum_is_the_one_of_xxhash(tmp_path: Path) -> None:
    """XXH64 of seed 0, so that others can compare it too: here of no bytes, and of a known text."""
    text = np.frombuffer(b"Nobody inspects the spammish repetition", np.uint8)
    arrays = {"text": text, "none": text[:0]}
    memmgr.save(tmp_path / "a.safetensors", arrays, checksums=True)
    content = (tmp_path / "a.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size])["__metadata__"] == {
        "xxh64:text": "fbcea83c8a378bf1",
        "xxh64:none": "ef46db3751d8e999",
    }


def test_file_without_checksums_is_no_failure(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    found = loaded.verify(checksums=True)
    assert found
    assert (found.checked_count, found.unchecked_count) == (0, 2)


@pytest.mark.parametrize("checksum", ["", "0", "0123456789ABCDEF", "0123456789abcdefg", "+" * 16])
def test_checksum_that_is_none_is_an_error(
    manager: memmgr.Manager, files: Files, checksum: str
) -> None:
    layer = {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}
    header = {"__metadata__": {"xxh64:a": checksum}, "a": layer}
    dimension = manager.load("D01", files.safetensors_header(header, b"data"))
    assert dimension.verify()
    with pytest.raises(memmgr.FormatError, match="checksum") as info:
        dimension.verify(checksums=True)
    assert info.value.layer == "a"
    assert info.value.operation == "verify"


def test_manifest_that_is_none_is_an_error(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.npy(np.ones(3)))
    missing = files.folder / "missing.json"
    with pytest.raises(memmgr.FileAccessError) as info:
        dimension.verify(checksums=True, manifest=missing)
    assert info.value.filename == missing
    with pytest.raises(memmgr.FormatError):
        dimension.verify(checksums=True, manifest=files.raw(b"no JSON", "bad.json"))


def test_progress_is_told_and_can_stop(
    manager: memmgr.Manager, tmp_path: Path, unchanged: Unchanged
) -> None:
    path = tmp_path / "a.safetensors"
    memmgr.save(path, {"a": np.zeros(5 * MIB, np.uint8)}, checksums=True)
    with memmgr.Manager(1, capacity="6 MiB") as large:
        dimension = large.load(0, path)
        seen: list[tuple[int, int]] = []
        assert dimension.verify(checksums=True, progress=lambda *x: seen.append(x))
        chunks = [0, 2 * MIB, 4 * MIB, 5 * MIB]
        assert seen == [(done, 5 * MIB) for done in chunks]
        for stop_at in chunks:
            with unchanged(large), pytest.raises(memmgr.CancelledError) as info:
                dimension.verify(
                    checksums=True,
                    progress=lambda done, _, stop_at=stop_at: done < stop_at,  # type: ignore[misc]
                )
            assert info.value.dimension == "D01"

        def fail(_done: int, _total: int) -> None:
            raise ZeroDivisionError

        with unchanged(large), pytest.raises(ZeroDivisionError):
            dimension.verify(checksums=True, progress=fail)


def test_numpys_false_stops_too(manager: memmgr.Manager, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    memmgr.save(path, {"a": np.zeros(10)}, checksums=True)
    dimension = manager.load(0, path)
    for go_on in (None, 0, True, np.True_, np.float64(0)):
        dimension.verify(checksums=True, progress=lambda *_, go_on=go_on: go_on)
    for stop in (False, np.False_):
        with pytest.raises(memmgr.CancelledError):
            dimension.verify(checksums=True, progress=lambda *_, stop=stop: stop)


def test_progress_function_is_gone_with_the_call(manager: memmgr.Manager, tmp_path: Path) -> None:
    """Without the collector, and so is a view that it holds."""
    path = tmp_path / "a.safetensors"
    memmgr.save(path, {"a": np.zeros(10)}, checksums=True)
    dimension = manager.load(0, path)

    def check() -> None:
        array = dimension["a"]
        dimension.verify(checksums=True, progress=lambda *_: array.shape)
        memmgr.save(tmp_path / "b.npy", array, progress=lambda *_: array.shape)

    gc.disable()
    try:
        check()
        assert manager.stats().views == 0
        dimension.unload()
    finally:
        gc.enable()


def test_call_that_runs_out_of_memory_was_not_cancelled(
    manager: memmgr.Manager, tmp_path: Path
) -> None:
    """Wherever Python refuses the callback memory, between its first call and its second."""
    testing = pytest.importorskip("_testcapi", reason="this Python has no module for its tests")
    path = tmp_path / "a.safetensors"
    memmgr.save(path, {"a": np.zeros(10)}, checksums=True)
    dimension = manager.load(0, path)
    failures = 0
    for start in range(20):

        def progress(done: int, _total: int, start: int = start) -> None:
            testing.remove_mem_hooks()
            if done == 0:
                testing.set_nomemory(start, start + 1)

        try:
            dimension.verify(checksums=True, progress=progress)
        except MemoryError:
            failures += 1
        finally:
            testing.remove_mem_hooks()
    assert failures > 0


def test_verify_keeps_writers_out_and_waits_for_them(manager: memmgr.Manager, path: Path) -> None:
    """R4.3."""
    dimension = manager.load("D01", path, mode="c")

    def write(_done: int, _total: int) -> None:
        # It would wait for its own caller, whatever the timeout.
        with pytest.raises(memmgr.ViewsHeldError, match="inside a call"), dimension.write():
            pass

    assert dimension.verify(checksums=True, progress=write)
    with dimension.write():
        # Nobody is held up to be told what became of the file.
        assert dimension.verify()
        with pytest.raises(memmgr.WaitTimeoutError):
            dimension.verify(checksums=True)


def test_words_are_all_of_the_headers() -> None:
    assert sorted(CHANGES.values()) == [1 << bit for bit in range(len(CHANGES))]


# The command ------------------------------------------------------------------------------------


def test_command_verifies_files(path: Path, files: Files) -> None:
    plain = files.npy(np.ones(3))
    result = _invoke("verify", path, plain, "--json")
    assert result.exit_code == 0, result.output
    first, second = json.loads(result.stdout)
    assert first == {
        "file": str(path),
        "format": "safetensors",
        "layers": 3,
        "checked": 3,
        "corrupt": [],
        "error": None,
    }
    assert (second["format"], second["checked"], second["error"]) == ("npy", 0, None)
    output = _invoke("verify", path, plain).output
    assert "good" in output
    assert "no checksums" in output


def test_command_tells_what_is_corrupt_or_not_readable(path: Path, files: Files) -> None:
    cut = files.raw(b"\x93NUMPY", "cut.npy")
    damage(path)
    result = _invoke("verify", cut, path, "--json")
    assert result.exit_code == 1
    bad, corrupt = json.loads(result.stdout)
    assert "cut.npy" in bad["error"]
    assert corrupt["corrupt"] == ["b"]
    result = _invoke("verify", cut, path)
    assert result.exit_code == 1
    for word in ("corrupt: b", "not readable", "file ends inside its header"):
        assert word in result.output
    assert "Traceback" not in result.output


def test_command_takes_a_manifest(tmp_path: Path) -> None:
    manifest = tmp_path / "m.json"
    for name in ("a.npy", "a.bin"):
        memmgr.save(tmp_path / name, np.arange(5), manifest=manifest, checksums=True)
        result = _invoke("verify", tmp_path / name, "--manifest", manifest, "--json")
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)
        assert (row["layers"], row["checked"]) == (1, 1)
    result = _invoke("verify", tmp_path / "a.npy", tmp_path / "a.bin", "--manifest", manifest)
    assert result.exit_code == 2


# Relative names ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.npy", "./a.npy", "../data/a.npy", b"a.npy"])
def test_relative_name_stays_the_file_when_the_folder_changes(
    manager: memmgr.Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | bytes
) -> None:
    data, other = tmp_path / "data", tmp_path / "other"
    for folder, value in ((data, 1), (other, 2)):
        folder.mkdir()
        memmgr.save(folder / "a.npy", np.full(4, value))
    monkeypatch.chdir(data)
    dimension = manager.load("D01", name, mode="r+")
    for folder in (tmp_path, other):
        monkeypatch.chdir(folder)
        assert dimension.verify()
        assert dimension.verify(checksums=True)
        assert dimension.path is not None
        assert os.path.isabs(dimension.path)
        assert os.path.samefile(dimension.path, data / "a.npy")
    # What looks at the file after the load finds it, too.
    with dimension.write() as writer:
        writer["data"] = 3
    dimension.flush()
    assert dimension.verify()
    dimension.unload()
    assert manager.load("D01", "a.npy", mode="ram")["data"].tolist() == [2] * 4
    os.remove(other / "a.npy")
    assert dimension.verify().changes == {"gone"}


@pytest.mark.skipif(os.name == "nt", reason="a folder that is in use cannot be removed there")
def test_relative_name_in_a_folder_that_is_gone_is_kept(
    manager: memmgr.Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    memmgr.save(tmp_path / "a.npy", np.ones(4))
    monkeypatch.chdir(folder)
    os.rmdir(folder)
    with pytest.raises(memmgr.FileAccessError):
        manager.load("D01", "a.npy")
    monkeypatch.chdir(tmp_path)
    assert manager.load("D01", "a.npy").verify()
