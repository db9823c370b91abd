"""NumPy's arrays from a manager's pools, by NumPy's own memory handlers (NEP 49).

Every array remembers the handler that its memory came from and gives it back to that one, on
whatever thread and however late; the handler needs the manager's handle and nothing of Python's.
NumPy's handler is a context variable: only what runs in the same context sees it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from . import _native
from ._arguments import integer
from ._errors import InvalidArgumentError
from ._extension import raise_refusal
from ._stats import capabilities

_T = TypeVar("_T")

_PAGE_SIZE = capabilities().page_size


def new_handler(manager: int, alignment: int) -> object:
    """The handler of a manager, to be kept by whoever sets it."""
    alignment = integer(alignment, "alignment", 1, _PAGE_SIZE)
    if alignment & (alignment - 1):
        raise InvalidArgumentError(f"alignment is {alignment}, want a power of two")
    return _native.new_numpy_handler(manager, alignment)


def call_under(handler: object, function: Callable[..., _T], *arguments: Any) -> _T:
    """Calls a function whose arrays come from a handler; a refusal leaves as its exception. The
    same as in a block, for one call, and faster."""
    try:
        return _native.call_under_handler(handler, function, *arguments)
    except MemoryError as error:
        raise_refusal(error)
        raise
