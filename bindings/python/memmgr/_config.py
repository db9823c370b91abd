"""Configuration files: TOML, whose keys are the options of `Manager`."""

from __future__ import annotations

import importlib
import os
from typing import Any

from ._arguments import Path
from ._errors import FileAccessError, FormatError


def read_config(path: Path) -> dict[str, Any]:
    """What the file holds. Raises FileAccessError, FormatError."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise FileAccessError(
            f"cannot read configuration {os.fsdecode(path)!r}: {error.strerror}",
            operation="open",
            system_code=error.errno or 0,
            errno=error.errno,
            strerror=error.strerror,
            filename=path,
        ) from error
    toml = _parser()
    try:
        config: dict[str, Any] = toml.loads(content.decode())
    except ValueError as error:
        raise FormatError(
            f"configuration {os.fsdecode(path)!r} is not TOML: {error}",
            operation="open",
            filename=path,
        ) from error
    return config


def _parser() -> Any:
    # tomllib came with Python 3.11; tomli is the same code for 3.10.
    for name in ("tomllib", "tomli"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    raise ImportError("reading TOML on Python 3.10 needs a package: pip install 'memmgr[config]'")
