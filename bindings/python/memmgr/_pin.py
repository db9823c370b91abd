"""Memory that keeps its own permission to be there: a pin for a view, or a writer's access.

The C struct is the owner: cffi calls the function that gives it back when the last reference to it
goes, without the collector. It exists, empty, before the library fills it, so that no exception
between two steps of Python can lose a pin; giving an empty one back is refused and harmless. The
memoryview holds the pointer, whose destructor holds the struct.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ._call import CData
from ._native import ffi, lib

_VIEW = ffi.typeof("memmgr_view *")
_VIEW_SIZE = ffi.sizeof("memmgr_view")


def releaser(handle: CData) -> Callable[[CData], None]:
    """What releases the views of one manager. Works after the manager was closed."""

    # Names bound here, because module globals may be gone when the last array is.
    def release(
        view: CData, *, release: Any = lib.memmgr_view_release, null: Any = ffi.NULL
    ) -> None:
        release(handle, view, null)

    return release


def empty_view(release: Callable[[CData], None]) -> CData:
    """A view struct to be filled by an acquire, released when it dies."""
    view = ffi.gc(ffi.new(_VIEW), release)
    view.struct_size = _VIEW_SIZE
    return view


def memory(owner: CData, *, writable: bool) -> memoryview:
    """The bytes of a view or a write; they and what is derived from them keep `owner` alive."""
    data = ffi.gc(owner.data, functools.partial(_let_go, owner))
    view = memoryview(ffi.buffer(data, owner.length))
    return view if writable else view.toreadonly()


def _let_go(_owner: CData, _data: CData) -> None:
    """Dropping this function's argument is all there is to do."""
