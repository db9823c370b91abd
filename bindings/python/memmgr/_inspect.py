"""What `memmgr inspect` says of a file, with the packages of `memmgr[cli]` and without."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

from ._arguments import Path
from ._manager import Manager
from ._sizes import format_size
from ._tables import Table, sign
from ._visible import printable


def inspect(file: Path, manifest: Path | None) -> dict[str, Any]:
    """The file's format, its size and its layers, as JSON has them."""
    capacity = max(os.stat(file).st_size, 1)
    with Manager(1, capacity=capacity) as manager:
        dimension = manager.load(0, file, manifest=manifest)
        stats = dimension.stats()
        return {
            "file": os.fsdecode(file),
            "format": stats.format,
            "size": stats.file_size,
            "layers": [dataclasses.asdict(layer) for layer in dimension.layers.values()],
        }


def layer_table(inspected: dict[str, Any]) -> Table:
    """One row for each layer."""
    name = printable(os.path.basename(inspected["file"]))
    headings = ("layer", "type", "shape", "offset", "length", "alignment")
    table = Table(f"{name}: {inspected['format']}", headings, numbers=3)
    times = sign(" × ", " x ")
    for layer in inspected["layers"]:
        table.rows.append(
            (
                printable(layer["name"]),
                layer["dtype"],
                times.join(map(str, layer["shape"])) or "scalar",
                f"{layer['offset']:,}",
                format_size(layer["length"]),
                str(layer["alignment"]),
            )
        )
    return table


def summary(inspected: dict[str, Any]) -> str:
    """The line below the table."""
    return f"{len(inspected['layers'])} layers, {format_size(inspected['size'])}"
