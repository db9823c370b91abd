"""Saving: arrays as a file, and the options that saving a dimension takes as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ._arguments import Path, encode, encode_path
from ._call import CData, call, struct
from ._dtypes import dtype_code, normalise
from ._errors import InvalidArgumentError
from ._native import ffi, lib
from ._progress import Listener, Progress
from ._words import FORMATS, ORDERS, choice

ARRAY_NAME = "data"


def save(
    path: Path,
    arrays: Mapping[str, npt.ArrayLike] | npt.ArrayLike,
    *,
    format: str = "auto",
    checksums: bool = False,
    manifest: Path | None = None,
    progress: Progress | None = None,
) -> None:
    """Writes arrays as a file that can be loaded: all of it or nothing.

    It is written under a name of its own in the same folder, brought to the disk, and renamed over
    what has the name; whoever has the old file open or mapped keeps it. A file that this process
    maps is refused, and so is a symbolic link. So is a file that this user may not write to, or
    that nobody may (mode 0444, the attribute read-only), to root as well. The new file has the old
    one's mode, owner, group, access control list and, on Linux, its attributes `user.*`; rights
    shrink where one of them cannot be kept. On Windows it has the permissions of its folder.

    arrays: by the names of their layers; one array alone is called "data". Arrays that are not of
        native order and dense are copied first.
    format: "auto" goes by how the name ends: .npy (one array, called "data"), .safetensors, or else
        raw.
    checksums: of each layer, for `Dimension.verify`: in the header of safetensors, or in the
        manifest.
    manifest: a JSON file to be written as well, for a raw file of more than one layer, or for the
        checksums of a raw or .npy file.
    progress: called with the bytes done and all bytes, first with 0. If it returns False nothing is
        saved: CancelledError. What it raises stops it too.

    Raises InvalidArgumentError: the format cannot hold it. AlreadyLoadedError: the file is mapped
    here, by the dimension it names. DiskFullError, FileAccessError, AllocationError. FaultedError:
    the arrays are mapped from a file that was cut.
    """
    named = arrays if isinstance(arrays, Mapping) else {ARRAY_NAME: arrays}
    options = struct("memmgr_save_options")
    options.format = choice(FORMATS, format, "format")
    # cffi keeps nothing alive for a struct: these do, until the call is over.
    kept: list[Any] = []
    c_arrays = ffi.new("memmgr_array[]", len(named))
    fortran = options.format == lib.MEMMGR_FORMAT_NPY or (
        options.format == lib.MEMMGR_FORMAT_AUTO
        and bytes(encode_path(path, "path")).lower().endswith(b".npy")
    )
    for (name, array), c in zip(named.items(), c_arrays, strict=True):
        _describe(name, np.asanyarray(array), c, kept, fortran=fortran)
    run(
        lambda encoded, paths: call(
            lib.memmgr_array_save, encoded, c_arrays, len(named), options, paths=paths
        ),
        path,
        options,
        checksums=checksums,
        manifest=manifest,
        progress=progress,
    )


def _describe(
    name: str, array: npt.NDArray[Any], c: CData, kept: list[Any], *, fortran: bool
) -> None:
    dtype = array.dtype.newbyteorder("=")
    if array.dtype.hasobject:
        raise InvalidArgumentError(
            f"layer {name!r} holds Python objects", operation="save", layer=name
        )
    code = dtype_code(normalise(dtype, name))
    dense = array.astype(dtype, copy=False)
    is_fortran = fortran and dense.flags.f_contiguous and not dense.flags.c_contiguous
    if not is_fortran:
        dense = np.ascontiguousarray(dense).reshape(dense.shape)
    if dense.ndim > lib.MEMMGR_RANK_MAX:
        raise InvalidArgumentError(
            f"layer {name!r} has {dense.ndim} axes, want at most {lib.MEMMGR_RANK_MAX}",
            operation="save",
            layer=name,
        )
    encoded = ffi.new("char[]", encode(name, "layer name"))
    # As bytes: there are types that NumPy's buffers have no name for.
    data = ffi.from_buffer(dense.reshape(-1, order="A").view(np.uint8))
    kept += (encoded, data)
    c.struct_size = ffi.sizeof(c)
    c.dtype = code
    c.order = ORDERS["F" if is_fortran else "C"]
    c.rank = dense.ndim
    c.shape = dense.shape
    c.name, c.data, c.length = encoded, data, dense.nbytes


def run(
    function: Callable[[bytes, tuple[Path | None, ...]], None],
    path: Path,
    options: CData,
    *,
    checksums: bool,
    manifest: Path | None,
    progress: Progress | None,
) -> None:
    """Completes the options, and calls `function` with the path and what errors may name."""
    if checksums:
        options.flags |= lib.MEMMGR_SAVE_CHECKSUMS
    encoded = encode_path(path, "path")
    if manifest is not None:
        name = ffi.new("char[]", encode_path(manifest, "manifest"))
        options.manifest = name
    with Listener(progress, options):
        function(encoded, (path, manifest))
