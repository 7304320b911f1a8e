"""GPTQ: rounding column by column, each error made up for by later columns."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, dtype_name, integers
from generator.quantizers.feedback import MOST_DAMPING, round_columns
from generator.quantizers.matrices import calibrated, join
from generator.quantizers.scales import GridOptions, spread, stored_scales
from generator.statistics import TensorStatistics


class Gptq(GridOptions):
    """GPTQ (arXiv:2210.17323) on a symmetric integer grid, columns in descending order of E[x²].

    Scales are those of the original weights, so that groups do not depend on the order in which columns are visited. Inputs
    that were always zero (a rank-deficient H) are no special case: damping makes them the columns with the least weight.

    Attributes:
        damping: share of H's mean diagonal that is added to its diagonal.
        statistics: "token" (H = E[x xᵀ], as published) or "sequence" (A in its place).
    """

    id: ClassVar[str] = "gptq"
    damping: float = Field(0.01, gt=0, le=MOST_DAMPING)
    statistics: Literal["token", "sequence"] = "token"

    @property
    def needs_statistics(self) -> bool:
        return True

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        matrices, transposed = calibrated(name, tensor, statistics, mask, self.id, self.statistics)
        parts = self.parts(tensor.shape[-2 if transposed else -1])
        if transposed and parts > 1:
            raise InputError(f"tensor {name!r} is stored as (in, out), where gptq has no group scales; use per = 'row'")
        whole = self.scales(name, tensor.float().reshape(1, -1)) if self.per == "tensor" else None
        symbols, scales = [], []
        for matrix in matrices:
            scale = whole if whole is not None else self.scales(name, matrix.weights)
            steps = spread(scale, matrix.weights.shape[1])
            steps = torch.where(steps > 0, steps, 1).expand_as(matrix.weights)
            factor = matrix.factor(self.statistics, self.damping)
            order = factor.order
            mask = None if matrix.mask is None else matrix.mask[:, order]
            rounded = round_columns(matrix.weights[:, order], steps[:, order], factor.feedback, self.limit, mask=mask)
            symbols.append(rounded[:, torch.argsort(order)])
            scales.append(scale)
        joined = integers(name, join(symbols, tensor.shape, transposed))
        if parts > 1:
            return Quantized("groups", "float32", dtype_name(tensor.dtype), (joined, stored_scales(torch.cat(scales))))
        if whole is not None:
            stored = stored_scales(whole).reshape((1,) * tensor.ndim)
        else:
            stored = stored_scales(join(scales, (*tensor.shape[:-2], 1, 1), transposed))
        return Quantized("scale", "float32", dtype_name(tensor.dtype), (joined, stored))
