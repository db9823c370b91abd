"""Runs NumPy's own test suite with every array in a manager's pools. Takes a quarter of an hour.

    python tests/numpy_suite.py [PACKAGE…]     default: numpy._core numpy.lib numpy.ma

Needs pytest and hypothesis. Those that assert the default allocator by name are in
`numpy._core.tests.test_mem_policy`: `test_set_policy` and `test_default_policy_singleton`. They set
it themselves first, and pass. Where meson is missing, with which that module builds its C part, it
is ten errors, as it is without the pools. What tests do on threads of their own is not covered,
since the allocator holds for one context.
"""

from __future__ import annotations

import os
import sys

import memmgr
import pytest


def main() -> int:
    """Returns pytest's exit code."""
    packages = sys.argv[1:] or ["numpy._core", "numpy.lib", "numpy.ma"]
    # Tests that want more skip themselves.
    os.environ.setdefault("NPY_AVAILABLE_MEM", "1 GB")
    with memmgr.Manager(1, capacity="1 MiB", pool_limit="4 GiB") as manager:
        with manager.numpy_allocator():
            code = pytest.main(
                ["-q", "-c", os.devnull, "-p", "no:cacheprovider", "--pyargs", *packages]
            )
        stats = manager.pool_stats()
        print(f"at most {stats.peak} bytes in the pools, {stats.blocks} blocks still alive")
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
