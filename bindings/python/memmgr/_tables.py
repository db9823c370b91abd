"""Tables as plain lines, which need no package, no width and no character beyond ASCII."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence


@dataclasses.dataclass
class Table:
    """What a command prints.

    Attributes:
        title: printed above it.
        headings: of its columns; the last `numbers` of them are flush right.
        rows: the cells of each row; None is a rule between two.
    """

    title: str
    headings: Sequence[str]
    numbers: int
    rows: list[Sequence[str] | None] = dataclasses.field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """All of it; each row is one line, however long."""
        if self.title:
            yield self.title
        rows = [self.headings, *(row for row in self.rows if row is not None)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        right = len(widths) - self.numbers
        for row in rows:
            cells = [
                cell.ljust(width) if index < right else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            ]
            yield "  ".join(cells).rstrip()


def sign(best: str, ascii_only: str) -> str:
    """The first of the two that standard output can encode."""
    try:
        best.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return ascii_only
    return best
