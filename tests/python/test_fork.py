"""Processes made of processes: forked while threads are at work, and spawned with a pickle."""

from __future__ import annotations

import contextlib
import faulthandler
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import memmgr
import numpy as np
import numpy.typing as npt
import pytest

from .conftest import MIB, Files

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


def in_child(live: Callable[[], None]) -> None:
    """Runs it in a child, which must end well, and soon."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            faulthandler.dump_traceback_later(20, exit=True)
            live()
            status = 0
        except BaseException:  # noqa: BLE001
            # Whatever it is, the child must not go on as pytest.
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(status)
    assert os.waitpid(child, 0) == (child, 0)


@contextlib.contextmanager
def at_work(*functions: Callable[[], None]) -> Iterator[None]:
    """Each is called again and again on a thread of its own; none may raise."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def run(function: Callable[[], None]) -> None:
        try:
            while not stop.is_set():
                function()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not errors, errors


@needs_fork
def test_child_reads_loads_and_opens(
    loaded: memmgr.Dimension, table: npt.NDArray[np.float32], files: Files
) -> None:
    manager = loaded._manager
    array = loaded["table"]
    other = files.npy(np.full(100, 7))

    def live() -> None:
        nonlocal array
        assert (array == table).all()
        assert (loaded["table"] == table).all()
        kept = array
        del array
        with pytest.raises(memmgr.ViewsHeldError):
            loaded.unload()
        loaded.reload(other)
        assert loaded["data"][0] == 7
        assert (kept == table).all()
        manager.load("D02", other)
        manager["D02"].reload(files.npy(np.full(3, 8), "third.npy"))
        manager["D02"].reload(other)
        assert manager["D02"]["data"].sum() == 700
        manager["D02"].unload()
        with memmgr.Manager(1, capacity=MIB) as own:
            assert own.load(0, other)["data"].sum() == 700
        with manager:
            pass
        assert manager.closed
        assert (kept == table).all()

    in_child(live)
    assert (array == table).all()
    assert manager["D02"].state == "empty"
    del array
    loaded.unload()


@needs_fork
def test_child_cannot_write_what_its_parent_can(manager: memmgr.Manager, files: Files) -> None:
    shared = manager.load("D01", files.npy(np.zeros(3), "shared.npy"), mode="r+")
    private = manager.load("D02", files.npy(np.zeros(3), "private.npy"), mode="c")

    def live() -> None:
        with pytest.raises(memmgr.InvalidArgumentError, match="parent process"), shared.write():
            pass
        assert shared.mode == "r"
        assert shared["data"][0] == 0
        with private.write() as w:
            w["data"][...] = 5
        assert private["data"][0] == 5

    in_child(live)
    with shared.write() as w:
        w["data"][...] = 1
    assert private["data"][0] == 0


@needs_fork
def test_child_does_not_see_half_a_write(manager: memmgr.Manager, files: Files) -> None:
    path = files.npy(np.zeros(3))
    dimension = manager.load("D01", path, mode="c")
    with dimension.write() as w:
        w["data"][0] = 1

        def live() -> None:
            with pytest.raises(memmgr.NotLoadedError):
                dimension["data"]
            assert manager.load("D01", path)["data"][0] == 0

        in_child(live)
        # A child that leaves the block of the parent's is not refused.
        in_child(lambda: w.__exit__(None, None, None))
        w["data"][...] = 2
    assert dimension["data"].sum() == 6


@needs_fork
@pytest.mark.parametrize("track_views", [False, True])
def test_forks_while_threads_read_and_write(files: Files, *, track_views: bool) -> None:
    paths = [files.npy(np.full(10_000, value), f"{value}.npy") for value in range(3)]
    with memmgr.Manager(3, capacity=MIB, track_views=track_views) as manager:
        read = manager.load(0, paths[1])
        written = manager.load(1, paths[0], mode="c")
        kept = read["data"]

        def check(dimension: memmgr.Dimension) -> None:
            array = dimension["data"]
            assert (array == array[0]).all()

        def write() -> None:
            with written.write() as w:
                w["data"] += 1

        def reload() -> None:
            with contextlib.suppress(memmgr.ViewsHeldError):
                read.reload(paths[2])
            with contextlib.suppress(memmgr.ViewsHeldError):
                read.reload(paths[1])

        def load() -> None:
            manager.load(2, paths[0], mode="ram").unload("defer")

        def send() -> None:
            assert pickle.loads(pickle.dumps(manager)) is manager

        def live() -> None:
            assert (kept == 1).all()
            check(read)
            with contextlib.suppress(memmgr.NotLoadedError):
                check(written)
            with contextlib.suppress(memmgr.ViewsHeldError):
                read.reload(paths[0])
                assert not read["data"].any()
            assert pickle.loads(pickled) is manager
            with memmgr.Manager(1, capacity=MIB) as own:
                assert not own.load(0, paths[0])["data"].any()
            manager.close("defer")
            assert (kept == 1).all()

        pickled = pickle.dumps(manager)
        readers = [lambda: check(read), lambda: check(read), lambda: check(written)]
        with at_work(*readers, write, reload, load, send):
            for _ in range(20):
                in_child(live)
        assert (kept == 1).all()


# What runs in other processes has to be where these find it: in a program of its own.
PROGRAM = """
import concurrent.futures, multiprocessing, os, pickle, sys
import memmgr, numpy as np

class Table:
    '''As a DataLoader has it: made here, read item by item elsewhere.'''
    def __init__(self, dimension):
        self.dimension = dimension
    def __len__(self):
        return len(self.dimension["data"])
    def __getitem__(self, index):
        return self.dimension["data"][index]

opened = []
def total(dimension):
    opened.append(dimension._manager)
    assert all(manager is opened[0] for manager in opened), "one manager in one process"
    return dimension["data"].sum(), os.getpid()

def fetch(table, requests, batches):
    for indices in iter(requests.get, None):
        batches.put(np.stack([table[i] for i in indices]))

def main():
    context = multiprocessing.get_context(sys.argv[1])
    with memmgr.Manager(2, capacity="1 MiB") as manager:
        dimension = manager.load(0, sys.argv[2])
        data = dimension["data"]
        with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as executor:
            for got, process in executor.map(total, [dimension] * 20):
                assert got == data.sum() and process != os.getpid()
        with context.Pool(2) as pool:
            assert all(got == data.sum() for got, _ in pool.imap_unordered(total, [dimension] * 20))
            pool.close()
            pool.join()
        requests, batches = context.Queue(), context.Queue()
        arguments = Table(dimension), requests, batches
        workers = [context.Process(target=fetch, args=arguments) for _ in range(2)]
        for worker in workers:
            worker.start()
        order = np.random.default_rng(0).permutation(len(data)).reshape(10, -1)
        for indices in order:
            requests.put(indices.tolist())
        got = np.concatenate([batches.get(timeout=20) for _ in order])
        assert sorted(got[:, 0]) == sorted(data[:, 0])
        for _ in workers:
            requests.put(None)
        for worker in workers:
            worker.join()
            assert worker.exitcode == 0
        del data
        dimension.unload()
    print("done")

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_workers_read_what_their_parent_loaded(
    files: Files, tmp_path: Path, table: npt.NDArray[np.float32], method: str
) -> None:
    """As multiprocessing, concurrent.futures, joblib and DataLoader start them."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    ignored = ("-W", "ignore:.*fork:DeprecationWarning")
    result = subprocess.run(
        [sys.executable, "-X", "dev", *ignored, program, method, files.npy(table)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")
