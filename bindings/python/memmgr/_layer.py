"""A layer's description, as the file's header tells it or as the caller does for a raw file."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Literal, SupportsIndex

import numpy as np
import numpy.typing as npt

from ._arguments import encode, indices, integer
from ._call import CData, text
from ._dtypes import DType, dtype_bits, dtype_code, dtype_name, normalise
from ._errors import InvalidArgumentError
from ._native import ffi, lib
from ._words import ORDERS, choice, word


@dataclasses.dataclass(frozen=True, init=False)
class Layer:
    """A named segment of a dimension.

    To describe one of a raw file, give name, offset, dtype and shape; the length follows.

    Attributes:
        name: its name, 1 to 255 bytes of UTF-8.
        offset: bytes from the start of the file.
        length: bytes.
        dtype: the element type as safetensors names it (`"F32"`), or `"OPAQUE"`. In the
            constructor also anything NumPy takes for a type.
        shape: elements along each axis; `()` is a scalar.
        order: `"C"`, or `"F"` if the first axis is the densest.
        alignment: the largest power of two, up to the page, that divides its address; 0 if it
            is not loaded.

    Raises InvalidArgumentError: a type without a fixed size and no length; a negative number.
    """

    name: str
    offset: int
    length: int
    dtype: str
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    alignment: int

    def __init__(
        self,
        name: str,
        offset: SupportsIndex,
        *,
        dtype: npt.DTypeLike,
        shape: tuple[SupportsIndex, ...],
        length: SupportsIndex | None = None,
        order: Literal["C", "F"] = "C",
        alignment: SupportsIndex = 0,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"layer name must be str, not {type(name).__name__}")
        known = normalise(dtype, name)
        what = f"shape of layer {name!r}"
        axes = tuple(integer(n, what) for n in indices(shape, what))
        if length is None:
            bits = dtype_bits(known) * math.prod(axes)
            if not dtype_bits(known) or bits % 8:
                raise InvalidArgumentError(
                    f"layer {name!r} of type {known} and shape {axes} is no whole number of "
                    "bytes: give its length"
                )
            length = bits // 8
        choice(ORDERS, order, f"order of layer {name!r}")
        for field, value in (
            ("name", name),
            ("offset", integer(offset, f"offset of layer {name!r}")),
            ("length", integer(length, f"length of layer {name!r}")),
            ("dtype", known),
            ("shape", axes),
            ("order", order),
            ("alignment", integer(alignment, f"alignment of layer {name!r}")),
        ):
            object.__setattr__(self, field, value)

    @classmethod
    def _from(cls, c: CData) -> Layer:
        return cls(
            text(c.name),
            c.offset,
            length=c.length,
            dtype=dtype_name(c.dtype),
            shape=tuple(c.shape[0 : c.rank]),
            order=word(ORDERS, c.order),  # type: ignore[arg-type]
            alignment=c.alignment,
        )

    def _into(self, c: CData) -> None:
        name = encode(self.name, "layer name")
        if len(name) >= lib.MEMMGR_LAYER_NAME_SIZE:
            raise InvalidArgumentError(
                f"layer name {self.name!r} has {len(name)} bytes, "
                f"want at most {lib.MEMMGR_LAYER_NAME_SIZE - 1}"
            )
        if len(self.shape) > lib.MEMMGR_RANK_MAX:
            raise InvalidArgumentError(
                f"layer {self.name!r} has {len(self.shape)} axes, "
                f"want at most {lib.MEMMGR_RANK_MAX}"
            )
        c.struct_size = ffi.sizeof(c)
        c.name = name
        c.offset = self.offset
        c.length = self.length
        c.dtype = dtype_code(self.dtype)
        c.order = ORDERS[self.order]
        c.rank = len(self.shape)
        c.shape = self.shape


_frombuffer = np.frombuffer


def as_array(
    memory: memoryview, dtype: DType, shape: tuple[int, ...], order: Literal["C", "F"] = "C"
) -> npt.NDArray[Any]:
    """The ndarray over `memory` that keeps it alive, and is writable only if `memory` is.

    frombuffer holds the memoryview itself. np.ndarray(buffer=…) would look through it at what is
    below, which is writable, and let the user set `flags.writeable`.
    """
    array = _frombuffer(memory, dtype)
    if len(shape) == 1:
        return array
    # Naming the usual order would cost as much as the rest of reshape.
    return array.reshape(shape) if order == "C" else array.reshape(shape, order=order)
