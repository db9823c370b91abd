"""Gives memmgr._native NumPy's C API. Has what pool.c calls when the library refuses: C has the
`memmgr_error`, and here are the exceptions.
"""

from __future__ import annotations

import os
import threading

try:
    from numpy._core._exceptions import _ArrayMemoryError
    from numpy._core._multiarray_umath import _ARRAY_API  # type: ignore[import-not-found]
except ImportError:  # NumPy 1
    from numpy.core._exceptions import (  # type: ignore[import-not-found, no-redef]
        _ArrayMemoryError,
    )
    from numpy.core._multiarray_umath import _ARRAY_API  # type: ignore[no-redef]

from . import _native
from ._call import exception
from ._errors import MemmgrError
from ._native import ffi

# Whether arrays are made in C. MEMMGR_PURE=1 has them made in Python, as with a NumPy whose C API
# is not known: slower, and the same.
FAST: bool = _native.use_numpy(_ARRAY_API) and os.environ.get("MEMMGR_PURE") != "1"


class _Noted(threading.local):
    refusal: MemmgrError | None = None


_noted = _Noted()


def raise_error(address: int) -> None:
    """Raises the exception of the `memmgr_error` at an address."""
    raise _error(address)


def note_refusal(address: int) -> None:
    """Keeps it for who will see that NumPy got no memory on this thread."""
    _noted.refusal = _error(address)


def raise_refusal(error: BaseException) -> None:
    """Raises what was noted, if `error` is what NumPy makes of a refusal: it knows that it got no
    memory, and cannot know why. The note is of the last request of this thread, or there is none.
    """
    if _native.take_was_refused() and isinstance(error, _ArrayMemoryError):
        # No name for it: the frame would keep the exception, which keeps the frame.
        raise _take_refusal() from error


def _take_refusal() -> BaseException:
    refusal, _noted.refusal = _noted.refusal, None
    # There is none if memory ran out while it was noted.
    return MemoryError("out of memory") if refusal is None else refusal


def _error(address: int) -> MemmgrError:
    return exception(ffi.cast("memmgr_error *", address))
