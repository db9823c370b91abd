"""Opening, configuring, watching and closing a manager."""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import pytest

from .conftest import CAPACITY, MIB, Files, needs_process_map, process_map

DEFAULT_BYTES = 293_601_280


def test_r1_1_default_manager_charges_280_mib() -> None:
    """R1.1, R10.1: the regions are charged when the manager opens."""
    with memmgr.Manager() as manager:
        assert manager.stats().allocated == DEFAULT_BYTES == 14 * 20 * MIB


@needs_process_map
def test_r1_1_regions_in_the_process_map_add_up_to_280_mib() -> None:
    """R1.1, R1.2: each region is an entry of its own."""
    with memmgr.Manager() as manager:
        entries = {(start, end) for start, end, _, _ in process_map()}
        regions = [(d.address, d.address + d.capacity) for d in _stats(manager)]
        assert entries.issuperset(regions)
        assert sum(end - start for start, end in regions) == DEFAULT_BYTES


def test_r1_2_default_manager_has_d01_to_d14() -> None:
    """R1.2: 14 distinct regions that do not overlap."""
    with memmgr.Manager() as manager:
        assert list(manager) == [f"D{number:02}" for number in range(1, 15)]
        regions = sorted((d.address, d.address + d.capacity) for d in _stats(manager))
        assert len(regions) == 14
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(regions))


def test_r1_3_regions_are_page_aligned() -> None:
    """R1.3."""
    page = memmgr.capabilities().page_size
    with memmgr.Manager({"a": 1, "b": page + 1, "c": "3 MiB"}) as manager:
        assert [d.address % page for d in _stats(manager)] == [0, 0, 0]
        assert [d.capacity for d in _stats(manager)] == [page, 2 * page, 3 * MIB]


def test_r1_4_failed_open_says_what_and_how_much() -> None:
    """R1.4: more addresses than any process has."""
    with pytest.raises(memmgr.AllocationError) as caught:
        memmgr.Manager(64, capacity="64 TiB", limit="8 PiB")
    assert isinstance(caught.value, MemoryError)
    assert caught.value.requested >= 64 * 64 * 2**40
    assert caught.value.system_code != 0
    assert caught.value.operation == "open"


def test_r1_5_open_is_timed() -> None:
    """R1.5: here only that it answers at all; the demo prints the time, the bench compares it."""
    start = time.perf_counter()
    memmgr.Manager().close()
    assert time.perf_counter() - start < 10


def test_limit_below_the_regions_is_refused() -> None:
    """R5.2, R9.2: requested, used and limit are told."""
    with pytest.raises(memmgr.LimitExceededError) as caught:
        memmgr.Manager(14, limit=DEFAULT_BYTES - 1)
    assert caught.value.requested > 0
    assert caught.value.limit == DEFAULT_BYTES - 1
    assert str(DEFAULT_BYTES - 1) in str(caught.value)


def test_r5_2_default_limit_leaves_room_for_one_reload() -> None:
    """R5.2: all regions, the largest once more, and pool_limit."""
    with memmgr.Manager({"a": MIB, "b": 3 * MIB}, pool_limit="5 MiB") as manager:
        assert manager.stats().limit == (1 + 3 + 3 + 5) * MIB
        assert manager.stats().pool_limit == 5 * MIB


