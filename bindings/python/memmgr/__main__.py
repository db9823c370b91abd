"""`python -m memmgr` is the command `memmgr`."""

from ._cli import main

main()
