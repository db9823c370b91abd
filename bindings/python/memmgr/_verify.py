"""What has become of a file since it was loaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ._call import CData
from ._native import lib
from ._visible import visible

# In the order in which they are told.
CHANGES = {
    "grown": lib.MEMMGR_CHANGE_GROWN,
    "shrunk": lib.MEMMGR_CHANGE_SHRUNK,
    "rewritten": lib.MEMMGR_CHANGE_REWRITTEN,
    "replaced": lib.MEMMGR_CHANGE_REPLACED,
    "gone": lib.MEMMGR_CHANGE_GONE,
    "corrupt": lib.MEMMGR_CHANGE_CORRUPT,
}


@dataclasses.dataclass(frozen=True)
class FileIdentity:
    """What the system says of a file: two of the same device and inode are one."""

    device: int
    inode: int
    size: int
    mtime_ns: int


@dataclasses.dataclass(frozen=True)
class Verification:
    """What `Dimension.verify` found; true if nothing has changed.

    Attributes:
        changes: `"grown"`, `"shrunk"` or `"rewritten"`: the same file, with more bytes, fewer, or
            as many that were written at another time. `"replaced"`: another file has its name.
            `"gone"`: nothing has. `"corrupt"`: a layer's bytes are not those of its checksum.
        generation: the version that was verified.
        old: the file at the load, or at the last `flush`.
        new: the file now; None if it is gone.
        checked_count: layers that were compared with their checksums.
        unchecked_count: layers that were not, for want of a checksum, or because the file is
            another one or has another size.
        corrupt_layers: the names of those that are corrupt.
    """

    changes: frozenset[str]
    generation: int
    old: FileIdentity
    new: FileIdentity | None
    checked_count: int
    unchecked_count: int
    corrupt_layers: tuple[str, ...]

    def __bool__(self) -> bool:
        return not self.changes

    def __str__(self) -> str:
        if not self.changes:
            return "unchanged"
        words = [change for change in CHANGES if change in self.changes]
        layers = f" ({', '.join(map(visible, self.corrupt_layers))})" if self.corrupt_layers else ""
        return ", ".join(words) + layers

    @classmethod
    def _from(cls, c: CData, corrupt_layers: Sequence[str]) -> Verification:
        changes = frozenset(word for word, bit in CHANGES.items() if c.changes & bit)
        old = FileIdentity(c.old_device, c.old_inode, c.old_size, c.old_mtime_ns)
        new = FileIdentity(c.new_device, c.new_inode, c.new_size, c.new_mtime_ns)
        return cls(
            changes=changes,
            generation=c.generation,
            old=old,
            new=None if "gone" in changes else new,
            checked_count=c.checked_count,
            unchecked_count=c.unchecked_count,
            corrupt_layers=tuple(corrupt_layers),
        )
