"""Every platform's wheel is built from the sdist on this machine, without a network."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

BINDINGS = Path(__file__).resolve().parents[2] / "bindings" / "python"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="one Linux machine makes them all"),
]


@pytest.fixture(scope="module")
def build_ffi() -> Any:
    pytest.importorskip("ziglang")
    pytest.importorskip("setuptools", minversion="77")
    sys.path.insert(0, str(BINDINGS))
    module = importlib.import_module("build_ffi")
    if not module.LIMITED_API:
        pytest.skip("this interpreter has no limited API")
    return module


# The module's name, how its file begins, and what of the system it asks for.
MODULES = {
    "manylinux_2_17_aarch64": ("_native.abi3.so", b"\x7fELF\x02\x01", rb"GLIBC_2\.17"),
    "musllinux_1_2_x86_64": ("_native.abi3.so", b"\x7fELF\x02\x01", rb"libc\.so\0"),
    "macosx_11_0_arm64": ("_native.abi3.so", b"\xcf\xfa\xed\xfe", rb"libSystem\.B\.dylib"),
    "win_amd64": ("_native.pyd", b"MZ", rb"python3\.dll\0"),
}


@pytest.mark.parametrize("platform", MODULES)
def test_wheel_is_made_for_another_platform(build_ffi: Any, tmp_path: Path, platform: str) -> None:
    module, magic, needs = MODULES[platform]
    assert platform in build_ffi.WHEELS
    command = [sys.executable, str(BINDINGS / "wheels.py"), "--out", str(tmp_path), platform]
    subprocess.run(command, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith(f"-cp310-abi3-{platform}.whl")
    with zipfile.ZipFile(wheel) as content:
        natives = [name for name in content.namelist() if "_native." in name]
        code = content.read(f"memmgr/{module}")
    assert [name for name in natives if not name.endswith(".pyi")] == [f"memmgr/{module}"]
    assert code.startswith(magic)
    assert re.search(needs, code)
    assert b"PyInit__native" in code
    # No library of one version of Python.
    assert not re.search(rb"python3[0-9]+\.dll|libpython", code)
