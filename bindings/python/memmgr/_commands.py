"""The command `memmgr`: what it can be told, and what it prints."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table

from . import _demo
from ._demo_files import COLUMNS, ROWS, DemoFile, cache_folder, demo_files, write_demo_files
from ._errors import MemmgrError
from ._manager import Manager
from ._sizes import format_size
from ._stats import version

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    try:
        yield
    except (MemmgrError, OSError) as error:
        raise click.ClickException(str(error)) from error


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="memmgr")
def memmgr() -> None:
    """A memory budget for your memory-mapped tables."""


@memmgr.command()
@click.argument("files", nargs=-1, type=_existing)
@_json_option
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=cache_folder,
    show_default="the user's cache folder",
    help="Folder of the demo's own files, which are written once.",
)
def demo(files: tuple[Path, ...], as_json: bool, cache: Path) -> None:
    """Load FILES, or 14 files of 20 MiB made for it, and time each step."""
    with _errors_as_messages():
        if files:
            inputs = [DemoFile(path) for path in files]
        else:
            inputs = demo_files(cache)
            _prepare(inputs)
        report = _demo.run(inputs, own=bool(files))
    if as_json:
        _print_json(_report_as_json(report))
    else:
        _print_report(report)


def _prepare(files: list[DemoFile]) -> None:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    # The bar is for people: it goes to stderr, and away when it is full.
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("writing demo files", total=len(files) * ROWS * COLUMNS * 4)
        write_demo_files(files, progress=lambda count: progress.advance(task, count))


def _report_as_json(report: _demo.Report) -> dict[str, Any]:
    result = dataclasses.asdict(report)
    for row, criterion in zip(result["criteria"], report.criteria, strict=True):
        row["factor"] = criterion.factor
    return result


def _print_report(report: _demo.Report) -> None:
    console = Console()
    times = Table("criterion", "what", title="Times")
    for heading in ("limit", "measured", "better"):
        times.add_column(heading, justify="right")
    for row in report.criteria:
        better = f"{row.factor:,.0f} times" if row.factor >= 10 else f"{row.factor:.1f} times"
        times.add_row(row.criterion, row.what, _time(row.limit), _time(row.measured), better)
    times.add_section()
    times.add_row("", "write once, in mode c", "", _time(report.write), "")
    times.add_row("", "reload, in mode ram", "", _time(report.reload), "")
    console.print(times)
    if report.hits:
        best = report.hits[0]
        console.print(
            f"nearest row: {best.row} of layer {best.layer} in {best.dimension}, "
            f"dot product {best.score:.4f}"
        )
    memory = Table(title="Memory")
    for name in ("reserved", "mapped", "resident", "private_dirty"):
        memory.add_column(name.replace("_", " "), justify="right")
    now = report.memory
    memory.add_row(*map(format_size, (now.reserved, now.mapped, now.resident, now.private_dirty)))
    console.print(memory)


@memmgr.command()
@click.argument("file", type=_existing)
@click.option("--manifest", type=_existing, help="Layers of a raw file.")
@_json_option
def inspect(file: Path, manifest: Path | None, as_json: bool) -> None:
    """Show the layers of FILE."""
    capacity = max(file.stat().st_size, 1)
    with _errors_as_messages(), Manager(1, capacity=capacity) as manager:
        dimension = manager.load(0, file, manifest=manifest)
        stats = dimension.stats()
        layers = [dataclasses.asdict(layer) for layer in dimension.layers.values()]
    if as_json:
        result = {"file": str(file), "format": stats.format, "size": stats.file_size}
        _print_json(result | {"layers": layers})
        return
    console = Console()
    table = Table("layer", "type", "shape", title=f"{file.name}: {stats.format}")
    for heading in ("offset", "length", "alignment"):
        table.add_column(heading, justify="right")
    for layer in layers:
        table.add_row(
            layer["name"],
            layer["dtype"],
            " × ".join(map(str, layer["shape"])) or "scalar",
            f"{layer['offset']:,}",
            format_size(layer["length"]),
            str(layer["alignment"]),
        )
    console.print(table)
    console.print(f"{len(layers)} layers, {format_size(stats.file_size)}")


@memmgr.command()
@click.argument("files", nargs=-1, required=True, type=_existing)
@click.option("--manifest", type=_existing, help="Of one FILE: its layers, or its checksums.")
@_json_option
def verify(files: tuple[Path, ...], manifest: Path | None, as_json: bool) -> None:
    """Read FILES, and compare their layers with the checksums they were saved with.

    Of a file without checksums only the header is looked at. The exit code is 1 if a file is not
    what its format demands, cannot be read, or has a layer that is corrupt.
    """
    if manifest is not None and len(files) > 1:
        raise click.UsageError("--manifest is for one file")
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
    rows = []
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for path in files:
            task = progress.add_task(f"reading {path.name}", total=None)
            hear = partial(_show_progress, progress, task)
            rows.append(_verify_file(path, manifest, hear))
            progress.remove_task(task)
    if as_json:
        _print_json(rows)
    else:
        _print_verified(rows)
    if any(row["error"] or row["corrupt"] for row in rows):
        sys.exit(1)


def _show_progress(progress: Progress, task: TaskID, done: int, total: int) -> None:
    progress.update(task, completed=done, total=total)


def _verify_file(
    path: Path, manifest: Path | None, progress: Callable[..., None]
) -> dict[str, Any]:
    row: dict[str, Any] = {"file": str(path), "format": None, "layers": 0, "checked": 0}
    row |= {"corrupt": [], "error": None}
    try:
        with Manager(1, capacity=max(path.stat().st_size, 1)) as manager:
            dimension = manager.load(0, path)
            row["format"] = dimension.stats().format
            if manifest is not None and row["format"] == "raw":
                dimension.unload()
                manager.load(0, path, manifest=manifest)
            row["layers"] = len(dimension.layers)
            found = dimension.verify(checksums=True, manifest=manifest, progress=progress)
            row |= {"checked": found.checked_count, "corrupt": list(found.corrupt_layers)}
    except (MemmgrError, OSError) as error:
        row["error"] = str(error)
    return row


def _print_verified(rows: list[dict[str, Any]]) -> None:
    console = Console()
    table = Table("file", "format")
    for heading in ("layers", "checked"):
        table.add_column(heading, justify="right")
    table.add_column("found")
    for row in rows:
        if row["error"]:
            found = "not readable"
        elif row["corrupt"]:
            found = f"corrupt: {', '.join(row['corrupt'])}"
        else:
            found = "good" if row["checked"] else "no checksums"
        name, counts = Path(row["file"]).name, (str(row["layers"]), str(row["checked"]))
        table.add_row(name, row["format"] or "", *counts, found)
    console.print(table)
    for row in rows:
        if row["error"]:
            console.print(row["error"], highlight=False, soft_wrap=True)


@memmgr.command()
@click.option("--short", is_flag=True, help="Fewer rounds: to see that it works.")
@click.option(
    "--source",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(__file__).resolve().parents[3],
    show_default="the one this was installed from with pip install -e",
    help="Folder of memmgr's source.",
)
@_json_option
def bench(source: Path, short: bool, as_json: bool) -> None:
    """Measure memmgr beside its peers, and write bench/REPORT.md.

    Builds what it measures from the source, with the packages of memmgr[bench].
    """
    program = source / "bench" / "run.py"
    if not program.exists():
        raise click.UsageError(f"{source} is not memmgr's source: give it with --source")
    command = [sys.executable, str(program), *(["--short"] if short else [])]
    finished = subprocess.run(command, stdout=subprocess.PIPE if as_json else None, check=False)
    if finished.returncode == 0 and as_json:
        sys.stdout.write((source / "bench" / "report.json").read_text(encoding="utf-8"))
    sys.exit(finished.returncode)


def _print_json(value: object) -> None:
    json.dump(value, sys.stdout, indent=2)
    sys.stdout.write("\n")


def _time(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
