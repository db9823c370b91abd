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


class under:  # noqa: N801 - called as the function beside it
    """NumPy's arrays in this context come from a handler; a refusal leaves as its exception.

    No generator: in Python 3.12 an exception that one replaces is in a cycle with its frames, and
    keeps their arrays until the collector comes.
    """

    def __init__(self, handler: object) -> None:
        self._handler = handler

    def __enter__(self) -> None:
        forget_refusal()
        self._previous = _native.set_numpy_handler(self._handler)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        _native.set_numpy_handler(self._previous)
        if isinstance(error, MemoryError) and _is_refusal(error):
            raise take_refusal() from error


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
