"""R7.1, R7.2, R9.1, R9.3: failures of the system's, injected, and what comes of them."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

import memmgr
import numpy as np
import pytest
from memmgr import testing
from memmgr._call import codes_are_errno

from .conftest import Files, Unchanged

HEADER = Path(__file__).parents[2] / "include" / "memmgr.h"
WINDOWS = {"ENOMEM": 8, "ENOSPC": 112, "EIO": 1117, "EACCES": 5, "EMFILE": 4, "ENOENT": 2}


@pytest.fixture(autouse=True)
def healed() -> Iterator[None]:
    yield
    testing.clear()


def code(name: str) -> int:
    return int(getattr(errno, name)) if codes_are_errno() else WINDOWS[name]


def test_calls_are_those_of_the_header() -> None:
    if not HEADER.exists():
        pytest.skip("the header is not beside the tests")
    names = re.findall(r"^    MEMMGR_CALL_(\w+) = ", HEADER.read_text(), re.MULTILINE)
    assert [name.lower() for name in names] == list(testing.CALLS)


@pytest.mark.parametrize(
    "case",
    [
        ("open", "EACCES", "r", memmgr.FileAccessError),
        ("open", "ENOENT", "r", memmgr.FileAccessError),
        ("open", "EMFILE", "r", memmgr.FileAccessError),
        ("identify", "EIO", "r", memmgr.FileAccessError),
        ("read", "EIO", "r", memmgr.FileAccessError),
        ("map", "ENOMEM", "r", memmgr.AllocationError),
        ("map", "EACCES", "c", memmgr.FileAccessError),
        ("fill", "ENOSPC", "r+", memmgr.DiskFullError),
        ("commit", "ENOMEM", "ram", memmgr.AllocationError),
        ("read", "EIO", "ram", memmgr.FileAccessError),
    ],
)
def test_r7_2_r9_3_load_fails_as_the_system_would_have_it(
    manager: memmgr.Manager,
    files: Files,
    unchanged: Unchanged,
    case: tuple[str, str, memmgr._dimension.Mode, type[memmgr.MemmgrError]],
) -> None:
    call, name, mode, cls = case
    path = files.npy(np.arange(10))
    with testing.fail(call, errno=name) as failure:
        with unchanged(manager), pytest.raises(cls) as caught:
            manager.load("D02", path, mode=mode)
        assert failure.failures == 1
        error = caught.value
        assert error.system_code == code(name)
        assert (error.operation, error.dimension) == ("load", "D02")
        assert error.filename is path
        assert f"(system error {code(name)})" in str(error)
        if codes_are_errno():
            assert error.errno == code(name)
            assert error.strerror
        assert manager.load("D02", path, mode=mode)["data"].sum() == 45


def test_reload_that_fails_leaves_the_old_version(
    loaded: memmgr.Dimension, manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    """R7.2: with its readers, and the next one succeeds."""
    new = files.npy(np.ones(3))
    held = loaded["ids"]
    with testing.fail("map", errno="ENOMEM", dimension="D01"):
        with unchanged(manager), pytest.raises(memmgr.AllocationError) as caught:
            loaded.reload(new)
        assert caught.value.operation == "reload"
        assert loaded["ids"].sum() == held.sum()
        loaded.reload(new)
    assert loaded["data"].sum() == 3
    assert held.sum() == 999 * 500


@pytest.mark.parametrize("call", ["create", "allocate", "write", "sync_file", "rename"])
@pytest.mark.parametrize(
    ("name", "cls"),
    [("ENOSPC", memmgr.DiskFullError), ("EIO", memmgr.FileAccessError)],
)
def test_save_that_fails_leaves_the_old_file(
    tmp_path: Path, call: str, name: str, cls: type[memmgr.MemmgrError]
) -> None:
    path = tmp_path / "a.npy"
    memmgr.save(path, {"data": np.zeros(3)})
    with testing.fail(call, errno=name):
        with pytest.raises(cls) as caught:
            memmgr.save(path, {"data": np.ones(3)})
        assert caught.value.filename is path
        assert caught.value.system_code == code(name)
        assert list(tmp_path.iterdir()) == [path]
        assert np.load(path).sum() == 0
        memmgr.save(path, {"data": np.ones(3)})
    assert np.load(path).sum() == 3


def test_pools_that_get_no_memory_refuse_and_recover(
    manager: memmgr.Manager, unchanged: Unchanged
) -> None:
    kept = manager.empty(10)
    with testing.fail("take", errno="ENOMEM", count=None) as failure:
        with unchanged(manager), pytest.raises(memmgr.AllocationError) as caught:
            manager.empty(1_000_000)
        assert caught.value.operation == "alloc"
        # Once more after free slabs were given back.
        assert failure.failures == 2
    assert manager.empty(1_000_000).nbytes == 8_000_000
    assert kept.nbytes == 80


def test_r1_4_open_that_fails_takes_nothing() -> None:
    with testing.fail("reserve", errno="ENOMEM"):
        with pytest.raises(memmgr.AllocationError) as caught:
            memmgr.Manager()
        assert caught.value.requested >= 2 * 293_601_280
        memmgr.Manager().close()


def test_flush_verify_and_memory_fail_too(
    manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    dimension = manager.load("D01", files.raw(bytes(100)), mode="r+")
    with testing.fail("flush", errno="EIO"):
        with unchanged(manager), pytest.raises(memmgr.FileAccessError):
            dimension.flush()
        dimension.flush()
    with testing.fail("identify_path", errno="EIO"):
        with unchanged(manager), pytest.raises(memmgr.FileAccessError):
            dimension.verify()
        assert dimension.verify()
    with testing.fail("memory_use"):
        with unchanged(manager):
            assert manager.memory().resident is None
        assert manager.memory().resident is not None


def test_memory_of_the_librarys_own_has_no_code(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.arange(10))
    with testing.fail("heap"):
        with pytest.raises(memmgr.AllocationError) as caught:
            manager.load("D01", path)
        assert (caught.value.system_code, caught.value.errno) == (0, None)
        manager.load("D01", path)


def test_what_cannot_be_unmapped_goes_later(
    loaded: memmgr.Dimension, manager: memmgr.Manager, files: Files
) -> None:
    """Unloading succeeds nonetheless, and the next load clears up."""
    before = manager.stats()
    with testing.fail("unmap"):
        loaded.unload()
        with pytest.raises(memmgr.InvalidAccessError):
            loaded["ids"]
        assert manager.stats().mapped == before.mapped
    manager.load("D01", files.raw(b"abc"))
    assert manager.stats().mapped == 3
    assert manager.stats().allocated == before.allocated


def test_after_count_and_dimension_say_which(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.arange(10))
    with testing.fail("open", errno="EACCES", dimension="D03", after=1, count=2) as failure:
        for name, fails in [("D01", 0), ("D03", 0), ("D02", 0), ("D03", 1), ("D03", 1), ("D03", 0)]:
            if fails:
                with pytest.raises(memmgr.FileAccessError):
                    manager.load(name, path)
            else:
                manager.load(name, path)
                manager[name].unload()
        assert (failure.calls, failure.failures) == (4, 2)
    assert (failure.calls, failure.failures) == (0, 0)


def test_calls_are_counted_without_failing(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.arange(10))
    with testing.fail("read", after=None) as failure:
        manager.load("D01", path)
        assert failure.calls > 0
        assert failure.failures == 0


def test_every_read_of_a_load_can_fail(
    manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    """How a program finds all of its failures: one call later each time, until none is hit."""
    path = files.safetensors({"a": np.arange(10)})
    failed = 0
    while True:
        with testing.fail("read", errno="EIO", after=failed) as failure, unchanged(manager):
            try:
                manager.load("D01", path)
            except memmgr.FileAccessError:
                pass
            else:
                manager["D01"].unload()
                loads = manager.stats().loads
            if failure.failures == 0:
                break
        failed += 1
    assert failed > 0
    assert loads == 1


def test_failures_end_with_their_block_and_leave_others(
    manager: memmgr.Manager, files: Files
) -> None:
    path = files.npy(np.arange(10))
    with testing.fail("map", errno="EACCES", count=None):
        with testing.fail("open", errno="EIO", count=None):
            with pytest.raises(memmgr.FileAccessError) as caught:
                manager.load("D01", path)
            assert caught.value.system_code == code("EIO")
        with pytest.raises(memmgr.FileAccessError) as caught:
            manager.load("D01", path)
        assert caught.value.system_code == code("EACCES")
    manager.load("D01", path)


def test_failures_are_cleared_one_by_one_and_all_at_once(
    manager: memmgr.Manager, files: Files
) -> None:
    path = files.npy(np.arange(10))
    failure = testing.fail("open", count=None)
    testing.fail("map", count=None)
    failure.clear()
    with pytest.raises(memmgr.AllocationError):
        manager.load("D01", path)
    testing.clear()
    manager.load("D01", path)


def test_errno_may_be_a_number(manager: memmgr.Manager, files: Files) -> None:
    failure = testing.fail("open", errno=13)
    assert repr(failure) == "<memmgr.testing.Failure 'open', 13>"
    with pytest.raises(memmgr.FileAccessError) as caught:
        manager.load("D01", files.raw(b"abc"))
    assert caught.value.system_code == 13


@pytest.mark.parametrize(
    ("call", "options"),
    [
        ("mmap", {}),
        ("map", {"errno": "ENOSUCH"}),
        ("map", {"errno": 0}),
        ("map", {"errno": -1}),
        ("map", {"errno": 2**31}),
        ("map", {"after": -1}),
        ("map", {"count": 0}),
        ("map", {"count": 2**64}),
        ("map", {"dimension": ""}),
        ("map", {"dimension": "x" * 64}),
        ("map", {"dimension": "D\0"}),
    ],
)
def test_what_is_no_failure_is_refused(
    manager: memmgr.Manager, files: Files, call: str, options: dict[str, object]
) -> None:
    with pytest.raises(memmgr.InvalidArgumentError):
        testing.fail(call, **options)  # type: ignore[arg-type]
    manager.load("D01", files.raw(b"abc"))
