"""Steps of symmetric integer grids: absmax, SDClip or MSE clip search, per tensor, row or group; float16 as stored."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantizer, shifted
from generator.quantizers.knob import Knob
from runtime_stub.split import Array

FLOAT16_MAX = 65504.0
FLOAT16_TINY = 2.0**-24
SMALL = 2.0**-18  # a smaller scale is off by a part in 2^7 or more in float16
NEGLIGIBLE = 2.0**-20  # share of a tensor's sum of squares that may have smaller scales
CLIP_SHARES = torch.linspace(1.0, 0.3, 36)  # of a row's absmax, tried by the MSE clip search


class GridOptions(Quantizer):
    """Options of quantizers with an integer grid w ≈ q · s.

    Attributes:
        bits: qmax = 2^(bits−1) − 1 levels on each side of zero.
        scale: "absmax": s = max |w| / qmax; "sdclip": s = k · std / qmax (Parameter Golf records); "mse": s = c · max |w| /
            qmax with the share c that minimizes the squared rounding error ("GPTQ-lite").
        per: "tensor", "row" or "group": what shares a scale.
        group: weights of a row that share a scale; evened out over the row.
        k: of "sdclip".
        clip: whether weights beyond qmax are clipped. They are with "mse", which searches for just that, and are not
            otherwise: outliers are rare, and codecs escape-code them.
    """

    knobs: ClassVar[tuple[Knob, ...]] = (Knob("k", 0.1, 1e4, usual=12.85),)
    bits: int = Field(6, ge=2, le=8)
    scale: Literal["absmax", "sdclip", "mse"] = "absmax"
    per: Literal["tensor", "row", "group"] = "row"
    group: int = Field(128, ge=1)
    k: float = Field(12.85, gt=0, le=1e6)
    clip: bool | None = None

    @property
    def largest(self) -> int:
        """Levels on each side of zero."""
        return int(2 ** (self.bits - 1) - 1)

    @property
    def limit(self) -> int | None:
        """Greatest symbol, when weights are clipped."""
        return self.largest if self.clip or (self.clip is None and self.scale == "mse") else None

    def parts(self, width: int) -> int:
        """How many scales a row of `width` weights has."""
        return max(1, -(-width // self.group)) if self.per == "group" else 1

    def scales(self, name: str, matrix: Tensor) -> Tensor:
        """Scales (rows, parts), or (1, 1) per tensor; 0 where all weights are 0.

        Exactly representable in float16, but for tensors too small for that.
        """
        rows, width = matrix.shape
        if not matrix.numel():
            return matrix.new_zeros(1 if self.per == "tensor" else rows, self.parts(width))
        cells = matrix.reshape(1, -1) if self.per == "tensor" else matrix
        cells, counts = grouped(cells, self.parts(width))
        absmax = cells.abs().amax(-1)
        octaves = lift(absmax / self.largest, cells)
        if octaves:
            return lowered(self.scales(name, shifted(matrix, octaves)), octaves)
        if self.scale == "sdclip":
            mean = cells.sum(-1) / counts
            deviation = ((cells.square().sum(-1) / counts) - mean**2).clamp(min=0).sqrt()
            # A constant part has no deviation; its size takes the place.
            wanted = torch.where(deviation > 1e-6 * absmax, self.k * deviation, absmax) / self.largest
        else:
            wanted = absmax / self.largest
        scales = as_float16(name, wanted, absmax, f"int{self.bits}")
        return self._search(cells, absmax, scales) if self.scale == "mse" else scales

    def _search(self, cells: Tensor, absmax: Tensor, scales: Tensor) -> Tensor:
        best_error = torch.full_like(scales, torch.inf)
        best = scales
        for share in CLIP_SHARES.tolist():
            candidate = (share * absmax / self.largest).half().float()
            candidate = torch.where(absmax > 0, candidate.clamp(FLOAT16_TINY, FLOAT16_MAX), 0)
            divisor = torch.where(candidate > 0, candidate, 1)[..., None]
            rounded = (cells / divisor).round().clamp(-self.largest, self.largest) * divisor
            error = (cells - rounded).square().sum(-1)
            better = error < best_error
            best_error = torch.where(better, error, best_error)
            best = torch.where(better, candidate, best)
        return best


def lift(wanted: Tensor, cells: Tensor) -> int:
    """Octaves that a tensor is to be lifted by so that float16 can hold its scales; 0 for nearly all tensors.

    Below its normal range float16 has ever fewer bits, and then none. Where no more than a negligible share of the tensor has
    scales down there, it stays as it is: rows that were never used have often decayed to almost nothing.

    Args:
        wanted: scales, (rows, parts).
        cells: what they are for, (rows, parts, weights).
    """
    small = wanted < SMALL
    if not small.any() or not cells.any():
        return 0
    energy = cells.double().square().sum(-1)
    if energy[small].sum() <= NEGLIGIBLE * energy.sum():
        return 0
    _, exponent = torch.frexp(cells.abs().max())
    return max(0, -int(exponent))


def lowered(scales: Tensor, octaves: int) -> Tensor:
    """Scales of a lifted tensor for the tensor itself, in float32; never below what they should be, lest weights be clipped."""
    result = shifted(scales, -octaves)
    return torch.where(shifted(result, octaves) < scales, torch.nextafter(result, torch.full_like(result, torch.inf)), result)


def as_float16(name: str, wanted: Tensor, absmax: Tensor, what: str) -> Tensor:
    """Scales rounded to float16, before weights are divided by them: rounding them costs no accuracy.

    Raises:
        InputError: a scale exceeds float16.
    """
    if (wanted > FLOAT16_MAX).any():
        raise InputError(f"tensor {name!r} holds values whose {what} scale exceeds float16; use fp32 or keep")
    # A part too small for float16 still gets the smallest scale there is, not zero.
    return torch.where(absmax > 0, wanted.half().float().clamp(min=FLOAT16_TINY), 0)


def grouped(matrix: Tensor, parts: int) -> tuple[Tensor, Tensor]:
    """A matrix (rows, width) cut into (rows, parts, ceil(width / parts)), zeros at the end; and how many are real, (parts,)."""
    rows, width = matrix.shape
    size = -(-width // parts)
    padded = torch.nn.functional.pad(matrix, (0, parts * size - width))
    counts = (width - size * torch.arange(parts, device=matrix.device)).clamp(1, size)
    return padded.reshape(rows, parts, size), counts


def spread(scales: Tensor, width: int) -> Tensor:
    """Scales (rows, parts) at every weight they are for: broadcasts against (rows, width)."""
    if scales.shape[1] == 1:
        return scales
    return scales.repeat_interleave(-(-width // scales.shape[1]), 1)[:, :width]


def divide(matrix: Tensor, steps: Tensor) -> Tensor:
    """matrix / steps, 0 where the step is 0."""
    return torch.where(steps > 0, matrix / torch.where(steps > 0, steps, 1), 0)


def stored_scales(scales: Tensor) -> Array:
    """Scales as the payload keeps them: float16, or float32 where float16 would change one."""
    wide = bool((scales.half().float() != scales).any())
    return scales.cpu().numpy().astype(np.dtype("<f4" if wide else "<f2"))
