"""What searching a recipe found."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from generator.payload import Payload


@dataclass(frozen=True)
class Point:
    """One evaluation: the knob's value, the artifact's size in bytes, and the metric if one was asked for."""

    value: float
    bytes: int
    metric: float | None = None

    def beats(self, other: Point | None, budget: int) -> bool:
        """Whether this one fits the budget, and is larger than another that does."""
        return self.bytes <= budget and (other is None or self.bytes > other.bytes)

    def describe(self, recipe: str, knob: str) -> str:
        """On one line, for people."""
        metric = "" if self.metric is None else f"  metric {self.metric:.6f}"
        return f"{recipe}: {knob} = {self.value:.6g}  {self.bytes:,} bytes{metric}"


@dataclass(frozen=True)
class Trial:
    """One proposal of a study: the values of the options that it searches, and the largest artifact they allow."""

    number: int
    values: dict[str, Any]
    point: Point

    def describe(self, recipe: str, knob: str) -> str:
        """On one line, for people."""
        return f"trial {self.number}: {self.point.describe(recipe, knob)}  {self.options()}"

    def options(self) -> str:
        """The values, for people."""
        shown = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in self.values.items()}
        return ", ".join(f"{name} = {value}" for name, value in shown.items())


@dataclass(frozen=True)
class Fit:
    """The search for one recipe.

    Attributes:
        recipe: its name.
        knob: the option that was searched.
        points: in the order in which they were evaluated.
        best: the largest artifact within the budget.
        table: the recipe at that point, the marks replaced by the value.
        trials: of the study, where more than the knob was searched.
        tuned: whether the best point is one that was tuned, at the last of the points.
        payload: of the best point, decoded and compared with what was quantized; None of a recipe that lost.
    """

    recipe: str
    knob: str
    points: list[Point] = field(default_factory=list)
    best: Point | None = None
    table: dict[str, Any] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)
    payload: Payload | None = field(default=None, repr=False, compare=False)
    tuned: bool = False

    @property
    def metric(self) -> float:
        """Of the chosen point; infinite, the worst, where there is none or it is NaN."""
        known = None if self.best is None else self.best.metric
        return math.inf if known is None or math.isnan(known) else known

    def without_payload(self) -> Fit:
        """The same, for when another was better."""
        return replace(self, payload=None)

    def to_json(self) -> dict[str, Any]:
        """As JSON values, the payload left out; numbers that JSON has none of (NaN, infinities) as null."""
        values: dict[str, Any] = _finite(asdict(self.without_payload()))
        del values["payload"]
        return values


def points_json(fits: list[Fit], budget: int) -> str:
    """All points of all recipes, for `--points`."""
    return json.dumps({"budget": budget, "fits": [one.to_json() for one in fits]}, indent=2, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
