"""Exclusive write access to a dimension, for the length of a `with` block.

A `Writer` and not an array is what `as` names, because that name outlives the block. The access
itself is owned by the memory that arrays are made of: the block's end lets go of it, and the gate
reopens there and then unless an array was kept. What ends the write is C, see `_pin`.
"""

from __future__ import annotations

import functools
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ._arguments import nanoseconds
from ._call import CData, exception, struct
from ._dtypes import numpy_dtype
from ._errors import (
    InvalidAccessError,
    InvalidArgumentError,
    UnknownLayerError,
    ViewsHeldError,
)
from ._layer import as_array
from ._native import ffi, lib
from ._pin import keeper, memory
from ._visible import visible

if TYPE_CHECKING:
    from typing_extensions import Self

    from ._dimension import Dimension, Table


class Writer:
    """Exclusive access to a dimension: `with dimension.write() as w`.

    `w["layer"]` is a writable ndarray of the layer, `w["layer"] = x` and `w["layer"] *= 2` change
    it. `w[...]`, and any other index NumPy takes, is the dimension's only layer if it has exactly
    one, and otherwise all bytes of a raw file (uint8); a file with a header and several layers has
    no such whole.

    Arrays are for use within the block: after it the Writer is inert, and while an array from it
    is kept, readers and writers of the dimension stay out. A Writer can be used again, for another
    block. Threads: any may use it within the block; readers of other dimensions notice nothing.
    """

    def __init__(self, dimension: Dimension, timeout: float | None) -> None:
        self._dimension = dimension
        self._timeout_ns = nanoseconds(timeout, "timeout")
        self._memory: memoryview | None = None
        self._table: Table | None = None
        # What the library says of the access, and of its end.
        self._write: CData = None
        self._error: CData = None

    def __enter__(self) -> Self:
        """Waits for the views of the dimension to be released, and shuts new readers out.

        Raises InvalidArgumentError: the dimension is loaded in mode "r", or this Writer is in a
        block already. WaitTimeoutError: views or a writer stayed. NotLoadedError,
        InvalidAccessError, FaultedError.
        """
        if self._memory is not None:
            raise InvalidArgumentError(f"{self!r} is in a block already", operation="write")
        self._begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Lets readers in again.

        Raises ViewsHeldError: an array taken from the Writer is kept; the dimension opens by
        itself when the last of them is gone. FaultedError: what was written may be lost. Neither
        displaces an exception that the block raises.
        """
        self._memory = self._table = None
        if kind is not None:
            return
        if self._error.status:
            raise exception(self._error)
        if self._write.token[0]:
            name = self._dimension.name
            raise ViewsHeldError(
                f"an array of dimension {name} taken from its writer is kept after the block: "
                "readers stay out until it is gone",
                operation="write",
                dimension=name,
                views=1,
            )

    def __getitem__(self, key: Any) -> npt.NDArray[Any]:
        """A writable array that shares the dimension's memory.

        key: a layer's name, or an index into the whole (see the class).
        Raises InvalidAccessError: outside the block. UnknownLayerError. FormatError: NumPy has no
        type for the layer's elements. InvalidArgumentError: there is no such whole. IndexError.
        """
        return self._layer(key) if isinstance(key, str) else self._whole()[key]

    def __setitem__(self, key: Any, value: npt.ArrayLike) -> None:
        """Copies `value`, broadcast as NumPy does, to the array of `key`. Errors: as for it."""
        if isinstance(key, str):
            self._layer(key)[...] = value
        else:
            self._whole()[key] = value

    def __repr__(self) -> str:
        state = "inert" if self._memory is None else "writing"
        return f"<memmgr.Writer of {visible(self._dimension.name)}, {state}>"

    def _begin(self) -> None:
        dimension, left_ns = self._dimension, self._timeout_ns
        forever = left_ns == lib.MEMMGR_FOREVER
        end_ns = time.monotonic_ns() + left_ns
        while True:
            table = dimension._table()
            if not forever:
                left_ns = max(end_ns - time.monotonic_ns(), 0)
            write, error = struct("memmgr_write"), struct("memmgr_error")
            end = functools.partial(
                lib.memmgr_python_write_end, dimension._manager._handle, write, error
            )
            data = keeper(table.generation.data, end)
            dimension._call(lib.memmgr_write_begin, lib.MEMMGR_WRITE_ANY_THREAD, left_ns, write)
            if write.generation == table.generation.number:
                self._write, self._error, self._table = write, error, table
                self._memory = memory(data, write.length, writable=True)
                return
            ffi.release(data)

    def _open(self) -> tuple[memoryview, Table]:
        data, table = self._memory, self._table
        if data is None or table is None:
            raise InvalidAccessError(
                f"the writer of dimension {self._dimension.name} is not in its block",
                operation="write",
                dimension=self._dimension.name,
            )
        return data, table

    def _layer(self, name: str) -> npt.NDArray[Any]:
        data, table = self._open()
        dimension = self._dimension.name
        layer = table.layers.get(name)
        if layer is None:
            raise UnknownLayerError(
                f"dimension {dimension} has no layer {name!r}",
                operation="write",
                dimension=dimension,
                layer=name,
            )
        dtype = numpy_dtype(layer.dtype, layer=name, dimension=dimension)
        segment = data[layer.offset : layer.offset + layer.length]
        return as_array(segment, dtype, layer.shape, layer.order)

    def _whole(self) -> npt.NDArray[Any]:
        data, table = self._open()
        if len(table.layers) == 1:
            return self._layer(next(iter(table.layers)))
        if table.generation.format == lib.MEMMGR_FORMAT_RAW:
            return as_array(data, np.dtype(np.uint8), (len(data),))
        raise InvalidArgumentError(
            f"dimension {self._dimension.name} has a header and {len(table.layers)} layers: "
            "name the layer to write to",
            operation="write",
            dimension=self._dimension.name,
        )
