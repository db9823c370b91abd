"""Loading, unloading and everything that makes a load fail; after each failure nothing changed."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import memmgr
import numpy as np
import pytest

from .conftest import CAPACITY, MIB, PROC, Files, Unchanged, needs_process_map, process_map

Mode = Literal["r", "r+", "c", "ram"]
MODES: list[Mode] = ["r", "r+", "c", "ram"]


@needs_process_map
def test_r2_1_file_is_mapped_over_the_region(manager: memmgr.Manager, files: Files) -> None:
    """R2.1, R3.3: the process map shows the file at the region's own address."""
    path = files.npy(np.zeros(10_000))
    dimension = manager.load("D02", path)
    stats = dimension.stats()
    mapped = [entry for entry in process_map() if entry[3] == str(path)]
    assert [entry[0] for entry in mapped] == [stats.address]
    assert mapped[0][2] == "r--s"
    assert stats.generation_address == stats.address


def test_r2_2_second_load_is_refused(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files, unchanged: Unchanged
) -> None:
    """R2.2."""
    other = files.npy(np.zeros(3))
    with unchanged(manager), pytest.raises(memmgr.AlreadyLoadedError, match="D01") as caught:
        manager.load("D01", other)
    assert isinstance(caught.value, MemoryError)
    assert caught.value.dimension == "D01"


