"""R5.2, R7.1, R7.2, R7.4, R9.2, R9.3: every limit is told by its name, its value and what was
needed, and a refused call leaves the process as it was.

Limits are lowered in processes of their own: one that a test lowers for itself would be pytest's.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from pathlib import Path

import memmgr
import numpy as np
import pytest

from .conftest import MIB, Files, Unchanged

needs_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux has all these limits of a process"
)

# What each program begins with; a snapshot is all that a refusal must leave as it was.
PROLOGUE = """
import os, resource, sys
import memmgr

def lower(limit, value):
    before = resource.getrlimit(limit)
    resource.setrlimit(limit, (value, before[1]))
    return before

def maps():
    # Of the manager: the interpreter's own memory comes and goes.
    edges = [(d.stats().address, d.stats().address + d.capacity) for d in manager.values()]
    return [line for line in open("/proc/self/maps")
            if any(a < int(line.split("-")[1].split()[0], 16) and int(line.split("-")[0], 16) < b
                   for a, b in edges) or path in line]

def snapshot():
    stats = manager.stats()
    return (stats.allocated, stats.mapped, stats.loaded_count, stats.views, maps(),
            [d.stats() for d in manager.values()], len(os.listdir("/proc/self/fd")))

def refused(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except memmgr.MemmgrError as error:
        return error
    raise AssertionError("it was not refused")

def tell(error):
    print(type(error).__name__, error.limit_kind, error.limit, error.requested, error.used,
          error.system_code, sep="|")
    print(error)

path = sys.argv[1]
manager = memmgr.Manager(2, capacity="64 KiB")
"""


def told(program: str, path: Path) -> tuple[list[str], str]:
    """The fields and the message of the error that the program tells."""
    result = subprocess.run(
        [sys.executable, "-c", PROLOGUE + program, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    fields, message = result.stdout.splitlines()
    return fields.split("|"), message


@needs_linux
def test_r7_3_descriptors(files: Files) -> None:
    """R7.3, R7.2, R9.3: EMFILE says RLIMIT_NOFILE and its value."""
    program = """
before = snapshot()
limit = lower(resource.RLIMIT_NOFILE, 3)
error = refused(manager.load, "D01", path)
fit = manager.would_fit("D01", path)
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
assert snapshot() == before
assert not fit and fit.error.limit_kind == error.limit_kind
tell(error)
manager.load("D01", path)
"""
    fields, message = told(program, files.raw(b"x" * 5000))
    assert fields[:5] == ["FileAccessError", "descriptors", "3", "1", "3"]
    assert "RLIMIT_NOFILE" in message
    assert "system error 24" in message


@needs_linux
def test_r1_4_address_space(files: Files) -> None:
    """R1.4, R7.2: RLIMIT_AS, with what is used and what was needed."""
    program = """
before = snapshot()
limit = lower(resource.RLIMIT_AS, 2 << 30)
error = refused(memmgr.Manager, 4, capacity="1 GiB")
resource.setrlimit(resource.RLIMIT_AS, limit)
assert snapshot() == before
tell(error)
"""
    fields, message = told(program, files.raw(b"x"))
    assert fields[:4] == ["AllocationError", "address_space", str(2**31), str(2**33)]
    assert 0 < int(fields[4]) < 2**31
    assert "RLIMIT_AS" in message
    assert str(2**33) in message


@needs_linux
def test_r2_3_private_memory(files: Files) -> None:
    """R2.3, R7.2: RLIMIT_DATA, which a copy-on-write load is charged to and a shared one is not."""
    program = """
before = snapshot()
limit = lower(resource.RLIMIT_DATA, 4096)
fit = manager.would_fit("D01", path, mode="c")
shared = manager.would_fit("D01", path)
error = refused(manager.load, "D01", path, mode="c")
resource.setrlimit(resource.RLIMIT_DATA, limit)
assert snapshot() == before
assert shared and not fit and fit.error.limit_kind == error.limit_kind
tell(error)
manager.load("D01", path, mode="c")
"""
    fields, message = told(program, files.raw(b"x" * 5000))
    assert fields[:4] == ["AllocationError", "data", "4096", "5000"]
    assert "RLIMIT_DATA" in message


@needs_linux
def test_r5_2_auto_takes_the_limit_of_address_space(files: Files) -> None:
    """R5.2: the tightest limit is the one that is taken, less what is used already."""
    program = """
lower(resource.RLIMIT_AS, 4 << 30)
automatic = memmgr.Manager(2, capacity="1 MiB", limit="auto")
stats = automatic.stats()
assert stats.limit_kind == "address_space", stats
assert 0 < stats.limit < 4 << 30
assert automatic.dump()["budget"]["limit_kind"] == "address_space"
tell(refused(memmgr.Manager, 14, capacity="1 GiB", limit="auto"))
"""
    fields, message = told(program, files.raw(b"x"))
    assert fields[:4] == ["LimitExceededError", "address_space", str(2**32), str(14 * 2**30)]
    assert "RLIMIT_AS" in message


def test_r5_2_auto_says_which_limit_it_took() -> None:
    """R5.2, R5.5: on every system."""
    with memmgr.Manager(2, capacity="1 MiB", limit="auto") as manager:
        stats = manager.stats()
        assert stats.limit_kind in ("memory", "control_group", "commit", "address_space", "data")
        assert stats.allocated == 2 * MIB < stats.limit
    with memmgr.Manager(2, capacity="1 MiB", limit="3 MiB") as manager:
        assert (manager.stats().limit_kind, manager.stats().limit) == ("budget", 3 * MIB)
    with memmgr.Manager.from_config({"dimensions": 2, "limit": "auto"}) as manager:
        assert manager.stats().limit_kind != "budget"


def test_r2_3_would_fit_answers_as_a_load_does(
    manager: memmgr.Manager, files: Files, unchanged: Unchanged
) -> None:
    """R2.3, R9.2: with the error that the load would have, and without a change."""
    small, large = files.raw(b"x", "small"), files.raw(b"x" * (MIB + 1), "large")
    with unchanged(manager):
        assert manager.would_fit("D01", small)
        assert manager.would_fit(0, MIB, mode="ram")
        assert manager.would_fit("D02", str(small), mode="r+").error is None
        assert not manager.would_fit("D01", MIB + 1)
        fit = manager.would_fit("D01", large)
        with pytest.raises(memmgr.LimitExceededError) as caught:
            manager.load("D01", large)
    error = fit.error
    assert isinstance(error, memmgr.LimitExceededError)
    assert str(error) == str(caught.value)
    assert vars(error) == vars(caught.value)
    assert (error.limit_kind, error.requested, error.limit) == ("capacity", MIB + 1, MIB)
    assert error.filename is large
    assert pickle.loads(pickle.dumps(error)).limit_kind == "capacity"


def test_r5_2_would_fit_looks_at_the_budget(files: Files, unchanged: Unchanged) -> None:
    """R5.2, R2.3: a reload needs its capacity once more, a deallocated dimension its own again."""
    path, other = files.raw(b"1", "1"), files.raw(b"2", "2")
    with memmgr.Manager(2, capacity="1 MiB", limit="2 MiB") as manager:
        manager.load(0, path)
        with unchanged(manager):
            fit = manager.would_fit(0, other)
            assert not fit
            assert fit.error is not None
            assert fit.error.limit_kind == "budget"
            assert (fit.error.requested, fit.error.used, fit.error.limit) == (MIB, 2 * MIB, 2 * MIB)
        assert manager.stats().refusals == 0
        assert manager.would_fit(1, other)
        manager[1].deallocate()
        assert manager.would_fit(0, other)
        held = manager[0].view()
        manager[0].reload(other)
        assert not manager.would_fit(1, other)
        assert held.tobytes() == b"1"


def test_r2_3_memory_that_the_machine_does_not_have(unchanged: Unchanged) -> None:
    """R2.3: an error, and not a process that is killed for it."""
    with memmgr.Manager(1, capacity="4 TiB", limit="1 PiB") as manager, unchanged(manager):
        error = manager.would_fit(0, 2**42, mode="ram").error
    assert isinstance(error, memmgr.LimitExceededError)
    assert error.limit_kind in ("memory", "control_group", "commit")
    assert error.used < error.limit < error.requested == 2**42


def test_would_fit_raises_what_is_no_matter_of_room(manager: memmgr.Manager, files: Files) -> None:
    with pytest.raises(memmgr.FileAccessError):
        manager.would_fit("D01", files.folder / "missing")
    with pytest.raises(memmgr.FormatError):
        manager.would_fit("D01", files.raw(b""))
    with pytest.raises(memmgr.UnknownDimensionError):
        manager.would_fit("D99", 1)
    with pytest.raises(memmgr.InvalidArgumentError):
        manager.would_fit("D01", 0)
    with pytest.raises(memmgr.InvalidArgumentError):
        manager.would_fit("D01", 1, mode="w")  # type: ignore[arg-type]
    manager.close()
    with pytest.raises(memmgr.InvalidAccessError):
        manager.would_fit("D01", 1)


def test_r7_4_each_crossing_warns_once(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    """R7.4: a handler of the logger is the callback; the budget may fall while nobody calls."""
    caplog.set_level(logging.WARNING, "memmgr")
    versions = [files.npy(np.zeros(3), f"{number}.npy") for number in range(2)]
    with memmgr.Manager(1, capacity="1 MiB", limit="2 MiB") as manager:
        dimension = manager.load(0, versions[0])
        for number in range(1, 4):
            held = dimension["data"]
            dimension.reload(versions[number % 2])
            records = [record.memmgr for record in caplog.records]  # type: ignore[attr-defined]
            assert [record["operation"] for record in records] == ["pressure"] * number
            assert records[-1]["threshold"] == 95
            assert records[-1]["allocated"] == records[-1]["limit"] == 2 * MIB
            del held
        assert len(caplog.records) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has filters of system calls")
def test_what_the_system_does_not_tell_is_none(files: Files) -> None:
    """A process that is not dumpable, and another user than the owner of /proc/self/pagemap."""
    path = files.raw(b"x" * 5000)
    program = """
import ctypes, os, sys
import memmgr
manager = memmgr.Manager(2, capacity="1 MiB")
dimension = manager.load("D01", sys.argv[1])
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
assert manager.dump()["memory"]["mapped"] == dimension.memory().mapped > 0
if not os.access("/proc/self/pagemap", os.R_OK):
    assert manager.dump()["memory"]["resident"] is None
    assert manager.memory().resident is None is dimension.memory().private_dirty
    assert dimension.residency().resident is None
dimension.warm()
manager.close()
"""
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, timeout=60)