def test_r5_4_deallocating_uncharges_a_region(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    """R5.3, R5.4: and a later load charges it again."""
    path = loaded.path
    assert path is not None
    assert manager.stats().allocated == 3 * CAPACITY
    loaded.deallocate()
    assert manager.stats().allocated == 2 * CAPACITY
    assert loaded.state == "deallocated"
    assert loaded.stats().charged == 0
    loaded.deallocate()
    assert manager.stats().allocated == 2 * CAPACITY
    manager.load("D01", path)
    assert manager.stats().allocated == 3 * CAPACITY


def test_r5_3_count_is_exact_through_a_reload(
    manager: memmgr.Manager, loaded: memmgr.Dimension, files: Files
) -> None:
    """R5.1, R5.3: a second generation is charged while a view holds the first."""
    held = loaded["table"]
    loaded.reload(files.raw(b"new", "new.bin"))
    assert manager.stats().allocated == 4 * CAPACITY
    del held
    assert manager.stats().allocated == 3 * CAPACITY
    assert manager.stats().peak == 4 * CAPACITY
    manager.reset_peak()
    assert manager.stats().peak == 3 * CAPACITY


def test_r5_5_stats_and_dump_tell_the_same(
    manager: memmgr.Manager, loaded: memmgr.Dimension
) -> None:
    """R5.5, R9.5."""
    held = loaded["table"]
    stats = manager.stats()
    assert (stats.dimension_count, stats.loaded_count, stats.views) == (3, 1, 1)
    assert (stats.loads, stats.reloads, stats.unloads, stats.refusals) == (1, 0, 0, 0)
    assert stats.mapped >= Path(loaded.path or "").stat().st_size
    text = json.dumps(manager.dump())
    for word in ("D01", "D03", "table", "ids", "layers.safetensors", str(stats.allocated)):
        assert word in text
    del held
    assert manager.stats().views == 0


def test_dump_of_many_dimensions_is_whole() -> None:
    """R9.5: longer than the first buffer."""
    with memmgr.Manager(1000, capacity=1) as manager:
        text = json.dumps(manager.dump())
        assert "D01" in text
        assert "D1000" in text


def test_memory_tells_four_numbers(manager: memmgr.Manager, loaded: memmgr.Dimension) -> None:
    """R5.5: what is touched is resident, and nothing of mode "r" is private."""
    int(loaded.view().max())
    memory = loaded.memory()
    assert memory.reserved >= CAPACITY
    assert 0 < memory.mapped <= memory.reserved
    assert memory.mapped <= (memory.resident or 0) < memory.mapped + _page()
    assert memory.private_dirty == 0
    assert manager.memory().reserved >= 3 * CAPACITY


def test_r10_3_a_dimension_is_contiguous(loaded: memmgr.Dimension) -> None:
    """R10.3: every layer lies at its offset from one address, within the region."""
    stats = loaded.stats()
    whole = loaded.view()
    assert _address(whole) == stats.generation_address
    for name, layer in loaded.layers.items():
        assert _address(loaded[name]) == stats.generation_address + layer.offset
    assert stats.generation_address == stats.address


# Options -----------------------------------------------------------------------------------------


def test_dimensions_by_name_index_and_membership(manager: memmgr.Manager) -> None:
    assert len(manager) == 3
    assert manager["D02"] == manager[1]
    assert {manager["D02"], manager[1]} == {manager["D02"]}
    assert manager["D01"] != manager["D02"]
    assert "D03" in manager
    assert "D04" not in manager
    assert manager["D03"].name == "D03"
    assert manager["D03"].capacity == CAPACITY


@pytest.mark.parametrize("name", ["D00", "", "d01", "D01\n", "D" * 100, 3, -1])
def test_unknown_dimension(manager: memmgr.Manager, name: str | int) -> None:
    with pytest.raises(memmgr.UnknownDimensionError) as caught:
        manager[name]
    assert isinstance(caught.value, KeyError)


@pytest.mark.parametrize("key", [None, 1.0, [1], {}, b"D01", np.float32(1)])
def test_key_that_is_neither_a_name_nor_an_index_is_not_there(
    manager: memmgr.Manager, key: Any
) -> None:
    assert key not in manager
    assert manager.get(key) is None
    assert manager.get(key, 5) == 5
    with pytest.raises(TypeError, match="dimension must be a name or an index, not "):
        manager[key]


def test_index_looks_at_one_name() -> None:
    class Names(list[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("all names are walked through")

    with memmgr.Manager(100, capacity=1) as manager:
        manager._names = Names(manager._names)
        assert [manager[index].name for index in (0, 99)] == ["D01", "D100"]
        assert manager.would_fit(50, 1)


def test_closed_managers_are_in_nobodys_way() -> None:
    """As many as can be, all closed: others can be opened, of any number of dimensions."""
    for count in (1, 17):
        # Others of this process may be open.
        managers = [memmgr.Manager(count, capacity="4 KiB") for _ in range(1000)]
        for manager in managers:
            manager.close()
    with memmgr.Manager(200, capacity="4 KiB") as manager:
        assert len(manager) == 200


def test_specs_mix_with_names() -> None:
    specs: list[str | memmgr.DimensionSpec] = [
        "first",
        memmgr.DimensionSpec("second", "2 MiB"),
        memmgr.DimensionSpec(),
    ]
    with memmgr.Manager(specs, capacity="1 MiB") as manager:
        assert list(manager) == ["first", "second", "D03"]
        assert [d.capacity for d in manager.values()] == [MIB, 2 * MIB, MIB]


@pytest.mark.parametrize(
    "options",
    [
        {"dimensions": 0},
        {"dimensions": -1},
        {"dimensions": 65537},
        {"dimensions": []},
        {"dimensions": "D01"},
        {"dimensions": ["same", "same"]},
        {"dimensions": [""]},
        {"dimensions": ["x" * 64]},
        {"dimensions": ["nul\0"]},
        {"dimensions": ["\udc80"]},
        {"capacity": 0},
        {"capacity": "many"},
        {"capacity": 2**64},
        {"limit": "most"},
        {"limit": 0},
        {"limit": -1},
        {"pool_limit": 0},
        {"read_timeout": -1},
        {"read_timeout": float("nan")},
        {"gate": "fast"},
    ],
    ids=str,
)
def test_wrong_options_are_named(options: dict[str, object]) -> None:
    with pytest.raises(memmgr.InvalidArgumentError) as caught:
        memmgr.Manager(**options)  # type: ignore[arg-type]
    assert isinstance(caught.value, ValueError)
    assert str(caught.value)


def test_atomic_gate_can_be_chosen() -> None:
    with memmgr.Manager(1, capacity=1, gate="atomic") as manager:
        assert manager.stats().gate == "atomic"
    with memmgr.Manager(1, capacity=1) as manager:
        assert manager.stats().gate == memmgr.capabilities().gate


def test_populate_touches_every_page() -> None:
    with memmgr.Manager(2, capacity="1 MiB", populate=True) as manager:
        assert (manager.memory().resident or 0) >= 2 * MIB


def test_populate_that_does_not_fit_the_machine_is_refused() -> None:
    with pytest.raises(memmgr.LimitExceededError):
        memmgr.Manager(1, capacity=2**44, populate=True)


def test_capabilities_and_version() -> None:
    capabilities = memmgr.capabilities()
    assert capabilities.page_size in (4096, 16384, 65536)
    assert capabilities.granularity % capabilities.page_size == 0
    assert capabilities.gate in ("atomic", "asymmetric")
    assert capabilities.system_code_kind in ("errno", "GetLastError")
    assert capabilities.fault_guard or os.name == "nt"
    assert memmgr.version() == memmgr.__version__


# Configuration -----------------------------------------------------------------------------------


def test_config_file(tmp_path: Path) -> None:
    pytest.importorskip("tomllib" if _has_tomllib() else "tomli")
    path = tmp_path / "memmgr.toml"
    path.write_text(
        'capacity = "1 MiB"\nread_timeout = inf\n[dimensions]\nD01 = "2 MiB"\nD02 = 4096\n'
    )
    with memmgr.Manager.from_config(path) as manager:
        assert [d.capacity for d in manager.values()] == [2 * MIB, max(4096, _page())]


def test_config_mapping() -> None:
    with memmgr.Manager.from_config({"dimensions": 2, "capacity": "1 MiB"}) as manager:
        assert len(manager) == 2


def test_config_with_unknown_key() -> None:
    with pytest.raises(memmgr.InvalidArgumentError, match="capacities"):
        memmgr.Manager.from_config({"capacities": 1})


def test_config_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(memmgr.FileAccessError) as caught:
        memmgr.Manager.from_config(tmp_path / "none.toml")
    assert caught.value.filename == tmp_path / "none.toml"
    assert isinstance(caught.value, OSError)


def test_config_that_is_not_toml(tmp_path: Path) -> None:
    pytest.importorskip("tomllib" if _has_tomllib() else "tomli")
    (tmp_path / "bad.toml").write_text("capacity =")
    with pytest.raises(memmgr.FormatError):
        memmgr.Manager.from_config(tmp_path / "bad.toml")


# Closing -----------------------------------------------------------------------------------------


def test_closed_manager_refuses_everything(files: Files) -> None:
    """R4.5: the specific error, and no crash."""
    manager = memmgr.Manager(1, capacity=MIB)
    dimension = manager.load("D01", files.npy(np.zeros(3)))
    manager.close()
    manager.close()
    assert manager.closed
    for call in (
        manager.stats,
        manager.dump,
        manager.memory,
        manager.reset_peak,
        dimension.stats,
        dimension.unload,
        dimension.deallocate,
        dimension.flush,
        dimension.evict,
        dimension.view,
        lambda: dimension["data"],
        lambda: dimension.layers,
        lambda: dimension.write().__enter__(),
        lambda: manager.load("D01", files.folder / "array.npy"),
    ):
        with pytest.raises(memmgr.InvalidAccessError):
            call()
    assert "closed" in repr(manager)
    assert "closed" in repr(dimension)


def test_close_refuses_while_views_live(loaded: memmgr.Dimension, manager: memmgr.Manager) -> None:
    held = loaded["table"]
    with pytest.raises(memmgr.ViewsHeldError) as caught:
        manager.close()
    assert caught.value.views == 1
    assert isinstance(caught.value, BufferError)
    assert not manager.closed
    assert loaded.state == "loaded"
    del held
    manager.close()


def test_close_waits_no_longer_than_told(loaded: memmgr.Dimension, manager: memmgr.Manager) -> None:
    held = loaded["table"]
    with pytest.raises(memmgr.WaitTimeoutError) as caught:
        manager.close(on_views="wait", timeout=0.01)
    assert isinstance(caught.value, TimeoutError)
    assert not manager.closed
    assert held[0, 1] == 1


def test_arrays_outlive_the_with_block(files: Files) -> None:
    with memmgr.Manager(1, capacity=MIB) as manager:
        held = manager.load("D01", files.npy(np.arange(1000)))["data"]
    assert manager.closed
    del manager
    assert held.sum() == 499_500


def test_with_does_not_displace_an_exception(loaded: memmgr.Dimension) -> None:
    with pytest.raises(RuntimeError, match="mine"), memmgr.Manager(1, capacity=1) as manager:
        manager.close()
        raise RuntimeError("mine")


def test_forgotten_manager_warns_and_is_closed() -> None:
    with pytest.warns(ResourceWarning, match="unclosed"):
        memmgr.Manager(1, capacity=1)
        gc.collect()


def test_unclosed_manager_is_closed_where_the_warning_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[BaseException | None] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda raised: told.append(raised.exc_value))
    # More than can be open at a time.
    count = 1100
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        for _ in range(count):
            memmgr.Manager(1, capacity=1)
            gc.collect(0)
    assert len(told) == count
    assert all(isinstance(error, ResourceWarning) and "unclosed" in str(error) for error in told)


def test_closed_manager_does_not_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        memmgr.Manager(1, capacity=1).close()
        gc.collect()


def test_dimension_keeps_its_manager(files: Files) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        dimension = memmgr.Manager(1, capacity=MIB).load("D01", files.npy(np.arange(3)))
        gc.collect()
        assert dimension["data"].tolist() == [0, 1, 2]
        dimension._manager.close()


def _stats(manager: memmgr.Manager) -> list[memmgr.DimensionStats]:
    return [dimension.stats() for dimension in manager.values()]


def _address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def _page() -> int:
    return memmgr.capabilities().page_size


def _has_tomllib() -> bool:
    try:
        import tomllib  # noqa: F401
    except ImportError:
        return False
    return True
