"""Quantizers: grids, exactness, hard tensors, refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers import without_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from generator.errors import InputError
from generator.payload import same_bits
from generator.quantizers import REGISTRY
from generator.quantizers.base import Quantized

DTYPES = [
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.complex64,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
]  # fmt: skip


def quantize(quantizer: str, tensor: torch.Tensor) -> Quantized:
    return REGISTRY[quantizer]().quantize("w", tensor)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (2, 3, 4)], ids=str)
def test_keep_keeps_every_bit(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    octets = torch.randint(0, 2 if dtype == torch.bool else 256, (*shape, dtype.itemsize), dtype=torch.uint8)
    tensor = octets.view(dtype).reshape(shape)
    assert same_bits(quantize("keep", tensor).tensor(), tensor)


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("shape", [(), (1,), (9,), (0, 4), (4, 0), (6, 10), (3, 4, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_int_stays_within_half_a_step(bits: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(bits)).to(dtype)
    result = quantize(f"int{bits}", tensor)
    restored = result.tensor()
    assert restored.shape == tensor.shape
    assert restored.dtype == dtype
    symbols, scales = result.arrays
    assert symbols.dtype == np.int8
    assert scales.dtype == np.dtype("<f2")
    if tensor.numel():
        assert abs(int(np.abs(symbols.astype(int)).max())) <= 2 ** (bits - 1) - 1
        # Half a step, plus what rounding the scale to float16 and the result to `dtype` may add at the end of the grid.
        absmax = tensor.float().abs().max()
        slack = absmax * (2**-11 + torch.finfo(dtype).eps)
        assert (restored.float() - tensor.float()).abs().max() <= float(scales.max()) / 2 + slack


def test_int_has_one_scale_per_row() -> None:
    tensor = torch.tensor([[1e-3, -1e-3], [100.0, 50.0]])
    restored = quantize("int8", tensor).tensor()
    assert ((restored - tensor).abs() <= tensor.abs().amax(1, keepdim=True) / 253).all()


@given(
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=6), elements=st.floats(-1e4, 1e4, width=32).map(without_tiny))
)
@settings(max_examples=60, deadline=None)
def test_int_of_anything_finite(array: np.ndarray) -> None:
    restored = quantize("int6", torch.from_numpy(array)).tensor()
    assert torch.isfinite(restored).all()
    assert (restored[torch.from_numpy(array) == 0] == 0).all()


@pytest.mark.parametrize("scale", [1e-30, 1e-9, 1e-6])
def test_int_of_tiny_rows_does_not_vanish_or_blow_up(scale: float) -> None:
    tensor = torch.tensor([[scale, -scale / 2], [0.0, 0.0]])
    restored = quantize("int8", tensor).tensor()
    assert (restored[1] == 0).all()
    assert (restored[0] - tensor[0]).abs().max() <= max(scale / 100, 2.0**-25)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_int_refuses_what_is_not_finite(value: float) -> None:
    with pytest.raises(InputError, match="tensor 'w' holds (NaN|Inf)"):
        quantize("int6", torch.tensor([[1.0, value]]))


def test_int_refuses_scales_beyond_float16() -> None:
    with pytest.raises(InputError, match="'w'.*exceeds float16"):
        quantize("int6", torch.tensor([[1e8, 0.0]]))


def test_int_refuses_integers() -> None:
    with pytest.raises(InputError, match="'w' is int64"):
        quantize("int6", torch.tensor([[1, 2]]))


@pytest.mark.parametrize(("quantizer", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_casts_round_once_and_load_in_the_original_dtype(quantizer: str, dtype: torch.dtype) -> None:
    tensor = torch.randn(7, 3, dtype=torch.float64)
    result = quantize(quantizer, tensor)
    assert same_bits(result.tensor(), tensor.to(dtype).double())
    assert result.arrays[0].itemsize == dtype.itemsize


def test_casts_keep_short_tensors_exactly() -> None:
    tensor = torch.randn(5).bfloat16() * 1e30  # beyond float16
    assert same_bits(quantize("fp16", tensor).tensor(), tensor)


def test_fp16_keeps_infinities_and_refuses_overflow() -> None:
    mask = torch.tensor([0.0, -float("inf")])
    assert same_bits(quantize("fp16", mask).tensor(), mask)
    with pytest.raises(InputError, match="'w'.*beyond the range of fp16"):
        quantize("fp16", torch.tensor([1e6]))
