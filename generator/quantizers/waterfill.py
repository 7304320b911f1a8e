"""Reverse water-filling: steps such that every weight adds the same expected loss, one constant for the whole model."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from generator.parallel import spread
from generator.quantizers.base import Quantized, Quantizer, dtype_name, integers
from generator.quantizers.feedback import MOST_DAMPING
from generator.quantizers.knob import Knob
from generator.quantizers.matrices import Calibrated, calibrated, join
from generator.quantizers.water_grid import QUARTERS, WaterGrid, columns_of
from generator.statistics import TensorStatistics

UNSEEN_STEP = 0.5  # of a matrix that calibration never used, in standard deviations


class Waterfill(Quantizer):
    """Steps Δ_ij = α · V_ii · U_jj, rounded to quarter octaves in rows and columns, with error feedback.

    The expected loss increase of an error E is ½ tr(B E A Eᵀ), A the moment of the inputs and B that of the output gradients.
    With A⁻¹ = Uᵀ U and B⁻¹ = Vᵀ V and error feedback it is ½ Σ e_ij², where e_ij is entry (i, j)'s rounding error over
    U_jj V_ii. An entropy-coded uniform quantizer of step Δ has the error Δ²/12 and costs log2(σ/Δ) bits, so the least loss at
    a given size makes Δ_ij / (U_jj V_ii) one constant for all entries of all matrices: reverse water-filling (Cover and
    Thomas, section 10.3.3). Where only the diagonal of B is known, or `output` says so, V_ii = 1/√(g_i + floor).

    Attributes:
        alpha: the rate knob; larger, fewer bytes.
        output: "full": feedback along columns and, for rows that keep to the guard, along rows, too; "diagonal": along
            columns only, as in GPTQ, and somewhat faster.
        statistics: "sequence", "token", or the former when it is there.
        damping: share of A's mean diagonal that is added to its diagonal.
        output_damping: the same for B.
        output_shrinkage: share by which B's other elements are shrunk, since they are estimated from few sequences.
        guard: greatest error of a row, as a share of w H wᵀ, its outputs' power over tokens; down to 0.3 of it for rows with
            small gradients. A row beyond it becomes zero where that hardly costs more, or is given smaller steps.
    """

    id: ClassVar[str] = "waterfill"
    knobs: ClassVar[tuple[Knob, ...]] = (Knob("alpha", 1e-9, 1e3, usual=5e-5),)
    alpha: float = Field(9e-5, ge=1e-20, le=1e20)
    output: Literal["full", "diagonal"] = "full"
    statistics: Literal["token", "sequence"] | None = None
    damping: float = Field(0.01, gt=0, le=MOST_DAMPING)
    output_damping: float = Field(0.05, gt=0, le=MOST_DAMPING)
    output_shrinkage: float = Field(0.2, ge=0, le=1)
    guard: float = Field(0.1, gt=0)

    @property
    def needs_statistics(self) -> bool:
        return True

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        matrices, transposed = calibrated(name, tensor, statistics, mask, self.id, self.statistics)
        found = [self._matrix(one) for one in matrices] if tensor.is_cuda else spread(self._matrix, matrices)
        symbols, rows, columns = zip(*found, strict=True) if found else ((), (), ())
        lead = tensor.shape[:-2]
        row_shape, column_shape = ((*lead, 1, 0), (*lead, 0, 1)) if transposed else ((*lead, 0, 1), (*lead, 1, 0))
        arrays = (
            integers(name, join(symbols, tensor.shape, transposed)),
            integers(name, join(rows, row_shape, transposed)),
            integers(name, join(columns, column_shape, transposed)),
        )
        return Quantized("grid", "float32", dtype_name(tensor.dtype), arrays)

    def _matrix(self, matrix: Calibrated) -> tuple[Tensor, Tensor, Tensor]:
        """Symbols (out, in), row exponents (out, 1) and column exponents (1, in), as float32 integers."""
        known = matrix.statistics
        if not known.inputs.diagonal().any() or not known.outputs.any():
            return _unseen(matrix.weights, matrix.mask)
        columns = columns_of(matrix, self.statistics, self.damping, self.guard)
        grid = WaterGrid(matrix, columns, self.alpha)
        gradients = known.outputs.double()
        gradients = gradients + self.output_damping * gradients.mean()
        wanted = grid.row_exponents(gradients.rsqrt())
        symbols, rows = grid.round_rows(wanted)
        if self.output == "full" and known.output_moment is not None:
            shrunk = known.output_moment.double() * (1 - self.output_shrinkage)
            shrunk.diagonal().copy_(gradients)
            grid.couple(shrunk, ((rows == wanted) & symbols.any(1)).nonzero()[:, 0], symbols, rows)
        back = torch.argsort(columns.factor.order)
        return symbols[:, back], rows[:, None].float(), columns.exponents[back][None].float()


def _unseen(matrix: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix whose inputs or gradients were always zero: kept coarsely, since nothing says that it is never needed."""
    deviation = float(matrix.double().square().mean().sqrt()) if matrix.numel() else 0.0
    exponent = round(QUARTERS * math.log2(UNSEEN_STEP * deviation)) if deviation else 0
    symbols = (matrix / 2 ** (exponent / QUARTERS)).round()
    if mask is not None:
        symbols *= mask
    outputs, inputs = matrix.shape
    return symbols, matrix.new_full((outputs, 1), exponent), matrix.new_zeros(1, inputs)
