"""A prefix that libmemmgr is installed into, as `zig build` hands it out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("ziglang")
    folder = tmp_path_factory.mktemp("prefix")
    subprocess.run(
        [sys.executable, "-m", "ziglang", "build", "--prefix", folder],
        cwd=ROOT,
        env=os.environ | {"ZIG_DEBUG_CMD": "1"},
        check=True,
        capture_output=True,
    )
    return folder
