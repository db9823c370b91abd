"""Checks what C could not be told: text with a NUL, numbers of the wrong sign or width, and values
of another type, whose TypeError names the argument.

What C can be told, it checks itself; nothing is checked twice.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable
from typing import Any, SupportsFloat, SupportsIndex, TypeAlias

from ._errors import InvalidArgumentError
from ._native import lib

Path: TypeAlias = "str | bytes | os.PathLike[str] | os.PathLike[bytes]"


def encode(value: str, what: str) -> bytes:
    """A name in UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{what} must be str, not {type(value).__name__}")
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise InvalidArgumentError(f"{what} {value!r} is not Unicode text") from None
    return _without_nul(encoded, value, what)


def encode_path(path: Path, what: str) -> bytes:
    """A file name as the system spells it."""
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"{what} must be str, bytes or os.PathLike, not {type(path).__name__}")
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError as error:
        raise InvalidArgumentError(f"{what} {path!r} is not a file name: {error}") from None
    return _without_nul(encoded, path, what)


def _without_nul(encoded: bytes, value: object, what: str) -> bytes:
    if b"\0" in encoded:
        raise InvalidArgumentError(f"{what} {value!r} has a NUL in it")
    return encoded


def try_index(value: object) -> int | None:
    """The integer that a value is, one of NumPy's too; None if it is not one."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def index(value: object, what: str) -> int:
    """The same, of what has to be one."""
    number = try_index(value)
    if number is None:
        raise TypeError(f"{what} must be an integer, not {type(value).__name__}")
    return number


def indices(values: Iterable[Any], what: str) -> tuple[int, ...]:
    """A shape."""
    if not isinstance(values, Iterable):
        raise TypeError(f"{what} must be a tuple of integers, not {type(values).__name__}")
    return tuple(index(value, f"each number of {what}") for value in values)


def integer(value: SupportsIndex, what: str, low: int = 0, high: int = 2**64 - 1) -> int:
    """A number that fits its field."""
    number = index(value, what)
    if not low <= number <= high:
        raise InvalidArgumentError(f"{what} is {number}, want {low} to {high}")
    return number


def nanoseconds(seconds: float | None, what: str) -> int:
    """A timeout in nanoseconds; None, and what passes 64 bits, is for ever."""
    if seconds is None:
        return int(lib.MEMMGR_FOREVER)
    if not isinstance(seconds, SupportsFloat):
        raise TypeError(f"{what} must be seconds, or None, not {type(seconds).__name__}")
    # NumPy's short floats could not hold nanoseconds, and no float some integers.
    given = seconds if isinstance(seconds, int) else float(seconds)
    if not given >= 0:  # also true of NaN
        raise InvalidArgumentError(f"{what} is {seconds}, want seconds from 0 up, or None")
    return math.ceil(given * 1e9) if given < 2**33 else int(lib.MEMMGR_FOREVER)
