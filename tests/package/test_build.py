"""The build says what a machine lacks before a compiler does."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

BINDINGS = Path(__file__).resolve().parents[2] / "bindings" / "python"


@pytest.fixture
def build_ffi(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("setuptools", minversion="70.1")
    monkeypatch.syspath_prepend(BINDINGS)
    return importlib.import_module("build_ffi")


def test_missing_headers_are_named_with_the_package_that_has_them(
    build_ffi: Any, tmp_path: Path
) -> None:
    with pytest.raises(build_ffi.PlatformError, match=r"Python's headers .*python3-dev"):
        build_ffi.check_headers(tmp_path)
    (tmp_path / "Python.h").touch()
    build_ffi.check_headers(tmp_path)
