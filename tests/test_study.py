"""Searching several options: marks, trials, a study that is shared and goes on, and the artifact of its best trial."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from test_calibrated_quantizers import weights

import generator
from generator.errors import CheckError, InputError
from generator.progress import Progress
from generator.quantizers import Quantized
from generator.quantizers.rtn import Rtn
from generator.recipes.marks import Choices, Range, find_knob, find_searched, with_value, with_values
from generator.search.results import Fit
from generator.search.study import StudyOptions

RULE = {
    "pattern": "w",
    "quantizer": {
        "id": "rtn",
        "scale": "sdclip",
        "k": "fit",
        "per": {"choices": ["row", "tensor"]},
        "bits": {"search": [4, 8]},
    },
}
RECIPE = {"codec": "lzma", "rule": [RULE, {"pattern": "*", "quantizer": "fp16"}]}
BUDGET = 7_000


def test_marks_are_found_and_replaced() -> None:
    inner = {"id": "rtn", "k": "fit", "bits": {"search": [4, 8]}}
    rules = [
        {"pattern": "a", "quantizer": {"id": "prune", "fraction": {"search": [0.1, 0.5]}, "then": inner}},
        {"pattern": "b", "quantizer": {"id": "rtn", "bits": {"search": [2, 4], "name": "b's bits"}, "k": "fit"}},
        {"pattern": "*", "quantizer": {"choices": ["int8", "fp16"]}},
    ]
    table = {"rule": rules}
    assert find_searched(table, "r") == [
        Range("b's bits", 2, 4, False),
        Range("bits", 4, 8, False),
        Range("fraction", 0.1, 0.5, False),
        Choices("quantizer", ("int8", "fp16")),
    ]
    assert [mark.whole for mark in find_searched(table, "r")[:3]] == [True, True, False]
    values = {"b's bits": 3, "bits": 5, "fraction": 0.2, "quantizer": "fp16"}
    filled = with_value(with_values(table, values), 7.0)
    assert filled["rule"][0]["quantizer"] == {"id": "prune", "fraction": 0.2, "then": {"id": "rtn", "k": 7.0, "bits": 5}}
    assert filled["rule"][1]["quantizer"] == {"id": "rtn", "bits": 3, "k": 7.0}
    assert filled["rule"][2]["quantizer"] == "fp16"
    assert find_knob(table, "r").name == "k"
    assert rules[2]["quantizer"] == {"choices": ["int8", "fp16"]}


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ({"search": [2, 1]}, r"range of 'damping' must be \[low, high\]"),
        ({"search": [0, 1], "log": True}, "above 0 with log"),
        ({"search": [0.5, 1], "log": "yes"}, "true or false"),
        ({"search": 3}, "range of 'damping'"),
        ({"search": [1, 2], "choices": [1]}, "the mark of 'damping' must be"),
        ({"search": [1, 2], "step": 1}, "the mark of 'damping' must be"),
        ({"choices": []}, "choices of 'damping'"),
        ({"choices": [[1]]}, "choices of 'damping'"),
    ],
)
def test_marks_that_cannot_be_searched(mark: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_searched({"rule": [{"quantizer": {"damping": mark}}]}, "the recipe")


def test_marks_of_one_name_agree_and_need_a_fit() -> None:
    rules = [{"quantizer": {"bits": {"search": [2, 4]}}}, {"quantizer": {"bits": {"search": [2, 5]}}}]
    with pytest.raises(InputError, match="marks of 'bits' differ; give them names"):
        find_searched({"rule": rules}, "the recipe")
    state = {"w": weights(8, 8)}
    with pytest.raises(InputError, match="'bits' is to be fitted; use golfpack fit"):
        generator.encode_state_dict(state, {"rule": [{"pattern": "*", "quantizer": {"id": "rtn", **rules[0]["quantizer"]}}]})


def state() -> dict[str, torch.Tensor]:
    return {"w": weights(64, 96) * torch.logspace(-1, 1, 64)[:, None], "gain": torch.ones(64)}


def error(found: dict[str, torch.Tensor]) -> float:
    known = state()["w"]
    return float(((found["w"] - known) / known.std(1, keepdim=True)).square().mean())


def fit(tmp_path: Path, script: Path, name: str, trials: int = 3, **options: object) -> list[Fit]:
    study = StudyOptions(trials=trials, **options)  # type: ignore[arg-type]
    _, fits = generator.fit(script, state(), tmp_path / name, recipes=[RECIPE], budget=BUDGET, evaluate=error, study=study)
    return fits


def test_the_best_trial_is_written_and_the_study_goes_on(tmp_path: Path, script: Path) -> None:
    [first] = fit(tmp_path, script, "a.py")
    assert len(first.trials) == 3
    assert (tmp_path / "a.study.db").is_file()
    assert first.best in [trial.point for trial in first.trials]
    assert first.metric == min(trial.point.metric for trial in first.trials)
    assert all(0.95 * BUDGET < trial.point.bytes <= BUDGET for trial in first.trials)
    assert len({json.dumps(trial.values) for trial in first.trials}) > 1
    assert (tmp_path / "a.py").stat().st_size == first.best.bytes
    assert error(generator.unpack(tmp_path / "a.py").state_dict) == first.metric

    [same] = fit(tmp_path, script, "b.py")
    assert [(trial.values, trial.point) for trial in same.trials] == [(trial.values, trial.point) for trial in first.trials]
    [other] = fit(tmp_path, script, "c.py", trials=1, seed=1)
    assert other.trials[0].values != first.trials[0].values

    storage = f"sqlite:///{tmp_path / 'a.study.db'}"
    [more] = fit(tmp_path, script, "d.py", trials=1, storage=storage)  # as a second machine would
    assert [trial.number for trial in more.trials] == list(range(4))
    assert more.trials[:3] == first.trials
    assert more.metric <= first.metric


def test_no_trials_winner_is_made_again_unless_another_process_ran_it(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantized: list[str] = []
    quantize = Rtn.quantize

    def counted(self: Rtn, name: str, *rest: object) -> Quantized:
        quantized.append(name)
        return quantize(self, name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Rtn, "quantize", counted)
    asked: list[float] = []

    def ever_worse(found: dict[str, torch.Tensor]) -> float:
        asked.append(len(asked))
        return asked[-1]

    def run(name: str, trials: int, **options: object) -> tuple[Fit, int]:
        points: list[Progress] = []
        _, [found] = generator.fit(
            script,
            state(),
            tmp_path / name,
            recipes=[RECIPE],
            budget=BUDGET,
            evaluate=ever_worse,
            study=StudyOptions(trials=trials, **options),  # type: ignore[arg-type]
            progress=lambda event: points.append(event) if event.stage == "fit" and " = " in event.detail else None,
        )
        return found, len(points)

    first, points = run("a.py", 3)
    assert first.best == first.trials[0].point
    assert len(quantized) == points > 3
    assert len(asked) == 3
    quantized.clear()
    second, points = run("b.py", 1, storage=f"sqlite:///{tmp_path / 'a.study.db'}")
    assert second.best == first.best
    assert len(quantized) == points + 1  # the best trial is the other process'
    assert second.payload == first.payload
    unpacked = [generator.unpack(tmp_path / name).state_dict for name in ("a.py", "b.py")]
    assert all(torch.equal(unpacked[0][name], unpacked[1][name]) for name in unpacked[0])


def test_study_by_the_command(golfpack, tmp_path: Path, script: Path) -> None:
    torch.save(state(), tmp_path / "c.pt")
    (tmp_path / "metric.py").write_text("def spread(state):\n    return -float(state['w'].std())\n")
    rule = 'pattern = "w"\ncodec = "lzma"\nquantizer = { id = "rtn", scale = "sdclip", k = "fit", bits = { search = [3, 8] } }'
    (tmp_path / "r.toml").write_text(f'[[rule]]\n{rule}\n\n[[rule]]\npattern = "*"\nquantizer = "fp16"\n')
    arguments = [
        "fit",
        script,
        "-w",
        tmp_path / "c.pt",
        "-r",
        tmp_path / "r.toml",
        "-o",
        tmp_path / "out.py",
        "--budget",
        BUDGET,
    ]
    refused = golfpack(*arguments)
    assert refused.status == 2
    assert "marks options for a study, which needs a metric; give --evaluate" in refused.err
    evaluated = [*arguments, "--evaluate", f"{tmp_path / 'metric.py'}:spread", "--trials", 2]
    result = golfpack(*evaluated, "--points", tmp_path / "points.json")
    assert result.status == 0, result.err
    assert result.err.count("trial ") == 2
    assert "bits = " in result.err
    assert "chosen" in result.out
    [found] = json.loads((tmp_path / "points.json").read_text())["fits"]
    assert [trial["number"] for trial in found["trials"]] == [0, 1]
    wrong = golfpack(*evaluated, "--storage", "nowhere://x")
    assert wrong.status == 2
    assert "in storage nowhere://x" in wrong.err
    none = golfpack(*evaluated, "--budget", 1500, "--storage", f"sqlite:///{tmp_path / 'n.db'}")
    assert none.status == 1
    assert "none of 2 trials fits the budget of 1,500 bytes" in none.err


def test_without_optuna_it_says_what_to_install(tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'golfpack\[search\]'"):
        fit(tmp_path, script, "x.py")
    assert not (tmp_path / "x.py").exists()


def test_trials_beyond_the_budget_are_no_result(tmp_path: Path, script: Path) -> None:
    with pytest.raises(CheckError, match="none of 1 trials fits"):
        generator.fit(
            script,
            state(),
            tmp_path / "x.py",
            recipes=[RECIPE],
            budget=1500,
            evaluate=error,
            study=StudyOptions(trials=1),
        )
