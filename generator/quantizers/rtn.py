"""Round to nearest on a symmetric integer grid."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from generator.quantizers.base import Quantized, dtype_name, finite_float32, integers
from generator.quantizers.feedback import round_to
from generator.quantizers.scales import GridOptions, divide, spread, stored_scales
from generator.statistics import TensorStatistics


class Rtn(GridOptions):
    """Symmetric `bits`-bit integers, each weight rounded on its own: w ≈ q · s.

    A row is everything at one index of the first dimension; a tensor of fewer than two dimensions has one scale.
    """

    id: ClassVar[str] = "rtn"

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        weights = finite_float32(name, tensor, self.id)
        symbols, scales = self.round(name, weights if mask is None else weights * mask)
        if self.per == "group" and tensor.ndim >= 2 and scales.shape[1] > 1:
            dequantizer, stored = "groups", stored_scales(scales)
        else:
            scale_shape = (len(scales),) + (1,) * (tensor.ndim - 1) if tensor.ndim >= 2 else (1,) * tensor.ndim
            dequantizer, stored = "scale", stored_scales(scales[:, :1]).reshape(scale_shape)
        return Quantized(
            dequantizer, "float32", dtype_name(tensor.dtype), (integers(name, symbols.reshape(tensor.shape)), stored)
        )

    def round(self, name: str, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Symbols (rows, width) and scales (rows, parts) or (1, 1) of float32 weights of any shape."""
        rows = weights.shape[0] if weights.ndim >= 2 else 1
        matrix = weights.reshape(rows, weights.numel() // rows if rows else 0)
        scales = self.scales(name, matrix)
        limit = self.largest if self.scale == "absmax" else self.limit  # absmax reaches no further, but for its rounding
        return round_to(divide(matrix, spread(scales, matrix.shape[1])), limit), scales
