"""Several recipes, each searched; the best is to be packed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from generator.deadline import Deadline
from generator.errors import InputError
from generator.payload import Payload
from generator.progress import Listener, logger
from generator.recipes.marks import find_searched
from generator.search.fitting import Evaluate, search_recipe
from generator.search.results import Fit
from generator.search.study import StudyOptions, search_study
from generator.statistics import Statistics
from generator.weights.checkpoint import Checkpoint


def search_recipes(
    checkpoint: Checkpoint,
    recipes: Sequence[tuple[Mapping[str, Any], str]],
    study: StudyOptions,
    *,
    statistics: Statistics | None = None,
    budget: int,
    size: Callable[[Payload], int],
    evaluate: Evaluate | None = None,
    progress: Listener | None = None,
    deadline: Deadline | None = None,
) -> list[Fit]:
    """Search recipes, in a study where they mark more than their knob.

    Args:
        checkpoint, statistics, budget, size: as for `search_recipe`.
        recipes: tables, each with its name.
        study: options of studies.
        evaluate: metric of a state dict, less is better; the first recipe is the best without one.
        progress: told of points and trials; see `search_recipe` and `search_study`.
        deadline: when the artifact is to be written; recipes for which there is no time are left out, but the first.

    Returns:
        The search of each recipe. Only the best one holds its payload.

    Raises:
        InputError: a recipe is unusable, or a study lacks a metric.
        CheckError: nothing fits the budget.
    """
    for table, title in recipes:
        if evaluate is None and find_searched(table, title):
            raise InputError(f"{title} marks options for a study, which needs a metric; give --evaluate")
    fits: list[Fit] = []
    deadline = deadline or Deadline()
    known: dict[str, Any] = {
        "statistics": statistics,
        "budget": budget,
        "size": size,
        "progress": progress,
        "deadline": deadline,
    }
    slowest = 0.0  # seconds that a recipe took
    for table, title in recipes:
        if fits and deadline.left < slowest:
            logger("fit").warning("%s: left out, no time for it", title)
            continue
        started = time.monotonic()
        if evaluate is not None and find_searched(table, title):
            fits.append(search_study(checkpoint, table, title, study, evaluate=evaluate, **known))
        else:
            fits.append(search_recipe(checkpoint, table, title, evaluate=evaluate, **known))
        slowest = max(slowest, time.monotonic() - started)
        best = best_of(fits)
        fits = [fit if fit is best else fit.without_payload() for fit in fits]
    return fits


def best_of(fits: Sequence[Fit]) -> Fit:
    """The one with the least metric; the first of several, or where there is none."""
    return min(fits, key=lambda fit: fit.metric)
