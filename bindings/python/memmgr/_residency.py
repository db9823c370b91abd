"""What is in memory, and what came of bringing it there, as frozen dataclasses."""

from __future__ import annotations

import dataclasses

from ._call import CData, known, text
from ._native import lib
from ._words import WARM_STOPS, word


@dataclasses.dataclass(frozen=True)
class Warming:
    """How far `Dimension.warm` came; true if all of the file is in memory.

    Attributes:
        stop: why it went no further. `"complete"`: it is done. `"budget"`: more would have been
            read than was allowed. `"timeout"`. `"memory"`: the next bytes would have driven others
            out of memory, or these. `"cancelled"`: `progress` returned False. `"unloaded"`: what
            was being warmed was unloaded or replaced meanwhile.
        limit_kind: with "memory", by which limit: `"memory"`, `"control_group"` or `"commit"`.
        generation, size: the version that was warmed, and the bytes of its file.
        warm: bytes from the start of the file that are in memory and mapped.
        read: bytes of pages that became so: they were not in memory before.
    """

    stop: str
    limit_kind: str | None
    generation: int
    size: int
    warm: int
    read: int

    def __bool__(self) -> bool:
        return self.stop == "complete"

    @classmethod
    def _from(cls, c: CData) -> Warming:
        limit_kind = text(lib.memmgr_limit_name(c.limit_kind)) if c.limit_kind else None
        stop = word(WARM_STOPS, c.stop)
        return cls(stop, limit_kind, c.generation, c.size, c.warm, c.read)


@dataclasses.dataclass(frozen=True)
class Residency:
    """What of a range of a file is in memory, in bytes of the whole pages that it stands on.

    Attributes:
        generation, offset, length: the version, and the range.
        resident: in memory and mapped by this process: a touch costs nothing.
        cached: in the system's memory: a touch does not wait for the device. At least what is
            resident; no more is known on Windows, and on Linux of a file that this process neither
            owns nor may write to.
        huge: of the resident ones, mapped as huge pages; 0 where the system does not tell.
        locked: kept in memory by `Dimension.lock`.

    `resident`, `cached` and `huge` are None where the system does not tell.
    """

    generation: int
    offset: int
    length: int
    resident: int | None
    cached: int | None
    huge: int | None
    locked: int

    @classmethod
    def _from(cls, c: CData) -> Residency:
        return cls(
            c.generation,
            c.offset,
            c.length,
            known(c.resident),
            known(c.cached),
            known(c.huge),
            c.locked,
        )
