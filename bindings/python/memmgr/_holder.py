"""Who holds a view, and what the pin of a manager that keeps track remembers of it.

The library lists the views that are held, by ticket; Python adds what only Python knows. That
lives in the pin itself and is found through a weak reference, so it is gone when the view is. A
ticket is handed on at once: a pin that is on its way out is told by its emptied view.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import traceback
import weakref
from collections.abc import Sequence

from ._call import CData, call, struct
from ._errors import MemmgrError
from ._native import ffi, lib
from ._visible import visible

_FRAMES_MAX = 16
_TOLD_MAX = 3


@dataclasses.dataclass(frozen=True)
class Holder:
    """A view that is held, as it was at one moment.

    Attributes:
        dimension: name of the dimension.
        layer: name of the layer, None if a range was acquired.
        offset, length: bytes of the file.
        generation: the version of the file.
        thread: that acquired it, by the system's number (`threading.get_native_id`).
        age_seconds: how long ago.
        stack: where, as `traceback.format_stack` tells it: the call itself is the last.
    """

    dimension: str
    layer: str | None
    offset: int
    length: int
    generation: int
    thread: int
    age_seconds: float
    stack: tuple[str, ...]

    def __str__(self) -> str:
        what = f"{self.length} bytes at {self.offset}" if self.layer is None else repr(self.layer)
        where = ": ".join(line.strip() for line in "".join(self.stack[-1:]).splitlines())
        return (
            f"{what} of {visible(self.dimension)}, for {self.age_seconds:.3g} s by thread "
            f"{self.thread}{where and ', '}{visible(where)}"
        )


class Pin(functools.partial[None]):
    """Gives a view back, and remembers who acquired it."""

    view: CData
    layer: str | None
    stack: traceback.StackSummary


class Holders:
    """The views of a manager that keeps track."""

    def __init__(self) -> None:
        self._pins: weakref.WeakValueDictionary[int, Pin] = weakref.WeakValueDictionary()

    def pin(self, handle: CData, view: CData, layer: str | None) -> Pin:
        """What gives `view` back; with the stack of who called the package."""
        pin = Pin(lib.memmgr_python_release, handle, view)
        pin.view, pin.layer, pin.stack = view, layer, _stack()
        return pin

    def add(self, pin: Pin) -> None:
        """To be called once the view was acquired."""
        self._pins[_ticket(pin.view)] = pin

    def list(self, handle: CData, index: int, names: Sequence[str]) -> list[Holder]:
        """Who holds views of a dimension, or of all: MEMMGR_NONE."""
        count = ffi.new("size_t *", 16)
        capacity = 0
        c_holders: CData = ()
        while capacity < count[0]:
            # Room for some that come between two calls.
            capacity = 2 * count[0]
            c_holders = ffi.new("memmgr_holder[]", [struct("memmgr_holder")[0]] * capacity)
            call(lib.memmgr_holders_get, handle, index, c_holders, capacity, count)
        return [self._holder(c, names) for c in c_holders[0 : count[0]]]

    def _holder(self, c: CData, names: Sequence[str]) -> Holder:
        pin = self._pins.get(c.ticket)
        if pin is not None and _ticket(pin.view) != c.ticket:
            pin = None
        return Holder(
            dimension=names[int(c.dimension)],
            layer=None if pin is None else pin.layer,
            offset=c.offset,
            length=c.length,
            generation=c.generation,
            thread=c.thread,
            age_seconds=c.age_ns / 1e9,
            stack=() if pin is None else tuple(pin.stack.format()),
        )


def _ticket(view: CData) -> int:
    return int(view.token[1] >> 32)


def _stack() -> traceback.StackSummary:
    """Of who called the package; source lines are read when they are asked for."""
    frame = sys._getframe()
    while frame.f_back is not None and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    stack = traceback.StackSummary.extract(
        traceback.walk_stack(frame), limit=_FRAMES_MAX, lookup_lines=False
    )
    stack.reverse()
    return stack


def tell(error: MemmgrError, holders: Sequence[Holder]) -> None:
    """Adds to an error who holds the views that it is about: all of them as its `holders`, the
    oldest ones in words."""
    error.holders = tuple(sorted(holders, key=lambda holder: -holder.age_seconds))
    lines = [f"held: {holder}" for holder in error.holders[:_TOLD_MAX]]
    if len(holders) > _TOLD_MAX:
        lines.append(f"and {len(holders) - _TOLD_MAX} more: see holders")
    if not lines:
        return
    if sys.version_info >= (3, 11):
        error.add_note("\n".join(lines))
    else:
        error.args = ("\n".join([str(error), *lines]),)
