"""A dimension: a named place of fixed capacity, and the file that is loaded into it."""

from __future__ import annotations

import dataclasses
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ._arguments import Path, encode, encode_path, nanoseconds
from ._call import CData, call, struct
from ._dtypes import DType, numpy_dtype
from ._errors import (
    FormatError,
    InvalidArgumentError,
    MemmgrError,
    OutOfBoundsError,
    UnknownLayerError,
)
from ._layer import Layer, as_array
from ._native import ffi, lib
from ._pin import empty_view, memory
from ._stats import DimensionStats, Memory
from ._words import FORMATS, MODES, ON_VIEWS, PREFETCHES, choice, word
from ._writer import Writer

if TYPE_CHECKING:
    from ._manager import Manager

Mode: TypeAlias = Literal["r", "r+", "c", "ram"]
Prefetch: TypeAlias = Literal["lazy", "populate"]
Format: TypeAlias = Literal["auto", "raw", "npy", "safetensors"]
OnViews: TypeAlias = Literal["refuse", "wait", "defer"]
Layers: TypeAlias = "Iterable[Layer] | Mapping[str, Layer]"


@dataclasses.dataclass(frozen=True)
class Table:
    """All layers of one generation."""

    generation: int
    format: str
    layers: Mapping[str, Layer]


@dataclasses.dataclass(frozen=True)
class _Known:
    """How to make an array of a layer, true of one generation."""

    generation: int
    encoded: bytes
    dtype: DType
    shape: tuple[int, ...]
    order: Literal["C", "F"]


class Cache:
    """What was learned of a dimension's layers. Shared by all its `Dimension` objects; each entry
    is checked against the generation of a view before it is believed."""

    def __init__(self) -> None:
        self.known: dict[str, _Known] = {}
        self.table: Table | None = None


