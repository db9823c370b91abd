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
from rich.measure import Measurement
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn
from rich.table import Table as Box
from rich.text import Text

from . import _demo
from ._demo_files import COLUMNS, ROWS, DemoFile, cache_folder, demo_files, write_demo_files
from ._errors import MemmgrError
from ._inspect import inspect as inspect_file
from ._inspect import layer_table, summary
from ._manager import Manager
from ._sizes import format_size
from ._stats import version
from ._tables import Table, sign
from ._visible import printable, visible

_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_existing = click.Path(exists=True, dir_okay=False, path_type=Path)


@contextmanager
def _errors_as_messages() -> Iterator[None]:
    try:
        yield
    except (MemmgrError, OSError) as error:
        raise click.ClickException(visible(str(error))) from error


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
    show_default="the user's cache folder",
    help="Folder of the demo's own files, which are written once.",
)
def demo(files: tuple[Path, ...], as_json: bool, cache: Path | None) -> None:
    """Load FILES, or 14 files of 20 MiB made for it, and time each step."""
    with _errors_as_messages():
        inputs = [DemoFile(path) for path in files] if files else _prepare(cache)
        report = _demo.run(inputs, own=bool(files))
    if as_json:
        _print_json(_report_as_json(report))
    else:
        _print_report(report)


def _prepare(cache: Path | None) -> list[DemoFile]:
    try:
        files = demo_files(cache or cache_folder())
        with _progress() as progress:
            task = progress.add_task("writing demo files", total=len(files) * ROWS * COLUMNS * 4)
            write_demo_files(files, progress=lambda count: progress.advance(task, count))
    except (OSError, RuntimeError) as error:
        # The user may have no folder, or one without room or rights.
        message = f"cannot write the demo's files: {error}: give a folder for them with --cache"
        raise click.ClickException(visible(message)) from error
    return files


def _progress() -> Progress:
    """A bar for people: it goes to stderr, and away when it is full."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
    )
    console = Console(stderr=True, emoji=False)
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def _report_as_json(report: _demo.Report) -> dict[str, Any]:
    result = dataclasses.asdict(report)
    for row, criterion in zip(result["criteria"], report.criteria, strict=True):
        row["factor"] = criterion.factor
    return result


def _print_report(report: _demo.Report) -> None:
    times = Table("Times", ("criterion", "what", "limit", "measured", "better"), numbers=3)
    for row in report.criteria:
        better = f"{row.factor:,.0f} times" if row.factor >= 10 else f"{row.factor:.1f} times"
        times.rows.append((row.criterion, row.what, _time(row.limit), _time(row.measured), better))
    times.rows.append(None)
    times.rows.append(("", "write once, in mode c", "", _time(report.write), ""))
    times.rows.append(("", "reload, in mode ram", "", _time(report.reload), ""))
    _print_table(times)
    if report.hits:
        best = report.hits[0]
        click.echo(
            f"nearest row: {best.row} of layer {printable(best.layer)} in {best.dimension}, "
            f"dot product {best.score:.4f}"
        )
    memory = Table("Memory", ("reserved", "mapped", "resident", "private dirty"), numbers=4)
    now = report.memory
    sizes = (now.reserved, now.mapped, now.resident, now.private_dirty)
    memory.rows.append(["unknown" if size is None else format_size(size) for size in sizes])
    _print_table(memory)


def _print_table(table: Table) -> None:
    """In a box where it has room for all of every cell, or else as plain lines."""
    console = Console(emoji=False, markup=False, highlight=False)
    # Cells are text and never markup: what is in them comes from files.
    box = Box(title=Text(table.title) if table.title else None)
    for index, heading in enumerate(table.headings):
        right = index >= len(table.headings) - table.numbers
        box.add_column(Text(heading), justify="right" if right else "left", no_wrap=True)
    for row in table.rows:
        if row is None:
            box.add_section()
        else:
            box.add_row(*map(Text, row))
    endless = console.options.update(max_width=1 << 30)
    width = max(Measurement.get(console, endless, box).maximum, Text(table.title).cell_len)
    if width <= console.width:
        console.print(box)
    else:
        click.echo("\n".join(table.lines()))


@memmgr.command()
@click.argument("file", type=_existing)
@click.option("--manifest", type=_existing, help="Layers of a raw file.")
@_json_option
def inspect(file: Path, manifest: Path | None, as_json: bool) -> None:
    """Show the layers of FILE."""
    with _errors_as_messages():
        inspected = inspect_file(file, manifest)
    if as_json:
        _print_json(inspected)
        return
    _print_table(layer_table(inspected))
    click.echo(summary(inspected))


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
    rows = []
    with _progress() as progress:
        for path in files:
            task = progress.add_task(f"reading {visible(path.name)}", total=None)
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
    table = Table("", ("file", "format", "found", "layers", "checked"), numbers=2)
    for row in rows:
        if row["error"]:
            found = "not readable"
        elif row["corrupt"]:
            found = f"corrupt: {', '.join(map(printable, row['corrupt']))}"
        else:
            found = "good" if row["checked"] else "no checksums"
        name, counts = Path(row["file"]).name, (str(row["layers"]), str(row["checked"]))
        table.rows.append((printable(name), row["format"] or "", found, *counts))
    _print_table(table)
    for row in rows:
        if row["error"]:
            click.echo(printable(row["error"]))


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
        shown = visible(str(source))
        raise click.UsageError(f"{shown} is not memmgr's source: give its folder with --source")
    command = [sys.executable, str(program), *(["--short"] if short else [])]
    finished = subprocess.run(command, stdout=subprocess.PIPE if as_json else None, check=False)
    if finished.returncode == 0 and as_json:
        click.echo((source / "bench" / "report.json").read_text(encoding="utf-8"), nl=False)
    sys.exit(finished.returncode)


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _time(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, factor in (("s", 1.0), ("ms", 1e3), (sign("µs", "us"), 1e6)):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"
