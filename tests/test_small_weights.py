"""Weights at the small end of a format: kept in one that can hold them, or refused; never zeros without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import generator
from generator.errors import InputError
from generator.quantizers import REGISTRY, Quantizer
from generator.quantizers.base import relative_error, shifted
from generator.statistics import MatrixStatistics, TensorStatistics

SIZES = [1e-44, 1e-40, 1e-30, 1e-12, 1e-8, 1e-6, 1e-5]


def weights(size: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Of one size; far below float16's smallest for the most part of SIZES."""
    return (torch.randn(48, 40, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * size).to(dtype)


def make(spec: str | dict[str, Any]) -> Quantizer:
    options = {"id": spec} if isinstance(spec, str) else dict(spec)
    return REGISTRY[options.pop("id")](**options)


GRIDS: dict[str, str | dict[str, Any]] = {
    "int8": "int8",
    "int6": "int6",
    "per tensor": {"id": "rtn", "bits": 6, "per": "tensor"},
    "groups": {"id": "rtn", "bits": 6, "per": "group", "group": 8},
    "sdclip": {"id": "rtn", "bits": 6, "scale": "sdclip"},
    "mse": {"id": "rtn", "bits": 6, "scale": "mse"},
    "ternary": "ternary",
    "ternary per row": {"id": "ternary", "per": "row"},
    "binary": "binary",
    "prune": {"id": "prune", "fraction": 0.1, "then": "int6"},
}


@pytest.mark.parametrize("size", SIZES[1:])
@pytest.mark.parametrize("grid", GRIDS)
def test_grids_lose_no_more_than_at_any_other_size(grid: str, size: float) -> None:
    quantizer = make(GRIDS[grid])
    usual = relative_error(weights(1.0), quantizer.quantize("w", weights(1.0)).tensor())
    result = quantizer.quantize("w", weights(size))
    # Values below 2^-126 have fewer bits themselves.
    assert relative_error(weights(size), result.tensor()) < 1.05 * usual + (0.01 if size < 1e-38 else 0)


def test_scales_stay_float16_where_only_a_negligible_part_is_small() -> None:
    tensor = weights(1.0)
    tensor[5] = 0
    tensor[6:20] *= 1e-9  # rows that decayed, as those of tokens that never came
    for grid in ("int6", "mse", "sdclip", "groups"):
        result = make(GRIDS[grid]).quantize("w", tensor)
        assert result.arrays[1].dtype == np.dtype("<f2")
        assert not result.tensor()[5].any()
        assert relative_error(tensor, result.tensor()) < 0.5


def test_a_tensor_of_one_large_value_and_many_small_ones() -> None:
    tensor = weights(3e-8)
    tensor[0, 0] = 1e-5
    result = make("int8").quantize("w", tensor).tensor()
    assert relative_error(tensor[1:], result[1:]) < 0.02


def test_gptq_has_the_same_scales() -> None:
    statistics = TensorStatistics([MatrixStatistics(torch.eye(40), torch.ones(48))], None, False)
    for spec in ({"id": "gptq"}, {"id": "gptq", "per": "tensor"}, {"id": "gptq", "per": "group", "group": 10}):
        usual = relative_error(weights(1.0), make(spec).quantize("w", weights(1.0), statistics).tensor())
        for size in (1e-9, 1e-25):
            result = make(spec).quantize("w", weights(size), statistics).tensor()
            assert relative_error(weights(size), result) < 1.05 * usual


@pytest.mark.parametrize("size", SIZES[2:])
def test_fp16_becomes_bfloat16_where_that_is_nearer(size: float) -> None:
    tensor = weights(size)
    result = make("fp16").quantize("w", tensor)
    assert result.stored == "bfloat16"
    assert torch.equal(result.tensor(), tensor.bfloat16().float())


def test_fp16_stays_float16_where_only_a_negligible_part_is_small() -> None:
    tensor = weights(1.0)
    tensor[3:30] *= 1e-9
    tensor[4] = 0
    result = make("fp16").quantize("w", tensor)
    assert result.stored == "float16"
    assert torch.equal(result.tensor(), tensor.half().float())


REFUSED = {
    "fp16 of 1e-44": ("fp16", 1e-44, torch.float32, "too small for fp16; use fp32 or keep"),
    "fp16 of 1e-300": ("fp16", 1e-300, torch.float64, "too small for fp16; use fp32 or keep"),
    "bf16 of 1e-44": ("bf16", 1e-44, torch.float32, "too small for bf16; use fp32 or keep"),
    "fp32 of 1e-300": ("fp32", 1e-300, torch.float64, "too small for fp32; use keep"),
    "int6 of 1e-300": ("int6", 1e-300, torch.float64, "too small for float32, in which rtn computes; use keep"),
    "int6 of 1e300": ("int6", 1e300, torch.float64, "beyond float32, in which rtn computes; use keep"),
    "ternary of 1e-300": ("ternary", 1e-300, torch.float64, "too small for float32, in which ternary computes; use keep"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_format_of_the_quantizer_holds_is_refused(name: str) -> None:
    spec, size, dtype, message = REFUSED[name]
    with pytest.raises(InputError, match=f"tensor 'w' holds values {message}"):
        make(spec).quantize("w", weights(size, dtype))


def test_the_payload_gives_back_what_the_quantizers_reported() -> None:
    state_dict = {f"w{number}": weights(size) for number, size in enumerate(SIZES)}
    payload = generator.encode_state_dict(state_dict, {"rule": [{"pattern": "*", "quantizer": "int6"}]})
    for name, decoded in generator.decode_payload(payload).items():
        assert relative_error(state_dict[name], decoded) < (0.1 if name == "w0" else 0.05)


def test_the_default_recipe_loses_no_tiny_tensor() -> None:
    state_dict = {
        "blocks.0.weight": torch.randn(80, 64) * 1e-8,
        "blocks.0.bias": torch.randn(64) * 1e-9,
        "zero": torch.zeros(64),
    }
    decoded = generator.decode_payload(generator.encode_state_dict(state_dict))
    for name in ("blocks.0.weight", "blocks.0.bias"):
        assert 0 < relative_error(state_dict[name], decoded[name]) < 0.05
    assert not decoded["zero"].any()


def test_relative_error_of_any_size() -> None:
    exact = torch.tensor([3.0, 4.0, torch.nan, torch.inf], dtype=torch.float64)
    for size in (1e-310, 1.0, 1e300):
        assert relative_error(exact * size, torch.tensor([3.0, 3.0, 0, 0], dtype=torch.float64) * size) == pytest.approx(0.2)
    assert relative_error(torch.zeros(3), torch.zeros(3)) == 0
    assert relative_error(torch.zeros(0), torch.zeros(0)) == 0
    assert shifted(torch.tensor(2.0**-149), 149).item() == 1
    assert shifted(torch.tensor(1.0), -149).item() == 2.0**-149
