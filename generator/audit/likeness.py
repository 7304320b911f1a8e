"""Whether two runs of a program printed the same, and what the program itself prints differently each time."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

_NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)")
_WARNING = re.compile(r"^.*?:\d+: (\w*Warning: )")
_TRACEBACK = re.compile(r"^([ |+-]*)(?:Exception Group )?Traceback \(most recent call last\):$")
_SHOWN = 200  # characters of a line that a message quotes


@dataclass(frozen=True)
class Line:
    """A line as it is compared, and its number in what was printed."""

    text: str
    number: int


@dataclass
class Variation:
    """What a program prints differently each time it runs: for lines of one shape, the positions of the numbers that vary."""

    positions: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    lines: set[int] = field(default_factory=set)


def comparable_lines(text: str, replacements: Mapping[str, str]) -> list[Line]:
    """The lines of an output without what must differ: paths, tracebacks' frames, places of warnings, addresses of objects.

    Args:
        text: standard output or error.
        replacements: paths and names to replace, and by what; longer ones first.
    """
    names = "|".join(map(re.escape, sorted(replacements, key=len, reverse=True)))
    text = re.sub(rf"(?<![\w.-])(?:{names})(?!\w)", lambda match: replacements[match[0]], text) if names else text
    text = re.sub(r" at 0x[0-9A-Fa-f]+", " at 0x…", text)
    found: list[Line] = []
    frames = None  # what lines of frames begin with, inside a traceback
    source_follows = False  # the line after a warning shows source code, where Python finds it
    for number, line in enumerate(text.splitlines(), 1):
        traceback = _TRACEBACK.match(line)
        if traceback:
            frames = traceback[1].replace("+", "|").replace("-", " ") + "  "
        elif frames is not None and line.replace("+", "|").replace("-", " ").startswith(frames):
            continue
        elif source_follows and line.startswith("  "):
            source_follows = False
            continue
        else:
            frames = None
        source_follows = bool(_WARNING.match(line))
        found.append(Line(_WARNING.sub(r"\1", line), number))
    return found


def variation(first: list[Line], second: list[Line]) -> Variation:
    """What varies between two runs of one program. Lines that differ in more than numbers do not count: see `difference`."""
    found = Variation()
    for one, other in zip(first, second, strict=False):
        if one.text != other.text and _shape(one.text) == _shape(other.text):
            pairs = enumerate(zip(_NUMBER.findall(one.text), _NUMBER.findall(other.text), strict=True))
            found.positions[_shape(one.text)] |= {position for position, (left, right) in pairs if left != right}
            found.lines.add(one.number)
    return found


def difference(what: str, first: list[Line], second: list[Line], then: str, known: Variation | None = None) -> str:
    """The first difference between two outputs, or "".

    Args:
        what: how a message calls the output.
        first: lines of the first run.
        second: lines of the second.
        then: how a message calls the second run.
        known: numbers that may differ.
    """
    for one, other in zip(first, second, strict=False):
        if one.text != other.text and not _differ_as_known(one.text, other.text, known):
            return f"line {one.number} of {what} is {_quote(one.text)}, {then} {_quote(other.text)}"
    if len(first) > len(second):
        return f"line {first[len(second)].number} of {what}, {_quote(first[len(second)].text)}, is missing {then}"
    if len(first) < len(second):
        return f"{what} has a line more {then}, {_quote(second[len(first)].text)}"
    return ""


def _differ_as_known(one: str, other: str, known: Variation | None) -> bool:
    shape = _shape(one)
    if known is None or shape != _shape(other) or shape not in known.positions:
        return False
    pairs = enumerate(zip(_NUMBER.findall(one), _NUMBER.findall(other), strict=True))
    return all(left == right or position in known.positions[shape] for position, (left, right) in pairs)


def _shape(line: str) -> str:
    """The line without its numbers, and without the spaces that align them."""
    return re.sub(r"\s+", "", _NUMBER.sub("0", line))


def _quote(line: str) -> str:
    return repr(line if len(line) <= _SHOWN else line[:_SHOWN] + "…")
