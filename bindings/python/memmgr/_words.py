"""The words that Python uses for C's constants, one table per option or state."""

from __future__ import annotations

from collections.abc import Mapping

from ._errors import InvalidArgumentError
from ._native import lib

GATES = {"atomic": lib.MEMMGR_GATE_ATOMIC, "asymmetric": lib.MEMMGR_GATE_ASYMMETRIC}
STATES = {
    "empty": lib.MEMMGR_STATE_EMPTY,
    "loaded": lib.MEMMGR_STATE_LOADED,
    "writing": lib.MEMMGR_STATE_WRITING,
    "unloading": lib.MEMMGR_STATE_UNLOADING,
    "deallocated": lib.MEMMGR_STATE_DEALLOCATED,
    "faulted": lib.MEMMGR_STATE_FAULTED,
}
MODES = {
    "r": lib.MEMMGR_MODE_READ,
    "r+": lib.MEMMGR_MODE_READ_WRITE,
    "c": lib.MEMMGR_MODE_COPY,
    "ram": lib.MEMMGR_MODE_RAM,
}
PREFETCHES = {"lazy": lib.MEMMGR_PREFETCH_LAZY, "populate": lib.MEMMGR_PREFETCH_POPULATE}
FORMATS = {
    "auto": lib.MEMMGR_FORMAT_AUTO,
    "raw": lib.MEMMGR_FORMAT_RAW,
    "npy": lib.MEMMGR_FORMAT_NPY,
    "safetensors": lib.MEMMGR_FORMAT_SAFETENSORS,
}
ORDERS = {"C": lib.MEMMGR_ORDER_C, "F": lib.MEMMGR_ORDER_FORTRAN}
ON_VIEWS = {
    "refuse": lib.MEMMGR_ON_VIEWS_REFUSE,
    "wait": lib.MEMMGR_ON_VIEWS_WAIT,
    "defer": lib.MEMMGR_ON_VIEWS_DEFER,
}
WARM_STOPS = {
    "complete": lib.MEMMGR_WARM_COMPLETE,
    "budget": lib.MEMMGR_WARM_BUDGET,
    "timeout": lib.MEMMGR_WARM_TIMEOUT,
    "memory": lib.MEMMGR_WARM_MEMORY,
    "cancelled": lib.MEMMGR_WARM_CANCELLED,
    "unloaded": lib.MEMMGR_WARM_UNLOADED,
}

INSTRUCTIONS = {
    "auto": lib.MEMMGR_INSTRUCTIONS_AUTO,
    "baseline": lib.MEMMGR_INSTRUCTIONS_BASELINE,
    "avx2": lib.MEMMGR_INSTRUCTIONS_AVX2,
    "avx512": lib.MEMMGR_INSTRUCTIONS_AVX512,
}
# The header gives these two numbers no names.
CODES = {"errno": 1, "GetLastError": 2}


def choice(words: Mapping[str, int], value: str, what: str) -> int:
    """The constant of a word the user chose."""
    try:
        return words[value]
    except (KeyError, TypeError):
        wanted = ", ".join(map(repr, words))
        raise InvalidArgumentError(f"{what} is {value!r}, want one of {wanted}") from None


def word(words: Mapping[str, int], value: int) -> str:
    """The word of a constant, "unknown" for one newer than this."""
    return next((name for name, number in words.items() if number == value), "unknown")
