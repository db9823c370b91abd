"""The library's log as records of Python's `logging`, under the logger "memmgr".

The hook is set once, at import, at the lowest level: records come only from the rare side (loads,
unloads, pressure), never from reading, so a record that the logger's level drops costs a
microsecond of a system call's time, and `getLogger("memmgr").setLevel(…)` works at any time. It is
taken off before the interpreter ends. What a handler raises is dropped: the call that caused the
record has nobody to raise it to.
"""

from __future__ import annotations

import atexit
import logging
from typing import Any

from ._call import CData, call, text
from ._native import ffi, lib

logger = logging.getLogger("memmgr")
logger.addHandler(logging.NullHandler())


def _dropped(_kind: Any, _value: Any, _traceback: Any) -> None:
    """Takes the place of cffi's own report on stderr."""


@ffi.def_extern(onerror=_dropped)  # type: ignore[untyped-decorator]
def memmgr_python_log(record: CData, _user: CData) -> None:
    """One record: its numbers are in the attribute `memmgr`, a dict."""
    level = record.level
    if not logger.isEnabledFor(level):
        return
    none = record.dimension == lib.MEMMGR_NONE
    detail = {
        "operation": text(lib.memmgr_operation_name(record.operation)),
        "dimension": None if none else record.dimension,
        "bytes": record.bytes,
        "allocated": record.allocated,
        "limit": record.limit,
        "threshold": record.threshold_percent,
    }
    logger.log(level, "%s", text(record.message), extra={"memmgr": detail})


def install() -> None:
    """Sets the process's log function, until the interpreter ends."""
    call(lib.memmgr_log_set, lib.MEMMGR_LOG_DEBUG, lib.memmgr_python_log, ffi.NULL)
    atexit.register(call, lib.memmgr_log_set, lib.MEMMGR_LOG_DEBUG, ffi.NULL, ffi.NULL)
