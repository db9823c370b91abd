"""R1–R5, R7.2: calls in any order, against a model that says what each of them has to do.

The model is a few lines because the rules are: two generations of a dimension at most, an array
keeps its own, a writer waits for those of the present one, and the charge follows the generations.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import memmgr
import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from .conftest import MIB

FILES = 3
SIZE = 1000


@dataclass(eq=False)
class Generation:
    """What was loaded once: its bytes are all `value`."""

    value: int
    mode: Any
    file: int
    arrays: list[Any] = field(default_factory=list)


@dataclass(eq=False)
class Model:
    """A dimension: what is loaded, what is only held, and whether the region is charged."""

    now: Generation | None = None
    going: Generation | None = None
    before: list[Generation] = field(default_factory=list)
    allocated: bool = True

    def forget(self) -> None:
        """Generations that nobody holds are gone."""
        self.before = [generation for generation in self.before if generation.arrays]

    def retire(self) -> None:
        if self.now is not None:
            self.before.append(self.now)
        self.going, self.now = self.now or self.going, None
        self.forget()

    @property
    def is_going(self) -> bool:
        """Whether what was unloaded last still is held."""
        return self.now is None and any(generation is self.going for generation in self.before)

    @property
    def absence(self) -> type[memmgr.MemmgrError]:
        """What a reader gets while nothing is loaded: told whether the rest is still going."""
        return memmgr.InvalidAccessError if self.is_going else memmgr.NotLoadedError

    @property
    def charges(self) -> int:
        return max(len(self.before) + (self.now is not None), int(self.allocated))


class Machine(RuleBasedStateMachine):
    """Two dimensions, three files, and whatever a program may do with them."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        for number in range(FILES):
            np.save(self.path(number), np.full(SIZE, number, np.uint8))
        self.manager = memmgr.Manager(2, capacity=MIB, limit=4 * MIB, read_timeout=0)
        self.models = [Model(), Model()]

    def path(self, number: int) -> Path:
        return self.folder / f"{number}.npy"

    indices = st.integers(0, 1)
    files = st.integers(0, FILES - 1)
    modes = st.sampled_from(["r", "c", "ram"])

    @rule(index=indices, file=files, mode=modes)
    def load(self, index: int, file: int, mode: Any) -> None:
        model = self.models[index]
        if model.now is not None:
            with pytest.raises(memmgr.AlreadyLoadedError):
                self.manager.load(index, self.path(file), mode=mode)
        elif len(model.before) == 2:
            with pytest.raises(memmgr.ViewsHeldError):
                self.manager.load(index, self.path(file), mode=mode)
        else:
            self.manager.load(index, self.path(file), mode=mode)
            model.now, model.allocated = Generation(file, mode, file), True

    @rule(index=indices, file=files, mode=modes)
    def reload(self, index: int, file: int, mode: Any) -> None:
        model, dimension = self.models[index], self.manager[index]
        error: type[memmgr.MemmgrError] | None = None
        if model.now is None:
            error = model.absence
        elif model.before:
            error = memmgr.ViewsHeldError
        elif model.now.file == file and "ram" not in (mode, model.now.mode):
            error = memmgr.AlreadyLoadedError
        if error is not None:
            with pytest.raises(error):
                dimension.reload(self.path(file), mode=mode)
            return
        dimension.reload(self.path(file), mode=mode)
        model.retire()
        model.now = Generation(file, mode, file)

    @rule(index=indices)
    def view(self, index: int) -> None:
        model, dimension = self.models[index], self.manager[index]
        if model.now is None:
            with pytest.raises(model.absence):
                dimension["data"]
        else:
            model.now.arrays.append(dimension["data"])

    @rule(number=st.integers(0, 3))
    def drop(self, number: int) -> None:
        held = list(self.held())
        if held:
            model, generation = held[number % len(held)]
            generation.arrays.pop()
            model.forget()

    def held(self) -> Any:
        for model in self.models:
            for generation in [*model.before, *filter(None, [model.now])]:
                if generation.arrays:
                    yield model, generation

    @rule(index=indices, value=st.integers(10, 255))
    def write(self, index: int, value: int) -> None:
        model, dimension = self.models[index], self.manager[index]
        error: type[memmgr.MemmgrError] | None = None
        if model.now is None:
            error = model.absence
        elif model.now.mode == "r":
            error = memmgr.InvalidArgumentError
        elif model.now.arrays:
            error = memmgr.WaitTimeoutError
        if error is not None:
            with pytest.raises(error), dimension.write(timeout=0):
                pass
            return
        assert model.now is not None
        with dimension.write(timeout=0) as writer:
            writer["data"] = value
        model.now.value = value

    @rule(index=indices, defer=st.booleans(), deallocate=st.booleans())
    def leave(self, index: int, defer: bool, deallocate: bool) -> None:
        model, dimension = self.models[index], self.manager[index]
        leave = dimension.deallocate if deallocate else dimension.unload
        if model.now is None and not deallocate:
            with pytest.raises(model.absence):
                leave("defer")
        elif not defer and (model.is_going if model.now is None else model.now.arrays):
            with pytest.raises(memmgr.ViewsHeldError):
                leave("refuse")
        else:
            leave("defer" if defer else "refuse")
            model.retire()
            model.allocated = not deallocate

    @invariant()
    def arrays_keep_their_bytes(self) -> None:
        for _, generation in self.held():
            assert (generation.arrays[-1] == generation.value).all()

    @invariant()
    def charge_follows_the_generations(self) -> None:
        stats = self.manager.stats()
        assert stats.allocated == MIB * sum(model.charges for model in self.models)
        assert stats.views == sum(len(generation.arrays) for _, generation in self.held())

    def teardown(self) -> None:
        self.manager.close("defer")
        for model in self.models:
            model.before, model.now, model.going = [], None, None
        shutil.rmtree(self.folder)


TestMachine = Machine.TestCase
TestMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
