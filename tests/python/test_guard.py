"""The guard: a file that is cut short under its readers is an exception and never a signal, and
whatever else a process is sent ends as it would without the guard.

What may end a process runs in one of its own.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import memmgr
import numpy as np
import numpy.typing as npt
import pytest

from .conftest import MIB, Files

pytestmark = [
    pytest.mark.skipif(os.name == "nt", reason="a mapped file cannot be cut short there"),
    pytest.mark.skipif(not memmgr.capabilities().fault_guard, reason="there is no guard here"),
]

SIZE = MIB
CUT = SIZE // 2
HEADER = 128


@pytest.fixture
def guarded() -> Iterator[memmgr.Manager]:
    with memmgr.Manager(["D01", "D02"], capacity=2 * MIB, guard=True) as manager:
        yield manager


def ones(files: Files, name: str = "ones.npy") -> Path:
    return files.npy(np.ones(SIZE - HEADER, np.uint8), name)


def cut(array: npt.NDArray[np.uint8], path: Path) -> None:
    """Cuts the file, and reads what it does not have any more."""
    os.truncate(path, CUT)
    assert int(array.sum()) == CUT - HEADER


def assert_tells(error: memmgr.FaultedError, operation: str = "acquire") -> None:
    assert error.dimension == "D01"
    assert error.layer == "data"
    assert error.operation == operation
    assert CUT <= error.offset < SIZE
    assert error.system_code == error.errno == errno.EIO
    assert f"at byte {error.offset}" in str(error)
    assert isinstance(error, MemoryError)


def test_r4_2_r7_5_a_hundred_scanning_threads_outlive_a_file_cut_short(
    guarded: memmgr.Manager, files: Files
) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path)
    before = guarded.stats()
    errors: list[memmgr.MemmgrError] = []
    sums: set[int] = set()
    started = threading.Barrier(101)

    def scan() -> None:
        started.wait()
        try:
            while True:
                sums.add(int(dimension["data"].sum()))
        except memmgr.MemmgrError as error:
            errors.append(error)

    threads = [threading.Thread(target=scan) for _ in range(100)]
    for thread in threads:
        thread.start()
    started.wait()
    os.truncate(path, CUT)
    for thread in threads:
        thread.join()
    assert len(errors) == 100
    for error in errors:
        assert isinstance(error, memmgr.FaultedError)
        assert_tells(error)
    # Whoever was reading saw the ones that are left, and zeros.
    assert all(CUT - HEADER <= total <= SIZE - HEADER for total in sums)
    after = guarded.stats()
    assert (after.allocated, after.mapped, after.views) == (before.allocated, before.mapped, 0)


def test_r7_1_r9_1_every_access_raises_until_a_reload(
    guarded: memmgr.Manager, files: Files
) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path)
    held = dimension["data"]
    cut(held, path)
    assert dimension.state == "faulted"
    assert guarded["D02"].state == "empty"
    for operation, access in (
        ("acquire", lambda: dimension["data"]),
        ("acquire", dimension.view),
        ("flush", dimension.flush),
        ("evict", dimension.evict),
        # It asks for the layers first.
        ("find", dimension.write().__enter__),
    ):
        with pytest.raises(memmgr.FaultedError) as caught:
            access()
        assert_tells(caught.value, operation)
    copied = pickle.loads(pickle.dumps(caught.value))
    assert_tells(copied, "find")
    (dump, _) = guarded.dump()["dimensions"]
    assert dump["state"] == "faulted"
    assert dump["fault"]["system_code"] == errno.EIO
    assert "faulted" in repr(dimension)

    dimension.reload(ones(files, "good.npy"))
    assert dimension.state == "loaded"
    assert int(dimension["data"].sum()) == SIZE - HEADER
    # What is held is what it was.
    assert int(held.sum()) == CUT - HEADER


def test_reload_takes_the_same_file_that_is_whole_again(
    guarded: memmgr.Manager, files: Files
) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path)
    cut(dimension["data"], path)
    ones(files)
    dimension.reload(path)
    assert int(dimension["data"].sum()) == SIZE - HEADER


def test_a_faulted_dimension_is_unloaded_with_its_last_array(
    guarded: memmgr.Manager, files: Files
) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path)
    held = dimension["data"]
    cut(held, path)
    with pytest.raises(memmgr.ViewsHeldError):
        dimension.unload()
    assert dimension.state == "faulted"
    dimension.unload("defer")
    assert int(held.sum()) == CUT - HEADER
    del held
    assert dimension.state == "empty"
    assert guarded.stats().mapped == 0


def test_leaving_write_raises_and_ends_the_write(guarded: memmgr.Manager, files: Files) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path, mode="r+")
    with pytest.raises(memmgr.FaultedError) as caught, dimension.write() as w:
        os.truncate(path, CUT)
        w["data"] += 1
    assert_tells(caught.value, "write")
    with pytest.raises(memmgr.FaultedError):
        dimension.flush()
    dimension.unload()
    assert path.stat().st_size == CUT


def test_what_the_block_raises_comes_first(guarded: memmgr.Manager, files: Files) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path, mode="c")
    with pytest.raises(ZeroDivisionError), dimension.write() as w:
        os.truncate(path, CUT)
        w["data"] += 1
        raise ZeroDivisionError
    assert dimension.state == "faulted"


def test_r9_4_a_fault_in_a_replaced_version_is_a_warning(
    guarded: memmgr.Manager, files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path)
    held = dimension["data"]
    dimension.reload(ones(files, "good.npy"))
    cut(held, path)
    assert dimension.state == "loaded"
    assert int(dimension["data"].sum()) == SIZE - HEADER
    with caplog.at_level("WARNING", "memmgr"):
        del held
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "D01" in record.message
    assert "could not be read" in record.message


def test_a_system_call_on_such_a_page_fails_with_efault(
    guarded: memmgr.Manager, files: Files, tmp_path: Path
) -> None:
    path = ones(files)
    dimension = guarded.load("D01", path)
    page = memmgr.capabilities().page_size
    tail = dimension.view(SIZE - page)
    os.truncate(path, CUT)
    with (tmp_path / "copy").open("wb", buffering=0) as copy:
        with pytest.raises(OSError, match="Bad address") as caught:
            os.write(copy.fileno(), tail.data)
        assert caught.value.errno == errno.EFAULT
        # The library was not asked, and nothing that it gave was read.
        assert dimension.state == "loaded"


def test_it_is_an_option_of_the_configuration(files: Files) -> None:
    path = ones(files)
    with memmgr.Manager.from_config({"capacity": "2 MiB", "guard": True}) as manager:
        cut(manager.load("D01", path)["data"], path)
        assert manager["D01"].state == "faulted"


# Processes that may end by a signal ---------------------------------------------------------------

PRELUDE = f"""
import ctypes, faulthandler, os, signal, sys
import memmgr

