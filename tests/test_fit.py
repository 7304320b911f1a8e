"""Fitting the budget: the search, the knobs, the command, and that what is unchanged is not coded again."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from test_calibrated_quantizers import statistics_of, weights, whole

import generator
from generator.codecs import Codec, Encoded
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.errors import CheckError, InputError
from generator.quantizers import REGISTRY, Quantized, knobs
from generator.quantizers.rtn import Rtn
from generator.recipes.marks import find_knob, with_value
from generator.search.bracketing import EVALUATIONS, search
from generator.search.results import Point
from generator.statistics import Statistics
from generator.weights import encode

KNOB = 'quantizer = { id = "rtn", bits = 6, scale = "sdclip", k = "fit" }'
RECIPE = f'[[rule]]\npattern = "w"\n{KNOB}\n\n[[rule]]\npattern = "*"\nquantizer = "fp16"\n'


@pytest.mark.parametrize("budget", [30_000, 900_000, 15_999_999])
@pytest.mark.parametrize("start", [1e-3, 0.05, 1.0])
def test_search_ends_just_below_the_budget(budget: int, start: float) -> None:
    """Sizes as entropy coders give them: bits fall with log α, and flatten where few symbols are left."""
    calls = []

    def measure(value: float) -> Point:
        calls.append(value)
        bits = math.log2(1 + start / value) + 1e-5 * math.sin(value * 1e7)
        return Point(value, 1000 + round(bits * 1_000_000))

    best = search(knobs()["alpha"], budget, measure)
    assert len(calls) <= EVALUATIONS
    assert best is not None
    assert 0.999 * budget <= best.bytes <= budget


def test_search_takes_the_end_of_the_range_when_everything_or_nothing_fits() -> None:
    knob = replace(knobs()["k"], low=1.0, high=100.0)
    assert search(knob, 10**6, lambda value: Point(value, round(1000 / value))) == Point(1.0, 1000)
    assert search(knob, 5, lambda value: Point(value, round(1000 / value))) is None
    fraction = search(knobs()["fraction"], 5000, lambda value: Point(value, round(10000 * (1 - value))))
    assert fraction is not None
    assert 4995 <= fraction.bytes <= 5000


def test_knobs_are_options_and_the_same_in_every_quantizer() -> None:
    assert set(knobs()) == {"alpha", "fraction", "k"}
    for factory in REGISTRY.values():
        kind = getattr(factory, "func", factory)
        for knob in kind.knobs:
            assert knob == knobs()[knob.name]
            assert knob.name in kind.model_fields
            assert knob.low < knob.usual < knob.high


def test_a_search_begins_where_it_usually_ends() -> None:
    for knob in knobs().values():
        tried: list[float] = []
        search(knob, 1000, lambda value, tried=tried: tried.append(value) or Point(value, 1000))
        assert tried == [pytest.approx(knob.usual)]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"quantizer": "int6"}, "marks no knob"),
        ({"quantizer": {"id": "waterfill", "alpha": "fit", "damping": "fit"}}, "marks alpha, damping"),
        ({"quantizer": {"id": "waterfill", "damping": "fit"}}, "'damping', which does not set the rate"),
        ({"quantizer": {"id": "rtn", "k": {"fit": [3, 2]}}}, "range of 'k'"),
        ({"quantizer": {"id": "rtn", "k": {"fit": [0, 2]}}}, "range of 'k'"),
        ({"quantizer": {"id": "rtn", "k": {"fit": "wide"}}}, "range of 'k'"),
    ],
)
def test_marks_that_cannot_be_searched(table: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_knob({"rule": [{"pattern": "*", **table}]}, "the recipe")


def test_marks_are_found_in_nested_quantizers_and_share_a_value() -> None:
    inner = {"id": "prune", "fraction": 0.1, "then": {"id": "rtn", "scale": "sdclip", "k": {"fit": [1, 50]}}}
    table = {"rule": [{"pattern": "a", "quantizer": inner}, {"pattern": "*", "quantizer": {"id": "rtn", "k": "fit"}}]}
    assert find_knob(table, "r") == replace(knobs()["k"], low=1.0, high=50.0)
    filled = with_value(table, 7.0)
    assert filled["rule"][0]["quantizer"]["then"]["k"] == filled["rule"][1]["quantizer"]["k"] == 7.0
    assert inner["then"]["k"] == {"fit": [1, 50]}


@pytest.fixture
def model(tmp_path: Path, script: Path) -> tuple[Path, Path, Statistics]:
    """A checkpoint with a matrix of 64 × 96, its statistics' file, and the statistics."""
    tensor = weights(64, 96)
    statistics = whole(tensor, statistics_of(64, 96))
    save_file({"w": tensor, "gain": torch.ones(64)}, tmp_path / "c.safetensors")
    statistics.save(tmp_path / "s.safetensors")
    return tmp_path / "c.safetensors", tmp_path / "s.safetensors", statistics


