"""Every failure as one exception class per status of the C library.

Each class is a `MemmgrError`, which is the built-in `MemoryError`, and also the built-in a Python
programmer would catch for it. What happened is in attributes, the sentence in `str()`; pickling
and copying keep all of it. `CLASSES` is built from the classes' own `status`, so a class cannot be
forgotten in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ._visible import visible

if TYPE_CHECKING:
    from ._holder import Holder

__all__ = [
    "AllocationError",
    "AlreadyLoadedError",
    "CancelledError",
    "DiskFullError",
    "FaultedError",
    "FileAccessError",
    "FormatError",
    "InvalidAccessError",
    "InvalidArgumentError",
    "LimitExceededError",
    "MemmgrError",
    "NotLoadedError",
    "OutOfBoundsError",
    "PoolCorruptionError",
    "UnknownDimensionError",
    "UnknownLayerError",
    "ViewsHeldError",
    "WaitTimeoutError",
]


class MemmgrError(MemoryError):
    """A call of memmgr failed; nothing was changed by it.

    Attributes (sizes in bytes, 0 or None where the failure has no such thing):
        status: name of the status in C without its prefix, `"unknown"` for one newer than this.
        operation: what was being done, such as `"load"`.
        dimension, layer: the names concerned.
        requested, used, limit: what was asked for, what was in use, and the limit it ran into.
        limit_kind: which limit these three are about, if it was one: `"budget"`, `"capacity"`, or
            one of the system's: `"memory"`, `"control_group"`, `"commit"`, `"address_space"`,
            `"data"`, `"locked_memory"`, `"map_entries"`, `"descriptors"`, `"system_files"`,
            `"disk"`, `"file_size"`, `"quota"`, `"addressable"` (what the processor can address).
            Entries, descriptors and files are counted, not
            bytes; a limit of 0 is not known.
        offset: where in the file, of a `FormatError` or a `FaultedError`.
        views: how many views and writers were in the way.
        holders: who held the views, oldest first, if the manager keeps track (`track_views`).
        system_code: errno on Linux and macOS, GetLastError on Windows.
        errno, strerror, winerror: the same in the terms of `OSError`.
        filename: the file, as the caller passed it.
    """

    status: str = "unknown"
    operation: str | None
    dimension: str | None
    layer: str | None
    requested: int
    used: int
    limit: int
    limit_kind: str | None
    offset: int
    views: int
    holders: tuple[Holder, ...]
    system_code: int
    errno: int | None
    strerror: str | None
    filename: Any

    def __init__(
        self,
        message: str = "",
        *,
        operation: str | None = None,
        dimension: str | None = None,
        layer: str | None = None,
        requested: int = 0,
        used: int = 0,
        limit: int = 0,
        limit_kind: str | None = None,
        offset: int = 0,
        views: int = 0,
        holders: tuple[Holder, ...] = (),
        system_code: int = 0,
        errno: int | None = None,
        strerror: str | None = None,
        winerror: int | None = None,
        filename: Any = None,
    ) -> None:
        # It may have names from files in it.
        message = visible(message)
        super().__init__(message)
        self.operation = operation
        self.dimension = dimension
        self.layer = layer
        self.requested = requested
        self.used = used
        self.limit = limit
        self.limit_kind = limit_kind
        self.offset = offset
        self.views = views
        self.holders = holders
        self.system_code = system_code
        if isinstance(self, OSError):
            # Its fields are not in __dict__, and Windows derives errno from winerror here.
            OSError.__init__(self, errno, strerror, filename, winerror)
            self.args = (message,)
        else:
            self.errno, self.strerror, self.filename = errno, strerror, filename
        if winerror is not None:
            self.winerror = winerror

    def __str__(self) -> str:
        # Without this, KeyError would show the repr of the message and OSError its own format.
        return str(self.args[0]) if self.args else ""

    def __reduce__(self) -> tuple[Callable[..., MemmgrError], tuple[Any, ...], dict[str, Any]]:
        detail: dict[str, Any] = {name: getattr(self, name, None) for name in _DETAIL}
        return functools.partial(type(self), **detail), self.args, self.__dict__


_DETAIL = tuple(MemmgrError.__init__.__kwdefaults__ or ())


class InvalidArgumentError(MemmgrError, ValueError):
    """An argument that no state of the manager would make right; the message names it."""

    status = "invalid_argument"


class LimitExceededError(MemmgrError):
    """It would pass the budget's limit or a capacity: see `requested`, `used` and `limit`."""

    status = "limit_exceeded"


class AllocationError(MemmgrError):
    """The system refused memory or address space: see `requested` and `system_code`."""

    status = "allocation"


class AlreadyLoadedError(MemmgrError):
    """The dimension is loaded, or the file is mapped in a way that excludes this load, or is to be
    saved over while it is mapped: then `dimension` is the one that maps it."""

    status = "already_loaded"


class NotLoadedError(MemmgrError, LookupError):
    """The dimension holds no file."""

    status = "not_loaded"


class UnknownDimensionError(MemmgrError, KeyError):
    """The manager has no dimension of that name or index."""

    status = "unknown_dimension"


class UnknownLayerError(MemmgrError, KeyError):
    """What is loaded has no layer of that name."""

    status = "unknown_layer"


class OutOfBoundsError(MemmgrError, IndexError):
    """Not within what is loaded: `requested` is the offset, `used` the length, `limit` the size."""

    status = "out_of_bounds"


class ViewsHeldError(MemmgrError, BufferError):
    """Views or a writer are in the way, and nobody asked to wait: see `views`."""

    status = "views_held"


class WaitTimeoutError(MemmgrError, TimeoutError):
    """The timeout passed first: `views` is what was waited for."""

    status = "wait_timeout"


class InvalidAccessError(MemmgrError):
    """The dimension is being deallocated, the manager was closed, or a writer's block is over."""

    status = "invalid_access"


class FileAccessError(MemmgrError, OSError):
    """The system refused an operation on a file: see `errno`, `strerror` and `filename`."""

    status = "file_access"


class FormatError(MemmgrError, ValueError):
    """The bytes of a file are not what its format demands, or NumPy has no type for them."""

    status = "format"


class FaultedError(MemmgrError):
    """A page of the mapped file could not be read: `offset` is where, `system_code` why, `layer`
    the layer that was asked for, or else the one that was being read. The dimension needs a reload.
    """

    status = "faulted"


class PoolCorruptionError(MemmgrError):
    """A block that the pools did not hand out, or that was freed before."""

    status = "pool_corruption"


class DiskFullError(MemmgrError, OSError):
    """The disk, a quota or the process's limit of file sizes has no room: see `requested`."""

    status = "disk_full"


class CancelledError(MemmgrError):
    """A `progress` function returned False."""

    status = "cancelled"


def _walk(base: type[MemmgrError]) -> Iterator[type[MemmgrError]]:
    for cls in base.__subclasses__():
        yield cls
        yield from _walk(cls)


CLASSES: dict[str, type[MemmgrError]] = {cls.status: cls for cls in _walk(MemmgrError)}
