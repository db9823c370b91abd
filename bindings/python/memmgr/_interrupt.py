"""Signals in calls that wait or take long: the library asks, callbacks.c runs their handlers.

What a handler raises ends the call, with everything as before it, and is raised by it. The hook is
taken off before the interpreter ends.
"""

from __future__ import annotations

import atexit
import gc
import os
import threading
import time

from ._call import call
from ._native import ffi, lib


class _Collector:
    """When it is asked again."""

    next_ns = 0


def install() -> None:
    """Sets the process's interrupt function, until the interpreter ends."""
    _set()
    # Whichever thread forks is the child's main thread.
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_set)
    atexit.register(call, lib.memmgr_interrupt_set, ffi.NULL, ffi.NULL)


def _set() -> None:
    hook = ffi.addressof(lib, "memmgr_python_interrupt")
    main = ffi.cast("void *", threading.main_thread().ident or 0)
    # Refused in a child that was forked by a signal handler: it is the main thread's, as before.
    lib.memmgr_interrupt_set(hook, main, ffi.NULL)


def collect() -> None:
    """Called by C, of a Python without the GIL, while a thread waits: at most for a tenth of the
    time."""
    begun = time.monotonic_ns()
    if begun < _Collector.next_ns:
        return
    gc.collect()
    now = time.monotonic_ns()
    _Collector.next_ns = now + 10 * (now - begun)
