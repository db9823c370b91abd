"""Failures on purpose: what does a program do when the system refuses?

    import memmgr.testing

    with memmgr.testing.fail("map", errno="ENOMEM", dimension="D03", after=2) as failure:
        ...  # the third file that is mapped in D03 is not: memmgr.AllocationError
    assert failure.failures == 1

A failure that is injected looks like the system's own, and as after one of these nothing has
changed. It is the whole process's, and costs nothing while there is none. `CALLS` names what can
fail.
"""

from __future__ import annotations

import errno as _errno
from types import TracebackType
from typing import TYPE_CHECKING, SupportsIndex

from ._arguments import encode, integer
from ._call import call as _call
from ._call import codes_are_errno, struct, text
from ._native import ffi, lib
from ._words import choice

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["CALLS", "Failure", "clear", "fail"]

_ALL = 2**64 - 1

# What Windows says for it.
_WINDOWS = {
    "EACCES": 5,  # ERROR_ACCESS_DENIED
    "EIO": 1117,  # ERROR_IO_DEVICE
    "EMFILE": 4,  # ERROR_TOO_MANY_OPEN_FILES
    "ENOENT": 2,  # ERROR_FILE_NOT_FOUND
    "ENOMEM": 8,  # ERROR_NOT_ENOUGH_MEMORY
    "ENOSPC": 112,  # ERROR_DISK_FULL
}
_CODES = {name: code for code, name in _errno.errorcode.items()} if codes_are_errno() else _WINDOWS


def _calls() -> dict[str, int]:
    calls: dict[str, int] = {}
    while (name := text(lib.memmgr_call_name(len(calls) + 1))) != "unknown":
        calls[name] = len(calls) + 1
    return calls


_NUMBERS = _calls()

CALLS: tuple[str, ...] = tuple(_NUMBERS)
"""The system calls that can fail, by what they are for: MEMMGR_CALL_… in memmgr.h explains them."""


class Failure:
    """A failure that is injected, until `clear`, or the end of its `with` block.

    Attributes:
        call: one of `CALLS`.
        system_code: what the calls fail with.
        dimension: the one that they are for, or None for all.
    """

    __slots__ = ("call", "dimension", "system_code")

    def __init__(self, call: str, system_code: int, dimension: str | None) -> None:
        self.call = call
        self.system_code = system_code
        self.dimension = dimension

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        cls: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        self.clear()

    def __repr__(self) -> str:
        of = f", dimension={self.dimension!r}" if self.dimension is not None else ""
        return f"<memmgr.testing.Failure {self.call!r}, {self.system_code}{of}>"

    @property
    def calls(self) -> int:
        """How often the call was made, or would have been, since it was injected."""
        return self._counts()[0]

    @property
    def failures(self) -> int:
        """How many of these failed."""
        return self._counts()[1]

    def clear(self) -> None:
        """Ends it, or what was injected for the same call since; the counts are 0 then."""
        _call(lib.memmgr_failure_clear, _NUMBERS[self.call])

    def _counts(self) -> tuple[int, int]:
        calls, failures = ffi.new("uint64_t *"), ffi.new("uint64_t *")
        _call(lib.memmgr_failure_count, _NUMBERS[self.call], calls, failures)
        return calls[0], failures[0]


def fail(
    call: str,
    *,
    errno: str | SupportsIndex = "ENOMEM",
    dimension: str | None = None,
    after: SupportsIndex | None = 0,
    count: SupportsIndex | None = 1,
) -> Failure:
    """Makes system calls fail from now on, in the whole process.

    call: one of `CALLS`; what was injected for the same one before is over.
    errno: a name such as `"EIO"`, or the system's number: on Windows that of GetLastError, and
        of the names `"EACCES"`, `"EIO"`, `"EMFILE"`, `"ENOENT"`, `"ENOMEM"` and `"ENOSPC"`.
    dimension: only what is done by methods of the dimension of this name, in whatever manager.
    after: so many succeed first; None: all, which are only counted.
    count: so many fail then; None: all that follow.
    """
    code = choice(_CODES, errno, "errno") if isinstance(errno, str) else errno
    failure = struct("memmgr_failure")
    failure.call = choice(_NUMBERS, call, "call")
    failure.system_code = integer(code, "errno", 1, 2**31 - 1)
    failure.after = _ALL if after is None else integer(after, "after")
    failure.count = _ALL if count is None else integer(count, "count", 1)
    # It has to live as long as the struct.
    name = ffi.NULL if dimension is None else ffi.new("char[]", encode(dimension, "dimension"))
    failure.dimension = name
    _call(lib.memmgr_failure_inject, failure)
    return Failure(call, failure.system_code, dimension)


def clear() -> None:
    """Ends all failures that are injected."""
    _call(lib.memmgr_failure_clear, 0)
