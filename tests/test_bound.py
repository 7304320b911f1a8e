"""The distance of quantized weights from the Gaussian rate–distortion bound."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from generator.errors import InputError
from generator.measure.bound import gaussian_bits, role_rates
from generator.recipes.recipe import make_recipe
from generator.statistics import Statistics
from generator.weights.checkpoint import from_state_dict
from generator.weights.quantize import quantize_checkpoint

SIDE = 256


@pytest.fixture(scope="module")
def white() -> tuple[dict[str, torch.Tensor], Statistics]:
    """Gaussian weights, of which all errors cost the same."""
    weights = {f"blocks.{n}.w": torch.randn(SIDE, SIDE, generator=torch.Generator().manual_seed(n)) for n in range(2)}
    tensors = {}
    for name in weights:
        tensors |= {f"{name}:H": torch.eye(SIDE)[None], f"{name}:g": torch.ones(1, SIDE)}
    shapes = {name: [SIDE, SIDE] for name in weights}
    return weights, Statistics("token", 1000, 10, tensors, shapes, {name: [name] for name in shapes})


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=9), st.floats(0.01, 0.99))
def test_the_bound_is_where_water_filling_ends(variances: list[float], share: float) -> None:
    values = torch.tensor(variances, dtype=torch.float64)
    bits = gaussian_bits(values, share * sum(variances))
    assert bits >= 0
    assert gaussian_bits(values, 1.001 * sum(variances)) == 0
    assert gaussian_bits(values, share * sum(variances) / 2) > bits
    # One and the same distortion for all of them is a code, too, and no better.
    assert bits <= sum(max(0.0, math.log2(v * len(variances) / (share * sum(variances)))) / 2 for v in variances) + 1e-6
    assert gaussian_bits(values, 0.0) == math.inf


def rates(white, **options: object):
    weights, statistics = white
    checkpoint = from_state_dict(weights)
    table = {"rule": [{"pattern": "*", "quantizer": {"id": "waterfill", **options}}]}
    quantized = quantize_checkpoint(checkpoint, make_recipe(table, "test", strict=False), statistics)
    return role_rates(checkpoint.tensors, quantized.tensors, statistics)


def test_a_uniform_quantizer_and_a_trellis_are_where_theory_has_them(white) -> None:
    [uniform], [trellis] = rates(white, alpha=0.2), rates(white, alpha=0.2, trellis=8, price=0.0)
    assert uniform.role == "blocks.*.w"
    assert uniform.weights == 2 * SIDE * SIDE
    assert uniform.zero_rows == (0, 2 * SIDE)
    assert 0.24 < uniform.bits - uniform.bound < 0.28  # 0.254 by theory
    assert 0.05 < trellis.bits - trellis.bound < 0.13  # 1.1 of 1.53 dB less


def test_rows_of_zeros_are_counted(white) -> None:
    [found] = rates(white, alpha=8.0)
    assert found.zero_rows[0] > 0
    assert found.bits >= found.bound


def test_rows_that_the_guard_refines_are_counted(white) -> None:
    [free], [guarded] = rates(white, alpha=0.2, guard=9.0), rates(white, alpha=0.2, guard=0.002)
    assert free.refined_rows == 0
    assert 0 < guarded.refined_rows <= 2 * SIDE
    assert guarded.loss < free.loss


def test_tensors_that_are_not_told_of_are_no_role(white) -> None:
    weights, statistics = white
    quantized = quantize_checkpoint(
        from_state_dict(weights), make_recipe({"rule": [{"pattern": "*", "quantizer": "fp16"}]}, "x")
    )
    with pytest.raises(InputError, match="statistics tell of"):
        role_rates(weights, quantized.tensors, statistics)


def test_analyze_shows_them(golfpack, white, tmp_path: Path) -> None:
    weights, statistics = white
    save_file(weights, tmp_path / "w.safetensors")
    statistics.save(tmp_path / "s.safetensors")
    arguments = ("analyze", tmp_path / "w.safetensors", "-s", tmp_path / "s.safetensors")
    result = golfpack(*arguments, "--json")
    assert result.status == 0, result.err
    [role] = json.loads(result.out)["roles"]
    assert role["bits"] > role["bound"]
    assert role["refined_rows"] >= 0
    shown = golfpack(*arguments).out
    assert "Gaussian bound" in shown
    assert "blocks.*.w" in shown
    assert json.loads(golfpack("analyze", tmp_path / "w.safetensors", "--json").out)["roles"] is None
