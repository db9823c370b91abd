"""Sizes as people write them."""

from __future__ import annotations

import memmgr
import pytest
from hypothesis import given
from hypothesis import strategies as st
from memmgr._sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1", 1),
        ("4096 B", 4096),
        ("20 MiB", 20 * 2**20),
        ("20mib", 20 * 2**20),
        (" 1.5 GiB ", 3 * 2**29),
        ("1 kB", 1000),
        ("2.5 MB", 2_500_000),
        ("15 PiB", 15 * 2**50),
    ],
)
def test_sizes_with_units(text: str, size: int) -> None:
    assert parse_size(text, "size") == size


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1.5", "0.3 KiB", "1 XB", "1e3", "0", "٣", "99999 PiB"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(memmgr.InvalidArgumentError, match="size is"):
        parse_size(text, "size")


@given(st.integers(1, 2**64 - 1))
def test_every_number_of_bytes_is_read_back(size: int) -> None:
    assert parse_size(size, "size") == parse_size(str(size), "size") == size


@given(st.integers(1, 2**24 - 1), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_every_binary_multiple_is_exact(number: int, unit: str) -> None:
    power = {"KiB": 10, "MiB": 20, "GiB": 30}[unit]
    assert parse_size(f"{number} {unit}", "size") == number << power


def test_sizes_for_people() -> None:
    assert [format_size(n) for n in (0, 1023, 1024, 20 * 2**20, 3 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "20.0 MiB",
        "3072.0 GiB",
    ]
