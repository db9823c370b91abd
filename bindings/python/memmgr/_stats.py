"""What the library reports, as frozen dataclasses. All sizes are in bytes."""

from __future__ import annotations

import dataclasses
import os
from typing import Any, TypeVar

from ._call import CData, call, known, struct, text
from ._errors import MemmgrError
from ._native import ffi, lib
from ._words import CODES, FORMATS, GATES, MODES, PREFETCHES, STATES, word

_T = TypeVar("_T")


@dataclasses.dataclass(frozen=True)
class Stats:
    """A manager's budget, and what it did since it opened.

    Attributes:
        dimension_count, loaded_count: dimensions, and how many of them are loaded.
        gate: `"atomic"` or `"asymmetric"`, what this manager uses.
        allocated, peak, limit: bytes charged now, the most there ever were, and the limit.
        limit_kind: where the limit comes from: `"budget"` if it was given, or is the default;
            with `limit="auto"` `"memory"`, `"control_group"`, `"commit"`, `"address_space"` or
            `"data"`.
        pool_limit: the limit of the pools, within the budget.
        reserved: bytes of address space.
        mapped: bytes of all generations mapped, replaced ones whose views live included.
        views: views held now.
        loads, reloads, unloads: calls that succeeded.
        refusals: charges that the budget refused.
    """

    dimension_count: int
    loaded_count: int
    gate: str
    allocated: int
    peak: int
    limit: int
    limit_kind: str
    pool_limit: int
    reserved: int
    mapped: int
    views: int
    loads: int
    reloads: int
    unloads: int
    refusals: int

    @classmethod
    def _from(cls, c: CData) -> Stats:
        return _copy(
            cls,
            c,
            gate=word(GATES, c.gate),
            limit_kind=text(lib.memmgr_limit_name(c.limit_kind)),
        )


@dataclasses.dataclass(frozen=True)
class DimensionStats:
    """A dimension as it was at one moment; None and 0 where its state has no such thing.

    Attributes:
        name, dimension: its name and its index.
        state: `"empty"`, `"loaded"`, `"writing"`, `"unloading"`, `"deallocated"` or `"faulted"`.
        mode, prefetch, huge_pages, format: how the file is loaded, in the words of `Manager.load`.
        layer_count: layers of the file.
        address, capacity, charged: of the region: its address, bytes of it, bytes charged.
        generation, generation_address: which version is loaded (larger each time), and where.
        path, file_size, file_device, file_inode, file_mtime_ns: the file as it was loaded; its path
            is from the root on, so that it stays right when the working folder changes.
        views: views held of what is loaded.
        retiring_views: views held of generations before it, which wait for the last of them.
    """

    name: str
    dimension: int
    state: str
    mode: str | None
    prefetch: str | None
    huge_pages: bool
    format: str | None
    layer_count: int
    address: int
    capacity: int
    charged: int
    generation: int
    generation_address: int
    path: str | None
    file_size: int
    file_device: int
    file_inode: int
    file_mtime_ns: int
    views: int
    retiring_views: int

    @classmethod
    def _from(cls, c: CData) -> DimensionStats:
        path = os.fsdecode(ffi.string(c.file_name)) or None
        return _copy(
            cls,
            c,
            name=text(c.name),
            state=word(STATES, c.state),
            mode=word(MODES, c.mode) if path else None,
            prefetch=word(PREFETCHES, c.prefetch) if path else None,
            huge_pages=bool(c.load_flags & lib.MEMMGR_LOAD_HUGE_PAGES),
            format=word(FORMATS, c.format) if path else None,
            path=path,
        )


@dataclasses.dataclass(frozen=True)
class Memory:
    """The four numbers that "how much memory is it?" can mean, and two about how it is there.

    Attributes:
        reserved: bytes of address space.
        mapped: bytes of it that a file or memory stands behind.
        resident: bytes of pages of it that this process has in memory now.
        private_dirty: bytes of pages that only this process has, with no file to go back to.
        huge: bytes of resident ones that are mapped as huge pages; 0 also where the system does not
            tell: on Linux before 6.7, macOS and Windows.
        locked: bytes that `Dimension.lock` keeps in memory.

    `resident`, `private_dirty` and `huge` are None where the system does not report them: on
    Linux without /proc, or of a process that is not dumpable.
    """

    reserved: int
    mapped: int
    resident: int | None
    private_dirty: int | None
    huge: int | None
    locked: int

    @classmethod
    def _from(cls, c: CData) -> Memory:
        return _copy(
            cls,
            c,
            resident=known(c.resident),
            private_dirty=known(c.private_dirty),
            huge=known(c.huge),
        )


