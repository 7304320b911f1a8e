"""The main job: checkpoint → quantize → code → payload → render → minify → compress → carry → write."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor
from typing_extensions import Unpack

from generator.audit.artifact import read_artifact
from generator.audit.checking import RunCheck, check_written
from generator.audit.inspection import Inspection, inspect_artifact
from generator.audit.rehearsal import rehearse
from generator.carriers import Written
from generator.defaults import BUDGET
from generator.emit import Emitter
from generator.errors import BudgetError, InputError
from generator.files import check_output, write_atomically
from generator.packing import PackingOptions, packing_options
from generator.payload import Payload
from generator.placement import place_artifact
from generator.recipes.forms import as_recipe, read_table
from generator.recipes.marks import find_searched
from generator.recipes.recipe import Recipe, make_recipe
from generator.search.fitting import Fit, Point, Trial, points_json, search_recipe
from generator.search.study import StudyOptions, search_study
from generator.source.script import Script, read_script
from generator.statistics import Statistics
from generator.weights.checkpoint import Checkpoint, from_state_dict, load_checkpoint, select_state_dict
from generator.weights.encode import encode_checkpoint
from generator.weights.quantize import as_statistics


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
    **packing: Unpack[PackingOptions],
) -> Inspection:
    """Pack a script and its weights into one self-extracting file.

    Args:
        script: Python source that calls `runtime_stub.load_state_dict()`.
        weights: a checkpoint file, or a state dict in memory.
        output: the file to write; replaced only when everything has worked.
        recipe: a Recipe, its table, or the path of a TOML file; None for the default recipe, or with statistics for
            `waterfill` wherever they tell of a tensor.
        statistics: calibration statistics, or their file, for quantizers that use them.
        key: where in a nested checkpoint the state dict is.
        budget: bytes that the file may have; None for no limit.
        check: run the script and the packed file before it is put in place, and compare what they do; see `generator.check`.
        packing: what is carried besides, and how the script is shrunk; see `generator.packing.PackingOptions`.

    Returns:
        What the written file holds.

    Raises:
        InputError: the script, the checkpoint or the recipe is unusable, or the output can't be written.
        BudgetError: the file would exceed the budget; nothing is written.
        CheckError: the packed file does something else than the script; nothing is written.
    """
    inputs = _files(script, weights, recipe, statistics, *packing.get("include", ()))
    check_output(output, inputs)
    parsed = read_script(script)
    options = packing_options(parsed, packing)
    place = check_output(output, [*inputs, *options.bundle.paths])
    checkpoint = _checkpoint(weights, key)
    statistics = as_statistics(statistics)
    payload = encode_checkpoint(checkpoint, as_recipe(recipe, statistics), statistics)
    return _finish_emitted(parsed, payload, Emitter(parsed, options), place, budget, check)


def wrap(
    script: str | Path,
    output: str | Path,
    *,
    budget: int | None = BUDGET,
    check: RunCheck | None = None,
    **packing: Unpack[PackingOptions],
) -> Inspection:
    """Pack a script that carries no weights; arguments, result and errors as for `build`."""
    inputs = _files(script, *packing.get("include", ()))
    check_output(output, inputs)
    parsed = read_script(script)
    options = packing_options(parsed, packing)
    place = check_output(output, [*inputs, *options.bundle.paths])
    return _finish_emitted(parsed, None, Emitter(parsed, options), place, budget, check)


def encode(
    weights: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    statistics: Statistics | str | Path | None = None,
    key: str | None = None,
) -> Inspection:
    """Write the payload alone, for running the unpacked script with GOLFPACK_PAYLOAD; arguments as for `build`."""
    place = check_output(output, _files(weights, recipe, statistics))
    statistics = as_statistics(statistics)
    payload = encode_checkpoint(_checkpoint(weights, key), as_recipe(recipe, statistics), statistics)
    return _finish(Written(payload.data), place, None, payload)


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
    report: Callable[[str, str, Point], None] | None = None,
    study: StudyOptions | None = None,
    report_trial: Callable[[str, str, Trial], None] | None = None,
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
        report: called with recipe, knob and point after each evaluation.
        study: how options are searched that a recipe marks beside its knob; its storage is by default a SQLite file beside
            the output.
        report_trial: called with recipe, knob and trial after each trial of a study.

    Returns:
        What the written file holds, and the search of each recipe.

    Raises:
        InputError: an input is unusable, or the output can't be written.
        CheckError: no value of a knob fits the budget.
    """
    judge = getattr(getattr(evaluate, "__code__", None), "co_filename", None)
    inputs = _files(script, weights, statistics, judge, *(recipes or ()), *packing.get("include", ()))
    place = check_output(output, inputs)
    study = study or StudyOptions()
    if study.storage is None:
        database = place.with_suffix(".study.db")
        check_output(database, [*inputs, place])
        study = replace(study, storage=f"sqlite:///{database}")
        inputs = [*inputs, database]
    if points is not None:
        check_output(points, [*inputs, place])
    parsed = read_script(script)
    options = packing_options(parsed, packing)
    for path in (output, points):
        if path is not None:
            check_output(path, [*inputs, *options.bundle.paths])
    checkpoint = _checkpoint(weights, key)
    statistics = as_statistics(statistics)
    emitter = Emitter(parsed, options)
    fits = []
    chosen: list[Mapping[str, Any] | str | Path | None] = [*recipes] if recipes else [None]
    for recipe in chosen:
        table, source = read_table(recipe, statistics)
        known: dict[str, Any] = {
            "statistics": statistics,
            "budget": budget,
            "size": lambda payload: emitter.emit(payload, place.stem).written.size,
        }
        if find_searched(table, source):
            if evaluate is None:
                raise InputError(f"{source} marks options for a study, which needs a metric; give --evaluate")
            place.parent.mkdir(parents=True, exist_ok=True)  # for the study's file
            fits.append(search_study(checkpoint, table, source, study, evaluate=evaluate, report=report_trial, **known))
        else:
            fits.append(search_recipe(checkpoint, table, source, evaluate=evaluate, report=report, **known))
    if points is not None:
        write_atomically(points, points_json(fits, budget).encode())
    best = min(fits, key=lambda one: one.metric) if evaluate is not None else fits[0]
    payload = encode_checkpoint(checkpoint, make_recipe(best.table, best.recipe), statistics)
    return _finish_emitted(parsed, payload, emitter, place, budget), fits


