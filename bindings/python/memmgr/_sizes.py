"""Sizes in bytes as people write them: `"20 MiB"`, `"1.5 GB"`, `4096`."""

from __future__ import annotations

import re
from typing import SupportsIndex

from ._arguments import try_index
from ._errors import InvalidArgumentError

_UNITS = {"": 1, "B": 1}
for _power, _prefix in enumerate("KMGTP", start=1):
    _UNITS[f"{_prefix}IB"] = 1024**_power
    _UNITS[f"{_prefix}B"] = 1000**_power

_SIZE = re.compile(r"\s*(?P<number>\d+(\.\d+)?)\s*(?P<unit>[A-Za-z]*)\s*", re.ASCII)


def parse_size(value: SupportsIndex | str, what: str) -> int:
    """Bytes, at least 1: an int as it is, a str with an optional unit (KiB, MiB, GiB, kB, MB …)."""
    size = _parse(value, what) if isinstance(value, str) else try_index(value)
    if size is None:
        raise TypeError(
            f"{what} must be bytes or a size such as '20 MiB', not {type(value).__name__}"
        )
    if not 0 < size < 2**64:
        raise InvalidArgumentError(f"{what} is {value!r}, want 1 to 2**64 - 1 bytes")
    return size


def _parse(value: str, what: str) -> int:
    match = _SIZE.fullmatch(value)
    unit = _UNITS.get(match["unit"].upper()) if match else None
    if match is None or unit is None:
        raise InvalidArgumentError(f"{what} is {value!r}, want bytes or a size such as '20 MiB'")
    whole, _, fraction = match["number"].partition(".")
    # In integers: floats would lose bytes of large sizes.
    size, rest = divmod(int(whole + fraction) * unit, int("1" + "0" * len(fraction)))
    if rest:
        raise InvalidArgumentError(f"{what} is {value!r}, which is no whole number of bytes")
    return size


def format_size(size: float) -> str:
    """A size for people: `"20.0 MiB"`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
