"""A pickled manager is how to open it again: by path, and once in a process."""

from __future__ import annotations

import copy
import gc
import io
import os
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from memmgr import _pickle

from .conftest import MIB, Files

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Any]:
    """Unpickles as another process would that has unpickled nothing else but by this."""
    managers: weakref.WeakValueDictionary[str, memmgr.Manager] = weakref.WeakValueDictionary()

    def load(pickled: bytes) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(_pickle, "_managers", managers)
            return pickle.loads(pickled)

    return load


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_here_it_is_itself(loaded: memmgr.Dimension, protocol: int) -> None:
    manager = loaded._manager
    assert pickle.loads(pickle.dumps(manager, protocol)) is manager
    assert pickle.loads(pickle.dumps(loaded, protocol)) == loaded


def test_copies_are_itself(loaded: memmgr.Dimension) -> None:
    manager = loaded._manager
    assert copy.copy(manager) is manager
    assert copy.deepcopy([manager])[0] is manager
    assert copy.copy(loaded) == loaded
    assert copy.deepcopy({"a": loaded}) == {"a": loaded}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_elsewhere_it_is_opened_once(
    loaded: memmgr.Dimension,
    table: npt.NDArray[np.float32],
    elsewhere: Callable[[bytes], Any],
    protocol: int,
) -> None:
    manager = loaded._manager
    twin = elsewhere(pickle.dumps(manager, protocol))
    assert twin is not manager
    assert elsewhere(pickle.dumps(manager, protocol)) is twin
    assert elsewhere(pickle.dumps(loaded, protocol)) == twin["D01"]
    assert list(twin) == list(manager)
    assert twin.stats().limit == manager.stats().limit
    assert (twin["D01"]["table"] == table).all()
    assert twin["D02"].state == "empty"
    assert twin["D01"].path == loaded.path


def test_options_and_modes_are_kept(files: Files, elsewhere: Callable[[bytes], Any]) -> None:
    array = np.arange(6, dtype="f4")
    layer = memmgr.Layer("a", 8, dtype="f4", shape=(2, 2), order="F")
    with memmgr.Manager(
        {"x": "64 KiB", "y": "1 MiB", "z": None},
        capacity="128 KiB",
        limit=8 * MIB,
        pool_limit=MIB,
        read_timeout=None,
        gate="atomic",
        track_views=True,
    ) as manager:
        manager.load("x", files.raw(array.tobytes()), mode="c", layers=[layer])
        manager.load("y", files.npy(array), mode="ram")
        twin = elsewhere(pickle.dumps(manager))
        for name in manager:
            assert twin[name].capacity == manager[name].capacity
            assert twin[name].mode == manager[name].mode
            assert list(twin[name].layers if twin[name].path else ()) == (
                list(manager[name].layers if manager[name].path else ())
            )
        assert (twin["x"]["a"] == manager["x"]["a"]).all()
        assert twin["x"]["a"].flags.f_contiguous
        assert (twin.stats().limit, twin.stats().pool_limit) == (8 * MIB, MIB)
        assert twin.stats().gate == "atomic"
        kept = twin["y"]["data"]
        assert len(twin.holders()) == 1
        del kept


def test_copy_follows_its_original(files: Files, elsewhere: Callable[[bytes], Any]) -> None:
    paths = [files.npy(np.full(4, value), f"{value}.npy") for value in range(4)]
    with memmgr.Manager(2, capacity=MIB) as manager:
        empty = pickle.dumps(manager)
        manager.load(0, paths[0])
        first = pickle.dumps(manager)
        manager[0].reload(paths[1])
        manager.load(1, paths[2])
        second = pickle.dumps(manager)
        twin = elsewhere(empty)
        assert twin.stats().loaded_count == 0
        for pickled, expected in ((first, [0]), (second, [1, 2]), (first, [1, 2])):
            assert elsewhere(pickled) is twin
            assert [twin[i]["data"][0] for i in range(len(expected))] == expected
        # What is changed there stays, until the original changes.
        twin[0].reload(paths[3])
        elsewhere(second)
        assert twin[0]["data"][0] == 3
        manager[0].unload()
        manager.load(0, paths[3])
        elsewhere(pickle.dumps(manager))
        assert twin[0]["data"][0] == 3
        # The original is never changed by a pickle.
        assert pickle.loads(first) is manager
        assert manager[0]["data"][0] == 3


