"""Measures everything side by side in one run, and writes REPORT.md and report.json beside this.

The curves that the report shows are drawn into the folder `curves`.

    python bench/run.py [--short]

--short: fewer rounds, to see that it works; what it measures is too noisy to cite.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import sys
import tempfile
from pathlib import Path

import build
import counters
import drawing
import gate
import load
import pool
import scan
import views
from figures import Section, number, table

HERE = Path(__file__).parent


def machine() -> dict[str, str]:
    """Describes the machine without naming it."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        text = Path("/proc/cpuinfo").read_text()
        if found := re.search(r"^model name\s*: (.*)$", text, flags=re.MULTILINE):
            model = found[1]
    return {
        "processor": model,
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "C library": " ".join(platform.libc_ver()) or "unknown",
        "compiler of the peers": build.run([*build.compiler(), "--version"]).splitlines()[0],
        "load when it began": f"{os.getloadavg()[0]:.1f}",
    }


def counter_section(prefix: Path) -> Section:
    """The counters, which no busy machine changes."""
    section = Section(
        "What is counted, not timed",
        "The same on every machine of this architecture; `test_baseline.py` compares it.",
    )
    if missing := counters.missing_tools():
        section.notes.append(f"Skipped: no {', '.join(missing)} here.")
        return section
    counted = counters.measure(prefix)
    baseline = counters.read_baseline() or {}
    rows = [
        [name.replace("_", " "), number(value), number(baseline[name]) if name in baseline else "—"]
        for name, value in counted.items()
    ]
    section.tables.append(table(["", "counted", "baseline"], rows))
    section.data.update(counted)
    return section


def report(sections: list[Section], described: dict[str, str], *, short: bool) -> str:
    """The report in Markdown."""
    missed = [
        f"{section.title}: {target.name}: {target.value}, target {number(target.limit)}"
        for section in sections
        for target in section.targets
        if not target.reached
    ]
    head = [
        "# Benchmarks",
        "Written by `python bench/run.py"
        + (" --short`: too few rounds to cite." if short else "`.")
        + " A figure is the median of its rounds, and in parentheses the range of their middle"
        " half; ratios are taken round by round. T is threads.",
        table(["machine", ""], [[name, value] for name, value in described.items()]),
        "## Targets that were missed",
        "\n".join(f"- {line}" for line in missed) or "None.",
    ]
    return "\n\n".join(head) + "\n\n" + "\n".join(section.markdown() for section in sections)


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="fewer rounds: to see that it works")
    short = parser.parse_args().short
    described = machine()
    with tempfile.TemporaryDirectory() as folder:
        prefix = build.install(Path(folder))
        sections = [
            *gate.measure(prefix, short=short),
            *pool.measure(prefix, short=short),
            *load.measure(prefix, short=short),
            *scan.measure(prefix, short=short),
            *views.measure(short=short),
            counter_section(prefix),
        ]
    for section in sections:
        if section.curves and not drawing.can_draw():
            section.notes.append("Skipped: curves, for want of matplotlib.")
            section.curves.clear()
        for curves in section.curves:
            drawing.draw(curves, HERE / "curves")
    text = report(sections, described, short=short)
    (HERE / "REPORT.md").write_text(text, encoding="utf-8")
    data = {
        "machine": described,
        "short": short,
        "sections": [dataclasses.asdict(section) for section in sections],
    }
    (HERE / "report.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