def test_fit_with_statistics_and_no_recipe(golfpack, tmp_path: Path, script: Path, model, monkeypatch) -> None:
    checkpoint, file, _ = model
    (tmp_path / "metric.py").write_text("def error(state):\n    return float(state['w'].std())\n")
    arguments = ["fit", script, "-w", checkpoint, "-s", file, "-o", tmp_path / "out.py", "--budget", 9000]
    result = golfpack(*arguments, "--evaluate", f"{tmp_path / 'metric.py'}:error", "--points", tmp_path / "points.json")
    assert result.status == 0, result.err
    size = (tmp_path / "out.py").stat().st_size
    assert 0.97 * 9000 <= size <= 9000  # so small a model has few sizes
    assert f"{size:,} bytes, {9000 - size:,} below" in " ".join(result.out.split())
    points = json.loads((tmp_path / "points.json").read_text())
    searched = points["fits"][0]
    assert searched["knob"] == "alpha"
    assert len(searched["points"]) <= EVALUATIONS
    assert all(point["metric"] > 0 for point in searched["points"])
    assert searched["best"]["bytes"] == size
    assert f"metric {searched['points'][0]['metric']:.6f}" in result.err
    verified = golfpack("verify", tmp_path / "out.py", "--budget", 9000, "--against", checkpoint)
    assert verified.status == 0, verified.out
    value = searched["best"]["value"]
    narrow = {"fit": [value * 0.9, value * 1.1]}
    recipe = {
        "rule": [
            {"pattern": "w", "quantizer": {"id": "waterfill", "alpha": narrow, "trellis": 8}},
            {"pattern": "*", "quantizer": "fp16"},
        ]
    }
    inspection, _ = generator.fit(script, checkpoint, tmp_path / "again.py", recipes=[recipe], statistics=file, budget=9000)
    assert 0.97 * 9000 <= inspection.size <= 9000


def test_recipes_are_compared_by_the_metric(tmp_path: Path, script: Path, model) -> None:
    checkpoint, file, statistics = model
    tensor = weights(64, 96)

    def loss(state: dict[str, torch.Tensor]) -> float:
        error = state["w"] - tensor
        known = statistics.tensors
        return float((known["w:B"][0] @ error @ known["w:A"][0] @ error.T).trace())

    (tmp_path / "sdclip.toml").write_text(RECIPE)
    (tmp_path / "waterfill.toml").write_text(RECIPE.replace(KNOB, 'quantizer = { id = "waterfill", alpha = "fit" }'))
    recipes = [tmp_path / "sdclip.toml", tmp_path / "waterfill.toml"]
    inspection, fits = generator.fit(
        script, checkpoint, tmp_path / "out.py", statistics=file, recipes=recipes, budget=9000, evaluate=loss
    )
    assert [one.knob for one in fits] == ["k", "alpha"]
    assert fits[1].metric < fits[0].metric
    assert fits[1].best is not None
    assert inspection.size == fits[1].best.bytes
    state = generator.unpack(tmp_path / "out.py").state_dict
    assert loss(state) == fits[1].metric


