"""The best rows by dot product, beside NumPy; and functions on many dimensions at once."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memmgr._words import INSTRUCTIONS

ml_dtypes = pytest.importorskip("ml_dtypes")

TYPES = [np.float32, np.float16, ml_dtypes.bfloat16, np.int8]
MIB = 2**20

Array = npt.NDArray[Any]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., memmgr.Dimension]:
    """Saves arrays and loads them, each time another file."""
    count = 0

    def function(
        manager: memmgr.Manager, arrays: dict[str, Array] | Array, name: str | int = 0
    ) -> memmgr.Dimension:
        nonlocal count
        count += 1
        path = tmp_path / f"{count}.safetensors"
        memmgr.save(path, arrays)
        if manager[name].state == "loaded":
            manager[name].reload(path)
            return manager[name]
        return manager.load(name, path)

    return function


def best(matrix: Array, query: Array, k: int) -> tuple[Array, Array]:
    """What is expected, for numbers whose products are exact."""
    scores = matrix.astype(np.float32) @ query.astype(np.float32)
    order = np.argsort(-scores, kind="stable")[:k]
    return order, scores[order]


def integers(
    random: np.random.Generator, rows: int, length: int, dtype: npt.DTypeLike, high: int = 100
) -> Array:
    return random.integers(-high, high, (rows, length)).astype(dtype)


def available(dimension: memmgr.Dimension, length: int) -> set[str]:
    """The sets of instructions that this processor has."""
    names = set()
    for name in INSTRUCTIONS:
        with contextlib.suppress(memmgr.InvalidArgumentError):
            dimension.topk(np.zeros(length), 0, instructions=name)  # type: ignore[arg-type]
            names.add(name)
    assert names >= {"auto", "baseline"}
    return names


# Rows that are right ----------------------------------------------------------------------------


@pytest.mark.parametrize("instructions", INSTRUCTIONS)
@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_the_best_rows_are_those_of_numpy(
    load: Callable[..., memmgr.Dimension], dtype: npt.DTypeLike, instructions: Any
) -> None:
    random = np.random.default_rng(1)
    with memmgr.Manager(1, capacity="4 MiB") as manager:
        for rows, length, k in ((1, 1, 1), (300, 1, 7), (1000, 37, 10), (513, 384, 600), (4, 3, 0)):
            matrix, query = integers(random, rows, length, dtype), random.integers(-3, 4, length)
            dimension = load(manager, matrix)
            if instructions not in available(dimension, length):
                pytest.skip(f"no {instructions} here")
            found, scores = dimension.topk(query, k, instructions=instructions)
            expected, expected_scores = best(matrix, query, k)
            assert found.dtype == np.int64
            assert scores.dtype == np.float32
            np.testing.assert_array_equal(expected, found)
            np.testing.assert_array_equal(expected_scores, scores)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    rows=st.integers(0, 300),
    length=st.integers(1, 80),
    k=st.integers(0, 310),
    high=st.integers(1, 100),
    dtype=st.sampled_from(TYPES),
    shift=st.integers(0, 9),
    seed=st.integers(0, 2**32),
)
def test_any_shape_at_any_address_is_right(
    tmp_path: Path,
    *,
    rows: int,
    length: int,
    k: int,
    high: int,
    dtype: npt.DTypeLike,
    shift: int,
    seed: int,
) -> None:
    random = np.random.default_rng(seed)
    matrix = integers(random, rows, length, dtype, high)
    query = random.integers(-3, 4, length).astype(np.float32)
    path = tmp_path / "matrix.bin"
    path.write_bytes(bytes(shift) + matrix.tobytes() + b"\0")
    with memmgr.Manager(1) as manager:
        layer = memmgr.Layer("m", shift, dtype=matrix.dtype.name, shape=(rows, length))
        found, scores = manager.load(0, path, layers=[layer]).topk(query, k)
    expected, expected_scores = best(matrix, query, k)
    np.testing.assert_array_equal(expected, found)
    np.testing.assert_array_equal(expected_scores, scores)


@pytest.mark.parametrize("dtype", TYPES, ids=lambda dtype: np.dtype(dtype).name)
def test_real_numbers_score_as_they_do_in_float64(
    load: Callable[..., memmgr.Dimension], dtype: npt.DTypeLike
) -> None:
    random = np.random.default_rng(2)
    matrix = (random.standard_normal((2000, 384)) * 30).clip(-127, 127).astype(dtype)
    query = random.standard_normal(384).astype(np.float32)
    exact = matrix.astype(np.float64) @ query.astype(np.float64)
    with memmgr.Manager(1, capacity="4 MiB") as manager:
        rows, scores = load(manager, matrix).topk(query, 2000)
    assert sorted(rows) == list(range(2000))
    assert (np.diff(scores) <= 0).all()
    np.testing.assert_allclose(scores, exact[rows], rtol=1e-4, atol=1e-2)


def test_what_is_no_number_comes_last(load: Callable[..., memmgr.Dimension]) -> None:
    inf, nan = np.inf, np.nan
    matrix = np.array([[nan], [-inf], [inf], [1], [nan], [2]], np.float32)
    with memmgr.Manager(1) as manager:
        dimension = load(manager, matrix)
        rows, scores = dimension.topk([1], 10)
        assert rows.tolist() == [2, 5, 3, 1, 0, 4]
        assert np.isnan(scores[4:]).all()
        assert dimension.topk([nan], 3)[0].tolist() == [0, 1, 2]


def test_a_layer_is_named_where_there_are_several(load: Callable[..., memmgr.Dimension]) -> None:
    arrays = {"a": np.eye(3, dtype=np.float32), "b": np.zeros((2, 2), np.int8)}
    with memmgr.Manager(1) as manager:
        dimension = load(manager, arrays)
        assert dimension.topk([0, 5, 1], 2, layer="a")[0].tolist() == [1, 2]
        assert dimension.topk((1, 1), 1, layer="b")[1].tolist() == [0]
        with pytest.raises(memmgr.UnknownLayerError, match="name the one meant"):
            dimension.topk([0, 5, 1], 2)
        with pytest.raises(memmgr.UnknownLayerError) as caught:
            dimension.topk([0, 5, 1], 2, layer="c")
        assert caught.value.layer == "c"


@pytest.mark.parametrize(
    "query",
    [
        np.array([1, 2, 3], np.float64),
        np.array([1, 2, 3], np.float16),
        np.array([1, 2, 3], np.uint8),
        np.array([1, 2, 3], ml_dtypes.bfloat16),
        np.array([1, 9, 2, 9, 3, 9], np.float32)[::2],
        [1, 2.0, 3],
    ],
    ids=str,
)
def test_a_query_is_any_real_numbers(load: Callable[..., memmgr.Dimension], query: Any) -> None:
    with memmgr.Manager(1) as manager:
        dimension = load(manager, np.array([[1, 0, 0], [0, 0, 1]], np.float32))
        assert dimension.topk(query, 1)[1].tolist() == [3]


def test_room_for_more_rows_than_there_can_be_costs_nothing(
    load: Callable[..., memmgr.Dimension],
) -> None:
    with memmgr.Manager(1) as manager:
        dimension = load(manager, np.ones((3, 2), np.float32))
        rows, scores = dimension.topk([1, 1], 2**63)
        assert rows.tolist() == [0, 1, 2]
        assert rows.base is None
        assert scores.base is None


# What is refused --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "k", "words"),
    [
        (np.ones((2, 2), np.float32), 1, r"shape \(2, 2\), want one axis"),
        (np.float32(1), 1, r"shape \(\), want one axis"),
        ([1j, 2], 1, "type complex128, want real numbers"),
        (["a", "b"], 1, "want real numbers"),
        ([object(), None], 1, "type object, want real numbers"),
        ([True, False], 1, "type bool, want real numbers"),
        ([], 1, "no elements"),
        ([1], 1, "not as many elements as a row: got 1, limit 2"),
        ([1, 2, 3], 1, "got 3, limit 2"),
        ([1, 2], -1, "k is -1"),
        ([1, 2], 2**64, "k is "),
    ],
    ids=str,
)
def test_a_wrong_query_is_told(
    load: Callable[..., memmgr.Dimension], query: Any, k: int, words: str
) -> None:
    with memmgr.Manager(1) as manager:
        dimension = load(manager, np.ones((3, 2), np.float32))
        with pytest.raises(memmgr.InvalidArgumentError, match=words):
            dimension.topk(query, k)
        with pytest.raises(memmgr.InvalidArgumentError, match=words):
            manager.topk(query, k)
        assert manager.stats().views == 0


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones(2, np.float32), "two axes"),
        (np.ones((2, 2, 2), np.float32), "two axes"),
        (np.ones((2, 2), np.float64), "F32, F16, BF16 and I8"),
        (np.ones((2, 0), np.float32), "no elements"),
    ],
    ids=["vector", "cube", "float64", "empty rows"],
)
def test_a_layer_that_has_no_rows_to_score_is_told(
    load: Callable[..., memmgr.Dimension], array: Array, words: str
) -> None:
    with memmgr.Manager(1) as manager:
        dimension = load(manager, array)
        with pytest.raises(memmgr.InvalidArgumentError, match=words) as caught:
            dimension.topk([1, 1], 1)
        assert caught.value.layer == "data"
        assert caught.value.operation == "scan"


def test_the_first_axis_is_not_the_densest(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.asfortranarray(np.ones((3, 2), np.float32)))
    with memmgr.Manager(1) as manager:
        dimension = manager.load(0, tmp_path / "f.npy")
        with pytest.raises(memmgr.InvalidArgumentError, match="rows follow each other"):
            dimension.topk([1, 1], 1)


def test_what_is_not_there_is_not_scanned() -> None:
    with memmgr.Manager(2) as manager:
        with pytest.raises(memmgr.NotLoadedError):
            manager[0].topk([1], 1)
        with pytest.raises(memmgr.NotLoadedError):
            manager.topk([1], 1, ["D02"])
        with pytest.raises(memmgr.UnknownDimensionError):
            manager.scan(len, ["D03"])
        with pytest.raises(memmgr.InvalidArgumentError, match="want names or indices"):
            manager.scan(len, "D01")
        with pytest.raises(memmgr.InvalidArgumentError, match="threads is 0"):
            manager.scan(len, threads=0)
        with pytest.raises(memmgr.InvalidArgumentError, match="instructions is 'sse9'"):
            manager[0].topk([1], 1, instructions="sse9")  # type: ignore[arg-type]
        dimension = manager[0]
    with pytest.raises(memmgr.InvalidAccessError):
        dimension.topk([1], 1)


# Meanwhile --------------------------------------------------------------------------------------


def test_progress_is_told_and_stops_the_scan(load: Callable[..., memmgr.Dimension]) -> None:
    matrix = np.zeros((3 * MIB // 256, 64), np.float32)
    query = np.ones(64)
    told: list[tuple[int, int]] = []
    with memmgr.Manager(1) as manager:
        dimension = load(manager, matrix)
        dimension.topk(query, 1, progress=lambda *step: told.append(step))
        assert told == [(n * MIB, 3 * MIB) for n in range(4)]
        with pytest.raises(memmgr.CancelledError):
            dimension.topk(query, 1, progress=lambda done, _: done < MIB)
        with pytest.raises(ZeroDivisionError):
            dimension.topk(query, 1, progress=lambda done, _: 1 // (MIB - done))
        assert manager.stats().views == 0


def test_a_reload_while_it_scans_changes_nothing_for_it(
    load: Callable[..., memmgr.Dimension],
) -> None:
    old, new = (np.full((2 * MIB // 256, 64), value, np.float32) for value in (1, 2))
    with memmgr.Manager(1) as manager:
        dimension = load(manager, old)

        def replace(done: int, _: int) -> None:
            if done == MIB:
                load(manager, new)

        rows, scores = dimension.topk(np.ones(64), 1, progress=replace)
        assert (rows[0], scores[0]) == (0, 64)
        assert dimension.topk(np.ones(64), 1)[1] == [128]
        assert dimension.stats().retiring_views == 0


def test_readers_scan_while_the_file_is_replaced_again_and_again(
    load: Callable[..., memmgr.Dimension],
) -> None:
    versions = [np.full((4000, 64), value, np.float32) for value in (1, 2)]
    wrong: list[float] = []
    stop = threading.Event()
    with memmgr.Manager(1, capacity="2 MiB") as manager:
        dimension = load(manager, versions[0])

        def read() -> None:
            while not stop.is_set():
                _, scores = dimension.topk(np.ones(64), 5)
                if scores.tolist() not in ([64] * 5, [128] * 5):
                    wrong.append(scores.tolist())

        threads = [threading.Thread(target=read) for _ in range(3)]
        for thread in threads:
            thread.start()
        for turn in range(20):
            try:
                load(manager, versions[turn % 2])
            except memmgr.ViewsHeldError:
                time.sleep(0.001)
        stop.set()
        for thread in threads:
            thread.join()
        assert not wrong
        assert manager.stats().views == 0


def test_other_threads_run_while_it_scans(load: Callable[..., memmgr.Dimension]) -> None:
    """The scan lets go of the interpreter: else the other thread would count almost nothing."""
    with memmgr.Manager(1, capacity="40 MiB") as manager:
        dimension = load(manager, np.zeros((40 * MIB // 4096 - 1, 1024), np.float32))
        seen: list[int] = []
        count = 0
        stop = False

        def turn() -> None:
            nonlocal count
            while not stop:
                count += 1

        thread = threading.Thread(target=turn)
        thread.start()
        for _ in range(20):
            before = count
            dimension.topk(np.zeros(1024), 1)
            seen.append(count - before)
        stop = True
        thread.join()
        assert max(seen) > 100


# Many dimensions --------------------------------------------------------------------------------


@pytest.fixture
def many(load: Callable[..., memmgr.Dimension]) -> Any:
    random = np.random.default_rng(3)
    with memmgr.Manager(5) as manager:
        for index in (0, 1, 3, 4):
            load(manager, {"rows": integers(random, 50 * index, 6, np.float32, 4)}, index)
        yield manager


@pytest.mark.parametrize("threads", [1, 2, None, 100])
def test_the_best_of_all_are_the_best_of_each(many: memmgr.Manager, threads: int | None) -> None:
    query = np.array([1, -2, 3, 0, 1, 1], np.float32)
    matrices = {index: many[index]["rows"].copy() for index in (0, 1, 3, 4)}
    everything = [
        (-float(row @ query), index, number)
        for index, matrix in matrices.items()
        for number, row in enumerate(matrix)
    ]
    for k in (0, 1, 17, 1000):
        found = many.topk(query, k, layer="rows", threads=threads)  # type: ignore[arg-type]
        assert len(found) == min(k, len(everything))
        expected = [(index, row, -score) for score, index, row in sorted(everything)[:k]]
        assert list(found) == expected
    some = many.topk(query, 1000, ["D05", 1], threads=threads)  # type: ignore[arg-type]
    assert set(some.dimensions.tolist()) == {1, 4}


def test_nothing_loaded_has_no_best_rows() -> None:
    with memmgr.Manager(2) as manager:
        assert list(manager.topk([1], 5)) == []
        assert manager.scan(len) == []


@pytest.mark.parametrize("threads", [1, 2, None])
def test_results_come_in_the_order_of_the_dimensions(
    many: memmgr.Manager, threads: int | None
) -> None:
    def shape(array: Array) -> tuple[int, ...]:
        time.sleep(0.02 if len(array) == 50 else 0)
        return array.shape

    shapes = many.scan(shape, layer="rows", threads=threads)
    assert shapes == [(0, 6), (50, 6), (150, 6), (200, 6)]
    assert many.scan(shape, [4, "D02"], layer="rows", threads=threads) == [(200, 6), (50, 6)]
    lengths = many.scan(len, threads=threads)
    assert lengths == [many[index].stats().file_size for index in (0, 1, 3, 4)]


def test_what_is_done_is_not_held(many: memmgr.Manager) -> None:
    def views(_: Array) -> int:
        return many.stats().views

    assert many.scan(views, threads=1) == [1, 1, 1, 1]
    assert max(many.scan(views, threads=2)) <= 2
    assert many.stats().views == 0


@pytest.mark.parametrize("threads", [1, 2])
def test_what_a_call_raises_is_raised_and_ends_the_rest(many: memmgr.Manager, threads: int) -> None:
    begun: list[int] = []

    def fail(array: Array) -> None:
        begun.append(len(array))
        if len(begun) == 1:
            raise ZeroDivisionError("of the first")
        time.sleep(0.1)

    with pytest.raises(ZeroDivisionError, match="of the first"):
        many.scan(fail, threads=threads)
    assert 1 <= len(begun) <= threads
    gc.collect()
    assert many.stats().views == 0


def test_an_unloaded_dimension_is_told_of_when_its_turn_comes(many: memmgr.Manager) -> None:
    seen: list[int] = []
    with pytest.raises(memmgr.NotLoadedError) as caught:
        many.scan(lambda array: seen.append(len(array)), [0, "D03", 4], threads=1)
    assert caught.value.dimension == "D03"
    assert len(seen) == 1
