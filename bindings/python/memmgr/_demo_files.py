"""The demo's data: 14 tables of 20 MiB in all formats, the same on every machine.

Each file appears whole or not at all: it is written under another name and renamed. It goes out in
aligned chunks of several MiB, which lets a kernel that can keep a file on huge pages do so.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

COLUMNS = 384
# As many rows as leave room for a header in 20 MiB.
ROWS = (20 * 2**20 - 512) // (4 * COLUMNS)
FORMATS = ("safetensors", "npy", "raw")

_CHUNK = 4 * 2**20
_HEADER = 128


@dataclasses.dataclass(frozen=True)
class DemoFile:
    """A file to load, and the manifest of a raw one."""

    path: Path
    manifest: Path | None = None


def cache_folder() -> Path:
    """Where the demo keeps its files: the user's cache folder, as the environment names it."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        if os.environ.get(name):
            return Path(os.environ[name]) / "memmgr"
    return Path.home() / ".cache" / "memmgr"


def demo_files(folder: Path, count: int = 14) -> list[DemoFile]:
    """The files of the demo, whether they exist or not: the formats take turns."""
    files = []
    for index in range(count):
        stem = folder / f"demo-{index + 1:02}"
        match FORMATS[index % len(FORMATS)]:
            case "raw":
                files.append(DemoFile(stem.with_suffix(".bin"), stem.with_suffix(".json")))
            case suffix:
                files.append(DemoFile(stem.with_suffix(f".{suffix}")))
    return files


def write_demo_files(
    files: list[DemoFile], rows: int = ROWS, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Writes those that are not there. progress: called with the number of bytes written."""
    for number, file in enumerate(files):
        file.path.parent.mkdir(parents=True, exist_ok=True)
        if file.manifest is not None:
            header = json.dumps(_layer(rows, 0)).encode()
            if not _is_there(file.manifest, len(header)):
                _write(file.manifest, header)
        header = _header(file.path.suffix, rows)
        size = len(header) + rows * COLUMNS * 4
        if _is_there(file.path, size):
            progress(size)
        else:
            _write(file.path, header + _table(number, rows).tobytes(), progress)


def _table(seed: int, rows: int) -> npt.NDArray[np.float32]:
    """Rows of length 1 in random directions, as embeddings are."""
    table = np.random.default_rng(seed).standard_normal((rows, COLUMNS), dtype=np.float32)
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    return table


def _layer(rows: int, start: int) -> dict[str, Any]:
    offsets = [start, start + rows * COLUMNS * 4]
    return {"table": {"dtype": "F32", "shape": [rows, COLUMNS], "data_offsets": offsets}}


def _header(suffix: str, rows: int) -> bytes:
    """What stands before the table, padded so that the table starts on a cache line."""
    match suffix:
        case ".safetensors":
            text = json.dumps(_layer(rows, 0), separators=(",", ":")).ljust(_HEADER - 8)
            return len(text).to_bytes(8, "little") + text.encode()
        case ".npy":
            text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {COLUMNS}), }}"
            text = text.ljust(_HEADER - 11) + "\n"
            return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
        case _:
            return b""


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(path: Path, content: bytes, progress: Callable[[int], None] = lambda _: None) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "wb", buffering=0) as file:
            for chunk in _chunks(content):
                progress(file.write(chunk))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _chunks(content: bytes) -> Iterator[memoryview]:
    view = memoryview(content)
    for start in range(0, len(content), _CHUNK):
        yield view[start : start + _CHUNK]
