"""Metrics and budgets of any kind in `fit` and in studies: NaN never wins, and what is no number is one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch

import generator
from generator.errors import InputError
from generator.payload import Payload
from generator.search.fitting import search_recipe
from generator.search.results import Fit, Point, points_json
from generator.search.study import StudyOptions, search_study
from generator.weights.checkpoint import from_state_dict

GAUSS = torch.randn(40, 60, generator=torch.Generator().manual_seed(0))
CHECKPOINT = from_state_dict({"w": GAUSS})
BUDGET = 1500
GRID = {"id": "rtn", "scale": "sdclip", "k": "fit"}


def packed_size(payload: Payload) -> int:
    return len(payload.data)


def table(**options: Any) -> dict[str, Any]:
    return {"codec": "zlib", "rule": [{"pattern": "*", "quantizer": {**GRID, **options}}]}


def fit(evaluate: Callable[[Any], Any], budget: Any = BUDGET) -> Fit:
    return search_recipe(CHECKPOINT, table(bits=6), "the recipe", budget=budget, size=packed_size, evaluate=evaluate)


def study(tmp_path: Path, evaluate: Callable[[Any], Any], trials: int = 4, **options: Any) -> Fit:
    chosen = StudyOptions(f"sqlite:///{tmp_path / 'study.db'}", trials, **options)
    searched = table(bits={"search": [2, 6]})
    return search_study(CHECKPOINT, searched, "the recipe", chosen, budget=BUDGET, size=packed_size, evaluate=evaluate)


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "None": (lambda weights: None, "must return a number, not None"),
    "text": (lambda weights: "good", "must return a number, not 'good'"),
    "weights": (lambda weights: weights, "must return a number, not "),
    "tensor": (lambda weights: torch.ones(2), "must return a number, not tensor"),
    "complex": (lambda weights: 1j, "must return a number, not 1j"),
    "huge": (lambda weights: 10**5000, "must return a number, not of type int"),
    "error": (lambda weights: weights["nowhere"], r"fails: KeyError: 'nowhere' \(test_odd_metrics.py, line \d+\)"),
    "exit": (lambda weights: exit_(), "fails: SystemExit: 3"),
}


def exit_() -> None:
    raise SystemExit(3)


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_number_is_refused_with_the_functions_name(tmp_path: Path, name: str) -> None:
    evaluate, message = WRONG[name]
    for search in (fit, lambda metric: study(tmp_path, metric)):
        with pytest.raises(InputError, match=f"the metric {__name__}:<lambda> {message}") as error:
            search(evaluate)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [True, 3, torch.tensor(2.0), torch.ones(1, 1)])
def test_numbers_of_other_types_are_numbers(value: Any) -> None:
    assert fit(lambda weights: value).metric == float(value)


@pytest.mark.parametrize("budget", [0, -5, 1.5, math.nan, None, True, "16000000"])
def test_budgets(tmp_path: Path, script: Path, budget: Any) -> None:
    with pytest.raises(InputError, match="the budget must be a whole number of bytes above 0, not "):
        fit(lambda weights: 0, budget)
    with pytest.raises(InputError, match="the budget must be a whole number of bytes above 0, not "):
        generator.fit(script, {"w": GAUSS}, tmp_path / "out.py", recipes=[table(bits=6)], budget=budget)
    assert not (tmp_path / "out.py").exists()


def test_nan_loses_against_any_number() -> None:
    chosen = [Fit("a", "k", best=Point(1.0, 100, math.nan)), Fit("b", "k", best=Point(1.0, 90, 1e9)), Fit("c", "k")]
    assert min(chosen, key=lambda one: one.metric).recipe == "b"
    assert [math.isinf(one.metric) for one in chosen] == [True, False, True]
    document = json.loads(points_json(chosen, 100), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert document["fits"][0]["best"]["metric"] is None


def test_the_recipe_with_a_number_is_written(tmp_path: Path, script: Path) -> None:
    def fine_with_few(weights: dict[str, torch.Tensor]) -> float:
        return math.nan if len(weights["w"].unique()) > 100 else 5.0

    recipes = [
        {"codec": "zlib", "rule": [{"pattern": "*", "quantizer": {**GRID, "bits": 8, "k": {"fit": [k, k + 1]}}}]}
        for k in (5, 500)
    ]
    _, fits = generator.fit(script, {"w": GAUSS}, tmp_path / "out.py", recipes=recipes, evaluate=fine_with_few)
    assert math.isnan(fits[0].points[0].metric)  # type: ignore[arg-type]
    assert len(generator.unpack(tmp_path / "out.py").state_dict["w"].unique()) <= 100


def test_trials_without_a_number_lose(tmp_path: Path) -> None:
    calls = iter([math.nan, 7.0, math.inf, 3.0])
    found = study(tmp_path, lambda weights: next(calls))
    assert found.metric == 3.0
    assert [trial.point.metric for trial in found.trials] == [math.inf, 7.0, math.inf, 3.0]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_study_without_any_number_says_so(tmp_path: Path, value: float) -> None:
    with pytest.raises(InputError, match="the metric .*<lambda> is not a finite number for any of 2 trials"):
        study(tmp_path, lambda weights: value, 2)


def test_studies_of_others(tmp_path: Path) -> None:
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    foreign = optuna.create_study(storage=storage, study_name="foreign", direction="minimize")
    foreign.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    with pytest.raises(InputError, match="study 'foreign' holds trials that are not golfpack's; choose another --study"):
        study(tmp_path, lambda weights: 1.0, 1, name="foreign")
    other = optuna.create_study(storage=storage, study_name="other", direction="minimize")
    other.optimize(lambda trial: len(trial.suggest_categorical("bits", ["a", "b"])), n_trials=1)
    with pytest.raises(InputError, match="study 'other' is of another recipe: ") as error:
        study(tmp_path, lambda weights: 1.0, 1, name="other")
    assert "\n" not in str(error.value)
    (tmp_path / "study.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(InputError, match="study 'third' in storage sqlite:.*study.db: ") as error:
        study(tmp_path, lambda weights: 1.0, 1, name="third")
    assert "\n" not in str(error.value)