def test_r2_3_file_larger_than_the_capacity_is_refused(
    manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    """R2.3."""
    path = files.raw(bytes(CAPACITY + 1))
    with unchanged(manager), pytest.raises(memmgr.LimitExceededError) as caught:
        manager.load("D01", path)
    assert (caught.value.requested, caught.value.limit) == (CAPACITY + 1, CAPACITY)
    assert caught.value.filename is path


def test_r2_3_load_that_the_budget_refuses(files: Files, unchanged: Unchanged) -> None:
    """R2.3, R5.2: the region was deallocated, and its bytes are used by another's reload."""
    first, second = files.raw(b"1", "1"), files.raw(b"2", "2")
    with memmgr.Manager(["a", "b"], capacity="1 MiB", limit="2 MiB") as manager:
        b = manager.load("b", first)
        manager["a"].deallocate()
        held = b.view()
        b.reload(second)
        with unchanged(manager), pytest.raises(memmgr.LimitExceededError) as caught:
            manager.load("a", first)
        assert (caught.value.requested, caught.value.used) == (MIB, 2 * MIB)
        del held
        manager.load("a", first)


def test_r2_4_loaded_dimension_is_accessible(manager: memmgr.Manager, files: Files) -> None:
    """R2.4."""
    dimension = manager["D01"]
    assert (dimension.state, dimension.mode, dimension.path) == ("empty", None, None)
    assert dimension.generation == 0
    path = files.npy(np.arange(3))
    assert manager.load("D01", path) == dimension
    assert (dimension.state, dimension.mode, dimension.path) == ("loaded", "r", str(path))
    assert dimension.generation > 0
    assert dimension["data"].tolist() == [0, 1, 2]


def test_r2_5_load_is_timed(manager: memmgr.Manager, files: Files) -> None:
    """R2.5: here only that it answers at all; the demo prints the time, the bench compares it."""
    start = time.perf_counter()
    manager.load("D01", files.npy(np.zeros(1000)))
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize("prefetch", ["lazy", "populate"])
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_and_prefetch_reads_the_same(
    manager: memmgr.Manager, files: Files, mode: Mode, prefetch: Literal["lazy", "populate"]
) -> None:
    array = np.random.default_rng(1).standard_normal((500, 16))
    dimension = manager.load("D01", files.npy(array), mode=mode, prefetch=prefetch)
    assert np.array_equal(dimension["data"], array)
    stats = dimension.stats()
    assert (stats.mode, stats.prefetch, stats.format) == (mode, prefetch, "npy")
    if prefetch == "populate":
        assert (dimension.memory().resident or 0) >= array.nbytes
    dimension.unload()
    assert (dimension.state, dimension.mode) == ("empty", None)


@pytest.mark.parametrize("fill", [0, 1])
def test_file_of_exactly_the_capacity_and_of_one_byte(
    manager: memmgr.Manager, files: Files, fill: int
) -> None:
    size = CAPACITY if fill else 1
    dimension = manager.load("D01", files.raw(b"\x07" * size))
    assert dimension.view().tobytes() == b"\x07" * size


def test_load_by_index_and_by_str_path(manager: memmgr.Manager, files: Files) -> None:
    assert manager.load(1, str(files.npy(np.arange(3)))).name == "D02"


def test_descriptor_is_closed_after_load(manager: memmgr.Manager, files: Files) -> None:
    if not (PROC / "fd").exists():
        pytest.skip("the system has no list of descriptors")
    path = files.npy(np.arange(3))
    before = len(os.listdir(PROC / "fd"))
    for mode in MODES:
        manager.load("D01", path, mode=mode)
        assert len(os.listdir(PROC / "fd")) == before
        manager["D01"].unload()


@pytest.fixture
def ordinary_user(unchanged: Unchanged) -> Iterator[Path]:
    """A folder, and a user who may not read every file: root may, whatever permissions say.

    The other fixtures come first: they need a folder that this user may not enter.
    """
    if not hasattr(os, "geteuid"):
        pytest.skip("the system has permissions of another kind")
    with tempfile.TemporaryDirectory() as folder:
        user, nobody = os.geteuid(), 65534
        if user == 0:
            os.chown(folder, nobody, -1)
            os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            os.seteuid(user)


# Bad input ---------------------------------------------------------------------------------------


def test_missing_file(manager: memmgr.Manager, tmp_path: Path, unchanged: Unchanged) -> None:
    with unchanged(manager), pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", tmp_path / "none")
    assert caught.value.errno == errno.ENOENT


def test_empty_file(manager: memmgr.Manager, files: Files, unchanged: Unchanged) -> None:
    with unchanged(manager), pytest.raises(memmgr.FormatError, match="empty"):
        manager.load("D01", files.raw(b""))


def test_directory(manager: memmgr.Manager, tmp_path: Path, unchanged: Unchanged) -> None:
    with unchanged(manager), pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", tmp_path)
    assert caught.value.system_code != 0


def test_device(manager: memmgr.Manager, unchanged: Unchanged) -> None:
    if not Path("/dev/zero").is_char_device():
        pytest.skip("the system has no /dev/zero")
    with unchanged(manager), pytest.raises(memmgr.FileAccessError):
        manager.load("D01", "/dev/zero")


def test_fifo_is_refused_and_not_waited_for(
    manager: memmgr.Manager, tmp_path: Path, unchanged: Unchanged
) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("the system has no FIFOs")
    os.mkfifo(tmp_path / "fifo")
    for mode in MODES:
        with unchanged(manager), pytest.raises(memmgr.FileAccessError):
            manager.load("D01", tmp_path / "fifo", mode=mode)


@pytest.mark.parametrize(("mode", "permission"), [("r", 0), ("r+", stat.S_IRUSR | stat.S_IROTH)])
def test_file_without_permission(
    manager: memmgr.Manager,
    ordinary_user: Path,
    mode: Mode,
    permission: int,
    unchanged: Unchanged,
) -> None:
    path = Files(ordinary_user).npy(np.zeros(3))
    path.chmod(permission)
    with unchanged(manager), pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", path, mode=mode)
    assert caught.value.errno == errno.EACCES
    assert caught.value.filename is path
    if permission:
        manager.load("D01", path, mode="c")


def test_name_that_is_too_long(manager: memmgr.Manager, tmp_path: Path) -> None:
    path = tmp_path / ("x" * 5000)
    with pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", path)
    assert caught.value.filename is path


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "w"},
        {"mode": 1},
        {"mode": ["r"]},
        {"prefetch": "eager"},
        {"format": "csv"},
    ],
    ids=str,
)
def test_wrong_options(
    manager: memmgr.Manager, files: Files, options: dict[str, Any], unchanged: Unchanged
) -> None:
    path = files.npy(np.zeros(3))
    with unchanged(manager), pytest.raises(memmgr.InvalidArgumentError):
        manager.load("D01", path, **options)


@pytest.mark.parametrize("path", ["nul\0.npy", b"nul\0"])
def test_path_with_a_nul(manager: memmgr.Manager, path: str | bytes) -> None:
    with pytest.raises(memmgr.InvalidArgumentError, match="NUL"):
        manager.load("D01", path)


