"""What the package promises about itself: names, documentation, types."""

from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import memmgr
import pytest

PUBLIC = [getattr(memmgr, name) for name in memmgr.__all__]


def test_public_names_are_flat_sorted_and_documented() -> None:
    assert memmgr.__all__ == sorted(memmgr.__all__)
    for thing in PUBLIC:
        assert thing.__module__ == "memmgr"
        assert inspect.getdoc(thing), thing
        assert pickle.loads(pickle.dumps(thing)) is thing


@pytest.mark.parametrize("cls", [memmgr.Manager, memmgr.Dimension, memmgr.Writer])
def test_public_methods_are_documented(cls: type) -> None:
    for name, member in vars(cls).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            assert inspect.getdoc(member), name


def test_options_are_keywords() -> None:
    for function in (memmgr.Manager.load, memmgr.Dimension.reload, memmgr.Manager.__init__):
        parameters = inspect.signature(function).parameters.values()
        with_default = [p for p in parameters if p.default is not p.empty]
        positional = [p.name for p in with_default if p.kind is not p.KEYWORD_ONLY]
        assert positional in ([], ["dimensions"])


def test_package_is_typed() -> None:
    assert (Path(memmgr.__file__).parent / "py.typed").exists()
