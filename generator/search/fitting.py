"""Fitting the budget: the value of a recipe's rate knob at which the artifact is the largest that does not exceed it.

The recipe marks its knob, see `generator.recipes.marks`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from generator.errors import CheckError, InputError
from generator.payload import Payload
from generator.quantizers import Knob, Quantized
from generator.recipes.marks import find_knob, with_value
from generator.recipes.recipe import make_recipe
from generator.specs import check_table
from generator.statistics import Statistics
from generator.user_code import call, name_of
from generator.visible import shown
from generator.weights.checkpoint import Checkpoint
from generator.weights.encode import code
from generator.weights.quantize import Cache, quantize_checkpoint

EVALUATIONS = 12
CLOSE = 0.001  # share of the budget that may stay unused
Evaluate = Callable[[dict[str, Tensor]], Any]


@dataclass(frozen=True)
class Point:
    """One evaluation: the knob's value, the artifact's size in bytes, and the metric if one was asked for."""

    value: float
    bytes: int
    metric: float | None = None


@dataclass(frozen=True)
class Trial:
    """One proposal of a study: the values of the options that it searches, and the largest artifact they allow."""

    number: int
    values: dict[str, Any]
    point: Point


@dataclass
class Fit:
    """The search for one recipe.

    Attributes:
        recipe: its name.
        knob: the option that was searched.
        points: in the order in which they were evaluated.
        best: the largest artifact within the budget.
        table: the recipe at that point, the marks replaced by the value.
        trials: of the study, where more than the knob was searched.
    """

    recipe: str
    knob: str
    points: list[Point] = field(default_factory=list)
    best: Point | None = None
    table: dict[str, Any] = field(default_factory=dict)
    trials: list[Trial] = field(default_factory=list)

    @property
    def metric(self) -> float:
        """Of the chosen point; infinite, the worst, where there is none or it is NaN."""
        known = None if self.best is None else self.best.metric
        return math.inf if known is None or math.isnan(known) else known

    def to_json(self) -> dict[str, Any]:
        """As JSON values; numbers that JSON has none of (NaN, infinities) as null."""
        values: dict[str, Any] = _finite(asdict(self))
        return values


def check_budget(budget: Any) -> None:
    """That a budget is one.

    Raises:
        InputError: it is not a whole number of bytes above 0.
    """
    if not isinstance(budget, int) or isinstance(budget, bool) or budget <= 0:
        raise InputError(f"the budget must be a whole number of bytes above 0, not {shown(budget)}")


def metric_of(evaluate: Evaluate, state_dict: dict[str, Tensor]) -> float:
    """What the user's metric says of weights; NaN and infinities are numbers, too.

    Raises:
        InputError: it fails, or gives something else than a number.
    """
    value = call(f"the metric {name_of(evaluate)} fails", evaluate, state_dict)
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"the metric {name_of(evaluate)} must return a number, not {shown(value)}") from error


def search_recipe(
    checkpoint: Checkpoint,
    table: Mapping[str, Any],
    source: str,
    *,
    statistics: Statistics | None = None,
    budget: int,
    size: Callable[[Payload], int],
    evaluate: Evaluate | None = None,
    report: Callable[[str, str, Point], None] | None = None,
    start: float | None = None,
) -> Fit:
    """Search the knob of one recipe on the real size of the artifact.

    Only what the knob changes is quantized and coded again.

    Args:
        checkpoint: the weights.
        table: the recipe's table, the knob marked.
        source: its name for messages.
        statistics: of calibration.
        budget: bytes that the artifact may have.
        size: bytes of the artifact with a given payload.
        evaluate: metric of a state dict, asked at each point.
        report: called with recipe, knob and point after each evaluation.
        start: a value of the knob that is known to be near.

    Raises:
        InputError: the recipe is unusable.
        CheckError: no value of the knob fits the budget.
    """
    check_budget(budget)
    check_table(table, source)
    knob = find_knob(table, source)
    result = Fit(source, knob.name)
    cache = Cache()

    def measure(value: float) -> Point:
        recipe = make_recipe(with_value(table, value), source)
        quantized, codecs = quantize_checkpoint(checkpoint, recipe, statistics, cache)
        total = size(code(quantized, codecs, checkpoint.names, cache))
        metric = metric_of(evaluate, state_dict_of(quantized, checkpoint)) if evaluate is not None else None
        point = Point(value, total, metric)
        result.points.append(point)
        cache.forget_old_streams()
        if report is not None:
            report(source, knob.name, point)
        return point

    result.best = search(knob, budget, measure, start)
    if result.best is None:
        least = min(point.bytes for point in result.points)
        raise CheckError(
            f"{source}: no {knob.name} from {knob.low:g} to {knob.high:g} fits the budget of {budget:,} bytes; the smallest "
            f"artifact found has {least:,}"
        )
    result.table = with_value(table, result.best.value)
    return result


def search(knob: Knob, budget: int, measure: Callable[[float], Point], start: float | None = None) -> Point | None:
    """The largest point within the budget, by at most EVALUATIONS calls; stops CLOSE below the budget.

    It begins at `start`, or where such searches usually end.

    `measure` must shrink as the knob grows, but for small irregularities.
    """
    to_axis: Callable[[float], float] = math.log2 if knob.logarithmic else float
    from_axis: Callable[[float], float] = (lambda x: 2.0**x) if knob.logarithmic else float
    low, high = to_axis(knob.low), to_axis(knob.high)
    target = math.log(budget * (1 - CLOSE / 2))
    best: Point | None = None

    def excess(position: float) -> float:
        """Logarithm of the size over the target; 0 when that is close enough."""
        nonlocal best
        point = measure(min(max(from_axis(position), knob.low), knob.high))
        if point.bytes <= budget and (best is None or point.bytes > best.bytes):
            best = point
        return 0.0 if (1 - CLOSE) * budget <= point.bytes <= budget else math.log(point.bytes) - target

    usual = to_axis(knob.usual if start is None else start)
    position = usual if low < usual < high else (low + high) / 2
    stride = (high - low) / (16 if start is None else 256)
    newest = position, excess(position)
    left = EVALUATIONS - 1
    while left and newest[1]:  # outwards until there is a bracket
        outer = min(high, newest[0] + stride) if newest[1] > 0 else max(low, newest[0] - stride)
        if outer == newest[0]:
            return best
        previous, newest = newest, (outer, excess(outer))
        left, stride = left - 1, 2 * stride
        if previous[1] * newest[1] < 0:
            _narrow(newest, previous, excess, left)
            break
    return best


def _narrow(newest: tuple[float, float], other: tuple[float, float], function: Callable[[float], float], calls: int) -> None:
    """Close a bracket in on a zero: inverse quadratic interpolation where that is safe, bisection elsewhere.

    T. R. Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without
    using derivatives", Advances in Engineering Software 28 (1997). Ends when the function gives 0, or after so many calls.
    """
    (x1, f1), (x2, f2) = newest, other
    share = 0.5
    for _ in range(calls):
        x = x1 + share * (x2 - x1)
        f = function(x)
        if not f:
            return
        if f * f1 > 0:
            x3, f3 = x1, f1
        else:
            x3, f3, x2, f2 = x2, f2, x1, f1
        x1, f1 = x, f
        xi, phi = (x1 - x2) / (x3 - x2), (f1 - f2) / (f3 - f2)
        share = 0.5
        if phi**2 < xi and (1 - phi) ** 2 < 1 - xi:
            share = f1 / (f2 - f1) * f3 / (f2 - f3) + (x3 - x1) / (x2 - x1) * f1 / (f3 - f1) * f2 / (f3 - f2)
        share = min(max(share, 0.01), 0.99)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def state_dict_of(quantized: Mapping[str, Quantized], checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The state dict that the artifact will load."""
    return {name: q.tensor() for first, q in quantized.items() for name in checkpoint.names[first]}


def points_json(fits: list[Fit], budget: int) -> str:
    """All points of all recipes, for `--points`."""
    return json.dumps({"budget": budget, "fits": [one.to_json() for one in fits]}, indent=2, allow_nan=False) + "\n"
