"""The progress of a long call: told between its chunks, with the GIL, on the thread of the call.

C knows a function and a pointer; the pointer leads to the `Listener` of the call. What the user's
function raises ends the call, and is raised by it; Ctrl-C is heard between two chunks the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from ._call import CData
from ._errors import CancelledError
from ._native import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Self

Progress: TypeAlias = Callable[[int, int], object]

_GO_ON, _STOP = 0, 1


class Listener:
    """Hears of the progress of one call: `with Listener(progress, options): call(…)`.

    options: the struct of the call's options, which is given `progress` and `user`.
    """

    def __init__(self, progress: Progress | None, options: CData) -> None:
        self._progress = progress
        self._raised: BaseException | None = None
        # cffi keeps nothing alive for a struct: this does, until the call is over.
        self._handle = ffi.new_handle(self)
        options.progress, options.user = lib.memmgr_python_progress, self._handle

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raises what the user's function raised, in the place of the cancelling if that is what
        it led to."""
        raised, self._raised = self._raised, None
        if raised is not None and (value is None or isinstance(value, CancelledError)):
            raise raised

    def hear(self, done: int, total: int) -> int:
        """Tells the user, and returns what C is told."""
        if self._progress is not None and self._progress(done, total) is False:
            return _STOP
        return _GO_ON

    def fail(self, value: BaseException) -> None:
        """Keeps what was raised, to be raised again where the call was made."""
        self._raised = value


def _failed(_kind: Any, value: BaseException, traceback: TracebackType) -> None:
    user = traceback.tb_frame.f_locals.get("user")
    if user is not None:
        ffi.from_handle(user).fail(value)


@ffi.def_extern(error=_STOP, onerror=_failed)  # type: ignore[untyped-decorator]
def memmgr_python_progress(done: int, total: int, user: CData) -> int:
    """Told by C."""
    listener: Listener = ffi.from_handle(user)
    return listener.hear(done, total)
