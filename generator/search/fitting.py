"""Fitting the budget: the value of a recipe's rate knob at which the artifact is the largest that does not exceed it.

The recipe marks its knob, see `generator.recipes.marks`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from generator.deadline import Deadline
from generator.errors import CheckError, InputError
from generator.memory import Memory
from generator.payload import Payload
from generator.progress import Listener, Stage
from generator.recipes.marks import find_knob, with_value
from generator.recipes.recipe import Recipe, make_recipe
from generator.search.bracketing import CLOSE, EVALUATIONS, is_close, search
from generator.search.prediction import HURRIED, Prediction
from generator.search.results import Fit, Point
from generator.specs import check_table
from generator.statistics import Statistics
from generator.user_code import call, name_of
from generator.visible import shown
from generator.weights.checkpoint import Checkpoint
from generator.weights.encode import code, prove
from generator.weights.quantize import Cache, QuantizedCheckpoint, quantize_checkpoint
from generator.weights.workers import Alone, Source, Workers

FINISHING = 0.8  # of the time that a point takes, for proving, writing and what differs from point to point
CAUTION = 0.01  # share of the budget by which the first point stays below it where time is limited
PREDICTIONS = 6  # points that are measured where a prediction says, before the search goes on without

Evaluate = Callable[[dict[str, Tensor]], Any]


class NothingFitsError(CheckError):
    """No value of the knob fits the budget."""


class _OutOfTimeError(Exception):
    """Another point would take too long."""


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
    title: str,
    *,
    statistics: Statistics | None = None,
    budget: int,
    size: Callable[[Payload], int],
    evaluate: Evaluate | None = None,
    at_each_point: bool = True,
    start: float | None = None,
    progress: Listener | None = None,
    workers: Workers | None = None,
    deadline: Deadline | None = None,
) -> Fit:
    """Search the knob of one recipe on the real size of the artifact.

    Where a model is large enough, a sample of each matrix's rows tells where the budget is met (`generator.search.prediction`),
    and only there all of it is quantized. Only what the knob changes is quantized and coded again. The payload of the best
    point is kept, and proven.

    Args:
        checkpoint: the weights.
        table: the recipe's table, the knob marked.
        title: its name for messages.
        statistics: of calibration.
        budget: bytes that the artifact may have.
        size: bytes of the artifact with a given payload.
        evaluate: metric of a state dict.
        at_each_point: whether the metric is asked at each point, or at the best alone.
        start: a value of the knob that is known to be near.
        progress: told of each point, as stage "fit", and of the stages that make it.
        workers: who quantizes; None for this process.
        deadline: when the artifact is to be written: no point is begun that would take too long, once one fits.

    Raises:
        InputError: the recipe is unusable.
        NothingFitsError: no value of the knob fits the budget.
        CheckError: the payload does not decode to what was quantized.
    """
    check_budget(budget)
    check_table(table, title)
    knob = find_knob(table, title)
    workers = workers or Alone(Source(checkpoint, statistics, memory=Memory()))
    cache = Cache()
    points: list[Point] = []
    best: Point | None = None
    kept: _Made | None = None  # what the best point was made to
    last: _Made | None = None
    slowest = 0.0  # seconds that a point took
    deadline = deadline or Deadline()

    def measure(value: float) -> Point:
        nonlocal best, kept, last, slowest
        if best is not None and deadline.left < (1 + FINISHING) * slowest:
            raise _OutOfTimeError
        started = time.monotonic()
        last = made = _make(checkpoint, make_recipe(with_value(table, value), title), statistics, cache, progress, workers)
        total = size(made.payload)
        metric = metric_of(evaluate, made.quantized.state_dict()) if evaluate is not None and at_each_point else None
        point = Point(value, total, metric)
        points.append(point)
        if point.beats(best, budget):
            best, kept = point, made
        slowest = max(slowest, time.monotonic() - started)
        stage.log.info("%s", point.describe(title, knob.name))
        stage.step(point.describe(title, knob.name), point)
        return point

    def measure_where_predicted() -> bool:
        """Measure where a sample of rows says that the budget is met; whether it was."""
        target = budget * (1 - CLOSE / 2)
        prediction = Prediction(checkpoint, table, title, knob, workers, progress)
        value = None
        if prediction.pays:
            hurried = (target * (1 - CAUTION), start, HURRIED)
            value = prediction.first(*hurried) if deadline else prediction.first(target, start)
        for _ in range(PREDICTIONS):
            if value is None or value in [point.value for point in points]:
                return False
            point = measure(value)
            if is_close(point, budget):
                return True
            assert last is not None
            value = prediction.next(target, points, prediction.rest(point, last.payload, last.quantized))
        return False

    with Stage("fit", progress, EVALUATIONS, title) as stage:
        try:
            if not measure_where_predicted():
                search(knob, budget, measure, points[-1].value if points else start)
        except _OutOfTimeError:
            assert best is not None
            unused = budget - best.bytes
            stage.log.warning("%s: no time for another point; %d bytes of the budget stay unused", title, unused)
    if best is None or kept is None:
        raise NothingFitsError(
            f"{title}: no {knob.name} from {knob.low:g} to {knob.high:g} fits the budget of {budget:,} bytes; the smallest "
            f"artifact found has {min(point.bytes for point in points):,}"
        )
    prove(kept.payload, kept.quantized, progress)
    if evaluate is not None and not at_each_point:
        best = replace(best, metric=metric_of(evaluate, kept.quantized.state_dict()))
    return Fit(title, knob.name, points, best, with_value(table, best.value), payload=kept.payload)


@dataclass(frozen=True)
class _Made:
    """What one value of the knob gives: a payload, and what it must decode to."""

    payload: Payload
    quantized: QuantizedCheckpoint


def _make(
    checkpoint: Checkpoint,
    recipe: Recipe,
    statistics: Statistics | None,
    cache: Cache,
    progress: Listener | None,
    workers: Workers,
) -> _Made:
    quantized = quantize_checkpoint(checkpoint, recipe, statistics, cache, progress, workers)
    payload = code(quantized, cache, progress)
    cache.forget_old_streams()
    return _Made(payload, quantized)
