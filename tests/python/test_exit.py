"""An interpreter that ends is silent and clean, whatever of ours is still alive in it."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from .conftest import Files

SETUP = """
import atexit, gc, logging, sys, threading, time, weakref
import numpy as np
import memmgr

path = sys.argv[1]
manager = memmgr.Manager(2, capacity="1 MiB", **OPTIONS)
dimension = manager.load(0, path, mode="c")

def start(function):
    def run():
        while True:
            function()
    threading.Thread(target=run, daemon=True).start()
"""

# What is alive at the end.
CASES = {
    "views": "kept = [dimension['data'] for _ in range(100)]",
    "slices": "kept = dimension['data'][1:][::2].reshape(-1, 1)",
    "views_of_a_closed_manager": "kept = dimension['data']; manager.close('defer')",
    "views_of_a_replaced_version": """
kept = dimension["data"]
second = manager.load(1, path, mode="ram")
newer = second["data"]
second.reload(path, mode="ram")
del second
""",
    "cycle": """
class Owner: pass
owner = Owner()
owner.manager, owner.self = manager, owner
owner.array = dimension["data"]
del manager, dimension, owner
""",
    "cycle_through_the_manager": """
manager.myself = [manager, dimension, dimension["data"]]
del manager, dimension
""",
    "cycle_without_the_collector": """
gc.disable()
manager.myself = [manager, dimension["data"]]
del manager, dimension
""",
    "reading_threads": """
for _ in range(4):
    start(lambda: dimension["data"].sum())
time.sleep(0.1)
""",
    "writing_threads": """
def write():
    with dimension.write() as w:
        w["data"] += 1
for _ in range(2):
    start(write)
start(lambda: dimension["data"].sum())
time.sleep(0.1)
""",
    "loading_threads": """
def load():
    manager.load(1, path)
    manager[1].unload("defer")
start(load)
start(lambda: memmgr.Manager(1, capacity="64 KiB").close())
time.sleep(0.1)
""",
    "waiting_threads": """
kept = dimension["data"]
start(lambda: dimension.unload("wait"))
time.sleep(0.1)
""",
    "writer_in_its_block": "writer = dimension.write().__enter__(); kept = writer['data']",
    "blocks": """
kept = [manager.alloc(100), manager.zeros(1000), memoryview(manager.alloc(7))]
allocator = manager.numpy_allocator()
allocator.__enter__()
array = np.ones(1000)
start(lambda: manager.empty(1000).fill(1))
time.sleep(0.1)
""",
    "handlers_at_exit": """
atexit.register(manager.close, "defer")
atexit.register(lambda: dimension["data"].sum())
weakref.finalize(manager, print, end="")
kept = dimension["data"]
""",
    "an_array_in_a_module": "np.kept = dimension['data']; sys.kept = manager",
    "a_child": """
import os, warnings
warnings.simplefilter("ignore")
kept = dimension["data"]
start(lambda: dimension["data"].sum())
if hasattr(os, "fork"):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0) == (child, 0)
    else:
        dimension["data"].sum()
""",
}


@pytest.mark.parametrize("options", ["", "track_views=True", "gate='atomic'"])
@pytest.mark.parametrize("case", CASES)
def test_r7_1_interpreter_ends_in_silence(files: Files, case: str, options: str) -> None:
    """R7.1. Also with the log at its most talkative: a handler is not called too late."""
    log = 'logging.getLogger("memmgr").setLevel(logging.DEBUG)\n' if options else ""
    code = SETUP.replace("OPTIONS", f"dict({options})") + log + CASES[case]
    path = files.npy(np.arange(1000, dtype="f4"))
    result = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", code, path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONFAULTHANDLER": "1"},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
