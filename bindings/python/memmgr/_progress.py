"""The progress of a long call: told between its chunks, with the GIL, on the thread of the call.

C knows a function and a pointer; the pointer leads to the `Listener` of the call. What the user's
function raises ends the call, and is raised by it; Ctrl-C is heard between two chunks the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from ._call import CData
from ._native import ffi, lib

if TYPE_CHECKING:
    from typing_extensions import Self

Progress: TypeAlias = Callable[[int, int], object]

_HEAR = ffi.addressof(lib, "memmgr_python_progress")


class Listener:
    """Hears of the progress of one call: `with Listener(progress, options): call(…)`.

    options: the struct of the call's options, which is given `progress` and `user`.
    """

    def __init__(self, progress: Progress | None, options: CData) -> None:
        self._progress = progress
        # The address alone, so that nothing refers to itself: the block keeps this alive.
        options.progress, options.user = _HEAR, ffi.cast("void *", id(self))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        pass

    def hear(self, done: int, total: int) -> bool:
        """Called by C: calls the user's function, and returns whether the call goes on."""
        if self._progress is None:
            return True
        answer = self._progress(done, total)
        return not (isinstance(answer, (bool, np.bool_)) and not answer)
