"""Round to nearest on a symmetric integer grid, one float16 scale per row."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, Quantizer, dtype_name, finite_float32

FLOAT16_MAX = 65504.0
FLOAT16_TINY = 2.0**-24


class Integer(Quantizer):
    """Symmetric `bits`-bit integers: w ≈ q · s, |q| ≤ 2^(bits−1) − 1, s = max |w| of the row over that bound.

    The scale is rounded to float16 before the weights are divided by it, so that the rounding of the scale costs no
    accuracy beyond that of the grid. A row is everything at one index of the first dimension; a tensor of fewer than two
    dimensions has one scale.
    """

    id: ClassVar[str] = "int"
    bits: int = Field(6, ge=2, le=8)

    def quantize(self, name: str, tensor: Tensor) -> Quantized:
        weights = finite_float32(name, tensor, f"int{self.bits}")
        largest = 2 ** (self.bits - 1) - 1
        rows = tensor.shape[0] if tensor.ndim >= 2 else 1
        matrix = weights.reshape(rows, tensor.numel() // rows if rows else 0)
        absmax = matrix.abs().amax(1, keepdim=True) if matrix.numel() else matrix.new_zeros(rows, 1)
        if (absmax > FLOAT16_MAX * largest).any():
            raise InputError(f"tensor {name!r} holds values whose int{self.bits} scale exceeds float16; use fp32 or keep")
        # A row too small for float16 still gets the smallest scale there is, not zero.
        scales = (absmax / largest).half().float().clamp(max=FLOAT16_MAX)
        scales = torch.where(absmax > 0, scales.clamp(min=FLOAT16_TINY), 0)
        symbols = torch.where(scales > 0, matrix / scales, 0).round().clamp(-largest, largest)
        scale_shape = (rows,) + (1,) * (tensor.ndim - 1) if tensor.ndim >= 2 else (1,) * tensor.ndim
        return Quantized(
            "scale",
            "float32",
            dtype_name(tensor.dtype),
            (
                symbols.to(torch.int8).reshape(tensor.shape).numpy(),
                scales.numpy().astype(np.dtype("<f2")).reshape(scale_shape),
            ),
        )
