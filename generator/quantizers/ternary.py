"""Ternary and binary weights times a scale per tensor, row or group."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, Quantizer, dtype_name, finite_float32, integers, shifted
from generator.quantizers.feedback import MOST_DAMPING, ordered_factor, round_columns
from generator.quantizers.matrices import join, matched, split
from generator.quantizers.scales import as_float16, divide, grouped, lift, lowered, spread, stored_scales
from generator.statistics import TensorStatistics


class _OneBit(Quantizer):
    """What ternary and binary share.

    Attributes:
        per: "tensor", "row" or "group": what shares a scale.
        group: weights of a row that share a scale; evened out over the row.
        feedback: use calibration statistics, when there are any, for GPTQ's error feedback.
        damping: share of H's mean diagonal that is added to its diagonal.
    """

    per: Literal["tensor", "row", "group"] = "group"
    group: int = Field(128, ge=1)
    feedback: bool = True
    damping: float = Field(0.01, gt=0, le=MOST_DAMPING)
    binary: ClassVar[bool]

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        weights = finite_float32(name, tensor, self.id)
        transposed = statistics.transposed if statistics is not None else False
        if tensor.ndim < 2:
            raise InputError(f"tensor {name!r} has {tensor.ndim} dimensions, which is no matrix; {self.id} needs one")
        stack = split(name, weights, transposed)
        mask = torch.ones_like(stack, dtype=torch.bool) if mask is None else split(name, mask, transposed)
        whole = self.per == "tensor"
        symbols, scales, exact = self.round(name, stack, mask, transposed)
        if statistics is not None and self.feedback and not exact:
            symbols = self._with_feedback(name, tensor, statistics, stack, scales, mask)
        joined = integers(name, join(list(symbols.reshape(stack.shape)), tensor.shape, transposed))
        stored = stored_scales(scales)
        if scales.shape[1] > 1:
            return Quantized("groups", "float32", dtype_name(tensor.dtype), (joined, stored))
        shape = (1, 1) if whole else (1, stack.shape[1]) if transposed else (stack.shape[1], 1)
        lead = (1,) * (tensor.ndim - 2) if whole else tensor.shape[:-2]
        return Quantized("scale", "float32", dtype_name(tensor.dtype), (joined, stored.reshape(*lead, *shape)))

    def round(
        self, name: str, stack: Tensor, mask: Tensor | None = None, transposed: bool = False
    ) -> tuple[Tensor, Tensor, bool]:
        """Symbols without feedback (rows, width), scales (rows, parts) or (1, 1), and whether they give every weight back
        exactly; of float32 weights (…, out, in)."""
        kept = torch.ones_like(stack, dtype=torch.bool) if mask is None else mask
        flat, kept = self._rows(stack * kept), self._rows(kept)
        whole_rows = self.per in ("tensor", "row") or transposed
        parts = 1 if whole_rows else max(1, -(-stack.shape[-1] // self.group))
        cells, _ = grouped(flat, parts)
        real, _ = grouped(kept.float(), parts)
        size = cells.abs()
        absmax = size.amax(-1) if cells.numel() else cells.new_zeros(cells.shape[:2])
        if _of_one_size(size, absmax, real) and not (self.binary and (flat[kept] == 0).any()):
            return torch.sign(flat), absmax, True
        wanted = self._least_squares(size, real)
        octaves = lift(wanted, cells) if cells.numel() else 0
        scales = lowered(as_float16(name, shifted(wanted, octaves), absmax, self.id), octaves)
        if self.binary:
            return torch.where(flat < 0, -1.0, 1.0) * kept, scales, False
        return divide(flat, spread(scales, flat.shape[1])).round().clamp(-1, 1), scales, False

    def _rows(self, stack: Tensor) -> Tensor:
        """Weights (…, out, in) as rows of which none shares a scale with another."""
        shape = (1, stack.numel()) if self.per == "tensor" else (math.prod(stack.shape[:-1]), stack.shape[-1])
        return stack.reshape(shape)

    def _least_squares(self, size: Tensor, real: Tensor) -> Tensor:
        """The scale of each cell that fits its symbols best: Σ|w| over the weights that are not zero, by their number.

        Compared with the mean over all weights this makes up for the share of zeros.

        Args:
            size: |w|, (rows, parts, weights).
            real: likewise, 1 where there is a weight, 0 for padding and masked ones.
        """
        scales = size.sum(-1) / real.sum(-1).clamp(min=1)
        if self.binary:
            return scales
        chosen = (size > 0.5 * scales[..., None]) & (real > 0)
        return (size * chosen).sum(-1) / chosen.sum(-1).clamp(min=1)

    def _with_feedback(
        self, name: str, tensor: Tensor, statistics: TensorStatistics, stack: Tensor, scales: Tensor, mask: Tensor
    ) -> Tensor:
        matrices = matched(name, tensor, statistics, "token")
        steps = spread(scales, stack.shape[2])
        steps = torch.where(steps > 0, steps, 1).expand(stack.shape[0] * stack.shape[1], stack.shape[2])
        symbols = []
        for matrix, step, kept, known in zip(stack, steps.reshape(stack.shape), mask, matrices, strict=True):
            factor = ordered_factor(known.inputs, self.damping)
            order = factor.order
            rounded = round_columns(matrix[:, order], step[:, order], factor.feedback, 1, self.binary, kept[:, order])
            symbols.append(rounded[:, torch.argsort(order)])
        return torch.stack(symbols)


def _of_one_size(size: Tensor, absmax: Tensor, real: Tensor) -> bool:
    """Whether the weights of each cell that are not zero are all as large: as they are when they were trained so.

    Args:
        size: |w|, (rows, parts, weights).
        absmax: the largest of each cell.
        real: likewise, 1 where there is a weight, 0 for padding and masked ones.
    """
    if not size.numel():
        return True
    least = torch.where((size > 0) & (real > 0), size, torch.inf).amin(-1)
    return bool(((least == absmax) | (absmax == 0)).all())


class Ternary(_OneBit):
    """Weights −s, 0, s; s per group (default 128 weights of a row).

    A weight below half the group's mean size becomes 0 (BitNet b1.58, arXiv:2402.17764), and s is the mean size of the others.
    Weights that are ternary already, trained that way, come back exactly, whatever their scale. With statistics GPTQ's error
    feedback chooses among the three.
    """

    id: ClassVar[str] = "ternary"
    binary: ClassVar[bool] = False


class Binary(_OneBit):
    """Weights −s, s; s the mean size of the group's weights (XNOR-Net, arXiv:1603.05279). Exactness as for ternary."""

    id: ClassVar[str] = "binary"
    binary: ClassVar[bool] = True
