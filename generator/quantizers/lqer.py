"""Low-rank correction of a quantizer's error (LQER, arXiv:2402.02446)."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field, PlainValidator
from torch import Tensor

from generator.dequantizers import CORRECTED
from generator.errors import InputError
from generator.linear_algebra import damped_factor
from generator.quantizers.base import Quantized, Quantizer, finite_float32, integers
from generator.quantizers.matrices import matched
from generator.quantizers.prune import inner
from generator.quantizers.scales import FLOAT16_TINY, grouped, spread, stored_scales
from generator.statistics import TensorStatistics

FACTORS = 4  # arrays of a correction: left, its scales, right, its scales


class Lqer(Quantizer):
    """Any other quantizer, and a product of two narrow factors of a few bits that makes up for part of its error.

    Of the error E = W − Ŵ, the factors are the leading left singular vectors of E M, H = M Mᵀ the inputs' second moment per
    token, and what goes best with them once they are rounded (least squares). They are tried against E itself where there are
    no statistics, or `weighted` says so, as the challenge's records do it.

    Attributes:
        then: the quantizer whose error it is, an id or a table as in a rule; one with integer symbols.
        rank: of the product.
        bits: of the right factor's elements; levels −2^(bits−1) to 2^(bits−1) − 1.
        group: elements of a row of the right factor that share a scale.
        form: "asymmetric": the left factor has two bits and one scale (PR #1797 of the challenge); "symmetric": it has `bits`,
            too, and a scale for each row.
        weighted: whether statistics, where there are any, weigh the error.
        worst: how many tensors of the model are corrected, of all for which the recipe gives this number: those with the
            largest ‖E‖. None for each of them.
    """

    id: ClassVar[str] = "lqer"
    then: Annotated[Quantizer, PlainValidator(lambda spec: inner(spec, "lqer"))] = Field("int6", validate_default=True)
    rank: int = Field(4, ge=1, le=64)
    bits: int = Field(4, ge=2, le=8)
    group: int = Field(64, ge=1)
    form: Literal["asymmetric", "symmetric"] = "asymmetric"
    weighted: bool = True
    worst: int | None = Field(None, ge=0)

    @property
    def needs_statistics(self) -> bool:
        return self.then.needs_statistics

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        if mask is not None:
            raise InputError(f"tensor {name!r} is pruned before lqer, which would undo that; give lqer prune as its 'then'")
        result = self.then.quantize(name, tensor, statistics)
        if result.dequantizer not in CORRECTED:
            raise InputError(f"tensor {name!r}: lqer corrects quantizers with integer symbols, which {self.then.id} is not")
        if tensor.ndim < 2 or not tensor.numel():
            return result
        weights = finite_float32(name, tensor, self.id).double()
        errors = (weights - result.tensor().double()).reshape(-1, *tensor.shape[-2:])
        moments: list[Tensor | None] = [None] * len(errors)
        if statistics is not None and self.weighted:
            moments = [one.inputs for one in matched(name, tensor, statistics, "token")]
        transposed = statistics is not None and statistics.transposed
        parts = [self._factors(one, moment, transposed) for one, moment in zip(errors, moments, strict=True)]
        symbols, scales, right, right_scales = (
            torch.stack(one).reshape(*tensor.shape[:-2], *one[0].shape) for one in zip(*parts, strict=True)
        )
        added = integers(name, symbols), stored_scales(scales), integers(name, right), stored_scales(right_scales)
        return Quantized(CORRECTED[result.dequantizer], result.stored, result.dtype, (*result.arrays, *added))

    def sample(self, name: str, tensor: Tensor, statistics: TensorStatistics | None, share: float) -> Quantized:
        return self.then.sample(name, tensor, statistics, share)  # the correction's bytes hardly depend on a knob

    def _factors(self, error: Tensor, moment: Tensor | None, transposed: bool) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Left symbols (rows, rank) and scales (1, 1) or (rows, 1), right symbols (rank, columns) and scales (rank, groups).

        Args:
            error: as it is stored, (rows, columns), float64.
            moment: H, (in, in); None to take the error as it is.
            transposed: whether the rows are the inputs.
        """
        if moment is None or not moment.any():
            left = torch.linalg.svd(error, full_matrices=False)[0][:, : self.rank]
        else:
            root = damped_factor(moment)
            if transposed:  # Mᵀ E = U S Vᵀ: E is nearest to E V Vᵀ
                right = torch.linalg.svd(root.mT @ error, full_matrices=False)[2][: self.rank]
                left = error @ right.mT
            else:
                left = torch.linalg.svd(error @ root, full_matrices=False)[0][:, : self.rank]
        left = left / left.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        symmetric = self.form == "symmetric"
        size = left.abs().amax(1, keepdim=True) if symmetric else left.abs().amax().reshape(1, 1)
        left, scales = _round(left, size, self.bits if symmetric else 2)
        known = left * scales
        right = torch.linalg.pinv(known) @ error
        width = right.shape[1]
        parts = 1 if symmetric else max(1, -(-width // self.group))
        cells, _ = grouped(right, parts)
        right_size = cells.abs().amax(-1)
        right, right_scales = _round(right, right_size, self.bits)
        return left, scales, right, right_scales


def uncorrected(result: Quantized) -> Quantized:
    """What the quantizer whose error was corrected gave."""
    plain = next((id for id, corrected in CORRECTED.items() if corrected == result.dequantizer), None)
    return result if plain is None else Quantized(plain, result.stored, result.dtype, result.arrays[:-FACTORS])


def _round(factor: Tensor, size: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Symbols, and scales that float16 or float32 hold: the largest element of each part lies half a level beyond the middle.

    Args:
        factor: (rows, columns).
        size: largest |element| of each part, (1, 1), (rows, 1) or (rows, parts).
        bits: of a symbol.
    """
    half = 2 ** (bits - 1)
    wanted = (size / (half - 0.5)).float()
    short = wanted.half().float()
    small = bool(((wanted > 0) & (wanted < 2**-14)).any()) or not bool(torch.isfinite(short).all())
    scales = torch.where(wanted > 0, wanted if small else short.clamp(min=FLOAT16_TINY), 0).double()
    steps = spread(scales, factor.shape[1])
    symbols = torch.where(steps > 0, factor / torch.where(steps > 0, steps, 1), 0).round().clamp(-half, half - 1)
    return symbols, scales
