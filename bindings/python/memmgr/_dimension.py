"""A dimension: a named place of fixed capacity, and the file that is loaded into it."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial as _partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, SupportsIndex, TypeAlias

import numpy as np
import numpy.typing as npt

from ._arguments import Path, encode, encode_path, index, indices, nanoseconds
from ._call import CData, call, struct
from ._dtypes import DType, numpy_dtype
from ._errors import (
    InvalidArgumentError,
    MemmgrError,
    OutOfBoundsError,
    UnknownLayerError,
    ViewsHeldError,
    WaitTimeoutError,
)
from ._extension import FAST
from ._holder import Holder
from ._layer import Layer, as_array
from ._native import Layout, Views, ffi, lib
from ._pin import EMPTY_VIEW as _EMPTY
from ._pin import VIEW as _VIEW
from ._pin import keeper as _keeper
from ._pin import memory
from ._pin import release as _release
from ._progress import Listener, Progress
from ._residency import Residency, Warming
from ._save import run as _save
from ._scan import Instructions, as_query
from ._scan import topk as _topk
from ._sizes import parse_size
from ._stats import DimensionStats, Memory
from ._verify import Verification
from ._visible import visible
from ._words import FORMATS, MODES, ON_VIEWS, PREFETCHES, STATES, choice, word
from ._writer import Writer

if TYPE_CHECKING:
    from ._manager import Manager

Mode: TypeAlias = Literal["r", "r+", "c", "ram"]
Prefetch: TypeAlias = Literal["lazy", "populate"]
Format: TypeAlias = Literal["auto", "raw", "npy", "safetensors"]
OnViews: TypeAlias = Literal["refuse", "wait", "defer"]
Layers: TypeAlias = "Iterable[Layer] | Mapping[str, Layer]"

# Bound once: what is read with every view.
_new_view = ffi.new
_layer_acquire = lib.memmgr_layer_acquire
_NULL = ffi.NULL
_UINT8 = np.dtype(np.uint8)


@dataclasses.dataclass(frozen=True)
class Generation:
    """A version of a file: what cannot change while it is loaded. 0 is none."""

    number: int
    data: CData
    size: int
    mode: int
    format: int
    layer_count: int


@dataclasses.dataclass(frozen=True)
class Table:
    """All layers of one generation."""

    generation: Generation
    layers: Mapping[str, Layer]


class Cache:
    """What was learned of a dimension. Shared by all its `Dimension` objects and by all threads:
    each may be replaced at any time, by an older one too, so whoever believes it compares its
    generation's number with that of a view."""

    def __init__(self) -> None:
        self.generation = Generation(0, ffi.cast("uint8_t *", 0), 0, 0, 0, 0)
        self.table: Table | None = None
        # Of the layers that were asked for, by name; and of the whole file, by None.
        self.known: dict[str | None, Layout] = {}


