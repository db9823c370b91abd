"""Text from outside, names in files above all, as it may be shown: on a terminal, in a message."""

from __future__ import annotations

import sys


def visible(text: str) -> str:
    r"""The text in which every character is seen and none is obeyed.

    What is not printable is escaped as in Python's repr, bytes that are not text as `\xff`.
    """
    return text if text.isprintable() else "".join(map(_escape, text))


def printable(text: str) -> str:
    """The same for standard output: what that cannot encode is escaped too."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    return visible(text).encode(encoding, "backslashreplace").decode(encoding)


def _escape(character: str) -> str:
    if character.isprintable():
        return character
    code = ord(character)
    # What os.fsdecode makes of a byte that it cannot decode.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else repr(character)[1:-1]
