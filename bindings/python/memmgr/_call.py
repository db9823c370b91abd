"""The one place where C functions that can fail are called and their failures raised: what C
reports, and what Python code raised that C called back meanwhile (callbacks.c).

A `memmgr_error` is taken from the thread's spares for the length of a call, not shared by all of
them: cffi drops the GIL in every call, and a signal handler or a log handler may call the library
while a call of the same thread is under way.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from . import _native
from ._errors import CLASSES, MemmgrError
from ._native import ffi, lib

CData: TypeAlias = Any
Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

# cffi's module has a place for functions and none for Python's objects: module.c adds those.
if not lib.memmgr_python_extend(_native.__name__.encode()):
    raise ImportError("memmgr._native could not be completed")

_ERRNO_CODES = 1
_BY_STATUS = {getattr(lib, f"MEMMGR_ERR_{name.upper()}"): cls for name, cls in CLASSES.items()}


_call_and_raise = _native.call_and_raise


class _Spare(threading.local):
    def __init__(self) -> None:
        self.errors: list[CData] = []


_spare = _Spare()


def struct(name: str) -> CData:
    """A zeroed `name` of the caller's, its struct_size set."""
    value = ffi.new(f"{name} *")
    value.struct_size = ffi.sizeof(value[0])
    return value


def call(function: Callable[..., int], *arguments: Any, paths: Sequence[Path | None] = ()) -> None:
    """Calls `function(*arguments, error)` and raises what comes back, unless it is MEMMGR_OK.

    An exception of a callback is raised in its place, also where the function did what it was to
    do: as if a signal had come right after. So whatever a call acquires has an owner before it.

    paths: the files the caller named, so that the exception's `filename` is one of these objects.
    """
    spares = _spare.errors
    error = spares.pop() if spares else struct("memmgr_error")
    status = _call_and_raise(function, *arguments, error)
    if status:
        raise exception(error, paths)
    spares.append(error)


def exception(error: CData, paths: Sequence[Path | None] = ()) -> MemmgrError:
    """What a failed call said, to be raised."""
    code = int(error.system_code)
    errno = strerror = winerror = None
    if code and codes_are_errno():
        errno, strerror = code, os.strerror(code)
    elif code:
        winerror, (_, strerror) = code, ffi.getwinerror(code)
    return _BY_STATUS.get(error.status, MemmgrError)(
        text(error.message),
        operation=text(lib.memmgr_operation_name(error.operation)),
        dimension=text(error.dimension_name) or None,
        layer=text(error.layer_name) or None,
        requested=error.requested,
        used=error.used,
        limit=error.limit,
        limit_kind=text(lib.memmgr_limit_name(error.limit_kind)) if error.limit_kind else None,
        offset=error.offset,
        views=error.views,
        system_code=code,
        errno=errno,
        strerror=strerror,
        winerror=winerror,
        filename=_as_passed(ffi.string(error.file_name), paths),
    )


def _as_passed(file_name: bytes, paths: Sequence[Path | None]) -> Path | None:
    if not file_name:
        return None
    encoded = [(os.fsencode(path), path) for path in paths if path is not None]
    # The library cuts a long file name at its front. One name may be the end of another.
    for fits in (bytes.__eq__, bytes.endswith):
        for name, path in encoded:
            if fits(name, file_name):
                return path
    return os.fsdecode(file_name)


def text(value: CData) -> str:
    """A `char` array or pointer as str; file names may hold bytes that are not UTF-8."""
    return str(ffi.string(value).decode("utf-8", "surrogateescape"))


def known(value: int) -> int | None:
    """A number, or None where the system does not tell."""
    return None if value == lib.MEMMGR_UNKNOWN else value


_capabilities: CData = struct("memmgr_capabilities")
call(lib.memmgr_capabilities_get, _capabilities)


def codes_are_errno() -> bool:
    """True where system codes are errno values, False where they are those of GetLastError."""
    return bool(_capabilities.system_code_kind == _ERRNO_CODES)
