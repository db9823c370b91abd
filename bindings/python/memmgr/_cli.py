"""The way into the command `memmgr`, which needs packages that the library does not."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command, or says what to install for it."""
    try:
        from ._commands import memmgr
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.exit("the command memmgr needs click and rich: pip install 'memmgr[cli]'")
    memmgr()
