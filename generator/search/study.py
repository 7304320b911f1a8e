"""Searching several options of a recipe: Optuna proposes values, each trial fits the budget and is judged by the metric.

The study lives in an Optuna storage. Several machines that name the same storage and run the same command share one study.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import torch

from generator.deadline import Deadline
from generator.defaults import TRIALS
from generator.errors import CheckError, InputError
from generator.payload import Payload
from generator.progress import Listener, Stage
from generator.recipes.marks import Choices, Range, find_knob, find_searched, with_value, with_values
from generator.recipes.recipe import make_recipe
from generator.search.fitting import Evaluate, NothingFitsError, check_budget, search_recipe
from generator.search.results import Fit, Point, Trial
from generator.specs import check_table
from generator.statistics import Statistics
from generator.user_code import name_of
from generator.visible import first_line
from generator.weights.checkpoint import Checkpoint
from generator.weights.encode import encode_checkpoint


@dataclass(frozen=True)
class StudyOptions:
    """How a recipe's options are searched.

    Attributes:
        storage: URL of an Optuna storage; None is for the caller to fill in.
        trials: that this process adds to the study.
        name: of the study in it; None derives one from everything that the metric depends on.
        seed: of the sampling; a trial's values follow from it, the trial's number and the results known by then.
    """

    storage: str | None = None
    trials: int = TRIALS
    name: str | None = None
    seed: int = 0


def search_study(
    checkpoint: Checkpoint,
    table: Mapping[str, Any],
    title: str,
    options: StudyOptions,
    *,
    statistics: Statistics | None = None,
    budget: int,
    size: Callable[[Payload], int],
    evaluate: Evaluate,
    progress: Listener | None = None,
    deadline: Deadline | None = None,
) -> Fit:
    """Search all marked options of one recipe.

    Args:
        checkpoint, table, title, statistics, budget, size: as for `search_recipe`.
        options: of the study.
        evaluate: metric of a state dict, less is better; asked once per trial, at the largest artifact within the budget.
        progress: told of each trial of this process, as stage "study", and of the stages that make it.
        deadline: when the artifact is to be written: no trial is begun that would take too long, but the first.

    Returns:
        The best trial of the whole study, whichever machine ran it.

    Raises:
        InputError: the recipe, the storage or the study's name is unusable, or Optuna is missing.
        CheckError: no trial fits the budget.
    """
    check_budget(budget)
    check_table(table, title)
    searched = find_searched(table, title)
    knob = find_knob(table, title)
    study = _open(options, options.name or _fingerprint(checkpoint, table, statistics, budget))
    optuna = _optuna()
    best_here: tuple[Trial, Payload | None] | None = None
    deadline = deadline or Deadline()

    def run(trial: Any) -> float:
        nonlocal best_here
        started = time.monotonic()
        try:
            values = {mark.name: _suggest(trial, mark) for mark in searched}
        except ValueError as error:  # Optuna's, of ranges and choices that changed within one study
            raise InputError(f"study {study.study_name!r} is of another recipe: {first_line(error)}") from error
        known = [finished.user_attrs["value"] for finished in study.trials if "value" in finished.user_attrs]
        try:
            fit = search_recipe(
                checkpoint,
                with_values(table, values),
                title,
                statistics=statistics,
                budget=budget,
                size=size,
                evaluate=evaluate,
                at_each_point=False,
                start=sorted(known)[len(known) // 2] if known else None,
                progress=_without_results(progress),
                deadline=deadline,
            )
        except NothingFitsError as error:
            stage.step(f"trial {trial.number}: {error}")
            raise optuna.TrialPruned(str(error)) from error
        assert fit.best is not None
        trial.set_user_attr("value", fit.best.value)
        trial.set_user_attr("bytes", fit.best.bytes)
        done = Trial(trial.number, values, fit.best)
        stage.log.info("%s", done.describe(title, knob.name))
        stage.step(done.describe(title, knob.name), done)
        # Optuna counts NaN as a failure, as if nothing had fitted.
        done = Trial(trial.number, values, replace(fit.best, metric=fit.metric))
        if best_here is None or _rank(done) < _rank(best_here[0]):
            best_here = done, fit.payload
        if deadline.left < 2 * (time.monotonic() - started):
            stage.log.warning("%s: no time for another trial after %d", title, trial.number)
            study.stop()
        return fit.metric

    try:
        with Stage("study", progress, options.trials, title) as stage:
            study.optimize(run, n_trials=options.trials)
    except optuna.exceptions.OptunaError as error:
        raise InputError(f"study {study.study_name!r} in storage {options.storage}: {first_line(error)}") from error
    trials = _finished(study, title, evaluate, budget)
    best = min(trials, key=_rank)
    filled = with_value(with_values(table, best.values), best.point.value)
    if best_here is not None and best_here[0].number == best.number:
        payload = best_here[1]
    else:  # another process ran it
        payload = encode_checkpoint(checkpoint, make_recipe(filled, title), statistics, progress)
    return Fit(title, knob.name, [one.point for one in trials], best.point, filled, trials, payload)


def _rank(trial: Trial) -> tuple[float, int]:
    """The less, the better."""
    assert trial.point.metric is not None
    return trial.point.metric, trial.number


def _finished(study: Any, title: str, evaluate: Evaluate, budget: int) -> list[Trial]:
    """All trials of a study that fit the budget, whoever ran them.

    Raises:
        InputError: they are not golfpack's, or the metric is no number for any of them.
        CheckError: there are none.
    """
    complete = [one for one in study.trials if one.state == _optuna().trial.TrialState.COMPLETE]
    if any("value" not in one.user_attrs or "bytes" not in one.user_attrs for one in complete):
        raise InputError(f"study {study.study_name!r} holds trials that are not golfpack's; choose another --study")
    trials = [_trial(one) for one in complete]
    if not trials:
        raise CheckError(f"{title}: none of {len(study.trials)} trials fits the budget of {budget:,} bytes")
    if all(one.point.metric == math.inf for one in trials):
        raise InputError(f"{title}: the metric {name_of(evaluate)} is not a finite number for any of {len(trials)} trials")
    return trials


def _without_results(progress: Listener | None) -> Listener | None:
    """For what makes a trial: its points are no results of the study."""
    return None if progress is None else lambda event: progress(replace(event, result=None))


def _suggest(trial: Any, mark: Range | Choices) -> Any:
    if isinstance(mark, Choices):
        return trial.suggest_categorical(mark.name, mark.values)
    if mark.whole:
        return trial.suggest_int(mark.name, int(mark.low), int(mark.high), log=mark.logarithmic)
    return trial.suggest_float(mark.name, mark.low, mark.high, log=mark.logarithmic)


def _trial(finished: Any) -> Trial:
    known = finished.user_attrs
    return Trial(finished.number, finished.params, Point(known["value"], known["bytes"], finished.value))


def _fingerprint(checkpoint: Checkpoint, table: Mapping[str, Any], statistics: Statistics | None, budget: int) -> str:
    """A name for the study that equal commands share, and no others."""
    digest = hashlib.sha256(json.dumps([table, budget, checkpoint.names], sort_keys=True).encode())
    for tensors in (checkpoint.tensors, statistics.tensors if statistics is not None else {}):
        for name, tensor in sorted(tensors.items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return f"golfpack-{digest.hexdigest()[:16]}"


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise InputError("searching several options needs Optuna: pip install 'golfpack[search]'") from error
    logging.getLogger("optuna").setLevel(logging.ERROR)
    return optuna


def _open(options: StudyOptions, name: str) -> Any:
    optuna = _optuna()
    try:
        return optuna.create_study(
            storage=options.storage,
            sampler=_sampler(optuna, options.seed),
            study_name=name,
            load_if_exists=True,
            direction="minimize",
        )
    except Exception as error:  # of the storage's database driver, whichever that is
        raise InputError(f"study {name!r} in storage {options.storage}: {first_line(error)}") from error


def _sampler(optuna: Any, seed: int) -> Any:
    """A tree-structured Parzen estimator (Bergstra et al., 2011) that is seeded anew for each trial by its number.

    Machines that share a study then draw different values, and one machine alone draws the same ones every time.
    """

    class ByNumber(optuna.samplers.BaseSampler):  # type: ignore[misc]
        def _of(self, trial: Any, salt: str = "") -> Any:
            return optuna.samplers.TPESampler(seed=crc32(f"{seed} {trial.number} {salt}".encode()))

        def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
            return self._of(trial).infer_relative_search_space(study, trial)

        def sample_relative(self, study: Any, trial: Any, search_space: Any) -> Any:
            return self._of(trial).sample_relative(study, trial, search_space)

        def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
            return self._of(trial, param_name).sample_independent(study, trial, param_name, param_distribution)

    return ByNumber()