class Dimension(Views):
    """A dimension of a manager: `manager["D01"]`, or what `Manager.load` returns.

    It is a handle: it stays valid whatever is loaded, and keeps its manager from being collected.
    Iterating gives the names of the layers. Threads: any, at any time.

    `dimension["weights"]` is the layer of that name as a read-only ndarray, without a copy. Its
    dtype and shape are the file's (see `layers`), its order too; `flags.aligned` is False where the
    file misaligns it. It pins the generation it is of until it and every array derived from it are
    gone, which may be on any thread and after the manager was closed. In a Python without the GIL,
    what another thread than this one drops goes when this one next runs, or the collector does. It
    waits for a writer, at most the manager's `read_timeout`. Raises NotLoadedError,
    UnknownLayerError, WaitTimeoutError, FaultedError. FormatError: NumPy has no type for the
    elements; `view` gives the bytes.

    Every method can raise InvalidAccessError: the manager is closed, or the dimension is being
    unloaded.
    """

    def __init__(self, manager: Manager, index: int, name: str) -> None:
        cache = manager._caches[index]
        # Only Python knows who holds a view.
        fast = FAST and manager._holders is None
        super().__init__(manager._address if fast else 0, index, cache.known)
        self._manager = manager
        self._index = index
        self._name = name
        self._cache = cache

    # Reading --------------------------------------------------------------------------------

    # What view.c does where nothing is in the way, and what it calls otherwise.

    def _layer(self, name: str) -> npt.NDArray[Any]:
        """`self[name]`."""
        encoded = encode(name, "layer name")
        layout = self._cache.known.get(name)
        while True:
            if layout is None:
                layout = self._learn(name, encoded)
            pointer = ffi.cast("uint8_t *", layout.address)
            view, data = self._acquire(pointer, name, _layer_acquire, encoded, _NULL)
            if view.generation == layout.generation:
                return as_array(
                    memory(data, layout.length), layout.dtype, layout.shape, layout.order
                )
            del view, data
            layout = None

    def _view(
        self,
        offset: SupportsIndex = 0,
        length: SupportsIndex | None = None,
        *,
        dtype: npt.DTypeLike = "uint8",
        shape: tuple[SupportsIndex, ...] | None = None,
        writable: bool = False,
    ) -> npt.NDArray[Any]:
        """`self.view(…)`."""
        offset, kind = index(offset, "offset"), np.dtype(dtype)
        if length is not None:
            length = index(length, "length")
        if shape is not None:
            shape = indices(shape, "shape")
        if kind.hasobject or not kind.itemsize:
            raise InvalidArgumentError(f"dtype {kind} is not one that bytes can be seen as")
        if length is None and shape is not None and min(shape, default=0) >= 0:
            length = math.prod(shape) * kind.itemsize
        self._check_range(offset, 0 if length is None else length)
        # The end of the file is that of the one that is loaded now.
        generation = self._generation() if length is None else self._cache.generation
        while True:
            size = max(generation.size - offset, 0) if length is None else length
            axes = _axes(size, kind, shape)
            pointer = generation.data + min(offset, generation.size)
            try:
                view, data = self._acquire(pointer, None, lib.memmgr_view_acquire, offset, size)
            except OutOfBoundsError:
                before, generation = generation, self._generation()
                if length is None and generation is not before:
                    continue
                raise
            if view.generation != generation.number:
                del view, data
                generation = self._generation()
                continue
            if writable and generation.mode != lib.MEMMGR_MODE_COPY:
                # The traceback will hold this frame, and would hold the pin with it.
                ffi.release(data)
                raise InvalidArgumentError(
                    f"writable views are for mode 'c', and dimension {self._name} is not loaded in "
                    "it: use write()",
                    operation="acquire",
                    dimension=self._name,
                )
            return as_array(memory(data, size, writable=writable), kind, axes)

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The layers of what is loaded, by name, in the order of their offsets; a snapshot.

        Does not wait for a writer. Raises NotLoadedError.
        """
        return self._table().layers

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.layers

    def topk(
        self,
        query: npt.ArrayLike,
        k: SupportsIndex,
        *,
        layer: str | None = None,
        instructions: Instructions = "auto",
        progress: Progress | None = None,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """The k rows of a layer that have the largest dot products with the query: their indices,
        and these scores, the best row first. All rows, if there are not as many as k.

        Reads the layer once, without the GIL, and keeps nothing of it but the best rows. It is held
        as by an array meanwhile. Of rows with one score the first comes first, and last come those
        whose score is no number.

        query: real numbers, as many as a row has elements; they are taken as float32, and so are
            the elements, which may be F32, F16, BF16 or I8.
        layer: of two axes and order "C"; None: the only one there is.
        instructions: what to compute with. "auto": the newest that the processor has. Each rounds
            in another way; each gives the same scores on every processor that has it.
        progress: called with the bytes done and all bytes, first with 0. If it returns False:
            CancelledError. What it raises, and Ctrl-C then, stops the scan too.

        Raises NotLoadedError, UnknownLayerError (also: none is named, and there is not exactly
        one), WaitTimeoutError, FaultedError. InvalidArgumentError: the layer or the query has
        another shape or type, or the processor has no such instructions.
        """
        return _topk(self, as_query(query), k, layer, instructions=instructions, progress=progress)

    # Writing --------------------------------------------------------------------------------

    def write(self, timeout: float | None = 5.0) -> Writer:
        """Exclusive access: `with dimension.write() as w: w["layer"] *= 2`.

        timeout: seconds to wait, on entering the block, for views to be released and for other
        writers; None: for ever. A thread that holds an array of the dimension waits for itself,
        or gets ViewsHeldError at once if the manager was opened with `track_views`.
        """
        return Writer(self, timeout)

    def flush(self) -> None:
        """Writes what writers changed to the disk, and waits for it; only mode "r+" has anything
        to write. Raises NotLoadedError, FileAccessError, FaultedError."""
        self._call(lib.memmgr_dimension_flush)

    # Loading --------------------------------------------------------------------------------

    def reload(
        self,
        path: Path,
        *,
        mode: Mode = "r",
        prefetch: Prefetch = "lazy",
        huge_pages: bool = False,
        format: Format = "auto",
        layers: Layers | None = None,
        manifest: Path | None = None,
    ) -> None:
        """Loads a new version without ever stopping a reader.

        New views are of the new version from one moment on; arrays that are held stay what they
        are, and the old version goes with the last of them. Costs the dimension's capacity once
        more while both live. Options: as for `Manager.load`; none is taken over from before.

        Raises what `Manager.load` does, except AlreadyLoadedError for the dimension itself.
        NotLoadedError. AlreadyLoadedError: it is the same file, unchanged; mode "ram" takes it, and
        so does a dimension of which a page could not be read.
        ViewsHeldError: older versions are still in use. WaitTimeoutError: a writer kept its access.
        """
        self._place(
            lib.memmgr_dimension_reload,
            path,
            mode=mode,
            prefetch=prefetch,
            huge_pages=huge_pages,
            format=format,
            layers=layers,
            manifest=manifest,
        )

    def unload(self, on_views: OnViews = "refuse", timeout: float | None = None) -> None:
        """Takes the file out; the region stays reserved and charged.

        on_views: what arrays that are held mean. "refuse": ViewsHeldError, and nothing changed.
            "wait": until they are gone. "defer": the file goes at once, its memory with the last
            of them.
        timeout: seconds that "wait" waits; None: for ever.

        Raises NotLoadedError, ViewsHeldError, WaitTimeoutError.
        """
        self._leave(lib.memmgr_dimension_unload, on_views, timeout)

    def deallocate(self, on_views: OnViews = "refuse", timeout: float | None = None) -> None:
        """Takes the file out, if one is in, and gives the region's bytes back to the budget.

        A later load charges them again. Options and errors: as for `unload`, except
        NotLoadedError.
        """
        self._leave(lib.memmgr_dimension_deallocate, on_views, timeout)

    # Residency ------------------------------------------------------------------------------

    def warm(
        self,
        *,
        bytes_per_second: SupportsIndex | str | None = None,
        budget: SupportsIndex | str | None = None,
        timeout: float | None = None,
        progress: Progress | None = None,
    ) -> Warming:
        """Brings what is loaded into memory, from its start, and says how far it came and why no
        further; none of the reasons is an error.

        It goes in steps of 2 MiB. Before each that has to be read from the device, it looks at the
        memory that the machine and its control groups have left: files that this process has in
        memory count as used, and a sixteenth of the limit, at most 256 MiB, is left to others.
        Writers, reloads and unloads wait for a step at the most.

        bytes_per_second: of what is read from the device, on average; None: as fast as it can.
        budget: bytes to be read from the device at most; None: all that are missing.
        timeout: in seconds; None: until it is done.
        progress: called with the bytes done and their total between the steps, and while the rate
            is waited for; False ends the warming. What it raises ends it too, and is raised here.

        Raises NotLoadedError, FileAccessError, FaultedError. AllocationError: the system did not
        tell what is in memory.
        """
        options = struct("memmgr_warm_options")
        c = struct("memmgr_warming")
        if bytes_per_second is not None:
            options.bytes_per_second = parse_size(bytes_per_second, "bytes_per_second")
        if budget is not None:
            options.budget = parse_size(budget, "budget")
        # 0 is no timeout there.
        options.timeout_ns = nanoseconds(timeout, "timeout") or 1
        with Listener(progress, options):
            self._call(lib.memmgr_dimension_warm, options, c)
        return Warming._from(c)

    def lock(self) -> None:
        """Brings what is loaded into memory, and has the system keep it there until `unlock`, or
        until it is unloaded or replaced; the new version of a reload is not locked.

        Nor is anything in a forked child. In mode "c" every page may be copied. Raises
        NotLoadedError, FileAccessError, FaultedError. LimitExceededError: memory has no room for
        what is missing. AllocationError: the system refused; `limit_kind` is `"locked_memory"` if
        it was for the limit of that (`ulimit -l`).
        """
        self._call(lib.memmgr_dimension_lock)

    def unlock(self) -> None:
        """Lets the system take the pages of what is loaded again. Raises NotLoadedError,
        FaultedError."""
        self._call(lib.memmgr_dimension_unlock)

    def evict(self) -> None:
        """Drops the dimension's pages from resident memory without disturbing any array: they
        come back when touched, from the system's cache of the file or else from the device. Those
        that are locked stay. A hint: `residency` tells what came of it. Raises NotLoadedError,
        FaultedError."""
        self._call(lib.memmgr_dimension_evict)

    def residency(self, layer: str | None = None) -> Residency:
        """What of the file, or of one of its layers, is in memory. Walks through its pages.

        Raises NotLoadedError, UnknownLayerError, FaultedError. AllocationError: the system did not
        tell.
        """
        c, c_layer = struct("memmgr_residency"), struct("memmgr_layer")
        if layer is None:
            self._call(lib.memmgr_residency_get, 0, 0, c)
            return Residency._from(c)
        encoded = encode(layer, "layer name")
        while True:
            generation = self._now().generation
            self._call(lib.memmgr_layer_find, encoded, c_layer)
            if not c_layer.length:
                return Residency(generation, c_layer.offset, 0, 0, 0, 0, 0)
            self._call(lib.memmgr_residency_get, c_layer.offset, c_layer.length, c)
            if c.generation == generation:
                return Residency._from(c)

    # Files ----------------------------------------------------------------------------------

    def save_as(
        self,
        path: Path,
        *,
        checksums: bool = False,
        manifest: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Saves what is loaded, with what writers changed, in its own format: see `memmgr.save`.

        It is held as by an array meanwhile: writers wait, readers and reloads do not. The file it
        was loaded from is mapped here and is refused, unless it was loaded in mode "ram".

        Raises what `memmgr.save` does, and NotLoadedError. WaitTimeoutError: a writer kept its
        access. FaultedError: a page of it cannot be read.
        """
        options = struct("memmgr_save_options")
        _save(
            lambda encoded, paths: self._call(
                lib.memmgr_dimension_save, encoded, options, paths=paths
            ),
            path,
            options,
            checksums=checksums,
            manifest=manifest,
            progress=progress,
        )

    def verify(
        self,
        *,
        checksums: bool = False,
        manifest: Path | None = None,
        progress: Progress | None = None,
    ) -> Verification:
        """What has become of the file since it was loaded, or last flushed; a change is no error.

        A file that was rewritten in place shows through every mapping of it; one that was replaced
        or deleted stays loaded as it was. Times tell a rewrite only as finely as the system keeps
        them. Between a write and the `flush` after it no rewrite is told.

        checksums: compare the layers with the checksums they were saved with. The file is read in
            chunks, the mapping is not; it is held as by an array meanwhile, so that writers wait.
        manifest: where the checksums are, if not in the file or in the manifest it was loaded with.
        progress: as for `memmgr.save`.

        Raises NotLoadedError, FileAccessError. With checksums: FormatError, CancelledError,
        AllocationError, WaitTimeoutError, FaultedError.
        """
        options = struct("memmgr_verify_options")
        c = struct("memmgr_verification")
        if manifest is not None:
            name = ffi.new("char[]", encode_path(manifest, "manifest"))
            options.manifest = name
        if not checksums:
            self._call(lib.memmgr_dimension_verify, options, c)
            return Verification._from(c, ())
        options.flags = lib.MEMMGR_VERIFY_CHECKSUMS
        while True:
            layers = list(self.layers)
            corrupt = ffi.new("uint32_t[]", len(layers))
            options.corrupt_layers, options.corrupt_capacity = corrupt, len(layers)
            generation = self._table().generation.number
            with Listener(progress, options):
                self._call(lib.memmgr_dimension_verify, options, c, paths=(manifest,))
            if c.generation == generation:
                found = corrupt[0 : c.corrupt_count]
                return Verification._from(c, [layers[index] for index in found])

    # State ----------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name in the manager."""
        return self._name

    @property
    def capacity(self) -> int:
        """Bytes of its region: the largest file it takes."""
        return self.stats().capacity

    @property
    def state(self) -> str:
        """`"empty"`, `"loaded"`, `"writing"`, `"unloading"`, `"deallocated"` or `"faulted"`."""
        return word(STATES, self._now().state)

    @property
    def mode(self) -> str | None:
        """The mode of what is loaded, None if nothing is."""
        return self.stats().mode

    @property
    def generation(self) -> int:
        """Which version is loaded: a number that every load and reload makes larger; 0 if none."""
        return self.stats().generation

    @property
    def path(self) -> str | None:
        """The file that is loaded, from the root on; None if none is."""
        return self.stats().path

    def stats(self) -> DimensionStats:
        """The dimension as it is at this moment. Makes no system call."""
        return DimensionStats._from(self._now())

    def holders(self) -> list[Holder]:
        """Who holds arrays of it, replaced versions included; nobody, if the manager was not
        opened with `track_views`."""
        return self._manager._list_holders(self._index)

    def memory(self) -> Memory:
        """How much of it is in memory. Walks through the process's map. Raises AllocationError:
        the system did not tell."""
        return self._manager._memory(self._index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dimension):
            return NotImplemented
        return self._manager is other._manager and self._index == other._index

    def __hash__(self) -> int:
        return hash((id(self._manager), self._index))

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Manager, str]]:
        """The dimension of its manager: see there."""
        return operator.getitem, (self._manager, self._name)

    def __repr__(self) -> str:
        try:
            now = self.stats()
        except MemmgrError:
            return f"<memmgr.Dimension {visible(self._name)}, closed>"
        file = f", {now.path!r} in mode {now.mode!r}" if now.path else ""
        return f"<memmgr.Dimension {visible(self._name)}, {now.state}{file}>"

    # Inside ---------------------------------------------------------------------------------

    def _call(
        self, function: Callable[..., int], *arguments: Any, paths: Sequence[Path | None] = ()
    ) -> None:
        try:
            call(function, self._manager._handle, self._index, *arguments, paths=paths)
        except (ViewsHeldError, WaitTimeoutError) as error:
            self._manager._tell_holders(error, self._index)
            raise

    def _now(self) -> CData:
        c = struct("memmgr_dimension_stats")
        self._call(lib.memmgr_dimension_stats_get, c)
        return c

    def _acquire(
        self, data: CData, layer: str | None, function: Callable[..., int], *arguments: Any
    ) -> tuple[CData, CData]:
        """A view, and `data` as the pointer that keeps it: where it will be, if it turns out to be
        of the generation the caller knows."""
        manager, view = self._manager, _new_view(_VIEW, _EMPTY)
        handle, holders = manager._handle, manager._holders
        if holders is None:
            pointer = _keeper(data, _partial(_release, handle, view))
            call(function, handle, self._index, *arguments, view)
        else:
            pin = holders.pin(handle, view, layer)
            pointer = _keeper(data, pin)
            self._call(function, *arguments, view)
            holders.add(pin)
        return view, pointer

    def _check_range(self, offset: int, length: int) -> None:
        """Refuses what no C call could be asked for."""
        if not (0 <= offset < 2**64 and 0 <= length < 2**64):
            raise OutOfBoundsError(
                f"offset {offset} and length {length} are not within dimension {self._name}",
                operation="acquire",
                dimension=self._name,
                requested=offset,
                used=length,
            )

    def _generation(self) -> Generation:
        """What is loaded now, out of the cache if it is that."""
        now = self._now()
        generation = self._cache.generation
        if generation.number != now.generation:
            data = ffi.cast("uint8_t *", now.generation_address)
            generation = Generation(
                now.generation, data, now.file_size, now.mode, now.format, now.layer_count
            )
            self._cache.generation = generation
        known = self._cache.known
        whole = known.get(None)
        if whole is None or whole.generation != now.generation:
            # Layers of other versions need not be kept.
            known.clear()
            size = generation.size
            known[None] = Layout(
                now.generation, now.generation_address, 0, size, _UINT8, (size,), "C"
            )
        return generation

    def _learn(self, name: str, encoded: bytes) -> Layout:
        c = struct("memmgr_layer")
        while True:
            generation = self._generation()
            view, data = self._acquire(generation.data, name, lib.memmgr_layer_acquire, encoded, c)
            acquired = view.generation
            # At once: what follows can fail, or wait for a writer who waits for this view.
            ffi.release(data)
            if acquired == generation.number:
                break
        layer = Layer._from(c)
        layout = Layout(
            generation.number,
            int(ffi.cast("uintptr_t", generation.data)) + layer.offset,
            layer.offset,
            layer.length,
            numpy_dtype(layer.dtype, layer=layer.name, dimension=self._name),
            layer.shape,
            layer.order,
        )
        self._cache.known[name] = layout
        return layout

    def _table(self) -> Table:
        """All layers of one generation: read, and believed if it is the loaded one afterwards."""
        while True:
            generation = self._generation()
            table = self._cache.table
            if table is not None and table.generation.number == generation.number:
                return table
            # At least one call, which is refused if nothing is loaded.
            layers = {}
            c = struct("memmgr_layer")
            try:
                for index in range(generation.layer_count if generation.number else 1):
                    self._call(lib.memmgr_layer_at, index, c)
                    layer = Layer._from(c)
                    layers[layer.name] = layer
            except UnknownLayerError:
                # A reload put a file with fewer layers here meanwhile.
                continue
            if self._now().generation == generation.number:
                table = Table(generation, MappingProxyType(layers))
                self._cache.table = table
                return table

    def _place(
        self,
        function: Callable[..., int],
        path: Path,
        *,
        mode: Mode,
        prefetch: Prefetch,
        huge_pages: bool,
        format: Format,
        layers: Layers | None,
        manifest: Path | None,
    ) -> None:
        options = struct("memmgr_load_options")
        options.mode = choice(MODES, mode, "mode")
        options.prefetch = choice(PREFETCHES, prefetch, "prefetch")
        options.flags = lib.MEMMGR_LOAD_HUGE_PAGES if huge_pages else 0
        options.format = choice(FORMATS, format, "format")
        # cffi keeps nothing alive for a struct: these names do, until the call is over.
        if manifest is not None:
            name = ffi.new("char[]", encode_path(manifest, "manifest"))
            options.manifest = name
        if layers is not None:
            table = _layers(layers)
            c_layers = ffi.new("memmgr_layer[]", len(table))
            for layer, c in zip(table, c_layers, strict=True):
                layer._into(c)
            options.layers, options.layer_count = c_layers, len(table)
        self._call(function, encode_path(path, "path"), options, paths=(path, manifest))

    def _leave(
        self, function: Callable[..., int], on_views: OnViews, timeout: float | None
    ) -> None:
        views, timeout_ns = choice(ON_VIEWS, on_views, "on_views"), nanoseconds(timeout, "timeout")
        self._call(function, views, timeout_ns)


def _layers(layers: Layers) -> list[Layer]:
    """What the caller says of a raw file."""
    if not isinstance(layers, Iterable):
        raise TypeError(f"layers must be Layer objects, not {type(layers).__name__}")
    table = list(layers.values() if isinstance(layers, Mapping) else layers)
    for layer in table:
        if not isinstance(layer, Layer):
            raise TypeError(f"layers must be Layer objects, not {type(layer).__name__}")
    return table


def _axes(length: int, dtype: DType, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of `length` bytes, with a -1 worked out; before anything is pinned."""
    count, rest = divmod(length, dtype.itemsize)
    if shape is None and not rest:
        return (count,)
    axes = (-1,) if shape is None else shape
    known = math.prod(n for n in axes if n != -1)
    if -1 in axes and known and count % known == 0:
        axes = tuple(count // known if n == -1 else n for n in axes)
    if rest or axes.count(-1) or min(axes, default=0) < 0 or math.prod(axes) != count:
        raise InvalidArgumentError(f"{length} bytes are no {dtype} array of shape {shape}")
    return axes