def test_path_of_another_type(manager: memmgr.Manager) -> None:
    with pytest.raises(TypeError):
        manager.load("D01", 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(("first", "second"), [("r+", "r"), ("r", "r+"), ("r+", "r+")])
def test_file_mapped_for_writing_is_mapped_once(
    manager: memmgr.Manager, files: Files, first: Mode, second: Mode, unchanged: Unchanged
) -> None:
    path = files.npy(np.zeros(3))
    manager.load("D01", path, mode=first)
    with unchanged(manager), pytest.raises(memmgr.AlreadyLoadedError) as caught:
        manager.load("D02", path, mode=second)
    assert caught.value.filename is path
    manager["D01"].unload()
    manager.load("D02", path, mode=second)


def test_file_mapped_by_another_manager(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.zeros(3))
    with memmgr.Manager(1, capacity=MIB) as other:
        other.load(0, path, mode="r+")
        with pytest.raises(memmgr.AlreadyLoadedError):
            manager.load("D01", path)
    manager.load("D01", path)


def test_same_file_twice_for_reading(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.arange(3))
    a, b = manager.load("D01", path), manager.load("D02", path, mode="c")
    assert np.array_equal(a["data"], b["data"])


def test_not_loaded(manager: memmgr.Manager, unchanged: Unchanged) -> None:
    """R3.4: every use of an empty dimension says that it is."""
    dimension = manager["D01"]
    with unchanged(manager):
        for use in (
            lambda: dimension["x"],
            dimension.view,
            lambda: dimension.view(0, 1),
            lambda: dimension.view(writable=True),
            lambda: dimension.layers,
            dimension.flush,
            dimension.evict,
            dimension.unload,
            lambda: dimension.write().__enter__(),
            lambda: dimension.reload("/none"),
        ):
            with pytest.raises(memmgr.NotLoadedError, match="D01") as caught:
                use()
            assert isinstance(caught.value, LookupError)
            assert caught.value.dimension == "D01"


# A limit of the process is taken in a process of its own.


def _run(script: str, *arguments: object) -> None:
    pytest.importorskip("resource")
    code = textwrap.dedent(script)
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


def test_r7_3_no_descriptors_left(files: Files) -> None:
    """R7.3: EMFILE is told, and a load afterwards works."""
    _run(
        """
        import errno, os, resource, sys
        import memmgr

        manager = memmgr.Manager(2, capacity="1 MiB")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        held = []
        try:
            while True:
                held.append(os.dup(0))
        except OSError:
            pass
        try:
            manager.load(0, sys.argv[1])
            sys.exit("loaded")
        except memmgr.FileAccessError as error:
            assert error.errno == errno.EMFILE, error
        assert manager.stats().allocated == 2 * 2**20
        os.close(held.pop())
        manager.load(0, sys.argv[1])
        manager.close()
        """,
        files.npy(np.zeros(3)),
    )


def test_r1_4_no_address_space_left() -> None:
    """R1.4, R7.2: the refusal is told, and nothing of the failed opens stays."""
    _run(
        """
        import resource, sys
        import memmgr

        memmgr.Manager(1, capacity="1 MiB").close()
        pages = int(open("/proc/self/statm").read().split()[0]) if sys.platform == "linux" else 0
        if not pages:
            sys.exit(0)
        size = pages * resource.getpagesize() + (128 << 20)
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
        before = open("/proc/self/maps").read().count("\\n")
        for _ in range(10):
            try:
                memmgr.Manager()
                sys.exit("opened")
            except memmgr.AllocationError as error:
                assert error.system_code, error
        assert open("/proc/self/maps").read().count("\\n") <= before + 2
        memmgr.Manager(1, capacity="1 MiB").close()
        """
    )


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere file names are UTF-8")
def test_path_is_spelled_as_python_spells_it(tmp_path: Path) -> None:
    """Also where the locale has no name for its bytes."""
    code = """
        import os, pickle, sys, memmgr
        assert sys.getfilesystemencoding() != "utf-8"
        name = os.fsdecode(b"caf\\xc3\\xa9.bin")
        path = os.path.join(sys.argv[1], name)
        with open(path, "wb") as file:
            file.write(b"bytes")
        manager = memmgr.Manager(1)
        dimension = manager.load(0, path)
        assert dimension.path == path
        dimension.reload(dimension.path, mode="ram")
        copy = pickle.loads(pickle.dumps(manager))
        print(copy[0].path == path, os.path.samefile(path, dimension.path))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)],
        env=os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (result.returncode, result.stdout) == (0, "True True\n"), result.stderr
