"""Managers in other processes: what is pickled is how to open one again, and no byte of a file.

A manager that is unpickled where it comes from, or in a child of a fork of that, is itself.
Elsewhere the first pickle of it opens a copy, and every other finds that copy: one for each
process. A copy follows its original: what was loaded since is loaded or reloaded with the next
pickle that comes. It is closed with the last reference to it.
"""

from __future__ import annotations

import os
import threading
import uuid
import weakref
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ._errors import AlreadyLoadedError, InvalidArgumentError, NotLoadedError

if TYPE_CHECKING:
    from ._dimension import Dimension
    from ._manager import Manager

# Generation and the arguments of Manager.load, by the dimension's name.
_Loads: TypeAlias = dict[str, tuple[int, dict[str, Any]]]

_lock = threading.RLock()
_managers: weakref.WeakValueDictionary[str, Manager] = weakref.WeakValueDictionary()


def _renew_lock() -> None:
    # A thread that is not in the child may have held the old one.
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


def reduce(manager: Manager) -> tuple[Callable[..., Manager], tuple[Any, ...]]:
    """What pickle asks for. Raises InvalidArgumentError: a callback, a dimension in mode "r+", or
    a file that cannot be found again. InvalidAccessError: the manager is closed."""
    options = manager._options
    for name, value in options.items():
        if callable(value):
            raise _refused(f"its option {name} is a function, which another process cannot call")
    loads = {}
    capacities = {}
    for name, dimension in manager.items():
        capacities[name] = dimension.capacity
        load = _load_of(dimension)
        if load is not None:
            loads[name] = load
    with _lock:
        if manager._origin is None:
            manager._origin = uuid.uuid4().hex
            _managers[manager._origin] = manager
    return _reopen, (type(manager), manager._origin, capacities, options, loads)


def _load_of(dimension: Dimension) -> tuple[int, dict[str, Any]] | None:
    """How to load again what is loaded, and its generation."""
    while True:
        now = dimension.stats()
        if now.path is None:
            return None
        if now.mode == "r+":
            raise _refused(
                f"dimension {now.name} is loaded in mode 'r+', and nothing would keep the writers "
                "of two processes apart",
                now.name,
            )
        try:
            layers = list(dimension.layers.values()) if now.format == "raw" else []
        except NotLoadedError:
            continue
        if dimension.generation == now.generation:
            break
    path = os.path.abspath(now.path)
    if path != now.path and not _is_file(path, now.file_device, now.file_inode):
        raise _refused(
            f"dimension {now.name} was loaded from {now.path!r}, which the working folder of now "
            "does not have: load it by its whole path",
            now.name,
        )
    return now.generation, {
        "path": path,
        "mode": now.mode,
        "prefetch": now.prefetch,
        "huge_pages": now.huge_pages,
        "format": now.format,
        "layers": layers or None,
    }


def _is_file(path: str, device: int, inode: int) -> bool:
    try:
        status = os.stat(path)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (device, inode)


def _refused(why: str, dimension: str | None = None) -> InvalidArgumentError:
    return InvalidArgumentError(f"the manager cannot be pickled: {why}", dimension=dimension)


def _reopen(
    cls: type[Manager],
    origin: str,
    capacities: Mapping[str, int],
    options: Mapping[str, Any],
    loads: _Loads,
) -> Manager:
    """The one manager of this process for an original."""
    with _lock:
        manager = _managers.get(origin)
        if manager is None or manager.closed:
            manager = cls(capacities, **options)
            manager._origin, manager._followed = origin, {}
            _follow(manager, loads)
            _managers[origin] = manager
        elif manager._followed is not None:
            _follow(manager, loads)
        return manager


def _follow(manager: Manager, loads: _Loads) -> None:
    followed = manager._followed
    assert followed is not None
    for name, (generation, load) in loads.items():
        # Pickles may come in another order than they were made.
        if generation <= followed.get(name, 0):
            continue
        dimension = manager[name]
        if dimension.path is None:
            manager.load(name, **load)
        else:
            try:
                dimension.reload(**load)
            except AlreadyLoadedError:
                # The original loaded the same file once more.
                if dimension.path != load["path"]:
                    raise
        followed[name] = generation
