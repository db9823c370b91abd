"""Draws the curves that a report talks about, one file each, where there is matplotlib."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from figures import Curves


def can_draw() -> bool:
    """Whether there is what it takes."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(curves: Curves, folder: Path) -> None:
    """Writes NAME.svg: medians, and the range of the middle half of the rounds as a band.

    The same figures make the same file, to the byte.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing

    with mpl.rc_context({"svg.hashsalt": "memmgr", "svg.fonttype": "none"}):
        drawing = Drawing(figsize=(7, 4), layout="constrained")
        axes = drawing.subplots()
        for name, points in curves.points.items():
            positions = [position for position, _ in points]
            medians = [figure.median for _, figure in points]
            (line,) = axes.plot(positions, medians, marker="o", label=name.replace("*", ""))
            axes.fill_between(
                positions,
                [figure.low for _, figure in points],
                [figure.high for _, figure in points],
                color=line.get_color(),
                alpha=0.2,
                linewidth=0,
            )
        axes.set(xscale="log", yscale="log", xlabel=curves.x, ylabel=curves.y)
        axes.grid(visible=True, which="both", alpha=0.3)
        axes.legend()
        folder.mkdir(exist_ok=True)
        drawing.savefig(folder / f"{curves.name}.svg", metadata={"Date": None})
