"""What may be given for what: NumPy's numbers wherever Python's are, and a TypeError that names the
argument where something else is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import memmgr
import memmgr.testing
import numpy as np
import pytest

from .conftest import CAPACITY, Files

Calls = dict[str, Callable[[memmgr.Manager, Any], Any]]


def _refused(**options: Any) -> None:
    with pytest.raises(memmgr.LimitExceededError):
        memmgr.Manager(1, capacity=1, **options)


# Whatever takes an integer takes this one.
INTEGERS: Calls = {
    "dimensions": lambda _, n: memmgr.Manager(n, capacity=4096).close(),
    "capacity": lambda _, n: memmgr.Manager(1, capacity=n).close(),
    "limit": lambda _, n: _refused(limit=n),
    "pool_limit": lambda _, n: memmgr.Manager(1, capacity=1, pool_limit=n).close(),
    "capacity of 'a'": lambda _, n: memmgr.Manager({"a": n}).close(),
    "capacity of dimension 0": lambda _, n: memmgr.Manager([memmgr.DimensionSpec(None, n)]).close(),
    "offset": lambda m, n: m[0].view(n, 4),
    "length": lambda m, n: m[0].view(0, n),
    "each number of shape": lambda m, n: m[0].view(shape=(n,)),
    "k": lambda m, n: m[0].topk(np.ones(4), n),
    "threads": lambda m, n: m.topk(np.ones(4), 1, [0], threads=n),
    "bytes_per_second": lambda m, n: m[0].warm(bytes_per_second=n),
    "budget": lambda m, n: m[0].warm(budget=n),
    "alignment": lambda m, n: m.empty(1, alignment=n),
    "offset of layer 'x'": lambda _, n: memmgr.Layer("x", n, dtype="u1", shape=(1,)),
    "length of layer 'x'": lambda _, n: memmgr.Layer("x", 0, dtype="u1", shape=(1,), length=n),
    "alignment of layer 'x'": lambda _, n: memmgr.Layer(
        "x", 0, dtype="u1", shape=(1,), alignment=n
    ),
    "each number of shape of layer 'x'": lambda _, n: memmgr.Layer("x", 0, dtype="u1", shape=(n,)),
    "errno": lambda _, n: memmgr.testing.fail("map", errno=n).clear(),
    "after": lambda _, n: memmgr.testing.fail("map", after=n).clear(),
    "count": lambda _, n: memmgr.testing.fail("map", count=n).clear(),
}
SECONDS: Calls = {
    "read_timeout": lambda _, s: memmgr.Manager(1, capacity=1, read_timeout=s).close(),
    "timeout": lambda m, s: m[0].write(s),
}
PATHS: Calls = {
    "path": lambda m, path: m.load(1, path),
    "manifest": lambda m, path: m.load(1, "a.bin", manifest=path),
}
LAYERS: Calls = {"layers": lambda m, layers: m.load(1, "a.bin", layers=layers)}
DIMENSIONS: Calls = {"dimensions": lambda m, dimensions: m.scan(len, dimensions)}
NOT_INTEGERS = (2.0, None, 2j, object())


@pytest.fixture
def table(manager: memmgr.Manager, files: Files) -> memmgr.Manager:
    manager.load(0, files.npy(np.ones((4, 4), np.float32)))
    return manager


@pytest.mark.parametrize("call", INTEGERS.values(), ids=INTEGERS)
@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.array])
def test_numpy_integers_are_integers(
    table: memmgr.Manager, call: Callable[..., Any], kind: Callable[[int], Any]
) -> None:
    class Number:
        """Only what operator.index asks for."""

        def __index__(self) -> int:
            return 2

    for number in (kind(2), Number()):
        call(table, number)


def test_size_of_a_file_may_be_of_numpy(manager: memmgr.Manager) -> None:
    assert manager.would_fit(0, np.prod((100, 100)) * 4)
    assert not manager.would_fit(np.uint16(0), np.int64(CAPACITY + 1))
    assert manager[np.int8(1)] == manager["D02"] == manager.get(np.int64(1))


@pytest.mark.parametrize("call", SECONDS.values(), ids=SECONDS)
def test_short_floats_of_numpy_are_seconds(table: memmgr.Manager, call: Callable[..., Any]) -> None:
    for seconds in (np.float16(5), np.float32(0.5), np.int64(1), np.float16("inf"), 10**400):
        call(table, seconds)
    with pytest.raises(memmgr.InvalidArgumentError):
        call(table, np.float16("nan"))


@pytest.mark.parametrize(
    ("what", "call", "value"),
    [
        *((*call, value) for call in INTEGERS.items() for value in NOT_INTEGERS),
        *((*call, value) for call in SECONDS.items() for value in ("1", [1], object())),
        *((*call, value) for call in PATHS.items() for value in (1, 1.5, ["a"])),
        *((*call, value) for call in LAYERS.items() for value in (1, {"x": ("f4", (2,))}, "x")),
        *((*call, value) for call in DIMENSIONS.items() for value in (0, 1.5)),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_type_errors_name_the_argument(
    table: memmgr.Manager, what: str, call: Callable[..., Any], value: Any
) -> None:
    if value is None and what in _MAY_BE_NONE:
        call(table, value)
        return
    with pytest.raises(TypeError) as caught:
        call(table, value)
    assert str(caught.value).startswith(f"{what} must be "), str(caught.value)


_MAY_BE_NONE = {
    "capacity of 'a'",
    "capacity of dimension 0",
    "length",
    "threads",
    "bytes_per_second",
    "budget",
    "length of layer 'x'",
    "after",
    "count",
}
