# The module cffi builds from include/memmgr.h. Its types are C's, which mypy does not know.
from typing import Any

ffi: Any
lib: Any
