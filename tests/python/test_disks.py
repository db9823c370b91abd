"""File systems of the real kinds, each on a loop device that only its test sees: what a full disk
does to a file that is mapped for writing, and folders that do not tell `A` from `a`.

They take root, loop devices and the tools that make file systems: what is missing is named by the
skip. The long form has all of them; what a memory file system can show is in the short one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="loop devices of Linux")

MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "20"],
    "xfs": ["mkfs.xfs", "-q", "-f", "-m", "reflink=1"],
    "btrfs": ["mkfs.btrfs", "-q", "-f"],
    "xfs-ci": ["mkfs.xfs", "-q", "-f", "-n", "version=ci"],
}

# What the code of each test begins with.
COMMON = """
    import errno, os, shutil, signal, subprocess, sys
    import memmgr, numpy
    os.chdir(sys.argv[1])
    MIB = 1 << 20

    def become_user():
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)

    def blocks(path):
        return os.stat(path).st_blocks * 512

    def free():
        status = os.statvfs(".")
        return status.f_bavail * status.f_frsize

    def fill_disk():
        with open("rest", "wb", buffering=0) as rest:
            for size in (MIB, 1 << 14, 1 << 12):
                try:
                    while True:
                        rest.write(os.urandom(size))
                        os.fsync(rest)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
        os.sync()

    def random_file(path, size):
        with open(path, "wb") as file:
            file.write(os.urandom(size))
        os.sync()

    def write_all(dimension):
        with dimension.write() as w:
            w[...][::4096] = 7
        dimension.flush()
