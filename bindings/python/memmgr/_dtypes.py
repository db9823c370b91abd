"""Element types: safetensors' names for them, which the library uses, and NumPy's types.

NumPy itself has no bfloat16 and no 8-bit floats; they come from the package ml_dtypes, which is
imported when the first such layer is asked for and not before.
"""

from __future__ import annotations

import importlib
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from ._errors import FormatError, InvalidArgumentError
from ._native import ffi, lib

DType: TypeAlias = "np.dtype[Any]"

_CODES: dict[str, int] = {
    ffi.string(lib.memmgr_dtype_name(code)).decode(): code
    for constant, code in ((name, getattr(lib, name)) for name in dir(lib))
    if constant.startswith("MEMMGR_DTYPE_")
}

_NUMPY = {
    "BOOL": "?",
    "U8": "<u1",
    "I8": "<i1",
    "U16": "<u2",
    "I16": "<i2",
    "F16": "<f2",
    "U32": "<u4",
    "I32": "<i4",
    "F32": "<f4",
    "U64": "<u8",
    "I64": "<i8",
    "F64": "<f8",
    "C64": "<c8",
    "C128": "<c16",
}

_ML_DTYPES = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}

_NAMES = {np.dtype(spelling): name for name, spelling in _NUMPY.items()}
_NAMES_OF_ML_DTYPES = {spelling: name for name, spelling in _ML_DTYPES.items()}


def dtype_name(code: int) -> str:
    """The name of a MEMMGR_DTYPE_… constant."""
    return str(ffi.string(lib.memmgr_dtype_name(code)).decode())


def dtype_code(name: str) -> int:
    """The MEMMGR_DTYPE_… constant of a name."""
    return _CODES[name]


def dtype_bits(name: str) -> int:
    """Bits of one element, 0 if the type has no fixed size."""
    return int(lib.memmgr_dtype_bits(_CODES[name]))


def normalise(dtype: npt.DTypeLike, layer: str) -> str:
    """The name of whatever the user calls the element type of a layer: `"F32"`, `"float32"`,
    `np.float32`."""
    if isinstance(dtype, str):
        if dtype in _CODES:
            return dtype
        if dtype in _NAMES_OF_ML_DTYPES:
            return _NAMES_OF_ML_DTYPES[dtype]
    try:
        known = np.dtype(dtype)
    except TypeError:
        raise InvalidArgumentError(
            f"layer {layer!r}: dtype {dtype!r} is not an element type", layer=layer
        ) from None
    name = _NAMES.get(known) or _NAMES_OF_ML_DTYPES.get(known.name)
    if name is None:
        raise InvalidArgumentError(
            f"layer {layer!r}: dtype {dtype!r} cannot be that of a layer", layer=layer
        )
    return name


def numpy_dtype(name: str, *, layer: str, dimension: str) -> DType:
    """NumPy's type of that name, or the `FormatError` that says how to read the layer instead."""
    if name in _NUMPY:
        return np.dtype(_NUMPY[name])
    if name not in _ML_DTYPES:
        raise FormatError(
            f"layer {layer!r} of dimension {dimension} has elements of type {name}, for which "
            "there is no NumPy type: read its bytes with view()",
            operation="acquire",
            dimension=dimension,
            layer=layer,
        )
    try:
        known: DType = np.dtype(getattr(importlib.import_module("ml_dtypes"), _ML_DTYPES[name]))
    except (ImportError, AttributeError):
        raise FormatError(
            f"layer {layer!r} of dimension {dimension} has elements of type {name}, which NumPy "
            "has only with a package: pip install ml_dtypes",
            operation="acquire",
            dimension=dimension,
            layer=layer,
        ) from None
    return known
