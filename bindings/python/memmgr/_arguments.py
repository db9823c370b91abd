"""Checks what C could not be told: text with a NUL, numbers of the wrong sign or width.

What C can be told, it checks itself; nothing is checked twice.
"""

from __future__ import annotations

import math
import operator
import os
from typing import TypeAlias

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
    return _without_nul(os.fsencode(path), path, what)


def _without_nul(encoded: bytes, value: object, what: str) -> bytes:
    if b"\0" in encoded:
        raise InvalidArgumentError(f"{what} {value!r} has a NUL in it")
    return encoded


def integer(value: int, what: str, low: int = 0, high: int = 2**64 - 1) -> int:
    """A number that fits its field."""
    number = operator.index(value)
    if not low <= number <= high:
        raise InvalidArgumentError(f"{what} is {number}, want {low} to {high}")
    return number


def nanoseconds(seconds: float | None, what: str) -> int:
    """A timeout in nanoseconds; None, and what passes 64 bits, is for ever."""
    if seconds is None:
        return int(lib.MEMMGR_FOREVER)
    if not seconds >= 0:  # also true of NaN
        raise InvalidArgumentError(f"{what} is {seconds}, want seconds from 0 up, or None")
    return math.ceil(seconds * 1e9) if seconds < 2**33 else int(lib.MEMMGR_FOREVER)
