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


def test_macos_module_is_for_the_processor_that_the_compiler_builds_for(
    build_ffi: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build_ffi.platform, "machine", lambda: "arm64")
    universal = "-arch arm64 -arch x86_64 -g"
    for archflags, flags, machine in [
        (None, "-O2", "arm64"),
        (None, universal, "arm64"),
        (None, "-arch x86_64", "x86_64"),
        ("-arch x86_64", universal, "x86_64"),
        ("", universal, "arm64"),
    ]:
        assert build_ffi.macos_machine(archflags, flags) == machine
    with pytest.raises(build_ffi.PlatformError, match="arm64 and x86_64: build a wheel for each"):
        build_ffi.macos_machine("-arch x86_64 -arch arm64", "")
    monkeypatch.setattr(build_ffi, "interpreter_flags", lambda: universal)
    monkeypatch.setenv("ARCHFLAGS", "-arch x86_64")
    assert build_ffi.macos_target() == ["-Dtarget=x86_64-macos.11.0"]
    monkeypatch.delenv("ARCHFLAGS")
    assert build_ffi.macos_target() == ["-Dtarget=aarch64-macos.11.0"]
    # The compiler builds for that one, too.
    assert build_ffi.os.environ["ARCHFLAGS"] == "-arch arm64"
    monkeypatch.delenv("ARCHFLAGS")


def test_read_only_tree_is_not_written_to_by_zig(
    build_ffi: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(
        build_ffi.subprocess, "run", lambda command, **_options: commands.append(command)
    )
    for writable in (True, False):
        monkeypatch.setattr(build_ffi.os, "access", lambda *_arguments, _w=writable: _w)
        build_ffi.build_core(tmp_path, [])
    assert "--cache-dir" not in commands[0]
    assert commands[1][-2:] == ["--cache-dir", str(tmp_path / "cache")]