"""


def run_on(kind: str, megabytes: int, folder: Path, code: str) -> str:
    """What a program prints that has such a disk as its folder."""
    if os.geteuid() != 0:
        pytest.skip("takes root")
    if kind == "tmpfs":
        mount = f'mount -t tmpfs -o size={megabytes}m tmpfs "$1"'
    else:
        if shutil.which(MAKE[kind][0]) is None:
            pytest.skip(f"there is no {MAKE[kind][0]}")
        image = folder / "image"
        with image.open("wb") as file:
            file.truncate(megabytes << 20)
        subprocess.run([*MAKE[kind], str(image)], check=True, capture_output=True)
        mount = f'mount -t {kind.removesuffix("-ci")} -o loop "{image}" "$1"'
    disk = folder / "disk"
    disk.mkdir()
    folder.chmod(0o755)
    command = ["unshare", "-m", "sh", "-c", f'{mount} && chmod 777 "$1" && shift && exec "$@"']
    command += ["sh", str(disk)]
    probe = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if probe.returncode != 0:
        pytest.skip(f"{kind} cannot be mounted here: {probe.stderr.strip()}")
    program = textwrap.dedent(COMMON) + textwrap.dedent(code)
    result = subprocess.run(
        [*command, sys.executable, "-c", program, str(disk)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd="/",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_room_that_is_kept_for_root_is_not_promised_to_others(tmp_path: Path) -> None:
    """R7.2: a load that fails takes nothing, and `would_fit` knows before."""
    code = """
        status = os.statvfs(".")
        size = (status.f_bavail + status.f_bfree) // 2 * status.f_frsize
        with open("table", "wb") as file:
            file.truncate(size)
        os.chmod("table", 0o666)
        become_user()
        manager = memmgr.Manager(1, capacity=size)
        before = free()
        for attempt in (
            lambda: manager.would_fit(0, "table", mode="r+"),
            lambda: manager.load(0, "table", mode="r+"),
        ):
            try:
                print(bool(attempt()))
            except memmgr.DiskFullError as error:
                print(errno.errorcode[error.errno], error.limit - error.used == before)
            print(blocks("table"), free() == before)
    """
    lines = run_on("ext4", 128, tmp_path, code).splitlines()
    assert lines[1::2] == ["0 True", "0 True"]
    assert lines[2] == "ENOSPC True"
    assert lines[0] in ("False", "ENOSPC True")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_holes_are_filled_and_what_was_taken_before_counts(tmp_path: Path, kind: str) -> None:
    """A file of data, of blocks taken ahead, and of a hole, loads as long as the hole has room."""
    code = """
        size = 64 * MIB
        random_file("table", 8 * MIB)
        with open("table", "r+b") as file:
            file.truncate(size)
            os.posix_fallocate(file.fileno(), 16 * MIB, 8 * MIB)
        before = blocks("table")
        manager = memmgr.Manager(1, capacity=size)
        dimension = manager.load(0, "table", mode="r+")
        print(before < 20 * MIB, blocks("table") >= size, os.path.getsize("table") == size)
        write_all(dimension)
    """
    assert run_on(kind, 400, tmp_path, code) == "True True True\n"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_full_disk_takes_a_file_without_a_hole(tmp_path: Path, kind: str) -> None:
    code = """
        random_file("table", 32 * MIB)
        fill_disk()
        manager = memmgr.Manager(1, capacity=32 * MIB)
        print(bool(manager.would_fit(0, "table", mode="r+")))
        write_all(manager.load(0, "table", mode="r+"))
        print("written")
    """
    assert run_on(kind, 400, tmp_path, code) == "True\nwritten\n"


@pytest.mark.slow
@pytest.mark.parametrize("full_before", [True, False])
def test_blocks_that_a_copy_shares_become_its_own(tmp_path: Path, *, full_before: bool) -> None:
    """Where the file system can: then a disk that is full is an error of the load, or none."""
    code = f"""
        random_file("original", 32 * MIB)
        subprocess.run(["cp", "--reflink=always", "original", "table"], check=True)
        manager = memmgr.Manager(1, capacity=32 * MIB)
        if {full_before}:
            fill_disk()
            try:
                manager.load(0, "table", mode="r+")
            except memmgr.DiskFullError as error:
                print(errno.errorcode[error.errno])
        else:
            dimension = manager.load(0, "table", mode="r+")
            fill_disk()
            write_all(dimension)
            print("written")
    """
    expected = "ENOSPC\n" if full_before else "written\n"
    assert run_on("xfs", 400, tmp_path, code) == expected


@pytest.mark.slow
def test_guard_outlives_a_full_disk_of_a_system_that_writes_every_block_anew(
    tmp_path: Path,
) -> None:
    """What the header advises for btrfs: an error of the write and no signal."""
    code = """
        random_file("table", 32 * MIB)
        manager = memmgr.Manager(1, capacity=32 * MIB, guard=True)
        dimension = manager.load(0, "table", mode="r+")
        fill_disk()
        try:
            write_all(dimension)
            print("written")
        except memmgr.FaultedError:
            print("faulted")
    """
    assert run_on("btrfs", 400, tmp_path, code) == "faulted\n"


@pytest.mark.slow
def test_folder_that_takes_a_for_a_keeps_the_data(tmp_path: Path) -> None:
    """The old file is what it was; a first one stands there, and is not the manifest."""
    code = """
        arrays = {"x": numpy.ones(3), "y": numpy.zeros(2)}
        for old in (None, b"old"):
            if old is not None:
                with open("a.bin", "wb") as file:
                    file.write(old)
            try:
                memmgr.save("a.bin", arrays, manifest="A.BIN")
            except memmgr.InvalidArgumentError as error:
                print("name" in str(error), os.listdir())
            with open("a.bin", "rb") as file:
                content = file.read()
            print(content[:3] == (old or numpy.ones(1).tobytes()[:3]), len(content))
    """
    lines = run_on("xfs-ci", 400, tmp_path, code).splitlines()
    assert lines == ["True ['a.bin']", "True 80", "True ['a.bin']", "True 3"]


def test_load_that_finds_no_room_takes_none(tmp_path: Path) -> None:
    """R7.2, R9.3: on a memory file system, with data between the holes."""
    code = """
        with open("table", "wb") as file:
            file.write(b"data")
            file.truncate(3 * MIB)
            file.seek(2 * MIB)
            file.write(b"more")
            file.truncate(8 * MIB)
        before = blocks("table"), free()
        manager = memmgr.Manager(1, capacity=8 * MIB)
        try:
            manager.load(0, "table", mode="r+")
        except memmgr.DiskFullError as error:
            print(errno.errorcode[error.errno], error.requested)
        print((blocks("table"), free()) == before)
        with open("table", "r+b") as file:
            file.truncate(3 * MIB)
        dimension = manager.load(0, "table", mode="r+")
        print(blocks("table"), bytes(dimension.view()[2 * MIB : 2 * MIB + 4]))
    """
    assert run_on("tmpfs", 4, tmp_path, code).splitlines() == [
        f"ENOSPC {8 << 20}",
        "True",
        f"{3 << 20} b'more'",
    ]
