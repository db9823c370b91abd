"""The one object a process opens: dimensions, and the budget they share."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias, TypeVar, overload

import numpy.typing as npt

from ._arguments import Path, encode, encode_path, integer, nanoseconds, try_index
from ._call import call, struct, text
from ._config import read_config
from ._dimension import Cache, Dimension, Format, Layers, Mode, OnViews, Prefetch
from ._errors import (
    InvalidAccessError,
    InvalidArgumentError,
    MemmgrError,
    UnknownDimensionError,
    ViewsHeldError,
    WaitTimeoutError,
)
from ._holder import Holder, Holders, tell
from ._log import follow
from ._native import ffi, lib
from ._pickle import reduce
from ._pool import Pools
from ._scan import Best, as_query, thread_count, topk_of_all
from ._scan import scan as _scan
from ._sizes import parse_size
from ._stats import Fit, Memory, Stats
from ._words import MODES, ON_VIEWS, choice

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class DimensionSpec:
    """A dimension to open.

    Attributes:
        name: 1 to 63 bytes of UTF-8; None: D01, D02, … by position.
        capacity: bytes, or such as "20 MiB", rounded up to the page; None: the manager's.
    """

    name: str | None = None
    capacity: SupportsIndex | str | None = None


Dimensions: TypeAlias = (
    "SupportsIndex | Iterable[str | DimensionSpec] | Mapping[str, SupportsIndex | str | None]"
)


class Manager(Pools, Mapping[str, Dimension]):
    """A memory budget and the dimensions it is for; a mapping of their names to them.

    Opening reserves one contiguous range of addresses for all dimensions and charges their
    capacities to the budget; no memory is used until a page is touched. Use it in a `with` block,
    or `close` it. Threads: any, at any time.

    Pickled it is how to open it again: by the paths of its files, one manager in each process for
    one original. The child of a fork has its parent's: `docs/THREADS.md` says what of it. Copies
    of a manager are the manager itself.

    dimensions: how many (named D01, D02, …), their names, or their names and capacities.
    capacity: of each dimension that does not say, in bytes or such as "20 MiB"; rounded up to the
        page.
    limit: of the budget; "default": all regions + the largest capacity once more (one reload at a
        time) + pool_limit. "auto": what the tightest limit of the system leaves this process now
        (control groups, RLIMIT_AS and RLIMIT_DATA, the machine's memory; Windows: its commit
        limit), less what it uses already; `stats().limit_kind` says which it was.
    pool_limit: of the pools, within the budget; the default limit leaves room for it.
    read_timeout: seconds a reader waits for a writer; None: for ever.
    populate: touch every page of every region now, if the machine has room for it.
    gate: how readers and writers exclude each other: "auto" takes the fastest the system has.
    poison: fill blocks with 0xa5 when they are handed out and with 0x5a when they are freed.
    guard_pages: put each block at the end of pages of its own, so that a write beyond it is a
        fault at once. Both are for debugging.
    track_views: keep track of who holds which array, for `holders` and in errors; each access
        costs several times as much then. A thread that would wait for itself is told at once:
        ViewsHeldError.
    guard: outlive pages that cannot be read, because a file became shorter or its device failed.
        Without it the process ends by SIGBUS, as with every mapping. With it zeros stand from that
        page to the end of the version that is loaded: what is being read ends with them, arrays
        stay valid, and the next access, `flush`, and the beginning and end of `write` raise
        FaultedError until `reload` (which takes the same file too) or `unload`. A fault in a
        version that was replaced already is a warning in the log. A system call that is given such
        memory fails with EFAULT instead, and no fault is noticed. Signals that are not about a
        mapped file go to the handlers there are (`faulthandler`); one that is enabled later is put
        below the guard's by the next open or load. Not to be had everywhere: see `capabilities`.

    Raises InvalidArgumentError. LimitExceededError: the regions do not fit the limit, or with
    `populate` the machine. AllocationError: the system refused.
    """

    # What a manager is until it is open.
    _closed = True
    # Which manager, in every process that has a copy; None until somebody asks.
    _origin: str | None = None
    # Of a copy: the generations of the original that it has loaded.
    _followed: dict[str, int] | None = None

    def __init__(
        self,
        dimensions: Dimensions = 14,
        *,
        capacity: SupportsIndex | str = "20 MiB",
        limit: SupportsIndex | str = "default",
        pool_limit: SupportsIndex | str = "64 MiB",
        read_timeout: float | None = 1.0,
        populate: bool = False,
        gate: Literal["auto", "atomic"] = "auto",
        poison: bool = False,
        guard_pages: bool = False,
        track_views: bool = False,
        guard: bool = False,
    ) -> None:
        given = locals()
        self._options = {name: given[name] for name in _OPTIONS if name != "dimensions"}
        self._handle: Any = ffi.NULL
        options = struct("memmgr_manager_options")
        options.capacity = parse_size(capacity, "capacity")
        word = limit if isinstance(limit, str) else None
        options.limit = 0 if word in ("default", "auto") else parse_size(limit, "limit")
        options.pool_limit = parse_size(pool_limit, "pool_limit")
        # C's 0 is the default of a second, so "not at all" is a nanosecond.
        options.read_timeout_ns = nanoseconds(read_timeout, "read_timeout") or 1
        options.flags = choice(_GATE_FLAGS, gate, "gate")
        for flag, asked in (
            (lib.MEMMGR_OPEN_POPULATE, populate),
            (lib.MEMMGR_OPEN_LIMIT_AUTO, word == "auto"),
            (lib.MEMMGR_OPEN_POISON, poison),
            (lib.MEMMGR_OPEN_GUARD_PAGES, guard_pages),
            (lib.MEMMGR_OPEN_TRACK_VIEWS, track_views),
            (lib.MEMMGR_OPEN_FAULT_GUARD, guard),
        ):
            options.flags |= flag if asked else 0
        # cffi keeps nothing alive for a struct: these names do, until the call is over.
        names: list[Any] = []
        number = try_index(dimensions)
        if number is not None:
            options.dimension_count = integer(number, "dimensions", 1, lib.MEMMGR_DIMENSIONS_MAX)
        else:
            specs = _specs(dimensions)  # type: ignore[arg-type]
            c_specs = ffi.new("memmgr_dimension_spec[]", len(specs))
            for index, (spec, c) in enumerate(zip(specs, c_specs, strict=True)):
                c.struct_size = ffi.sizeof(c)
                if spec.name is not None:
                    names.append(ffi.new("char[]", encode(spec.name, "dimension name")))
                    c.name = names[-1]
                if spec.capacity is not None:
                    whose = f"dimension {index}" if spec.name is None else repr(spec.name)
                    c.capacity = parse_size(spec.capacity, f"capacity of {whose}")
            options.dimensions, options.dimension_count = c_specs, len(specs)
        follow()
        self._holders = Holders() if track_views else None
        self._caches = [Cache() for _ in range(options.dimension_count)]
        # Both ways: names by index, and indices by name.
        self._names: list[str] = []
        handle_out = ffi.new("memmgr_manager **")
        try:
            call(lib.memmgr_manager_open, options, handle_out)
            self._handle = handle_out[0]
            c_stats = struct("memmgr_dimension_stats")
            for index in range(options.dimension_count):
                call(lib.memmgr_dimension_stats_get, self._handle, index, c_stats)
                self._names.append(text(c_stats.name))
            self._indices = {name: index for index, name in enumerate(self._names)}
            # The last of it: from here on __del__ closes it.
            self._closed = False
        except BaseException:
            # It may be open: a signal came, or a handler of the log raised one's exception.
            self._closed = True
            if handle_out[0] != ffi.NULL:
                lib.memmgr_manager_close(handle_out[0], lib.MEMMGR_ON_VIEWS_DEFER, 0, ffi.NULL)
            raise

    @classmethod
    def from_config(cls, config: Path | Mapping[str, Any]) -> Manager:
        """A manager from a TOML file, or from what such a file holds.

        Its keys are the options of the constructor; `dimensions` may be a table of names and
        capacities, and `read_timeout = inf` is for ever. Python 3.10 needs memmgr[config].

        Raises FileAccessError: the file cannot be read. FormatError: it is not TOML.
        InvalidArgumentError: an unknown key. Otherwise as the constructor.
        """
        options = config if isinstance(config, Mapping) else read_config(config)
        unknown = options.keys() - _OPTIONS
        if unknown:
            raise InvalidArgumentError(
                f"unknown configuration keys {', '.join(sorted(map(repr, unknown)))}: "
                f"want some of {', '.join(_OPTIONS)}",
                operation="open",
            )
        return cls(**options)

    # Dimensions -----------------------------------------------------------------------------

    def __getitem__(self, key: str | SupportsIndex) -> Dimension:
        """The dimension of that name or index (from 0). Raises UnknownDimensionError."""
        if isinstance(key, str):
            known = self._indices.get(key)
            if known is not None:
                return Dimension(self, known, key)
            found = ffi.new("uint32_t *")
            call(lib.memmgr_dimension_find, self._handle, encode(key, "dimension name"), found)
            return Dimension(self, found[0], key)
        index = try_index(key)
        if index is None:
            raise TypeError(f"dimension must be a name or an index, not {type(key).__name__}")
        if 0 <= index < len(self._names):
            return Dimension(self, index, self._names[index])
        raise UnknownDimensionError(
            f"dimension {key} is not one of 0 to {len(self._names) - 1}", operation="find"
        )

    def __contains__(self, key: object) -> bool:
        if isinstance(key, str):
            return key in self._indices
        index = try_index(key)
        return index is not None and 0 <= index < len(self._names)

    @overload
    def get(self, key: object, default: None = None, /) -> Dimension | None: ...
    @overload
    def get(self, key: object, default: Dimension, /) -> Dimension: ...
    @overload
    def get(self, key: object, default: T, /) -> Dimension | T: ...
    def get(self, key: object, default: object = None, /) -> object:
        """The dimension of that name or index, or the default, also for what is neither."""
        if key not in self:
            return default
        return self[key]  # type: ignore[index]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def load(
        self,
        name: str | SupportsIndex,
        path: Path,
        *,
        mode: Mode = "r",
        prefetch: Prefetch = "lazy",
        huge_pages: bool = False,
        format: Format = "auto",
        layers: Layers | None = None,
        manifest: Path | None = None,
    ) -> Dimension:
        """Maps a file into a dimension that holds none.

        name: of the dimension, or its index.
        path: a regular file of 1 byte up to the dimension's capacity.
        mode: "r": read only. "r+": `write` changes the file; its holes get room on the disk first.
            (On file systems that write every block anew, such as btrfs, ZFS and APFS, a full disk
            is a signal later nonetheless: open the manager with `guard=True` there.) "c": copy on
            write, `write` changes this process's pages only. "ram": the bytes are read into memory;
            the only snapshot.
        prefetch: "lazy": pages come in as they are touched. "populate": all are in on return.
        huge_pages: ask for huge pages for what has to be read from the device: a hint, for a file
            of at least 2 MiB that is not in memory yet. `Dimension.residency` says what came of it.
            What `memmgr.save` wrote has them without asking, until the system gives them up.
        format: "auto" tells .npy, .safetensors and raw files by their content.
        layers, manifest: of a raw file, at most one of the two: the layers themselves, or a JSON
            file in the shape of the header of safetensors.

        Raises UnknownDimensionError. AlreadyLoadedError: the dimension is, or the file is mapped
        by this process already and one of the two is "r+". LimitExceededError: the file is larger
        than the capacity, or a deallocated dimension does not fit the budget again.
        FileAccessError, FormatError, AllocationError, InvalidArgumentError. ViewsHeldError: views
        of two unloaded files are held. InvalidAccessError: the manager is closed.
        """
        dimension = self[name]
        dimension._place(
            lib.memmgr_dimension_load,
            path,
            mode=mode,
            prefetch=prefetch,
            huge_pages=huge_pages,
            format=format,
            layers=layers,
            manifest=manifest,
        )
        return dimension

    def would_fit(
        self, name: str | SupportsIndex, what: Path | SupportsIndex, *, mode: Mode = "r"
    ) -> Fit:
        """Says whether `load`, or `reload` if a file is loaded, would fit, and changes nothing.

        It looks at the capacity, the budget, memory, the process's map and, in mode "r+", the disk,
        as far as each can be known before, and is true of the moment. The file is not read.

        what: the file, or the bytes of one that there need not be.

        Raises what is not a matter of room: UnknownDimensionError, FileAccessError, FormatError (an
        empty file), ViewsHeldError (both slots are in use), InvalidAccessError,
        InvalidArgumentError.
        """
        index = self[name]._index
        number = try_index(what)
        path: Any = what if number is None else None
        size = 0 if number is None else integer(number, "size", 1)
        c_path = encode_path(path, "path") if number is None else ffi.NULL
        try:
            call(
                lib.memmgr_dimension_would_fit,
                self._handle,
                index,
                c_path,
                size,
                choice(MODES, mode, "mode"),
                paths=(path,),
            )
        except MemmgrError as error:
            if error.limit_kind is None:
                raise
            return Fit(error.with_traceback(None))
        return Fit(None)

    # Scanning -------------------------------------------------------------------------------

    def scan(
        self,
        function: Callable[[npt.NDArray[Any]], T],
        dimensions: Iterable[str | SupportsIndex] | None = None,
        *,
        layer: str | None = None,
        threads: SupportsIndex | None = None,
    ) -> list[T]:
        """Calls the function with the layer of each dimension, and returns what it returned, in the
        order of the dimensions.

        An array is there, and pins its dimension, only as long as the call it is for, unless the
        function keeps it. While one is worked on, the system is asked to read the next. If a call
        raises, no further one begins, and its exception is raised when those under way have ended.

        dimensions: names or indices; None: all that are loaded.
        layer: its name; None: all bytes of the file, as uint8.
        threads: that call the function at the same time; None: as many as there are processors; 1:
            this thread calls it.

        Raises what `Dimension.view` and `Dimension.__getitem__` do.
        """
        chosen = self._chosen(dimensions)
        return _scan(function, chosen, layer, thread_count(threads, len(chosen)))

    def topk(
        self,
        query: npt.ArrayLike,
        k: SupportsIndex,
        dimensions: Iterable[str | SupportsIndex] | None = None,
        *,
        layer: str | None = None,
        threads: SupportsIndex = 1,
    ) -> Best:
        """The k best rows of all dimensions together: see `Dimension.topk`.

        dimensions, threads: as for `scan`, but this thread alone is the default.

        Raises what `Dimension.topk` does.
        """
        chosen = self._chosen(dimensions)
        return topk_of_all(chosen, as_query(query), k, layer, thread_count(threads, len(chosen)))

    def _chosen(self, dimensions: Iterable[str | SupportsIndex] | None) -> list[Dimension]:
        if dimensions is None:
            loaded = ("loaded", "writing", "faulted")
            return [dimension for dimension in self.values() if dimension.state in loaded]
        if isinstance(dimensions, str):
            raise InvalidArgumentError(f"dimensions is {dimensions!r}, want names or indices")
        if not isinstance(dimensions, Iterable):
            raise TypeError(f"dimensions must be names or indices, not {type(dimensions).__name__}")
        return [self[name] for name in dimensions]

    # State ----------------------------------------------------------------------------------

    def stats(self) -> Stats:
        """The budget, and what the manager did since it opened. Makes no system call. Raises
        InvalidAccessError: the manager is closed."""
        c = struct("memmgr_stats")
        call(lib.memmgr_stats_get, self._handle, c)
        return Stats._from(c)

    def reset_peak(self) -> None:
        """Sets the budget's peak to what is charged now. Raises InvalidAccessError."""
        call(lib.memmgr_stats_reset_peak, self._handle)

    def memory(self) -> Memory:
        """How much of all dimensions is in memory. Walks through the process's map.

        Raises AllocationError: the system did not tell. InvalidAccessError: closed."""
        return self._memory(lib.MEMMGR_NONE)

    def _memory(self, index: int) -> Memory:
        c = struct("memmgr_memory")
        call(lib.memmgr_memory_get, self._handle, index, c)
        return Memory._from(c)

    def holders(self) -> list[Holder]:
        """Who holds arrays of all dimensions; nobody, if the manager does not keep track. Raises
        InvalidAccessError: closed."""
        return self._list_holders(lib.MEMMGR_NONE)

    def _list_holders(self, index: int) -> list[Holder]:
        if self._holders is None:
            return []
        return self._holders.list(self._handle, index, self._names)

    def _tell_holders(self, error: ViewsHeldError | WaitTimeoutError, index: int) -> None:
        # The manager may be closed meanwhile.
        with contextlib.suppress(InvalidAccessError):
            tell(error, self._list_holders(index))

    def dump(self) -> dict[str, Any]:
        """The whole state, as the library tells it in every language: budget, memory, and of each
        dimension its state, file, views and layers. Raises InvalidAccessError: closed."""
        length = ffi.new("size_t *")
        capacity = 1 << 16
        while True:
            buffer = ffi.new("char[]", capacity)
            try:
                call(lib.memmgr_dump_json, self._handle, buffer, capacity, length)
            except InvalidArgumentError:
                if length[0] < capacity:
                    raise
                # Half as much again: it may grow until the next call.
                capacity = length[0] + length[0] // 2
            else:
                dump: dict[str, Any] = json.loads(ffi.buffer(buffer, length[0])[:])
                return dump

    # Closing --------------------------------------------------------------------------------

    def close(self, on_views: OnViews = "refuse", timeout: float | None = None) -> None:
        """Closes the manager; from then on everything else raises InvalidAccessError.

        Arrays stay usable whatever happens: their memory lives as long as they do. Closing what
        is closed does nothing.

        on_views: what arrays that are held mean. "refuse": ViewsHeldError, and nothing changed.
            "wait": until they are gone. "defer": the address range goes with the last of them.
        timeout: seconds that "wait" waits; None: for ever.

        Raises ViewsHeldError, WaitTimeoutError.
        """
        views = choice(ON_VIEWS, on_views, "on_views")
        timeout_ns = nanoseconds(timeout, "timeout")
        if self._closed:
            return
        try:
            call(lib.memmgr_manager_close, self._handle, views, timeout_ns)
        except (ViewsHeldError, WaitTimeoutError) as error:
            self._tell_holders(error, lib.MEMMGR_NONE)
            raise
        except InvalidAccessError:
            # Another thread was first.
            pass
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes as "defer" does; never raises, so that the block's exception stays."""
        with contextlib.suppress(MemmgrError):
            self.close("defer")

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        # Nothing is unmapped at the interpreter's end: arrays may outlive this object there, and
        # the names of this module be gone.
        if not self._closed and not is_finalizing():
            shown = repr(self)
            # First: a warning may be an error.
            self.__exit__(None, None, None)
            if self._followed is None:
                warnings.warn(f"unclosed {shown}", ResourceWarning, stacklevel=2, source=self)

    # Pickling -------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Callable[..., Manager], tuple[Any, ...]]:
        """The configuration and what is loaded, by absolute paths.

        Raises InvalidArgumentError: a dimension is loaded in mode "r+", or an option is a function.
        InvalidAccessError: closed."""
        return reduce(self)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: dict[int, Any]) -> Self:
        return self

    # As a mapping it would be compared by its items; it is one object, and hashable.
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        if self._closed:
            return "<memmgr.Manager, closed>"
        try:
            now = self.stats()
        except MemmgrError:
            return "<memmgr.Manager, closed>"
        return (
            f"<memmgr.Manager, {now.loaded_count} of {now.dimension_count} dimensions loaded, "
            f"{now.allocated} of {now.limit} bytes>"
        )


_GATE_FLAGS = {"auto": 0, "atomic": lib.MEMMGR_OPEN_GATE_ATOMIC}
_OPTIONS = ("dimensions", *(Manager.__init__.__kwdefaults__ or ()))


def _specs(dimensions: Iterable[Any] | Mapping[str, Any]) -> list[DimensionSpec]:
    if isinstance(dimensions, str):
        raise InvalidArgumentError(f"dimensions is {dimensions!r}, want a number or names")
    if not isinstance(dimensions, Iterable):
        raise TypeError(
            f"dimensions must be a number, names or a mapping, not {type(dimensions).__name__}"
        )
    if isinstance(dimensions, Mapping):
        specs = [DimensionSpec(name, capacity) for name, capacity in dimensions.items()]
    else:
        specs = [
            spec if isinstance(spec, DimensionSpec) else DimensionSpec(spec) for spec in dimensions
        ]
    integer(len(specs), "number of dimensions", 1, lib.MEMMGR_DIMENSIONS_MAX)
    return specs