def _checkpoint(weights: str | Path | Mapping[str, Any], key: str | None) -> Checkpoint:
    if not isinstance(weights, Mapping):
        return load_checkpoint(weights, key)
    return from_state_dict(select_state_dict(weights, key, "the state dict") if key else weights)


def _files(*inputs: object) -> list[Path]:
    """Those of a command's inputs that are files."""
    return [Path(one) for one in inputs if isinstance(one, str | Path)]


def _finish_emitted(
    script: Script, payload: Payload | None, emitter: Emitter, output: Path, budget: int | None, check: RunCheck | None = None
) -> Inspection:
    emitted = emitter.emit(payload, output.stem)
    notes = list(emitted.notes)
    data = payload.data if payload is not None else None

    def compare() -> None:
        if check is not None:
            notes.extend(check_written(script.path, emitted.written, output.name, data, check).sentences())

    return replace(_finish(emitted.written, output, budget, payload, compare), notes=notes)


def _finish(
    written: Written, output: Path, budget: int | None, payload: Payload | None, check: Callable[[], None] = lambda: None
) -> Inspection:
    """Read back what is about to be written, hold it against the budget, check and rehearse it, and put it in place."""
    artifact = read_artifact(output, written)
    inspection = inspect_artifact(artifact)
    if budget is not None and written.size > budget:
        raise BudgetError(
            f"{output} would have {written.size:,} bytes, {written.size - budget:,} over the budget of {budget:,}", inspection
        )
    check()
    data = payload.data if payload is not None else None
    place_artifact(output, written, lambda main: rehearse(artifact, main, data) if artifact.program else None)
    return inspection
