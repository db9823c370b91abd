"""Refuses to be imported by a sub-interpreter, by being imported first.

The library's log function, and what releases the views, are the process's own: a sub-interpreter
would be called by threads that it does not know, and could not be unloaded while arrays live. NumPy
does not support them either.
"""

from __future__ import annotations

import importlib


def _is_main() -> bool:
    # The name from Python 3.13 on, and before; neither is public, and no public function tells.
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters = importlib.import_module(name)
        except ImportError:
            continue
        return bool(interpreters.get_current() == interpreters.get_main())
    return True


if not _is_main():
    raise ImportError(
        "memmgr cannot be used in a sub-interpreter: import it in the main interpreter of the "
        "process and use threads, or use processes"
    )
