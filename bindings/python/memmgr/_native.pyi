# The module cffi builds from include/memmgr.h, whose types are C's, which mypy does not know; and
# what pool.c adds to it.
from collections.abc import Callable
from typing import Any, TypeVar

from typing_extensions import Self

_T = TypeVar("_T")

ffi: Any
lib: Any

class Block:
    def __new__(cls, manager: int, length: int, alignment: int, /) -> Self: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...
    def _end(self) -> None: ...

def new_numpy_handler(manager: int, alignment: int, /) -> object: ...
def set_numpy_handler(api: object, handler: object, /) -> object: ...
def call_under_handler(
    api: object, handler: object, function: Callable[..., _T], /, *arguments: Any
) -> _T: ...
