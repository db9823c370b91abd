"""What the tests share: small files in all formats, a small manager, and a way to see that a
failed call changed nothing: not the budget, not the process's map, not its open descriptors.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import numpy.typing as npt
import pytest

MIB = 2**20
CAPACITY = MIB

# Safetensors' names of NumPy's types.
NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "bfloat16": "BF16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
    "complex64": "C64",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
}


class Files:
    """Writes files into a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def raw(self, content: bytes, name: str = "raw.bin") -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def npy(self, array: npt.NDArray[Any], name: str = "array.npy") -> Path:
        path = self.folder / name
        np.save(path, array)
        return path

    def safetensors(
        self, layers: dict[str, npt.NDArray[Any]], name: str = "layers.safetensors", pad: int = 0
    ) -> Path:
        """pad: spaces behind the header, which shift where the layers lie."""
        header: dict[str, Any] = {}
        content = b""
        for key, array in layers.items():
            end = len(content) + array.nbytes
            header[key] = {
                "dtype": NAMES[array.dtype.name],
                "shape": list(array.shape),
                "data_offsets": [len(content), end],
            }
            content += array.tobytes()
        return self.safetensors_header(header, content, name, pad)

    def safetensors_header(
        self, header: Any, content: bytes, name: str = "layers.safetensors", pad: int = 0
    ) -> Path:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        text += b" " * ((-len(text)) % 8 + pad)
        return self.raw(len(text).to_bytes(8, "little") + text + content, name)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def manager() -> Iterator[memmgr.Manager]:
    """Three dimensions of 1 MiB."""
    with memmgr.Manager(["D01", "D02", "D03"], capacity=CAPACITY) as manager:
        yield manager


@pytest.fixture
def table() -> npt.NDArray[np.float32]:
    return np.arange(1000 * 8, dtype=np.float32).reshape(1000, 8)


@pytest.fixture
def loaded(
    manager: memmgr.Manager, files: Files, table: npt.NDArray[np.float32]
) -> memmgr.Dimension:
    """D01 with a layer "table" and a layer "ids"."""
    ids = np.arange(1000, dtype=np.int64)
    return manager.load("D01", files.safetensors({"table": table, "ids": ids}))


# What Linux tells of a process; Wine shows it to Windows programs too, and it is not about them.
PROC = Path("/proc/self") if sys.platform == "linux" else Path("no such folder")


def process_map() -> list[tuple[int, int, str, str]]:
    """Start, end, permissions and file of each mapping; empty where there is no such list."""
    maps = PROC / "maps"
    entries = []
    for line in maps.read_text().splitlines() if maps.exists() else ():
        addresses, permissions, _, _, _, *file = line.split(maxsplit=5)
        start, end = (int(address, 16) for address in addresses.split("-"))
        entries.append((start, end, permissions, file[0] if file else ""))
    return entries


needs_process_map = pytest.mark.skipif(not process_map(), reason="the system has no process map")


def footprint(manager: memmgr.Manager, folder: Path) -> dict[str, Any]:
    """Everything that a failed call must leave as it was."""
    stats = manager.stats()
    dimensions = [dimension.stats() for dimension in manager.values()]
    regions = [(d.address, d.address + d.capacity) for d in dimensions]
    mappings = [
        entry
        for entry in process_map()
        if entry[3].startswith(str(folder))
        or any(start < entry[1] and entry[0] < end for start, end in regions)
    ]
    descriptors = PROC / "fd"
    return {
        "allocated": stats.allocated,
        "mapped": stats.mapped,
        "views": stats.views,
        "loaded": stats.loaded_count,
        "dimensions": dimensions,
        "mappings": mappings,
        "descriptors": sorted(os.listdir(descriptors)) if descriptors.exists() else [],
    }


Unchanged = Callable[[memmgr.Manager], contextlib.AbstractContextManager[None]]


@pytest.fixture
def unchanged(tmp_path: Path) -> Unchanged:
    """`with unchanged(manager): …` fails if anything of the manager's is not as before."""

    @contextlib.contextmanager
    def check(manager: memmgr.Manager) -> Iterator[None]:
        before = footprint(manager, tmp_path)
        yield
        assert footprint(manager, tmp_path) == before

    return check
