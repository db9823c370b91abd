"""What only a caller of C can get wrong, called through cffi: handles, sizes of structs, tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import memmgr
import numpy as np
import pytest
from memmgr._call import struct
from memmgr._native import ffi, lib

from .conftest import Files, Unchanged

INVALID = lib.MEMMGR_ERR_INVALID_ARGUMENT
CLOSED = lib.MEMMGR_ERR_INVALID_ACCESS

# Each function that takes a handle, with arguments that are right but for it.
CALLS: dict[str, Callable[[Any], int]] = {
    "find": lambda m: lib.memmgr_dimension_find(m, b"D01", ffi.new("uint32_t *"), ffi.NULL),
    "load": lambda m: lib.memmgr_dimension_load(m, 0, b"/none", ffi.NULL, ffi.NULL),
    "reload": lambda m: lib.memmgr_dimension_reload(m, 0, b"/none", ffi.NULL, ffi.NULL),
    "would_fit": lambda m: lib.memmgr_dimension_would_fit(m, 0, ffi.NULL, 1, 0, ffi.NULL),
    "unload": lambda m: lib.memmgr_dimension_unload(m, 0, 0, 0, ffi.NULL),
    "deallocate": lambda m: lib.memmgr_dimension_deallocate(m, 0, 0, 0, ffi.NULL),
    "flush": lambda m: lib.memmgr_dimension_flush(m, 0, ffi.NULL),
    "evict": lambda m: lib.memmgr_dimension_evict(m, 0, ffi.NULL),
    "layer_find": lambda m: lib.memmgr_layer_find(m, 0, b"x", struct("memmgr_layer"), ffi.NULL),
    "layer_at": lambda m: lib.memmgr_layer_at(m, 0, 0, struct("memmgr_layer"), ffi.NULL),
    "acquire": lambda m: lib.memmgr_view_acquire(m, 0, 0, 0, struct("memmgr_view"), ffi.NULL),
    "try_acquire": lambda m: lib.memmgr_view_try_acquire(
        m, 0, 0, 0, struct("memmgr_view"), ffi.NULL
    ),
    "layer_acquire": lambda m: lib.memmgr_layer_acquire(
        m, 0, b"x", ffi.NULL, struct("memmgr_view"), ffi.NULL
    ),
    "write_begin": lambda m: lib.memmgr_write_begin(m, 0, 0, 0, struct("memmgr_write"), ffi.NULL),
    "stats": lambda m: lib.memmgr_stats_get(m, struct("memmgr_stats"), ffi.NULL),
    "reset_peak": lambda m: lib.memmgr_stats_reset_peak(m, ffi.NULL),
    "dimension_stats": lambda m: lib.memmgr_dimension_stats_get(
        m, 0, struct("memmgr_dimension_stats"), ffi.NULL
    ),
    "memory": lambda m: lib.memmgr_memory_get(m, 0, struct("memmgr_memory"), ffi.NULL),
    "save": lambda m: lib.memmgr_dimension_save(m, 0, b"/none/x", ffi.NULL, ffi.NULL),
    "verify": lambda m: lib.memmgr_dimension_verify(
        m, 0, ffi.NULL, struct("memmgr_verification"), ffi.NULL
    ),
    "dump": lambda m: lib.memmgr_dump_json(m, ffi.NULL, 0, ffi.new("size_t *"), ffi.NULL),
}
every_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@every_call
def test_null_handle(call: Callable[[Any], int]) -> None:
    assert call(ffi.NULL) == INVALID


@every_call
@pytest.mark.parametrize("value", [1, 2, 0x1234, 2**32, 2**63, 2**64 - 1])
def test_foreign_handle(call: Callable[[Any], int], value: int) -> None:
    assert call(ffi.cast("memmgr_manager *", value)) in (INVALID, CLOSED)


@every_call
def test_dead_handle(call: Callable[[Any], int]) -> None:
    """Also when another manager has taken its place."""
    with memmgr.Manager(1, capacity=1) as manager:
        handle = manager._handle
    with memmgr.Manager(1, capacity=1):
        assert call(handle) == CLOSED


STRUCTS: dict[str, tuple[str, Callable[[Any, Any], int]]] = {
    "view": (
        "memmgr_view",
        lambda m, s: lib.memmgr_view_acquire(m, 0, 0, 1, s, ffi.NULL),
    ),
    "layer": ("memmgr_layer", lambda m, s: lib.memmgr_layer_at(m, 0, 0, s, ffi.NULL)),
    "write": ("memmgr_write", lambda m, s: lib.memmgr_write_begin(m, 0, 0, 0, s, ffi.NULL)),
    "stats": ("memmgr_stats", lambda m, s: lib.memmgr_stats_get(m, s, ffi.NULL)),
    "memory": ("memmgr_memory", lambda m, s: lib.memmgr_memory_get(m, 0, s, ffi.NULL)),
    "dimension_stats": (
        "memmgr_dimension_stats",
        lambda m, s: lib.memmgr_dimension_stats_get(m, 0, s, ffi.NULL),
    ),
    "load_options": (
        "memmgr_load_options",
        lambda m, s: lib.memmgr_dimension_load(m, 1, b"/none", s, ffi.NULL),
    ),
    "manager_options": (
        "memmgr_manager_options",
        lambda _, s: lib.memmgr_manager_open(s, ffi.new("memmgr_manager **"), ffi.NULL),
    ),
    "save_options": (
        "memmgr_save_options",
        lambda m, s: lib.memmgr_dimension_save(m, 0, b"/none/x", s, ffi.NULL),
    ),
    "array": (
        "memmgr_array",
        lambda _, s: lib.memmgr_array_save(b"/none/x", s, 1, ffi.NULL, ffi.NULL),
    ),
    "verify_options": (
        "memmgr_verify_options",
        lambda m, s: lib.memmgr_dimension_verify(m, 0, s, struct("memmgr_verification"), ffi.NULL),
    ),
    "verification": (
        "memmgr_verification",
        lambda m, s: lib.memmgr_dimension_verify(m, 0, ffi.NULL, s, ffi.NULL),
    ),
    "capabilities": (
        "memmgr_capabilities",
        lambda _, s: lib.memmgr_capabilities_get(s, ffi.NULL),
    ),
}


@pytest.mark.parametrize("size", [0, 1, 3, 4, 7])
@pytest.mark.parametrize(("name", "call"), STRUCTS.values(), ids=STRUCTS)
def test_struct_that_is_too_small(
    loaded: memmgr.Dimension,
    name: str,
    call: Callable[[Any, Any], int],
    size: int,
    unchanged: Unchanged,
) -> None:
    """And the struct stays as it was."""
    manager = loaded._manager
    value = struct(name)
    value.struct_size = size
    before = bytes(ffi.buffer(value))
    with unchanged(manager):
        assert call(manager._handle, value) == INVALID
    assert bytes(ffi.buffer(value)) == before


@pytest.mark.parametrize("name", ["memmgr_load_options", "memmgr_manager_options"])
def test_larger_struct_of_a_newer_caller(manager: memmgr.Manager, name: str) -> None:
    """Accepted if what this version does not know is zero."""
    size = ffi.sizeof(name)
    memory = ffi.new("char[]", size + 16)
    value = ffi.cast(f"{name} *", memory)
    value.struct_size = size + 16
    call = next(call for struct_name, call in STRUCTS.values() if struct_name == name)
    if name == "memmgr_manager_options":
        handle = ffi.new("memmgr_manager **")
        assert lib.memmgr_manager_open(value, handle, ffi.NULL) == lib.MEMMGR_OK
        assert lib.memmgr_manager_close(handle[0], 0, 0, ffi.NULL) == lib.MEMMGR_OK
    else:
        assert call(manager._handle, value) == lib.MEMMGR_ERR_FILE_ACCESS
    memory[size + 15] = b"\x01"
    assert call(manager._handle, value) == INVALID


def test_views_that_are_not_held(
    manager: memmgr.Manager, loaded: memmgr.Dimension, unchanged: Unchanged
) -> None:
    """Zeroed, already released, or of another manager."""
    view = struct("memmgr_view")

    def release(of: memmgr.Manager) -> int:
        return int(lib.memmgr_view_release(of._handle, view, ffi.NULL))

    with unchanged(manager), memmgr.Manager(1, capacity=1) as other:
        assert release(manager) == INVALID
        assert lib.memmgr_view_acquire(manager._handle, 0, 0, 1, view, ffi.NULL) == 0
        assert release(other) == INVALID
        assert manager.stats().views == 1
        assert release(manager) == 0
        assert release(manager) == INVALID


def test_writes_that_were_not_begun(manager: memmgr.Manager, files: Files) -> None:
    dimension = manager.load("D01", files.npy(np.zeros(3)), mode="c")
    write = struct("memmgr_write")
    assert lib.memmgr_write_end(manager._handle, write, ffi.NULL) == INVALID
    assert lib.memmgr_write_begin(manager._handle, 0, 0, 0, write, ffi.NULL) == 0
    assert lib.memmgr_write_end(manager._handle, write, ffi.NULL) == 0
    assert lib.memmgr_write_end(manager._handle, write, ffi.NULL) == INVALID
    assert dimension["data"].sum() == 0


def test_null_outputs_and_names(manager: memmgr.Manager, loaded: memmgr.Dimension) -> None:
    handle, null = manager._handle, ffi.NULL
    for status in (
        lib.memmgr_dimension_find(handle, null, ffi.new("uint32_t *"), null),
        lib.memmgr_dimension_find(handle, b"D01", null, null),
        lib.memmgr_dimension_load(handle, 1, null, null, null),
        lib.memmgr_view_acquire(handle, 0, 0, 1, null, null),
        lib.memmgr_view_try_acquire(handle, 0, 0, 1, null, null),
        lib.memmgr_layer_acquire(handle, 0, null, null, struct("memmgr_view"), null),
        lib.memmgr_layer_at(handle, 0, 0, null, null),
        lib.memmgr_write_begin(handle, 0, 0, 0, null, null),
        lib.memmgr_stats_get(handle, null, null),
        lib.memmgr_dump_json(handle, null, 1, ffi.new("size_t *"), null),
        lib.memmgr_dimension_save(handle, 0, null, null, null),
        lib.memmgr_array_save(null, null, 0, null, null),
        lib.memmgr_array_save(b"/none/x", null, 1, null, null),
        lib.memmgr_dimension_verify(handle, 0, null, null, null),
        lib.memmgr_manager_open(null, null, null),
        lib.memmgr_view_release(handle, null, null),
        lib.memmgr_write_end(handle, null, null),
    ):
        assert status == INVALID
