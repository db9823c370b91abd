"""R4.4, R10.2: reading allocates nothing and calls no system, and costs what it cost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import build
import counters


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    if missing := counters.missing_tools():
        pytest.skip(f"no {', '.join(missing)} here")
    pytest.importorskip("ziglang")
    return counters.measure(build.install(tmp_path_factory.mktemp("prefix")))


def test_reading_makes_no_system_call(counted: dict[str, float]) -> None:
    assert counted["system_calls_per_1000_pairs"] == 0


def test_reading_allocates_nothing(counted: dict[str, float]) -> None:
    assert counted["allocations_per_1000_pairs"] == 0


def test_reading_misses_no_page(counted: dict[str, float]) -> None:
    assert counted["page_faults_per_1000_pairs"] == 0


def test_counters_are_as_in_the_baseline(counted: dict[str, float]) -> None:
    baseline = counters.read_baseline()
    if baseline is None:
        pytest.skip("no baseline for this architecture")
    assert counters.differences(counted, baseline) == []


def test_a_counter_that_differs_is_named() -> None:
    baseline = {"instructions_per_pair": 100.0, "allocations_per_1000_pairs": 0}
    same = {"instructions_per_pair": 102.0, "allocations_per_1000_pairs": 0}
    worse = {"instructions_per_pair": 104.0, "allocations_per_1000_pairs": 1}
    assert counters.differences(same, baseline) == []
    assert len(counters.differences(worse, baseline)) == 2
