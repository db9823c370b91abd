"""Working memory from the manager's pools, inside its budget: arrays, and blocks of bytes.

Arrays own their memory as every array of NumPy's does: it goes back to the pool when the array and
the last of its views are gone, on any thread, and after the manager was closed. Blocks can be
freed by name, and then too their memory stays while anything exports it.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from . import _native
from ._arguments import integer
from ._call import call, struct
from ._errors import InvalidAccessError
from ._native import ffi, lib
from ._numpy_allocator import call_under, new_handler
from ._stats import PoolClass, PoolStats

if TYPE_CHECKING:
    from typing_extensions import Self


class Block(_native.Block):
    """Bytes from a manager's pools: what `Manager.alloc` returns.

    It has the buffer protocol, writable: memoryview(block), np.frombuffer(block, …) and
    file.readinto(block) work on it without a copy. Threads: any.
    """

    __slots__ = ()

    def free(self) -> None:
        """Gives the memory back to the pool: now, or while there are buffers of this block (arrays,
        memoryviews), with the last of them. The block itself is of no use from now on: it
        raises InvalidAccessError. Freeing what is freed does nothing."""
        self._end()

    def __len__(self) -> int:
        """Its bytes, as they were asked for. Raises InvalidAccessError: it was freed."""
        with memoryview(self) as view:
            return len(view)

    def __bool__(self) -> bool:
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Frees it."""
        self.free()

    def __repr__(self) -> str:
        try:
            return f"<memmgr.Block of {len(self)} bytes>"
        except InvalidAccessError:
            return "<memmgr.Block, freed>"


class Pools:
    """The part of a manager that hands out working memory.

    Everything here raises LimitExceededError (a MemoryError) if it would pass the limit of the
    pools or of the budget, AllocationError if the system refuses, and InvalidAccessError once the
    manager is closed.
    """

    _handle: Any

    @functools.cached_property
    def _address(self) -> int:
        return int(ffi.cast("uintptr_t", self._handle))

    @functools.cached_property
    def _handlers(self) -> dict[int, object]:
        return {}

    def _handler(self, alignment: SupportsIndex) -> object:
        try:
            return self._handlers[alignment]  # type: ignore[index]
        except (KeyError, TypeError):
            number = integer(alignment, "alignment", 1, sys.maxsize)
            handler = self._handlers[number] = new_handler(self._address, number)
            return handler

    def empty(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        dtype: npt.DTypeLike = float,
        *,
        order: Literal["C", "F"] = "C",
        alignment: SupportsIndex = 16,
    ) -> npt.NDArray[Any]:
        """A new array with any content, as numpy.empty makes it, from the pools.

        alignment: of its first element, a power of two up to the page.

        Raises as the class, and InvalidArgumentError, and what NumPy does for its arguments.
        """
        return call_under(self._handler(alignment), np.empty, shape, dtype, order)

    def zeros(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        dtype: npt.DTypeLike = float,
        *,
        order: Literal["C", "F"] = "C",
        alignment: SupportsIndex = 16,
    ) -> npt.NDArray[Any]:
        """A new array of zeros; otherwise as `empty`."""
        return call_under(self._handler(alignment), np.zeros, shape, dtype, order)

    def full(
        self,
        shape: SupportsIndex | Sequence[SupportsIndex],
        value: npt.ArrayLike,
        dtype: npt.DTypeLike | None = None,
        *,
        order: Literal["C", "F"] = "C",
        alignment: SupportsIndex = 16,
    ) -> npt.NDArray[Any]:
        """A new array filled with `value`, of its type if no other is given; otherwise as
        `empty`."""
        return call_under(self._handler(alignment), np.full, shape, value, dtype, order)

    def alloc(self, length: SupportsIndex, *, alignment: SupportsIndex = 16) -> Block:
        """A block of that many bytes, with any content.

        alignment: of its address, a power of two up to the page.

        Raises as the class, and InvalidArgumentError.
        """
        return Block(
            self._address,
            integer(length, "length", high=sys.maxsize),
            integer(alignment, "alignment", 1, sys.maxsize),
        )

    def numpy_allocator(
        self, *, alignment: SupportsIndex = 16
    ) -> contextlib.AbstractContextManager[None]:
        """`with manager.numpy_allocator():` takes every array that NumPy makes in the block, also
        in between and in other packages, from the pools, so that a computation that runs away is a
        MemoryError and not the end of the process.

        NumPy's own `_ArrayMemoryError` leaves the block as the LimitExceededError it stands for.
        Arrays may outlive the block, the manager and its closing; an array of a closed manager
        cannot be resized in place. Blocks of code nest, and each restores what was before it.

        Threads: it holds for the context it is entered in (contextvars), which is the thread, or
        the asyncio task and the tasks it starts. Worker threads do not inherit it: enter it in the
        function they run. What NumPy allocates for itself and not for an array is not covered.

        alignment: of arrays' first elements, a power of two up to the page.

        Raises InvalidAccessError: the manager is closed. InvalidArgumentError.
        """
        call(lib.memmgr_pool_stats_get, self._handle, struct("memmgr_pool_stats"))
        return _native.Under(self._handler(alignment))

    def trim(self) -> int:
        """Gives every slab that holds no live block back to the system; how many bytes they were.
        Raises InvalidAccessError: the manager is closed."""
        given_back = ffi.new("uint64_t *")
        call(lib.memmgr_pool_trim, self._handle, given_back)
        return int(given_back[0])

    def pool_stats(self) -> PoolStats:
        """What the pools hold; exact while no thread allocates or frees. Raises
        InvalidAccessError: the manager is closed."""
        c, c_class = struct("memmgr_pool_stats"), struct("memmgr_pool_class")
        call(lib.memmgr_pool_stats_get, self._handle, c)
        classes = []
        for index in range(c.class_count):
            call(lib.memmgr_pool_class_get, self._handle, index, c_class)
            classes.append(PoolClass._from(c_class))
        return PoolStats._from(c, tuple(classes))
