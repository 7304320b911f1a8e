"""Predicting sizes from samples of rows: what a sample holds, and that a fit needs few points."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from generator.deadline import Deadline
from generator.memory import Memory
from generator.quantizers import REGISTRY
from generator.quantizers.sampling import LEAST_ROWS, sampled_rows
from generator.search.fitting import search_recipe
from generator.statistics import Statistics, TensorStatistics
from generator.weights.checkpoint import from_state_dict

SHAPES = {"a": (1024, 512), "b": (512, 1024), "c": (768, 256)}


def moment(size: int, seed: int) -> torch.Tensor:
    """Of correlated variables whose sizes differ."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(2 * size, size, generator=generator) @ (
        torch.eye(size) + 0.02 * torch.randn(size, size, generator=generator)
    )
    mixed *= torch.randn(size, generator=generator).exp()
    return mixed.T @ mixed / (2 * size)


@pytest.fixture(scope="module")
def model() -> tuple[dict[str, torch.Tensor], Statistics]:
    weights, tensors = {}, {}
    for seed, (name, (outputs, inputs)) in enumerate(SHAPES.items()):
        generator = torch.Generator().manual_seed(seed)
        widths = (0.3 * torch.randn(outputs, 1, generator=generator)).exp()
        weights[name] = torch.randn(outputs, inputs, generator=generator) * widths
        h, b = moment(inputs, seed), moment(outputs, 10 + seed) * 1e-6
        tensors |= {f"{name}:H": h[None], f"{name}:g": b.diagonal()[None].clone(), f"{name}:A": h[None], f"{name}:B": b[None]}
    shapes = {name: list(shape) for name, shape in SHAPES.items()}
    statistics = Statistics("sequence", 1000, 10, tensors, shapes, {name: [name] for name in shapes})
    return weights, statistics


@given(st.integers(1, 3000), st.floats(0.001, 1.0))
def test_sampled_rows_are_there_and_differ(outputs: int, share: float) -> None:
    rows = sampled_rows(outputs, share).tolist()
    assert len(set(rows)) == len(rows) == min(outputs, max(LEAST_ROWS, round(share * outputs)))
    assert rows == sorted(rows)
    assert 0 <= rows[0] <= rows[-1] < outputs


@pytest.mark.parametrize("output", ["full", "diagonal"])
def test_a_sample_of_waterfill_is_like_the_rows_it_stands_for(model, output: str) -> None:
    weights, statistics = model
    quantizer = REGISTRY["waterfill"](alpha=5e-4, output=output)
    for name, tensor in weights.items():
        known = statistics.find([name])
        whole, sample = quantizer.quantize(name, tensor, known), quantizer.sample(name, tensor, known, 0.25)
        rows = sampled_rows(len(tensor), 0.25).numpy()
        symbols, drawn = whole.arrays[0][rows].astype("f8"), sample.arrays[0].astype("f8")
        assert drawn.shape == symbols.shape
        assert (whole.arrays[1][rows] == sample.arrays[1]).mean() > (0.97 if output == "full" else 0.999)
        assert (whole.arrays[2] == sample.arrays[2]).all()
        if output == "diagonal":
            assert (symbols == drawn).all()
        sizes = [np.log2(1 + abs(one)).mean() for one in (symbols, drawn)]  # about their bits
        assert abs(sizes[0] - sizes[1]) < 0.02


def test_what_is_no_matrix_is_taken_whole() -> None:
    assert REGISTRY["fp16"]().sample("gain", torch.ones(7), None, 0.1).arrays[0].size == 7


@pytest.mark.parametrize("quantizer", ["int6", "gptq", {"id": "prune", "fraction": 0.4}])
def test_any_quantizer_is_sampled(model, quantizer: object) -> None:
    from generator.recipes.recipe import quantizer_of

    weights, statistics = model
    made = quantizer_of(quantizer)
    sample = made.sample("a", weights["a"], statistics.find(["a"]), 0.1)
    assert sample.arrays[0].shape == (102, 512)


def test_rows_of_a_transposed_matrix_are_its_columns(model) -> None:
    weights, statistics = model
    known = statistics.find(["c"])
    turned = TensorStatistics(list(known.token), list(known.sequence), True, Memory())
    quantizer = REGISTRY["waterfill"](alpha=2e-3)
    sample = quantizer.sample("c", weights["c"].T.contiguous(), turned, 0.25)
    straight = quantizer.sample("c", weights["c"], known, 0.25)
    assert sample.arrays[0].shape == (256, 192)
    assert (straight.arrays[0] == sample.arrays[0].T).all()


def fitted(model, budget: int, knob: dict, codec: str = "rans", **options):
    weights, statistics = model
    table = {"codec": codec, "rule": [{"pattern": "*", "quantizer": knob}]}
    return search_recipe(
        from_state_dict(weights), table, "test", statistics=statistics, budget=budget, size=lambda p: len(p.data), **options
    )


@pytest.mark.parametrize(
    ("knob", "codec", "bits"),
    [
        ({"id": "waterfill", "alpha": "fit"}, "rans", (1.5, 4)),
        ({"id": "waterfill", "alpha": "fit", "trellis": 8}, "trellis", (1.5, 4)),
        ({"id": "rtn", "bits": 7, "scale": "sdclip", "k": "fit"}, "rans", (3, 5)),
    ],
)
def test_a_fit_needs_few_points(model, knob: dict, codec: str, bits: tuple[float, float]) -> None:
    elements = sum(tensor.numel() for tensor in model[0].values())
    for rate in bits:
        budget = int(rate * elements / 8)
        fit = fitted(model, budget, knob, codec)
        assert fit.best is not None
        assert 0.999 * budget <= fit.best.bytes <= budget
        assert len(fit.points) <= 4


def test_a_fit_ends_in_time(model, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a point fits, none is begun that has no time."""
    monkeypatch.setattr("generator.search.fitting.is_close", lambda point, budget: False)
    budget = 2 * sum(tensor.numel() for tensor in model[0].values()) // 8
    fit = fitted(model, budget, {"id": "waterfill", "alpha": "fit"}, deadline=Deadline(time.monotonic()))
    assert fit.best is not None
    assert fit.best == fit.points[-1]
    assert all(point.bytes > budget for point in fit.points[:-1])
    assert "no time for another point" in caplog.text
    assert fit.payload is not None
