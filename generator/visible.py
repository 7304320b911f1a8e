"""Names and values in messages: what a terminal would act on, or could not show, is spelled out."""

from __future__ import annotations

import reprlib
import unicodedata
from typing import Any

# Control and formatting characters (escape codes, line ends, marks that turn the direction of text), halves of surrogate pairs,
# separators of lines and paragraphs.
HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
SHOWN_CHARACTERS = 200  # of a name or value in a message

_short = reprlib.Repr()
_short.maxstring = _short.maxother = SHOWN_CHARACTERS


def visible(text: str) -> str:
    """The text with every character that a terminal acts on, or can't show, as its escape sequence; one line.

    >>> visible("a\\x1b[2Jb")
    'a\\\\x1b[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii") if unicodedata.category(char) in HIDDEN else char for char in text
    )


def shown(value: Any) -> str:
    """A value of any kind for a message: its `repr`, cut in the middle where it is long, and its type where it has none."""
    try:
        return visible(_short.repr(value))
    except Exception:  # of a foreign object's __repr__, or an integer of more digits than Python converts
        return f"of type {type(value).__name__}"


def first_line(error: BaseException) -> str:
    """The first line of an error's message, of at most 300 characters; the error's type where it has none."""
    lines = str(error).strip().splitlines()
    return visible(lines[0][:300]) if lines else type(error).__name__
