"""Sub-interpreters are refused, whatever they share, and do not hurt the main interpreter."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import pytest

CODE = f"""
import sys
sys.path[:0] = [{str(Path(memmgr.__file__).parents[1])!r}, *{sys.path!r}]
try:
    import memmgr
except ImportError as error:
    message = str(error)
else:
    message = "it was imported"
with open({{path!r}}, "w") as file:
    file.write(message)
"""


def _interpreters() -> Any:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    pytest.skip("this Python makes no sub-interpreters")


@pytest.mark.parametrize("isolated", [True, False])
def test_sub_interpreter_is_refused(
    loaded: memmgr.Dimension, tmp_path: Path, isolated: bool
) -> None:
    interpreters = _interpreters()
    if sys.version_info >= (3, 13):
        interpreter = interpreters.create("isolated" if isolated else "legacy")
    else:
        interpreter = interpreters.create(isolated=isolated)
    path = tmp_path / "message"
    try:
        interpreters.run_string(interpreter, CODE.format(path=str(path)))
    finally:
        interpreters.destroy(interpreter)
    assert "sub-interpreter" in path.read_text()
    assert np.array_equal(loaded["ids"], np.arange(1000))