def test_what_the_knob_leaves_alone_is_coded_once(tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coded: list[str] = []
    for kind in (Lzma, Zlib):
        monkeypatch.setattr(kind, "encode", _counting(kind.encode, coded))
    rule = {"pattern": "w", "quantizer": {"id": "rtn", "scale": "sdclip", "k": "fit"}, "codec": "zlib"}
    recipe = {"rule": [rule, {"pattern": "*", "quantizer": "int8", "codec": "lzma"}]}
    state = {"w": weights(64, 96), "other": weights(64, 96, seed=1)}
    _, fits = generator.fit(script, state, tmp_path / "out.py", recipes=[recipe], budget=14000)
    points = len(fits[0].points)
    assert points > 2
    # Each point has two streams per codec (symbols and scales); the artifact is that of the best point.
    assert coded.count("lzma") == 2
    assert coded.count("zlib") == 2 * points


def test_the_winner_is_quantized_and_checked_once(tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantized: list[str] = []
    quantize = Rtn.quantize

    def counted(self: Rtn, name: str, *rest: object) -> Quantized:
        quantized.append(name)
        return quantize(self, name, *rest)  # type: ignore[arg-type]

    checked: list[bytes] = []
    check = encode.check_decodes_to
    monkeypatch.setattr(Rtn, "quantize", counted)
    monkeypatch.setattr(encode, "check_decodes_to", lambda data, weights: check(data, weights) or checked.append(data))
    monkeypatch.setattr("generator.building.encode_quantized", lambda *_: pytest.fail("the winner is made again"))
    rules = [{"pattern": "w", "quantizer": {"id": "rtn", "scale": "sdclip", "k": "fit"}}, {"pattern": "*", "quantizer": "int8"}]
    recipes = [{"codec": codec, "rule": rules} for codec in ("zlib", "lzma")]
    state = {"w": weights(64, 96), "other": weights(64, 96, seed=1)}
    _, fits = generator.fit(
        script, state, tmp_path / "out.py", recipes=recipes, budget=14000, evaluate=lambda state: -len(state["w"].unique())
    )
    assert quantized.count("w") == sum(len(one.points) for one in fits)
    assert quantized.count("other") == len(fits)
    assert len(checked) == len(fits)
    best = min(fits, key=lambda one: one.metric)
    assert [one.payload is not None for one in fits] == [one is best for one in fits]
    assert best.payload is not None
    assert best.payload.data in checked
    packed = generator.unpack(tmp_path / "out.py").state_dict
    expected = generator.decode_payload(generator.encode_state_dict(state, best.table))
    assert all(torch.equal(packed[name], expected[name]) for name in expected)


def test_a_payload_that_decodes_to_something_else_is_not_packed(
    tmp_path: Path, script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tensor = Quantized.tensor
    monkeypatch.setattr(Quantized, "tensor", lambda self: tensor(self) + 1)
    recipe = {"rule": [{"pattern": "*", "quantizer": {"id": "rtn", "scale": "sdclip", "k": "fit"}}]}
    with pytest.raises(CheckError, match="decodes to other bits than its quantizer reported"):
        generator.fit(script, {"w": weights(64, 96)}, tmp_path / "out.py", recipes=[recipe], budget=9000)
    assert not (tmp_path / "out.py").exists()


def _counting(encode: Callable[..., Encoded], calls: list[str]) -> Callable[..., Encoded]:
    def counted(self: Codec, fields: list) -> Encoded:
        calls.append(self.id)
        return encode(self, fields)

    return counted


def test_a_budget_that_nothing_fits_writes_nothing(golfpack, tmp_path: Path, script: Path, model) -> None:
    checkpoint, file, _ = model
    before = sorted(tmp_path.iterdir())
    result = golfpack("fit", script, "-w", checkpoint, "-s", file, "-o", tmp_path / "out.py", "--budget", 1500)
    assert result.status == 1
    assert "fits the budget of 1,500 bytes; the smallest artifact found has" in result.err
    assert golfpack("fit", script, "-w", checkpoint, "-o", tmp_path / "out.py").status == 2
    (tmp_path / "plain.toml").write_text(RECIPE.replace('"fit"', "3.0"))
    result = golfpack("fit", script, "-w", checkpoint, "-r", tmp_path / "plain.toml", "-o", tmp_path / "out.py")
    assert result.status == 2
    assert "marks no knob" in result.err
    (tmp_path / "plain.toml").unlink()
    assert sorted(tmp_path.iterdir()) == before
    with pytest.raises(CheckError):
        generator.fit(script, checkpoint, tmp_path / "out.py", statistics=file, budget=1500)


def test_build_and_encode_take_statistics(golfpack, tmp_path: Path, script: Path, model) -> None:
    checkpoint, file, _ = model
    built = golfpack("build", script, "-w", checkpoint, "-s", file, "-o", tmp_path / "out.py")
    assert built.status == 0, built.err
    assert golfpack("encode", checkpoint, "-s", file, "-o", tmp_path / "m.gpk").status == 0
    assert set(generator.decode_payload((tmp_path / "m.gpk").read_bytes())) == {"w", "gain"}
    missing = golfpack("build", script, "-w", checkpoint, "-s", tmp_path / "no.safetensors", "-o", tmp_path / "x.py")
    assert (missing.status, "no.safetensors does not exist" in missing.err) == (2, True)
    wrong = golfpack("build", script, "-w", checkpoint, "-s", checkpoint, "-o", tmp_path / "x.py")
    assert (wrong.status, "is not a statistics file" in wrong.err) == (2, True)
