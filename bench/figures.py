"""What a report is made of: figures of many rounds, ratios of them, targets, tables, and curves.

A figure is the median of its rounds and the range of their middle half. A ratio is taken round by
round, because what disturbs a machine for a moment disturbs both sides of it.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Sequence


@dataclasses.dataclass(frozen=True)
class Figure:
    """A measured number."""

    median: float
    low: float
    high: float
    rounds: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Figure:
        """The figure of the values of all rounds."""
        ordered = sorted(values)
        low, median, high = (
            statistics.quantiles(ordered, n=4, method="inclusive")
            if len(ordered) > 1
            else ordered * 3
        )
        return cls(median, low, high, len(ordered))

    @classmethod
    def ratio(cls, values: Iterable[float], others: Iterable[float]) -> Figure:
        """The figure of the ratios, round by round."""
        return cls.of(value / other for value, other in zip(values, others, strict=True))

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}…{number(self.high)})"


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def percentile(values: Iterable[float], percent: float) -> float:
    """The smallest value that so many percent are not above."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * percent // 100) - 1)]


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure that is to be at most, or at least, a limit."""

    name: str
    value: Figure
    limit: float
    at_least: bool = False

    @property
    def reached(self) -> bool:
        """Whether the median is on the right side."""
        if self.at_least:
            return self.value.median >= self.limit
        return self.value.median <= self.limit

    def row(self) -> list[str]:
        """Its row in a table."""
        limit = f"{'≥' if self.at_least else '≤'} {number(self.limit)}"
        return [self.name, limit, str(self.value), "yes" if self.reached else "**no**"]


@dataclasses.dataclass(frozen=True)
class Curves:
    """What a figure depends on: a drawing with a curve for each scheme, both scales logarithmic."""

    name: str
    x: str
    y: str
    points: dict[str, list[tuple[float, Figure]]]


@dataclasses.dataclass
class Section:
    """A part of the report."""

    title: str
    text: str
    targets: list[Target] = dataclasses.field(default_factory=list)
    tables: list[str] = dataclasses.field(default_factory=list)
    curves: list[Curves] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    data: dict[str, object] = dataclasses.field(default_factory=dict)

    def markdown(self) -> str:
        """The section as it stands in the report."""
        parts = [f"## {self.title}", self.text]
        if self.targets:
            rows = [target.row() for target in self.targets]
            parts.append(table(["what", "target", "measured", "reached"], rows))
        parts += self.tables
        parts += [
            f"![{curves.y} over {curves.x}](curves/{curves.name}.svg)" for curves in self.curves
        ]
        parts += ["\n".join(f"- {note}" for note in self.notes)] if self.notes else []
        return "\n\n".join(parts) + "\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
