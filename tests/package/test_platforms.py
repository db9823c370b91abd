"""R8: one interface on every platform, behind it each system's own calls, and one suite for all."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include" / "memmgr.h").read_text(encoding="utf-8")
FUNCTIONS = set(re.findall(r"^MEMMGR_API[^;]*?(memmgr_\w+)\(", HEADER, flags=re.MULTILINE))

# Target, the name of the shared library there, and what it asks of its system for a mapping.
SYSTEMS = {
    "x86_64-linux-gnu.2.17": ("lib/libmemmgr.so", {"mmap", "munmap"}),
    "aarch64-macos.11.0": ("lib/libmemmgr.dylib", {"_mmap", "_munmap"}),
    "x86_64-windows-gnu": ("bin/memmgr.dll", {"CreateFileMappingW", "MapViewOfFileEx"}),
}


@pytest.fixture
def platforms(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROOT / "tests")
    return importlib.import_module("platforms")


def zig(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("ziglang")
    return subprocess.run(
        [sys.executable, "-m", "ziglang", *arguments],
        cwd=ROOT,
        env=os.environ | {"ZIG_DEBUG_CMD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("target", SYSTEMS)
def test_library_has_the_same_functions_on_every_system(target: str, tmp_path: Path) -> None:
    """R8.1, R8.3: and below them, the calls for mappings are the system's own."""
    done = zig("build", f"-Dtarget={target}", "--prefix", tmp_path)
    assert done.returncode == 0, done.stderr
    library, calls = SYSTEMS[target]
    names = set(re.findall(rb"[A-Za-z_]\w+", (tmp_path / library).read_bytes()))
    found = {name.decode() for name in names}
    # Mach-O puts an underscore before every name.
    ours = {name.removeprefix("_") for name in found if re.match(r"_?memmgr_", name)}
    assert ours >= FUNCTIONS
    assert found >= calls
    text = (tmp_path / "include" / "memmgr.h").read_text(encoding="utf-8")
    assert text == HEADER


def test_header_declares_nothing_for_one_system_only() -> None:
    """R8.1: but how a function is imported."""
    lines = re.findall(r"^# *(?:if|el).*", HEADER, flags=re.MULTILINE)
    conditions = [line for line in lines if re.search("_WIN32|__linux|__APPLE__|_MSC_VER", line)]
    assert conditions == ["#elif defined(_WIN32) && defined(MEMMGR_SHARED)"]


def test_only_the_os_layer_looks_at_the_system() -> None:
    """R8.2: docs/ARCHITECTURE.md names the exceptions."""
    allowed = {"os.zig", "threads.zig"}
    files = [
        path
        for path in ROOT.glob("core/**/*.zig")
        if "os" not in path.parts and "testing" not in path.parts and path.name not in allowed
    ]
    assert len(files) > 30
    looks = r"builtin\.os|std\.(os|posix|c)\."
    found = {
        path.name: re.findall(looks, path.read_text(encoding="utf-8").partition("// Tests")[0])
        for path in files
    }
    assert {name: uses for name, uses in found.items() if uses} == {}


def test_package_does_not_look_at_the_system() -> None:
    """R8.2: what differs by system is the core's to know."""
    for path in ROOT.glob("bindings/python/memmgr/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                assert name not in {"sys.platform", "os.name", "os.uname"}, path.name
            if isinstance(node, ast.Import):
                assert "platform" not in [alias.name for alias in node.names], path.name


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("x86-linux-gnu", "memmgr needs a 64-bit little-endian processor, which x86-linux has not"),
        ("s390x-linux-gnu", "64-bit little-endian processor, which s390x-linux has not"),
        ("powerpc64-linux-gnu", "64-bit little-endian processor, which powerpc64-linux has not"),
        ("x86_64-freebsd", "runs on Linux, macOS and Windows, not on x86_64-freebsd"),
    ],
)
def test_other_targets_are_refused_by_one_sentence(target: str, sentence: str) -> None:
    """R8.4."""
    done = zig("build-lib", "core/libmemmgr.zig", "-target", target, "-lc", "-fno-emit-bin")
    assert done.returncode != 0
    assert re.findall(r"error: (.*)", done.stderr) == [sentence] or (
        done.stderr.count("error: ") == 1 and sentence in done.stderr
    )


@pytest.mark.kept
def test_every_platform_ran_the_same_suites(platforms: Any) -> None:
    """R8.5: as far as it is kept; what ran last is newer than what did not run since."""
    results = platforms.load()
    ran = {
        name: set(result["suites"]) - {platforms.PYTHON_TESTS} for name, result in results.items()
    }
    assert {"musl", "qemu-16k", "qemu-64k", "wine-10", "wine-8", "macos-aarch64"} <= ran.keys()
    assert len({frozenset(suites) for suites in ran.values()}) == 1
    for result in results.values():
        assert all(not counts.get("failed") for counts in result["suites"].values())


@pytest.mark.kept
def test_table_is_made_of_what_is_kept(platforms: Any) -> None:
    """R8.5."""
    text = platforms.TABLE.read_text(encoding="utf-8")
    assert text == platforms.table(platforms.load())
    assert len(platforms.CRITERIA) == 50
    for criterion in platforms.CRITERIA:
        assert f"\n| {criterion} |" in text
    kept = {path.stem for path in platforms.RESULTS.glob("*.json")}
    assert kept <= platforms.PLATFORMS.keys()


@pytest.mark.kept
def test_criteria_of_programs_are_in_the_table(platforms: Any) -> None:
    """R8.5: on every platform that runs them."""
    named = {
        criterion
        for tests in platforms.criteria_of_programs().values()
        for criteria in tests.values()
        for criterion in criteria
    }
    assert len(named) > 30
    for name, result in platforms.load().items():
        if platforms.PLATFORMS[name].command is not None:
            assert named <= result["criteria"].keys(), name


def test_outcomes_are_read_from_what_programs_print(platforms: Any) -> None:
    unit = (
        "1/3 a.test.R1.1, R2.2 one...OK\n2/3 a.test.two...a trace\n ...\nSKIP\n"
        "3/3 R9.1 x...FAIL (A)\n"
    )
    assert platforms.unit_outcomes(unit) == [
        (platforms.UNIT_TESTS, ["R1.1", "R2.2"], "passed"),
        (platforms.UNIT_TESTS, [], "skipped"),
        (platforms.UNIT_TESTS, ["R9.1"], "failed"),
    ]
    program = "r1_1 passed\nr10_3 failed\nr2_1 skipped: why\n1 passed, 1 failed, 1 skipped\n"
    assert platforms.program_outcomes("requirements", program) == [
        ("requirements", ["R1.1"], "passed"),
        ("requirements", ["R10.3"], "failed"),
        ("requirements", ["R2.1"], "skipped"),
    ]
    assert platforms.cell({"passed": 2, "skipped": 1}) == "2 −1"
    assert platforms.cell({"passed": 2, "failed": 1}) == "✗"
    assert platforms.cell(None) == ""
    assert json.loads(json.dumps(platforms.CRITERIA))[-1] == "R10.5"
