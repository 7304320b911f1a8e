"""The best point of a search, tuned, and still within the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from generator.deadline import Deadline
from generator.payload import Payload
from generator.progress import Listener, logger
from generator.recipes.marks import find_knob, with_value
from generator.recipes.recipe import Recipe, make_recipe
from generator.search.fitting import Evaluate, metric_of
from generator.search.results import Fit, Point
from generator.statistics import Statistics
from generator.tuning.tuner import Tuner
from generator.weights.checkpoint import Checkpoint
from generator.weights.encode import code, encode_quantized, prove
from generator.weights.quantize import QuantizedCheckpoint, quantize_checkpoint
from generator.weights.workers import Workers

SPARE = 5e-4  # share of the budget that is left for what stays float, which is still trained when the matrices are quantized
SPARE_BYTES = 48  # at least: in a small artifact a few numbers more or less are more than that share
CORRECTIONS = 4  # values of the knob that the last round is quantized with, at most
SLOPE = -0.5  # of the logarithm of the size along the knob's axis, where the search tells of no other
SHARE = 0.8  # of the time that is left, for tuning; the rest is for coding and writing


def searching(deadline: Deadline, tuner: Tuner | None) -> Deadline:
    """When a search must end for tuning to have its time."""
    if tuner is None or not deadline:
        return deadline
    seconds = tuner.options.seconds
    return deadline.within(0.5) if seconds is None else Deadline(deadline.moment - seconds)


def has_time(deadline: Deadline, started: float) -> bool:
    """Whether there is time for tuning, which quantizes all once more, as was done since `started` (monotonic seconds)."""
    enough = deadline.left >= (time.monotonic() - started) / 2 and not deadline.passed
    if not enough:
        logger("tune").warning("no time is left for tuning")
    return enough


def tune_payload(
    payload: Payload,
    quantized: QuantizedCheckpoint,
    checkpoint: Checkpoint,
    recipe: Recipe,
    tuner: Tuner,
    *,
    statistics: Statistics | None,
    budget: int | None,
    size: Callable[[Payload], int],
    progress: Listener | None = None,
    deadline: Deadline | None = None,
) -> Payload:
    """Tune what a recipe made, whose options are all given.

    Args:
        payload: without tuning, which stays where tuning gains nothing or takes more bytes than there are.
        quantized: what it holds.
        checkpoint, recipe, statistics: what it was made from.
        tuner: with the model of the checkpoint.
        budget, size, progress, deadline: as for `search_recipe`; None for no budget.

    Raises:
        InputError: the model is not that of the checkpoint, or can't be tuned.
    """
    limit = deadline.within(SHARE) if deadline else None
    tuned = tuner.tune(checkpoint, recipe, quantized, statistics, progress, limit).quantized
    if tuned is quantized:
        return payload
    found = encode_quantized(tuned, progress)
    return found if budget is None or _fits(size(found), budget) else payload


def tune_fit(
    fit: Fit,
    marked: Mapping[str, Any],
    checkpoint: Checkpoint,
    tuner: Tuner,
    *,
    statistics: Statistics | None = None,
    budget: int,
    size: Callable[[Payload], int],
    evaluate: Evaluate | None = None,
    progress: Listener | None = None,
    workers: Workers | None = None,
    deadline: Deadline | None = None,
) -> Fit:
    """Tune the best point of a search.

    Where that takes more bytes than there are, the matrices of the last round are quantized with another value of the knob. If
    the artifact would still be too large, or tuning gains nothing, the search's own best point stays.

    Args:
        fit: the search.
        marked: its recipe's table, the knob marked; not that of a study.
        checkpoint, statistics, budget, size, evaluate, progress, workers, deadline: as for `search_recipe`.
        tuner: with the model of the checkpoint.

    Returns:
        The search with the tuned point as its best one, and the payload of that.

    Raises:
        InputError: the model is not that of the checkpoint, or can't be tuned.
        CheckError: the payload does not decode to what was tuned.
    """
    assert fit.best is not None
    correction = _Correction(fit, marked, budget, lambda quantized: size(code(quantized, progress=progress)))
    recipe = correction.recipe(fit.best.value)
    plain = quantize_checkpoint(checkpoint, recipe, statistics, progress=progress, workers=workers)
    limit = deadline.within(SHARE) if deadline else None
    tuned = tuner.tune(checkpoint, recipe, plain, statistics, progress, limit, correction.next)
    if tuned.quantized is plain:
        return fit
    payload = code(tuned.quantized, progress=progress)
    total = size(payload)
    if not _fits(total, budget):
        return fit
    prove(payload, tuned.quantized, progress)
    metric = metric_of(evaluate, tuned.quantized.state_dict()) if evaluate is not None else None
    point = Point(correction.value, total, metric)
    return replace(fit, points=[*fit.points, point], best=point, payload=payload, tuned=True)


def _fits(total: int, budget: int) -> bool:
    if total > budget:
        logger("tune").warning("the tuned artifact would have %d bytes; it is written without tuning", total)
    return total <= budget


class _Correction:
    """Moves the knob until what was quantized fits."""

    def __init__(self, fit: Fit, marked: Mapping[str, Any], budget: int, size: Callable[[QuantizedCheckpoint], int]):
        assert fit.best is not None
        self.value = fit.best.value
        self._marked, self._title, self._size = marked, fit.recipe, size
        self._knob = find_knob(marked, fit.recipe)
        self._target = budget - max(SPARE * budget, SPARE_BYTES)
        self._slope = _slope(fit, self._place)
        self._left = CORRECTIONS

    def recipe(self, value: float) -> Recipe:
        """The recipe at a value of the knob."""
        return make_recipe(with_value(self._marked, value), self._title)

    def next(self, quantized: QuantizedCheckpoint) -> Recipe | None:
        """None if this fits, or there is no further attempt."""
        if not self._left:
            return None
        self._left -= 1
        excess = math.log(self._size(quantized) / self._target)
        if excess <= 0:
            return None
        # Only the last round's matrices follow, so a step is twice what the search says of all of them.
        place = self._place(self.value) + 2 * (excess + SPARE) / -self._slope
        value = math.exp(place) if self._knob.logarithmic else place
        if not self._knob.low < value < self._knob.high:
            return None
        self.value = value
        return self.recipe(value)

    def _place(self, value: float) -> float:
        return math.log(value) if self._knob.logarithmic else value


def _slope(fit: Fit, place: Callable[[float], float]) -> float:
    """How the logarithm of the size falls along the knob's axis, by the two points of a search that lie closest to the best."""
    assert fit.best is not None
    best = fit.best
    others = sorted((one for one in fit.points if one.value != best.value), key=lambda one: abs(one.value - best.value))
    for one in others:
        run = place(one.value) - place(best.value)
        slope = math.log(one.bytes / best.bytes) / run
        if slope < -0.05:
            return slope
    return SLOPE
