"""core/ is rooms with one door each, and a room imports only rooms below it.

A room is a file in core/, its door, and the files in the folder of the same name. What is outside
of a room imports its door only; what is inside imports its own files and the doors of rooms below.

    python tests/package/test_layout.py

prints the drawing that docs/ARCHITECTURE.md shows.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "core"
# Top to bottom, and what each is about.
ROOMS = {
    "libmemmgr": "the C ABI: arguments, handles, statuses",
    "manager": "what dimensions share: range, budget, names; forks; the dump",
    "files": "files that are written, and files that are looked at again",
    "Scan": "one pass over a layer",
    "dimension": "who may do what when; versions of a file; its pages",
    "Guard": "zeros in place of pages that cannot be read",
    "Pool": "working memory in blocks",
    "gate": "who is inside, and how the rare side finds out",
    "formats": "a file's header as a table of layers, and back",
    "base": "errors, budget, locks, waits, log",
    "os": "the system's calls",
}
# Those whose folder is not called as the door.
FOLDERS = {"libmemmgr": "c_api", "Scan": "scan", "Pool": "pool"}
ORDER = list(ROOMS)
# Roots of their own: Zig programs' and tests', and what tests alone use.
ABOVE = {"memmgr", "testing"}
# Compiled as modules of their own by build.zig.
MODULES = {"scan/kernels.zig"}


def room_of(path: str) -> str:
    """The room that a file of core/ is in."""
    folder = path.partition("/")[0].removesuffix(".zig")
    return next((room for room, name in FOLDERS.items() if name == folder), folder)


def is_door(path: str) -> bool:
    return "/" not in path


def imports() -> dict[str, set[str]]:
    """What each file of core/ imports, both relative to core/."""
    found = {}
    for path in sorted(CORE.glob("**/*.zig")):
        text = path.read_text(encoding="utf-8")
        names = re.findall(r'@import\("([^"]+\.zig)"\)', text)
        own = path.relative_to(CORE).as_posix()
        found[own] = {
            os.path.normpath(os.path.join(os.path.dirname(own), name)).replace(os.sep, "/")
            for name in names
        }
    return found


IMPORTS = imports()


def test_every_file_is_in_a_room() -> None:
    assert {room_of(path) for path in IMPORTS} == {*ROOMS, *ABOVE}


def test_rooms_import_only_rooms_below() -> None:
    upward = [
        f"{path} -> {other}"
        for path, others in IMPORTS.items()
        for other in others
        if room_of(path) not in ABOVE
        if room_of(path) != room_of(other)
        if room_of(other) in ABOVE or ORDER.index(room_of(other)) < ORDER.index(room_of(path))
    ]
    assert upward == []


def test_rooms_are_entered_by_their_doors() -> None:
    past = [
        f"{path} -> {other}"
        for path, others in IMPORTS.items()
        for other in others
        if room_of(path) not in ABOVE
        if room_of(path) != room_of(other) and not is_door(other)
    ]
    assert past == []


def test_no_files_import_each_other() -> None:
    """But a door and its own files."""
    inner = {
        path: {other for other in others if not is_door(other)}
        for path, others in IMPORTS.items()
        if not is_door(path)
    }
    done: set[str] = set()

    def walk(path: str, trail: tuple[str, ...]) -> None:
        assert path not in trail, " -> ".join([*trail[trail.index(path) :], path])
        if path in done:
            return
        for other in inner[path]:
            walk(other, (*trail, path))
        done.add(path)

    for path in inner:
        walk(path, ())


def test_every_file_is_imported() -> None:
    imported = set().union(*IMPORTS.values()) | MODULES | {"memmgr.zig", "libmemmgr.zig"}
    assert set(IMPORTS) - imported == set()


def drawing() -> str:
    """The rooms from top to bottom: door, subject, and the rooms whose doors it opens."""
    opens: dict[str, set[str]] = defaultdict(set)
    for path, others in IMPORTS.items():
        opens[room_of(path)] |= {room_of(other) for other in others} - {room_of(path)}
    lines = []
    for room, subject in ROOMS.items():
        below = [other for other in ORDER if other in opens[room]]
        lines.append(f"{room + '.zig':<14} {subject}")
        lines.append(f"{'':<14} -> {', '.join(below) or 'nothing'}")
    return "\n".join(lines)


def test_architecture_shows_the_drawing() -> None:
    architecture = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert f"```text\n{drawing()}\n```" in architecture


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    index = (folder / "README.md").read_text(encoding="utf-8")
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    assert re.findall(r"\]\(([0-9]\S+\.md)\)", index) == records


def banners() -> dict[str, list[str]]:
    """The functions under each banner of the header."""
    header = (ROOT / "include" / "memmgr.h").read_text(encoding="utf-8")
    parts = re.split(r"^/\* ==== (.+?) =+ \*/$", header, flags=re.MULTILINE)[1:]
    return {
        name: re.findall(r"^MEMMGR_API[^;]*?(memmgr_\w+)\(", text, flags=re.MULTILINE)
        for name, text in zip(parts[::2], parts[1::2], strict=True)
    }


def test_every_banner_has_its_shims() -> None:
    """In the file of core/c_api that names it in its first line."""
    files = [path.read_text(encoding="utf-8") for path in sorted((CORE / "c_api").glob("*.zig"))]
    found: dict[tuple[str, ...], list[str]] = {}
    for text in files:
        names = re.findall(r'"([^"]+)"', text.partition("\n")[0])
        functions = re.findall(r"^pub fn (memmgr_\w+)\(", text, flags=re.MULTILINE)
        assert bool(names) == bool(functions), text.partition("\n")[0]
        found[tuple(names)] = functions
    found.pop((), None)
    with_functions = {name: names for name, names in banners().items() if names}
    assert sorted(name for names in found for name in names) == sorted(with_functions)
    for banner_names, functions in found.items():
        assert sorted(functions) == sorted(f for name in banner_names for f in with_functions[name])


if __name__ == "__main__":
    print(drawing())