def test_copy_goes_with_its_last_reference(
    loaded: memmgr.Dimension, elsewhere: Callable[[bytes], Any]
) -> None:
    """In silence: nobody opened it, so nobody has to close it."""
    pickled = pickle.dumps(loaded)
    array = elsewhere(pickled)["table"]
    gc.collect()
    assert array[0, 1] == 1
    twin = elsewhere(pickled)
    twin._manager.close("defer")
    again = elsewhere(pickled)
    assert again != twin
    assert again["table"][0, 1] == 1


def test_what_cannot_be_opened_again_is_refused(
    files: Files, manager: memmgr.Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = files.npy(np.arange(3))
    dimension = manager.load("D02", path, mode="r+")
    with pytest.raises(memmgr.InvalidArgumentError, match=r"D02 .* mode 'r\+'") as caught:
        pickle.dumps(manager)
    assert caught.value.dimension == "D02"
    dimension.unload()
    with monkeypatch.context() as patch:
        patch.setitem(manager._options, "on_pressure", print)
        with pytest.raises(memmgr.InvalidArgumentError, match="option on_pressure is a function"):
            pickle.dumps(manager)
    monkeypatch.chdir(files.folder)
    manager.load("D02", path.name)
    assert str(path).encode() in pickle.dumps(manager)
    monkeypatch.chdir(files.folder.parent)
    assert str(path).encode() in pickle.dumps(manager)
    manager.close()
    with pytest.raises(memmgr.InvalidAccessError):
        pickle.dumps(manager)


def test_file_that_is_gone_is_told(files: Files, elsewhere: Callable[[bytes], Any]) -> None:
    path = files.npy(np.arange(3))
    with memmgr.Manager(1, capacity=MIB) as manager:
        manager.load(0, path, mode="ram")
        pickled = pickle.dumps(manager)
        os.remove(path)
        with pytest.raises(memmgr.FileAccessError) as caught:
            elsewhere(pickled)
        assert caught.value.filename == str(path)
        files.npy(np.arange(3))
        assert elsewhere(pickled)[0]["data"].sum() == 3


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_arrays_pickle_as_arrays(
    loaded: memmgr.Dimension, table: npt.NDArray[np.float32], protocol: int
) -> None:
    """Their bytes, and nothing of the manager."""
    array = loaded["table"]
    for other in (
        pickle.loads(pickle.dumps(array, protocol)),
        copy.copy(array),
        copy.deepcopy(array),
    ):
        assert type(other) is np.ndarray
        assert (other == table).all()
    del array
    loaded.unload()


def test_layers_and_stats_pickle_as_values(loaded: memmgr.Dimension) -> None:
    layers = dict(loaded.layers)
    assert pickle.loads(pickle.dumps(layers)) == layers
    assert pickle.loads(pickle.dumps(loaded.stats())) == loaded.stats()


def test_another_process_reads_the_same_files(
    loaded: memmgr.Dimension, table: npt.NDArray[np.float32], tmp_path: Path
) -> None:
    file = tmp_path / "pickle"
    file.write_bytes(pickle.dumps([loaded, loaded._manager]))
    code = (
        "import pathlib, pickle, sys\n"
        "pickled = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "dimension, manager = pickle.loads(pickled)\n"
        "again, _ = pickle.loads(pickled)\n"
        "assert again == dimension and dimension == manager['D01']\n"
        "print(dimension['table'].sum())\n"
    )
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code, file],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert np.float32(result.stdout) == table.sum()


def test_memory_is_not_in_the_pickle(manager: memmgr.Manager, files: Files) -> None:
    manager.load("D01", files.raw(bytes(MIB)))
    buffer = io.BytesIO()
    pickle.Pickler(buffer).dump(manager)
    assert len(buffer.getvalue()) < 4096
