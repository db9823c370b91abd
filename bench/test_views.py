"""R3.1, R3.2, R10.5: what Python programs do with a dimension, each timed by pytest-benchmark.

    pytest bench/test_views.py --benchmark-enable

What is timed does not gate: a test only asserts that it did what it is timed for. Without an option
of pytest-benchmark's nothing is timed, and each does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

memmgr = pytest.importorskip("memmgr")

SHAPE = (1000, 384)


@pytest.fixture
def timed(request: pytest.FixtureRequest) -> Callable[[Callable[[], Any]], Any]:
    """Calls a function, as often as it takes to time it if it was asked for."""
    options = request.config.invocation_params.args
    if not any(option.startswith("--benchmark") for option in options):
        return lambda function: function()
    return request.getfixturevalue("benchmark")  # type: ignore[no-any-return]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A table in a file of NumPy's."""
    path = tmp_path / "table.npy"
    np.save(path, np.ones(SHAPE, np.float32))
    return path


@pytest.fixture
def dimension(path: Path) -> Iterator[Any]:
    """The table, loaded."""
    with memmgr.Manager() as manager:
        yield manager.load("D01", path)


def test_layer(timed: Any, dimension: Any) -> None:
    """The array of a layer."""
    assert timed(lambda: dimension["data"]).shape == SHAPE


def test_row_of_a_layer(timed: Any, dimension: Any) -> None:
    """A row of it, as who looks up one embedding takes it."""
    assert timed(lambda: dimension["data"][7]).shape == SHAPE[1:]


def test_view(timed: Any, dimension: Any) -> None:
    """The array of a range."""
    assert timed(lambda: dimension.view(128, 4096)).nbytes == 4096


def test_view_of_a_type(timed: Any, dimension: Any) -> None:
    """The same with a type and a shape."""
    view = timed(lambda: dimension.view(128, dtype=np.float32, shape=SHAPE))
    assert view.dtype == np.float32


def test_dimension_by_name_and_layer(timed: Any, path: Path) -> None:
    """From the manager, as who keeps nothing takes it."""
    with memmgr.Manager() as manager:
        manager.load("D01", path)
        assert timed(lambda: manager["D01"]["data"].shape) == SHAPE


def test_write(timed: Any, path: Path) -> None:
    """An exclusive write of one row."""
    with memmgr.Manager() as manager:
        dimension = manager.load("D01", path, mode="c")

        def write() -> None:
            with dimension.write() as writer:
                writer["data"][0] = 2

        timed(write)
        assert dimension["data"][0, 0] == 2


def test_load_and_unload(timed: Any, path: Path) -> None:
    """A file in, a layer of it, and out again."""
    with memmgr.Manager() as manager:

        def load() -> float:
            dimension = manager.load("D01", path)
            first = float(dimension["data"][0, 0])
            dimension.unload()
            return first

        assert timed(load) == 1


def test_reload(timed: Any, path: Path) -> None:
    """A new version in the place of the old one, and a layer of it."""
    with memmgr.Manager() as manager:
        dimension = manager.load("D01", path, mode="ram")

        def reload() -> Any:
            dimension.reload(path, mode="ram")
            return dimension["data"][0, 0]

        assert timed(reload) == 1


def test_open_the_default_manager(timed: Any) -> None:
    """Fourteen dimensions of 20 MiB, opened and closed."""
    assert timed(lambda: memmgr.Manager().close()) is None