class Dimension:
    """A dimension of a manager: `manager["D01"]`, or what `Manager.load` returns.

    It is a handle: it stays valid whatever is loaded, and keeps its manager from being collected.
    Iterating gives the names of the layers. Threads: any, at any time.

    Every method can raise InvalidAccessError: the manager is closed, or the dimension is being
    unloaded.
    """

    def __init__(self, manager: Manager, index: int, name: str) -> None:
        self._manager = manager
        self._index = index
        self._name = name
        self._cache = manager._caches[index]

    # Reading --------------------------------------------------------------------------------

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """The layer of that name as a read-only ndarray, without a copy.

        Its dtype and shape are the file's (see `layers`), its order too; `flags.aligned` is False
        where the file misaligns it. It pins the generation it is of until it and every array
        derived from it are gone, which may be on any thread and after the manager was closed.

        Waits for a writer, at most the manager's `read_timeout`.
        Raises NotLoadedError, UnknownLayerError, WaitTimeoutError, FaultedError. FormatError: NumPy
        has no type for the elements; `view` gives the bytes.
        """
        known = self._cache.known.get(name)
        if known is not None:
            view = self._acquire(lib.memmgr_layer_acquire, known.encoded, ffi.NULL)
            if view.generation == known.generation:
                return _array(view, known)
        encoded = encode(name, "layer name")
        layer = struct("memmgr_layer")
        view = self._acquire(lib.memmgr_layer_acquire, encoded, layer)
        try:
            known = self._learn(view.generation, encoded, Layer._from(layer))
        except FormatError:
            # The traceback will hold this frame, and would hold the pin with it.
            ffi.release(view)
            raise
        return _array(view, known)

    def view(
        self,
        offset: int = 0,
        length: int | None = None,
        *,
        dtype: npt.DTypeLike = np.uint8,
        shape: tuple[int, ...] | None = None,
        writable: bool = False,
    ) -> npt.NDArray[Any]:
        """Any bytes of the file as an ndarray, without a copy; see `__getitem__` for how it pins.

        offset: in bytes from the start of the file.
        length: in bytes; None: as many as `shape` needs, or up to the end of the file.
        dtype, shape: of the array; no shape: one axis. One axis of the shape may be -1.
        writable: only in mode "c": an array that may be written to, without the exclusion that
            `write` gives.

        Raises OutOfBoundsError. InvalidArgumentError: the length is not that of the shape, the
        dtype holds Python objects, or `writable` in another mode. NotLoadedError,
        WaitTimeoutError, FaultedError.
        """
        offset, kind = operator.index(offset), np.dtype(dtype)
        if kind.hasobject or not kind.itemsize:
            raise InvalidArgumentError(f"dtype {kind} is none that bytes can be seen as")
        if length is None and shape is not None and min(shape, default=0) >= 0:
            length = math.prod(shape) * kind.itemsize
        self._check_range(offset, 0 if length is None else length)
        while True:
            # What is not asked for is not looked up; what is, must be of the view's generation.
            now: CData = self._now() if length is None or writable else None
            size = max(now.file_size - offset, 0) if length is None else length
            axes = _axes(size, kind, shape)
            try:
                view = self._acquire(lib.memmgr_view_acquire, offset, size)
            except OutOfBoundsError:
                if length is None and self._now().generation != now.generation:
                    continue
                raise
            if now is not None and view.generation != now.generation:
                continue
            if writable and now.mode != lib.MEMMGR_MODE_COPY:
                ffi.release(view)
                raise InvalidArgumentError(
                    f"writable views are for mode 'c', and dimension {self._name} is not loaded in "
                    "it: use write()",
                    operation="acquire",
                    dimension=self._name,
                )
            return as_array(memory(view, writable=writable), kind, axes)

    @property
    def layers(self) -> Mapping[str, Layer]:
        """The layers of what is loaded, by name, in the order of their offsets; a snapshot.

        Raises NotLoadedError. WaitTimeoutError: a writer kept its access.
        """
        return self._table().layers

    def __iter__(self) -> Iterator[str]:
        return iter(self.layers)

    def __contains__(self, name: object) -> bool:
        return name in self.layers

    # Writing --------------------------------------------------------------------------------

    def write(self, timeout: float | None = 5.0) -> Writer:
        """Exclusive access: `with dimension.write() as w: w["layer"] *= 2`.

        timeout: seconds to wait, on entering the block, for views to be released and for other
        writers; None: for ever. A thread that holds an array of the dimension waits for itself.
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
        format: Format = "auto",
        layers: Layers | None = None,
        manifest: Path | None = None,
    ) -> None:
        """Loads a new version without ever stopping a reader.

        New views are of the new version from one moment on; arrays that are held stay what they
        are, and the old version goes with the last of them. Costs the dimension's capacity once
        more while both live. Options: as for `Manager.load`; none is taken over from before.

        Raises what `Manager.load` does, except AlreadyLoadedError for the dimension itself.
        NotLoadedError. AlreadyLoadedError: it is the same file, unchanged; mode "ram" takes it.
        ViewsHeldError: older versions are still in use. WaitTimeoutError: a writer kept its access.
        """
        self._place(
            lib.memmgr_dimension_reload,
            path,
            mode=mode,
            prefetch=prefetch,
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

    def evict(self) -> None:
        """Drops the dimension's pages from resident memory without disturbing any array: they
        come back when touched. A hint: `memory` tells what came of it. Raises NotLoadedError."""
        self._call(lib.memmgr_dimension_evict)

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
        return self.stats().state

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
        """The file that is loaded, None if none is."""
        return self.stats().path

    def stats(self) -> DimensionStats:
        """The dimension as it is at this moment. Makes no system call."""
        return DimensionStats._from(self._now())

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

    def __repr__(self) -> str:
        try:
            now = self.stats()
        except MemmgrError:
            return f"<memmgr.Dimension {self._name}, closed>"
        file = f", {now.path!r} in mode {now.mode!r}" if now.path else ""
        return f"<memmgr.Dimension {self._name}, {now.state}{file}>"

    # Inside ---------------------------------------------------------------------------------

    def _call(self, function: Callable[..., int], *arguments: Any, **options: Any) -> None:
        call(function, self._manager._handle, self._index, *arguments, **options)

    def _now(self) -> CData:
        c = struct("memmgr_dimension_stats")
        self._call(lib.memmgr_dimension_stats_get, c)
        return c

    def _acquire(self, function: Callable[..., int], *arguments: Any) -> CData:
        view = empty_view(self._manager._release)
        self._call(function, *arguments, view)
        return view

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

    def _learn(self, generation: int, encoded: bytes, layer: Layer) -> _Known:
        dtype = numpy_dtype(layer.dtype, layer=layer.name, dimension=self._name)
        known = _Known(generation, encoded, dtype, layer.shape, layer.order)
        self._cache.known[layer.name] = known
        return known

    def _table(self) -> Table:
        """All layers of one generation: read, and believed if it is the loaded one afterwards."""
        while True:
            before = self._now()
            table = self._cache.table
            if table is not None and table.generation == before.generation:
                return table
            # At least one call, which is refused if nothing is loaded.
            layers = {}
            c = struct("memmgr_layer")
            try:
                for index in range(before.layer_count if before.generation else 1):
                    self._call(lib.memmgr_layer_at, index, c)
                    layer = Layer._from(c)
                    layers[layer.name] = layer
            except UnknownLayerError:
                # A reload put a file with fewer layers here meanwhile.
                continue
            if self._now().generation == before.generation:
                table = Table(
                    before.generation, word(FORMATS, before.format), MappingProxyType(layers)
                )
                self._cache.known.clear()
                self._cache.table = table
                return table

    def _place(
        self,
        function: Callable[..., int],
        path: Path,
        *,
        mode: Mode,
        prefetch: Prefetch,
        format: Format,
        layers: Layers | None,
        manifest: Path | None,
    ) -> None:
        options = struct("memmgr_load_options")
        options.mode = choice(MODES, mode, "mode")
        options.prefetch = choice(PREFETCHES, prefetch, "prefetch")
        options.format = choice(FORMATS, format, "format")
        # cffi keeps nothing alive for a struct: these names do, until the call is over.
        if manifest is not None:
            name = ffi.new("char[]", encode_path(manifest, "manifest"))
            options.manifest = name
        if layers is not None:
            table = list(layers.values() if isinstance(layers, Mapping) else layers)
            c_layers = ffi.new("memmgr_layer[]", len(table))
            for layer, c in zip(table, c_layers, strict=True):
                layer._into(c)
            options.layers, options.layer_count = c_layers, len(table)
        self._call(function, encode_path(path, "path"), options, paths=(path, manifest))

    def _leave(
        self, function: Callable[..., int], on_views: OnViews, timeout: float | None
    ) -> None:
        views = choice(ON_VIEWS, on_views, "on_views")
        self._call(function, views, nanoseconds(timeout, "timeout"))


def _array(view: CData, known: _Known) -> npt.NDArray[Any]:
    return as_array(memory(view, writable=False), known.dtype, known.shape, known.order)


def _axes(length: int, dtype: DType, shape: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of `length` bytes, with a -1 worked out; before anything is pinned."""
    count, rest = divmod(length, dtype.itemsize)
    axes = (-1,) if shape is None else tuple(map(operator.index, shape))
    known = math.prod(n for n in axes if n != -1)
    if -1 in axes and known and count % known == 0:
        axes = tuple(count // known if n == -1 else n for n in axes)
    if rest or axes.count(-1) or min(axes, default=0) < 0 or math.prod(axes) != count:
        raise InvalidArgumentError(f"{length} bytes are no {dtype} array of shape {shape}")
    return axes
