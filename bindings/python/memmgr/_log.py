"""The library's log as records of Python's `logging`, under the logger "memmgr".

Every block that the pools hand out is a DEBUG record, so the library makes those only while the
logger wants them: `follow` tells it, whenever the logger's own level is set and when a manager
opens (the levels of loggers above it may have changed). The hook is taken off before the
interpreter ends. What a handler raises is dropped: the call that caused the record has nobody to
raise it to.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
from typing import Any

from ._call import CData, call, text
from ._errors import InvalidArgumentError
from ._native import ffi, lib


class _Logger(logging.Logger):
    installed = False

    def setLevel(self, level: int | str) -> None:  # noqa: N802
        super().setLevel(level)
        follow()


logger = logging.getLogger("memmgr")
logger.addHandler(logging.NullHandler())
logger.__class__ = _Logger


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
    _Logger.installed = True
    follow()
    atexit.register(_uninstall)


def follow() -> None:
    """Has the library make the records that the logger wants."""
    if not _Logger.installed:
        return
    level = min(max(logger.getEffectiveLevel(), lib.MEMMGR_LOG_DEBUG), lib.MEMMGR_LOG_INFO)
    # Refused within the log function: the next manager that opens asks again.
    with contextlib.suppress(InvalidArgumentError):
        call(lib.memmgr_log_set, level, lib.memmgr_python_log, ffi.NULL)


def _uninstall() -> None:
    _Logger.installed = False
    call(lib.memmgr_log_set, lib.MEMMGR_LOG_DEBUG, ffi.NULL, ffi.NULL)
