# The module cffi builds from include/memmgr.h, whose types are C's, which mypy does not know; and
# what module.c adds to it.
from collections.abc import Callable
from typing import Any, Literal, SupportsIndex, TypeVar, final

import numpy as np
import numpy.typing as npt
from typing_extensions import Self

_T = TypeVar("_T")

ffi: Any
lib: Any

class Block:
    def __new__(cls, manager: int, length: int, alignment: int, /) -> Self: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def _end(self) -> None: ...

@final
class Under:
    def __new__(cls, handler: object, /) -> Self: ...
    def __enter__(self) -> None: ...
    def __exit__(self, kind: object, error: object, traceback: object, /) -> None: ...

@final
class Layout:
    generation: int
    address: int
    length: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    def __new__(
        cls,
        generation: int,
        address: int,
        offset: int,
        length: int,
        dtype: np.dtype[Any],
        shape: tuple[int, ...],
        order: Literal["C", "F"],
        /,
    ) -> Self: ...

@final
class Pin: ...

class Views:
    def __init__(
        self, manager: int, dimension: int, known: dict[str | None, Layout], /
    ) -> None: ...
    def __getitem__(self, name: str, /) -> npt.NDArray[Any]: ...
    def view(
        self,
        offset: SupportsIndex = 0,
        length: SupportsIndex | None = None,
        *,
        dtype: npt.DTypeLike = "uint8",
        shape: tuple[SupportsIndex, ...] | None = None,
        writable: bool = False,
    ) -> npt.NDArray[Any]: ...

def call_and_raise(function: Callable[..., _T], /, *arguments: Any) -> _T: ...
def set_log_function(function: Callable[..., None], /) -> None: ...
def use_numpy(api: object, /) -> bool: ...
def new_numpy_handler(manager: int, alignment: int, /) -> object: ...
def take_was_refused() -> bool: ...
def call_under_handler(handler: object, function: Callable[..., _T], /, *arguments: Any) -> _T: ...