@dataclasses.dataclass(frozen=True)
class PoolClass:
    """The pool of blocks of one size.

    Attributes:
        index: its position in `PoolStats.classes`.
        block_size, slab_size: bytes of a block, and of the slabs that blocks are cut from.
        slabs: how many there are.
        blocks, free_blocks: blocks live, and blocks free in the slabs.
        hits, misses: requests that a thread had a block at hand for, and that had to ask the pool.
    """

    index: int
    block_size: int
    slab_size: int
    slabs: int
    blocks: int
    free_blocks: int
    hits: int
    misses: int

    @classmethod
    def _from(cls, c: CData) -> PoolClass:
        return _copy(cls, c)


@dataclasses.dataclass(frozen=True)
class PoolStats:
    """All pools of a manager together.

    Attributes:
        allocated, peak, limit: bytes charged now, the most there ever were, and the limit.
        blocks, bytes: live blocks and the room they have.
        large_blocks, large_bytes: of these, blocks beyond the largest class.
        free_bytes: charged bytes of slabs that no class uses.
        refusals: requests refused by the limit of the pools or by the budget.
        double_frees: blocks that two threads freed at the same moment, which C told neither of.
        classes: the pools, by the size of their blocks.
    """

    allocated: int
    peak: int
    limit: int
    blocks: int
    bytes: int
    large_blocks: int
    large_bytes: int
    free_bytes: int
    refusals: int
    double_frees: int
    # Dozens of them: too many for a line.
    classes: tuple[PoolClass, ...] = dataclasses.field(repr=False)

    @classmethod
    def _from(cls, c: CData, classes: tuple[PoolClass, ...]) -> PoolStats:
        return _copy(cls, c, classes=classes)


@dataclasses.dataclass(frozen=True)
class Capabilities:
    """What the library does on this machine.

    Attributes:
        gate: `"asymmetric"` or `"atomic"`, what a manager uses unless it is told otherwise.
        page_size: unit of protection and of residency.
        granularity: alignment that the system demands of a mapping's address.
        atomic_placement: whether a file is mapped over its region in one step.
        system_code_kind: `"errno"` or `"GetLastError"`, what `system_code` of an error is.
        fault_guard: whether `Manager(guard=True)` is to be had.
        huge_pages: whether `load(huge_pages=True)` may bring something.
    """

    gate: str
    page_size: int
    granularity: int
    atomic_placement: bool
    system_code_kind: str
    fault_guard: bool
    huge_pages: bool

    @classmethod
    def _from(cls, c: CData) -> Capabilities:
        return _copy(
            cls,
            c,
            gate=word(GATES, c.gate),
            atomic_placement=bool(c.atomic_placement),
            system_code_kind=word(CODES, c.system_code_kind),
            fault_guard=bool(c.fault_guard),
            huge_pages=bool(c.huge_pages),
        )


@dataclasses.dataclass(frozen=True)
class Fit:
    """Whether a load would fit; true if it would.

    Attributes:
        error: what the load would raise if it does not fit: its `limit_kind` says which limit it
            would run into, `requested`, `used` and `limit` by how much.
    """

    error: MemmgrError | None

    def __bool__(self) -> bool:
        return self.error is None


def _copy(cls: type[_T], c: CData, **translated: Any) -> _T:
    """A `cls` from the fields of the same names, except those given in words."""
    names = {field.name for field in dataclasses.fields(cls)} - translated.keys()  # type: ignore[arg-type]
    return cls(**translated, **{name: getattr(c, name) for name in names})


def capabilities() -> Capabilities:
    """What the library does on this machine; the same for the whole process. Any thread."""
    c = struct("memmgr_capabilities")
    call(lib.memmgr_capabilities_get, c)
    return Capabilities._from(c)


def version() -> str:
    """The version of the native core that is running, such as `"0.1.0"`. Any thread."""
    number = lib.memmgr_version()
    return f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"
