"""Marks in a recipe: options that a search is to give a value, in place of one.

    alpha = "fit"                               # the rate knob, found by the artifact's size
    alpha = { fit = [1e-5, 1e-3] }
    damping = { search = [0.001, 0.1], log = true }   # found by the metric, over trials; integers if both ends are
    output = { choices = ["full", "diagonal"] }

All marks of one option share one value, unless they carry names of their own: { search = [4, 8], name = "bits of the MLP" }.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from generator.errors import InputError
from generator.quantizers import Knob, knobs
from generator.specs import is_fit, is_searched
from generator.visible import shown

LARGEST_END = 2**53  # of a range: whole numbers up to here are exact in any arithmetic


@dataclass(frozen=True)
class Range:
    """Numbers from low to high; whole ones if both are."""

    name: str
    low: float
    high: float
    logarithmic: bool

    @property
    def whole(self) -> bool:
        """Whether it is of integers."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    name: str
    values: tuple[str | float | bool, ...]


def find_knob(table: Mapping[str, Any], title: str) -> Knob:
    """The one option that the recipe marks to be fitted.

    Raises:
        InputError: none is marked, or several of different names, or a range is not [low, high].
    """
    marks = _marks(table, is_fit)
    if not marks:
        raise InputError(f'{title} marks no knob; write for instance alpha = "fit" in place of a number')
    if len(marks) > 1:
        raise InputError(f"{title} marks {', '.join(marks)}; golfpack fit searches one of them, give the others a number")
    name, mark = next(iter(marks.items()))
    known = knobs()
    if name not in known:
        raise InputError(f"{title} marks {name!r}, which does not set the rate; known knobs: {', '.join(sorted(known))}")
    knob = known[name]
    if mark == "fit":
        return knob
    low, high = _ends(mark["fit"], name, title)
    if not knob.low <= low < high <= knob.high:
        raise InputError(f"{title}: the range of {name!r} must be [low, high] within [{knob.low:g}, {knob.high:g}]")
    return replace(knob, low=float(low), high=float(high))


def has_knob(table: Mapping[str, Any]) -> bool:
    """Whether the recipe marks an option to be fitted."""
    return bool(_marks(table, is_fit))


def find_searched(table: Mapping[str, Any], title: str) -> list[Range | Choices]:
    """The options that the recipe marks to be searched by the metric, in the order of their names.

    Raises:
        InputError: a mark has an unknown key, an empty range or no choices, or two marks of one name differ.
    """
    return [_searched(name, mark, title) for name, mark in sorted(_marks(table, is_searched, title).items())]


def _searched(name: str, mark: dict[str, Any], title: str) -> Range | Choices:
    unknown = set(mark) - {"search", "choices", "log", "name"}
    if unknown or ("search" in mark) == ("choices" in mark) or ("choices" in mark and "log" in mark):
        raise InputError(
            f"{title}: the mark of {name!r} must be {{ search = [low, high] }}, with log = true if wanted, or "
            "{ choices = [a, b] }"
        )
    if "choices" in mark:
        values = mark["choices"]
        if not isinstance(values, list) or not values or any(not isinstance(v, str | int | float | bool) for v in values):
            raise InputError(f"{title}: the choices of {name!r} must be a list of strings, numbers or booleans")
        return Choices(name, tuple(values))
    low, high = _ends(mark["search"], name, title)
    logarithmic = mark.get("log", False)
    if not isinstance(logarithmic, bool) or not low < high or (logarithmic and low <= 0):
        raise InputError(
            f"{title}: the range of {name!r} must be [low, high], and above 0 with log = true (which is true or false)"
        )
    return Range(name, low, high, logarithmic)


def _ends(ends: Any, name: str, title: str) -> tuple[float, float]:
    if (
        isinstance(ends, list)
        and len(ends) == 2
        and all(isinstance(end, int | float) and not isinstance(end, bool) and abs(end) <= LARGEST_END for end in ends)
    ):
        return ends[0], ends[1]
    raise InputError(f"{title}: the range of {name!r} must be [low, high]")


def with_value(table: Mapping[str, Any], value: float) -> dict[str, Any]:
    """The recipe's table with the marked knob replaced."""
    return _replaced(table, lambda name, item: value if is_fit(item) else item)


def with_values(table: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's table with searched options replaced by the values of their names."""
    return _replaced(table, lambda name, item: values[_name(item, name)] if is_searched(item) else item)


def _name(item: Any, key: str) -> Any:
    """What a mark goes by: a name of its own, or the option's."""
    return item.get("name", key) if isinstance(item, dict) else key


def _marks(table: Mapping[str, Any], wanted: Callable[[Any], bool], title: str | None = None) -> dict[str, Any]:
    """Marks by name. With `title`, marks of one name must be equal."""
    found: dict[str, Any] = {}

    def note(name: str, item: Any) -> Any:
        if wanted(item):
            name = _name(item, name)
            if not isinstance(name, str):
                raise InputError(f"{title or 'the recipe'}: the name of a mark must be a string, not {shown(name)}")
            if title is not None and found.get(name, item) != item:
                raise InputError(f"{title}: marks of {name!r} differ; give them names of their own, name = …")
            found.setdefault(name, item)
        return item

    _replaced(table, note)
    return found


def _replaced(table: Mapping[str, Any], value: Callable[[str, Any], Any]) -> dict[str, Any]:
    """A copy of the table with `value(key, item)` in place of every item of every table within."""
    result = copy.deepcopy(dict(table))
    _visit(result, value)
    return result


def _visit(node: Any, value: Callable[[str, Any], Any]) -> None:
    if isinstance(node, list):
        for item in node:
            _visit(item, value)
    elif isinstance(node, dict):
        for key, item in node.items():
            node[key] = value(key, item)
            if not (is_fit(item) or is_searched(item)):
                _visit(item, value)
