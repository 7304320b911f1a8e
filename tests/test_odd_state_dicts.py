"""State dicts of any names, dtypes, shapes and bits: packed and decoded to the same, or refused in one sentence."""

from __future__ import annotations

import math
import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

import generator
from generator import quantizers
from generator.errors import InputError
from generator.payload import same_bits
from generator.recipes.recipe import make_recipe
from generator.statistics import Statistics

DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.complex64, torch.complex32, torch.float8_e4m3fn,
    torch.float8_e5m2, torch.bool, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.uint16, torch.uint32,
    torch.uint64,
]  # fmt: skip
SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple) | st.sampled_from(
    [(), (1,), (0,), (300,), (40, 70), (1, 1, 1, 1, 9)]
)
SIZES = (1e-320, 1e-42, 1e-30, 1e-8, 1e-5, 1.0, 1e4, 1e30, 1e300)
REAL = [quantizer for quantizer in sorted(quantizers.REGISTRY) if quantizer not in ("gptq", "waterfill")]
EXACT = {"codec": "zlib", "rule": [{"pattern": "*", "quantizer": "keep"}]}


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """A tensor of random bits, or of random values of one size or several, some of them zero."""
    dtype, shape = draw(st.sampled_from(DTYPES)), draw(SHAPES)
    noise = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
    if draw(st.booleans()) or dtype == torch.bool:
        octets = torch.randint(0, 2 if dtype == torch.bool else 256, (math.prod(shape) * dtype.itemsize,), generator=noise)
        return octets.to(torch.uint8).view(dtype).reshape(shape)
    sizes = torch.tensor(draw(st.lists(st.sampled_from(SIZES), min_size=1, max_size=2)), dtype=torch.float64)
    values = torch.randn(shape, generator=noise, dtype=torch.float64)
    values = values * sizes[torch.randint(0, len(sizes), shape, generator=noise)]
    values = values * (torch.rand(shape, generator=noise) < draw(st.sampled_from([0.0, 0.5, 1.0])))
    return values.to(dtype) if dtype.is_floating_point or dtype.is_complex else values.clamp(0, 9).to(dtype)


STATE_DICTS = st.dictionaries(st.text(max_size=6), tensors(), min_size=1, max_size=4)


def check_sentence(error: InputError, names: list[str]) -> None:
    assert str(error).isprintable()
    assert any(repr(name) in str(error) for name in names), error


@given(STATE_DICTS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_kept_to_the_bit(state_dict: dict[str, Tensor]) -> None:
    try:
        payload = generator.encode_state_dict(state_dict, EXACT)
    except InputError as error:
        check_sentence(error, ["__metadata__", *(name for name in state_dict if not name.isascii())])
        return
    decoded = generator.decode_payload(payload)
    assert decoded.keys() == state_dict.keys()
    for name, tensor in state_dict.items():
        assert same_bits(decoded[name], tensor)


@given(STATE_DICTS, st.sampled_from(REAL), st.sampled_from(["store", "zlib", "rans", "bitmask"]))
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_quantized_or_refused(state_dict: dict[str, Tensor], quantizer: str, codec: str) -> None:
    spec = {"id": "prune", "fraction": 0.3} if quantizer == "prune" else quantizer
    recipe = {"codec": codec, "rule": [{"pattern": "*", "quantizer": spec}]}
    try:
        payload = generator.encode_state_dict(state_dict, recipe)
    except InputError as error:
        check_sentence(error, list(state_dict))
        return
    for name, decoded in generator.decode_payload(payload).items():
        tensor = state_dict[name]
        assert decoded.shape == tensor.shape
        assert decoded.dtype == tensor.dtype
        if not tensor.is_floating_point():
            assert same_bits(decoded, tensor)
        else:
            check_not_lost(tensor, decoded)


def check_not_lost(tensor: Tensor, decoded: Tensor) -> None:
    """What quantizing leaves is never nothing, and never beyond what was there."""
    finite = torch.isfinite(tensor.double())
    exact, other = tensor.double()[finite], decoded.double()[finite]
    if exact.numel() and exact.abs().max() > 0:
        peak = exact.abs().max()
        assert torch.isfinite(other).all()
        # float8 rounds what loads in it, and prune may take the largest of three weights; zeros for all would be a loss.
        assert tensor.dtype.itemsize == 1 or exact.numel() < 4 or (other / peak).any()
        assert (other.abs() / peak).max() < 2


@pytest.mark.parametrize("quantizer", sorted(quantizers.REGISTRY))
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_kept_or_refused(quantizer: str, value: float) -> None:
    weights = torch.linspace(-1, 1, 12).reshape(3, 4)
    weights[1, 2] = value
    spec = {"id": quantizer, **({"fraction": 0.5} if quantizer == "prune" else {})}
    statistics = Statistics("token", 1, 1, {"w:H": torch.eye(4)[None], "w:g": torch.ones(1, 3)}, {"w": [3, 4]}, {"w": ["w"]})
    recipe = make_recipe({"rule": [{"pattern": "*", "quantizer": spec}]})
    if quantizer in ("keep", "fp16", "bf16", "fp32"):
        decoded = generator.decode_payload(generator.encode_state_dict({"w": weights}, recipe))["w"]
        torch.testing.assert_close(decoded, weights, rtol=1e-2, atol=0, equal_nan=True)
        return
    kind = "NaN" if math.isnan(value) else "Inf"
    with pytest.raises(InputError, match=f"tensor 'w' holds {kind}, which .* can't quantize; repair it or use keep") as error:
        generator.encode_state_dict({"w": weights}, recipe, statistics)
    assert re.fullmatch(r"[^\n]*\(the recipe\)", str(error.value))
