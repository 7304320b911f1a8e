"""The main job: checkpoint → quantize → code → payload → render → minify → compress → carry → write."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from generator.audit.checking import RunCheck
from generator.audit.inspection import Inspection
from generator.carriers import Written
from generator.deadline import Deadline
from generator.defaults import BUDGET
from generator.errors import InputError
from generator.files import check_output, write_atomically
from generator.finishing import read_back, write
from generator.job import open_job, paths_of
from generator.packing import PackingOptions
from generator.progress import Listener
from generator.recipes.forms import as_recipe, read_table
from generator.recipes.marks import find_searched
from generator.recipes.recipe import Recipe
from generator.search.comparing import best_of, search_recipes
from generator.search.results import Fit, points_json
from generator.search.study import StudyOptions
from generator.search.tuned import has_time, searching, tune_fit, tune_payload
from generator.statistics import Statistics
from generator.tuning.tuner import Tuner
from generator.weights.checkpoint import Checkpoint, from_state_dict, load_checkpoint, select_state_dict
from generator.weights.encode import encode_quantized
from generator.weights.quantize import QuantizedCheckpoint, as_statistics, quantize_checkpoint


def build(
    script: str | Path,
    weights: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    statistics: Statistics | str | Path | None = None,
    key: str | None = None,
    budget: int | None = BUDGET,
    check: RunCheck | None = None,
    tune: Tuner | None = None,
    progress: Listener | None = None,
    **packing: Unpack[PackingOptions],
) -> Inspection:
    """Pack a script and its weights into one self-extracting file.

    Args:
        script: Python source that calls `runtime_stub.load_state_dict()`, or an artifact of one.
        weights: a checkpoint file, or a state dict in memory.
        output: the file to write; replaced only when everything has worked.
        recipe: a Recipe, its table, or the path of a TOML file; None for the default recipe, or with statistics for
            `waterfill` wherever they tell of a tensor.
        statistics: calibration statistics, or their file, for quantizers that use them.
        key: where in a nested checkpoint the state dict is.
        budget: bytes that the file may have; None for no limit.
        tune: tunes what was quantized, unless that takes more than the budget;
            `golfpack.Tuner.of(calibration(), golfpack.TuneOptions(seconds=60))`.
        check: run the script and the packed file before it is put in place, and compare what they do; see `generator.check`.
        progress: told of each step; see `generator.progress`.
        packing: what is carried besides, and how the script is shrunk; see `generator.packing.PackingOptions`.

    Returns:
        What the written file holds.

    Raises:
        InputError: the script, the checkpoint or the recipe is unusable, or the output can't be written.
        BudgetError: the file would exceed the budget; nothing is written.
        CheckError: the packed file does something else than the script; nothing is written.
    """
    job = open_job(script, packing, [output], weights, recipe, statistics)
    checkpoint = _checkpoint(weights, key)
    statistics = as_statistics(statistics)
    quantized = _quantize(checkpoint, recipe, statistics, progress)
    payload = encode_quantized(quantized, progress)
    if tune is not None:
        payload = tune_payload(
            payload,
            quantized,
            checkpoint,
            as_recipe(recipe, statistics),
            tune,
            statistics=statistics,
            budget=budget,
            size=lambda payload: job.emit(payload, progress).written.size,
            progress=progress,
        )
    emitted = job.emit(payload, progress)
    return job.finish(payload, emitted, budget, check, progress)


def wrap(
    script: str | Path,
    output: str | Path,
    *,
    budget: int | None = BUDGET,
    check: RunCheck | None = None,
    progress: Listener | None = None,
    **packing: Unpack[PackingOptions],
) -> Inspection:
    """Pack a script that carries no weights; arguments, result and errors as for `build`."""
    job = open_job(script, packing, [output])
    emitted = job.emit(None, progress)
    return job.finish(None, emitted, budget, check, progress)


def encode(
    weights: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    statistics: Statistics | str | Path | None = None,
    key: str | None = None,
    progress: Listener | None = None,
) -> Inspection:
    """Write the payload alone, for running the unpacked script with GOLFPACK_PAYLOAD; arguments as for `build`."""
    place = check_output(output, paths_of(weights, recipe, statistics))
    checkpoint = _checkpoint(weights, key)
    quantized = _quantize(checkpoint, recipe, statistics, progress)
    payload = encode_quantized(quantized, progress)
    draft = read_back(Written(payload.data), place, None)
    write(draft, payload, progress)
    return draft.inspection


def fit(
    script: str | Path,
    weights: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    statistics: Statistics | str | Path | None = None,
    recipes: Sequence[Mapping[str, Any] | str | Path] | None = None,
    key: str | None = None,
    budget: int = BUDGET,
    evaluate: Callable[[dict[str, Tensor]], Any] | None = None,
    points: str | Path | None = None,
    study: StudyOptions | None = None,
    time_limit: float | None = None,
    tune: Tuner | None = None,
    progress: Listener | None = None,
    **packing: Unpack[PackingOptions],
) -> tuple[Inspection, list[Fit]]:
    """Build the largest artifact within a budget by searching the options that each recipe marks (`generator.recipes.marks`).

    Args:
        script, weights, output, statistics, key, budget, packing: as for `build`.
        recipes: tables or TOML files, each with its knob marked; None, with statistics, for `waterfill` wherever they tell
            of a tensor.
        evaluate: metric of a state dict (less is better), asked at each point; it chooses among several recipes, of which
            the first is taken otherwise.
        points: JSON file for all points.
        study: how options are searched that a recipe marks beside its knob; its storage is by default a SQLite file beside
            the output.
        time_limit: seconds that all of it may take: the best artifact that was found in time is written, though it leave
            some of the budget unused. One point is always made, however long that takes.
        tune: tunes the best point, within the budget; not with a study.
        progress: told of each step; its events of stages "fit" and "study" bring each `Point` and `Trial` as a result.

    Returns:
        What the written file holds, and the search of each recipe.

    Raises:
        InputError: an input is unusable, or the output can't be written.
        CheckError: no value of a knob fits the budget.
    """
    deadline, started = Deadline.after(time_limit), time.monotonic()
    judge = getattr(getattr(evaluate, "__code__", None), "co_filename", None)
    place = check_output(output)
    study = study or StudyOptions()
    outputs = [output]
    if study.storage is None:
        database = place.with_suffix(".study.db")
        study = replace(study, storage=f"sqlite:///{database}")
        outputs.append(database)
    if points is not None:
        outputs.append(points)
    job = open_job(script, packing, outputs, weights, statistics, judge, *(recipes or ()))
    checkpoint = _checkpoint(weights, key)
    statistics = as_statistics(statistics)
    tables = [read_table(recipe, statistics) for recipe in recipes] if recipes else [read_table(None, statistics)]
    if tune is not None and any(find_searched(*table) for table in tables):
        raise InputError("a study's best trial can't be tuned; give its options as numbers, and only the knob marked")
    if evaluate is not None and any(find_searched(*table) for table in tables):
        place.parent.mkdir(parents=True, exist_ok=True)  # for the study's file
    fits = search_recipes(
        checkpoint,
        tables,
        study,
        statistics=statistics,
        budget=budget,
        size=lambda payload: job.emit(payload, progress).written.size,
        evaluate=evaluate,
        progress=progress,
        deadline=searching(deadline, tune),
    )
    if tune is not None and has_time(deadline, started):
        number = fits.index(best_of(fits))
        fits[number] = tune_fit(
            fits[number],
            next(table for table, title in tables if title == fits[number].recipe),
            checkpoint,
            tune,
            statistics=statistics,
            budget=budget,
            size=lambda payload: job.emit(payload, progress).written.size,
            evaluate=evaluate,
            progress=progress,
            deadline=deadline,
        )
    if points is not None:
        write_atomically(points, points_json(fits, budget).encode())
    payload = next(one for one in fits if one.payload is not None).payload
    emitted = job.emit(payload, progress)
    return job.finish(payload, emitted, budget, None, progress), fits


def _checkpoint(weights: str | Path | Mapping[str, Any], key: str | None) -> Checkpoint:
    if not isinstance(weights, Mapping):
        return load_checkpoint(weights, key)
    return from_state_dict(select_state_dict(weights, key, "the state dict") if key else weights)


def _quantize(
    checkpoint: Checkpoint,
    recipe: Recipe | Mapping[str, Any] | str | Path | None,
    statistics: Statistics | str | Path | None,
    progress: Listener | None,
) -> QuantizedCheckpoint:
    statistics = as_statistics(statistics)
    return quantize_checkpoint(checkpoint, as_recipe(recipe, statistics), statistics, progress=progress)