def heals(number=[0]):
    path = f"{{sys.argv[1]}}/{{os.getpid()}}-{{number[0]}}"
    number[0] += 1
    with open(path, "wb") as file:
        file.write(bytes([1]) * {SIZE})
    array = manager.load("D01", path).view()
    os.truncate(path, {CUT})
    total = int(array.sum())
    del array
    try:
        manager["D01"].view()
    except memmgr.FaultedError:
        manager["D01"].unload()
        return total == {CUT}

def segfault():
    ctypes.string_at(64)
"""


def run(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PRELUDE + textwrap.dedent(code), str(folder)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


OPEN = "manager = memmgr.Manager(capacity='2 MiB', guard=True)"
ENABLE = "faulthandler.enable()"
DISABLE = "faulthandler.disable()"


def test_without_the_guard_the_process_ends(tmp_path: Path) -> None:
    """The negative control."""
    ended = run(OPEN.replace("True", "False") + "\nheals()", tmp_path)
    assert ended.returncode == -signal.SIGBUS


@pytest.mark.parametrize(
    "code",
    [
        f"{OPEN}; assert heals()",
        f"{ENABLE}; {OPEN}; assert heals()",
        f"{OPEN}; assert heals(); {ENABLE}; assert heals()",
        f"{OPEN}; {ENABLE}; assert heals(); {DISABLE}; assert heals()",
        f"{ENABLE}; {OPEN}; {DISABLE}; assert heals()",
        f"for _ in range(40): {OPEN}; {ENABLE}; assert heals(); {DISABLE}",
    ],
    ids=["alone", "before", "after", "after, gone", "before, gone", "again and again"],
)
def test_a_fault_is_healed_wherever_faulthandler_stands(code: str, tmp_path: Path) -> None:
    ended = run(code, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "code",
    [
        f"{ENABLE}; {OPEN}; assert heals(); segfault()",
        f"{OPEN}; {ENABLE}; segfault()",
        f"{OPEN}; {ENABLE}; assert heals(); segfault()",
        f"{OPEN}; {ENABLE}; assert heals(); {DISABLE}; {ENABLE}; assert heals(); segfault()",
    ],
    ids=["before", "after", "after, and below", "twice"],
)
def test_a_segfault_of_its_own_still_prints_its_traceback_once(code: str, tmp_path: Path) -> None:
    ended = run(code, tmp_path)
    assert ended.returncode == -signal.SIGSEGV
    assert ended.stderr.count("Fatal Python error: Segmentation fault") == 1
    assert ended.stderr.count("string_at") == 1


def test_until_the_next_load_faults_are_those_of_who_came_later(tmp_path: Path) -> None:
    code = f"""
    {OPEN}
    with open(sys.argv[1] + "/a", "wb") as file:
        file.write(bytes({SIZE}))
    array = manager.load("D01", file.name).view()
    {ENABLE}
    os.truncate(file.name, {CUT})
    array.sum()
    """
    ended = run(code, tmp_path)
    assert ended.returncode == -signal.SIGBUS
    assert ended.stderr.count("Fatal Python error: Bus error") == 1


@pytest.mark.parametrize("name", ["SIGBUS", "SIGSEGV"])
@pytest.mark.parametrize("enable", ["", ENABLE])
def test_a_signal_that_is_sent_is_no_fault(name: str, enable: str, tmp_path: Path) -> None:
    ended = run(f"{enable}\n{OPEN}\nassert heals()\nos.kill(os.getpid(), signal.{name})", tmp_path)
    assert ended.returncode == -getattr(signal, name)
    assert ended.stderr.count("Fatal Python error") == bool(enable)


def test_a_handler_in_python_gets_what_is_sent(tmp_path: Path) -> None:
    code = f"""
    seen = []
    signal.signal(signal.SIGBUS, lambda number, frame: seen.append(number))
    {OPEN}
    os.kill(os.getpid(), signal.SIGBUS)
    assert seen == [signal.SIGBUS] and heals()
    """
    ended = run(code, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_child_reads_on_and_its_fault_is_its_own(tmp_path: Path) -> None:
    code = f"""
    {OPEN}
    with open(sys.argv[1] + "/a", "wb") as file:
        file.write(bytes([1]) * {SIZE})
    array = manager.load("D01", file.name).view()
    os.truncate(file.name, {CUT})
    child = os.fork()
    if child == 0:
        os._exit(int(array.sum()) != {CUT})
    assert os.waitpid(child, 0)[1] == 0
    assert manager["D01"].state == "loaded"
    assert int(array.sum()) == {CUT}
    assert manager["D01"].state == "faulted"
    """
    ended = run(code, tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_what_became_zeros_while_it_was_saved_is_not_saved(files: Files, tmp_path: Path) -> None:
    """R7.2, R9.1: a file that is cut during a save leaves the target as it was."""
    size = 8 * MIB
    path = files.npy(np.ones(size - HEADER, np.uint8), "large.npy")
    target = tmp_path / "copy.npy"
    target.write_bytes(b"old")
    with memmgr.Manager(["D01"], capacity=size, guard=True) as manager:
        dimension = manager.load("D01", path)
        held = [dimension["data"]]

        def progress(done: int, total: int) -> None:
            os.truncate(path, MIB)
            assert held[0][-1] == 0

        with pytest.raises(memmgr.FaultedError) as caught:
            dimension.save_as(target, progress=progress)
        assert caught.value.operation == "save"
        assert caught.value.dimension == "D01"
        held.clear()
    assert target.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith("copy")] == [
        "copy.npy"
    ]
