"""A memory budget for your memory-mapped tables.

A `Manager` owns dimensions of fixed capacity and one exact budget. Load a .npy, .safetensors or
raw file into a dimension, and read its layers as ndarrays without a copy; replace the file while
readers go on; let writers in when nobody reads.

    with memmgr.Manager() as manager:
        dimension = manager.load("D01", "a.safetensors")
        dimension["weights"]
        manager.empty((1000, 384), "float32")

Sizes are in bytes, times in seconds. Every function may be called from any thread.
"""

from . import _interpreter as _interpreter
from . import _interrupt, _log
from ._dimension import Dimension
from ._errors import (
    AllocationError,
    AlreadyLoadedError,
    CancelledError,
    DiskFullError,
    FaultedError,
    FileAccessError,
    FormatError,
    InvalidAccessError,
    InvalidArgumentError,
    LimitExceededError,
    MemmgrError,
    NotLoadedError,
    OutOfBoundsError,
    PoolCorruptionError,
    UnknownDimensionError,
    UnknownLayerError,
    ViewsHeldError,
    WaitTimeoutError,
)
from ._holder import Holder
from ._layer import Layer
from ._manager import DimensionSpec, Manager
from ._native import lib as _lib
from ._pool import Block
from ._residency import Residency, Warming
from ._save import save
from ._scan import Best
from ._stats import (
    Capabilities,
    DimensionStats,
    Fit,
    Memory,
    PoolClass,
    PoolStats,
    Stats,
    capabilities,
    version,
)
from ._verify import FileIdentity, Verification
from ._writer import Writer

__all__ = [
    "AllocationError",
    "AlreadyLoadedError",
    "Best",
    "Block",
    "CancelledError",
    "Capabilities",
    "Dimension",
    "DimensionSpec",
    "DimensionStats",
    "DiskFullError",
    "FaultedError",
    "FileAccessError",
    "FileIdentity",
    "Fit",
    "FormatError",
    "Holder",
    "InvalidAccessError",
    "InvalidArgumentError",
    "Layer",
    "LimitExceededError",
    "Manager",
    "MemmgrError",
    "Memory",
    "NotLoadedError",
    "OutOfBoundsError",
    "PoolClass",
    "PoolCorruptionError",
    "PoolStats",
    "Residency",
    "Stats",
    "UnknownDimensionError",
    "UnknownLayerError",
    "Verification",
    "ViewsHeldError",
    "WaitTimeoutError",
    "Warming",
    "Writer",
    "capabilities",
    "save",
    "version",
]

if _lib.memmgr_version() >> 16 != _lib.MEMMGR_VERSION_MAJOR:
    raise ImportError(
        f"memmgr was built for version {_lib.MEMMGR_VERSION_MAJOR} of its native core and has "
        f"{version()}: install it again"
    )

__version__ = version()

# Where a name is public is where it says it is from: in tracebacks, in pickles, in help().
for _name in __all__:
    globals()[_name].__module__ = __name__

_interrupt.install()
_log.install()
