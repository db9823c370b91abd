"""The way into the command `memmgr`, which needs packages that the library does not.

Without them it says its version and inspects files, in plain lines, and says of the rest what to
install.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable

from ._errors import MemmgrError
from ._inspect import inspect, layer_table, summary
from ._stats import version
from ._visible import visible

_NEEDS = "the command memmgr needs click and rich: pip install 'memmgr[cli]'"


def main() -> None:
    """Runs the command, whatever its output goes to.

    What the output cannot encode is escaped. Where nobody reads any more, it ends in silence with
    code 1, and where there is no room for it, with the reason.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        try:
            _command()()
        finally:
            # Here, and not at the interpreter's end, where it could only be a complaint.
            if sys.stdout is not None:
                sys.stdout.flush()
    except KeyboardInterrupt:
        sys.exit("Aborted!")
    except OSError as error:
        # What is left in the buffer has to go somewhere.
        if sys.stdout is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"Error: {visible(str(error))}")


def _command() -> Callable[[], object]:
    try:
        from ._commands import memmgr
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        return _plainly
    return memmgr


def _plainly() -> None:
    parser = argparse.ArgumentParser(
        prog="memmgr", description="A memory budget for your memory-mapped tables.", epilog=_NEEDS
    )
    parser.add_argument("--version", action="version", version=f"memmgr, version {version()}")
    commands = parser.add_subparsers(dest="command")
    command = commands.add_parser("inspect", help="Show the layers of a file.")
    command.add_argument("file")
    command.add_argument("--manifest", help="Layers of a raw file.")
    command.add_argument("--json", action="store_true", help="Print JSON.")
    for name in ("demo", "verify", "bench"):
        commands.add_parser(name, help="Needs click and rich.", add_help=False)
    arguments, _ = parser.parse_known_args()
    if arguments.command != "inspect":
        sys.exit(_NEEDS)
    arguments = parser.parse_args()
    try:
        inspected = inspect(arguments.file, arguments.manifest)
    except (MemmgrError, OSError) as error:
        sys.exit(f"Error: {visible(str(error))}")
    if arguments.json:
        print(json.dumps(inspected, indent=2))  # noqa: T201
    else:
        print(*layer_table(inspected).lines(), summary(inspected), sep="\n")  # noqa: T201
