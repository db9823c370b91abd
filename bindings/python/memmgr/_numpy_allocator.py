"""NumPy's arrays from a manager's pools, by NumPy's own memory handlers (NEP 49).

Every array remembers the handler that its memory came from and gives it back to that one, on
whatever thread and however late; the handler needs the manager's handle and nothing of Python's.
NumPy's handler is a context variable: only what runs in the same context sees it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from . import _native
from ._arguments import integer
from ._errors import InvalidArgumentError, MemmgrError
from ._extension import forget_refusal, refused, take_refusal
from ._stats import capabilities

_T = TypeVar("_T")

_PAGE_SIZE = capabilities().page_size


def new_handler(manager: int, alignment: int) -> object:
    """The handler of a manager, to be kept by whoever sets it."""
    alignment = integer(alignment, "alignment", 1, _PAGE_SIZE)
    if alignment & (alignment - 1):
        raise InvalidArgumentError(f"alignment is {alignment}, want a power of two")
    return _native.new_numpy_handler(manager, alignment)


@contextlib.contextmanager
def under(handler: object) -> Iterator[None]:
    """NumPy's arrays in this context come from a handler; a refusal leaves as its exception."""
    forget_refusal()
    previous = _native.set_numpy_handler(handler)
    try:
        yield
    except MemoryError as error:
        if not _is_refusal(error):
            raise
        raise take_refusal() from error
    finally:
        _native.set_numpy_handler(previous)


def call_under(handler: object, function: Callable[..., _T], *arguments: Any) -> _T:
    """The same for one call, and faster."""
    try:
        return _native.call_under_handler(handler, function, *arguments)
    except MemoryError as error:
        if not _is_refusal(error):
            raise
        raise take_refusal() from error


def _is_refusal(error: MemoryError) -> bool:
    # NumPy knows that it got no memory, and cannot know why.
    return not isinstance(error, MemmgrError) and refused()
