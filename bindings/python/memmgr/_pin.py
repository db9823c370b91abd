"""Memory that keeps its own permission to be there: a pin for a view, or a writer's access.

`keeper` makes the pointer whose end gives the access back, at once and without the collector. It
can be made before the access is asked for, because a generation never moves: nothing that is
raised between two steps of Python can lose an access, and giving back what was not got is refused
and harmless. What the end of the pointer runs is C alone, which Ctrl-C does not interrupt.
"""

from __future__ import annotations

from ._call import CData, struct
from ._native import ffi, lib

VIEW = ffi.typeof("memmgr_view *")
EMPTY_VIEW = struct("memmgr_view")[0]

keeper = ffi.gc
release = lib.memmgr_python_release
_buffer = ffi.buffer


def memory(data: CData, length: int, writable: bool = False) -> memoryview:
    """The bytes at `data`; they and what is derived from them keep it alive."""
    view = memoryview(_buffer(data, length))
    return view if writable else view.toreadonly()
