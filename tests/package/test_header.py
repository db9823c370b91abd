"""The header is written in the dialect that the cdef is derived from, and nothing gets lost."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import memmgr
from memmgr._native import lib

ROOT = Path(__file__).resolve().parents[2]
HEADER = (ROOT / "include" / "memmgr.h").read_text(encoding="utf-8")
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)
FUNCTIONS = set(re.findall(r"^MEMMGR_API[^;]*?(memmgr_\w+)\(", CODE, flags=re.MULTILINE))


def test_conditionals_hold_no_declaration_that_the_cdef_needs() -> None:
    assert re.findall(r"^# *(?:if|el).*", CODE, flags=re.MULTILINE) == [
        "#ifndef MEMMGR_H",
        "#ifndef MEMMGR_CFFI",
        "#ifdef MEMMGR_CFFI",
        "#elif defined(_WIN32) && defined(MEMMGR_SHARED)",
        "#else",
        "#ifdef __cplusplus",
        "#ifdef __cplusplus",
    ]


def test_macros_are_integers_or_initializers() -> None:
    macros = re.findall(r"^#define (\w+)(.*)", CODE, flags=re.MULTILINE)
    assert len(macros) > 20
    for name, value in macros:
        if name in {"MEMMGR_H", "MEMMGR_API"} or name.endswith("_INIT"):
            continue
        assert re.fullmatch(r" -?(0x[0-9a-f]+|\d+)", value), name


def test_headers_are_ascii() -> None:
    """Visual C++ reads a file without a mark in the machine's code page, and warns (C4819)."""
    for header in sorted((ROOT / "include").iterdir()):
        header.read_bytes().decode("ascii")


def test_comments_are_those_of_c90() -> None:
    assert "//" not in CODE


def test_python_has_every_function_and_constant() -> None:
    constants = set(re.findall(r"\b(MEMMGR_[A-Z0-9_]+)\b", CODE))
    constants -= {"MEMMGR_H", "MEMMGR_API", "MEMMGR_CFFI", "MEMMGR_SHARED"}
    constants = {name for name in constants if not name.endswith("_INIT")}
    returned = ("memmgr_status ", "uint32_t ", "const char *", "void *")
    assert len(FUNCTIONS) == sum(CODE.count(f"MEMMGR_API {name}memmgr_") for name in returned)
    assert FUNCTIONS | constants <= set(dir(lib))


def test_versions_agree() -> None:
    numbers = re.findall(r"#define MEMMGR_VERSION_\w+ (\d+)", CODE)
    major, minor, patch = map(int, numbers)
    version = ".".join(numbers)
    assert lib.memmgr_version() == major << 16 | minor << 8 | patch
    assert memmgr.__version__ == importlib.metadata.version("memmgr") == version
    for file, pattern in {
        "pyproject.toml": f'^version = "{version}"$',
        "build.zig.zon": f'^    .version = "{version}",$',
    }.items():
        text = (ROOT / file).read_text(encoding="utf-8")
        assert re.search(pattern, text, flags=re.MULTILINE), file
