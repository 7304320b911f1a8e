"""Reverse water-filling: steps such that every weight adds the same expected loss, one constant for the whole model."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, Quantizer, dtype_name, finite_float32, integers
from generator.quantizers.feedback import ordered_inverse_factor, round_both, round_columns
from generator.quantizers.matrices import join, matched, split
from generator.statistics import MatrixStatistics, TensorStatistics

QUARTERS = 4  # exponents of the step grid per octave
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
        output: "diagonal": feedback along columns only, as in GPTQ; "full": along rows, too. That saves bytes where the
            expansion of the loss holds, and can fail badly where it does not (see docs/COMPRESSION.md), so look at the metric.
        statistics: "sequence", "token", or the former when it is there.
        damping: share of A's mean diagonal that is added to its diagonal.
        output_damping: the same for B.
        guard: greatest error of a row's outputs, as a share of their power w A wᵀ. A unit that saturates what follows it (a
            massive activation in front of a normalization) has next to no gradient, and yet must not be lost.
    """

    id: ClassVar[str] = "waterfill"
    alpha: float = Field(9e-5, gt=0, allow_inf_nan=False)
    output: Literal["full", "diagonal"] = "diagonal"
    statistics: Literal["token", "sequence"] | None = None
    damping: float = Field(0.01, gt=0, allow_inf_nan=False)
    output_damping: float = Field(0.05, gt=0, allow_inf_nan=False)
    guard: float = Field(0.01, gt=0)

    @property
    def needs_statistics(self) -> bool:
        return True

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        if statistics is None:
            raise InputError(f"tensor {name!r} has no statistics, which waterfill needs")
        weights = finite_float32(name, tensor, self.id)
        transposed = statistics.transposed
        moments = matched(name, tensor, statistics, self.statistics)
        masks = None if mask is None else split(name, mask, transposed)
        symbols: list[Tensor] = []
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        for number, (matrix, moment) in enumerate(zip(split(name, weights, transposed), moments, strict=True)):
            result = self._matrix(matrix, moment, None if masks is None else masks[number])
            for values, value in zip((symbols, rows, columns), result, strict=True):
                values.append(value)
        lead = tensor.shape[:-2]
        row_shape, column_shape = ((*lead, 1, 0), (*lead, 0, 1)) if transposed else ((*lead, 0, 1), (*lead, 1, 0))
        arrays = (
            integers(join(symbols, tensor.shape, transposed)),
            integers(join(rows, row_shape, transposed)),
            integers(join(columns, column_shape, transposed)),
        )
        return Quantized("grid", "float32", dtype_name(tensor.dtype), arrays)

    def _matrix(self, matrix: Tensor, moment: MatrixStatistics, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Symbols (out, in), row exponents (out, 1) and column exponents (1, in), as float32 integers."""
        outputs, inputs = matrix.shape
        if not moment.inputs.diagonal().any() or not moment.outputs.any():
            return _unseen(matrix, mask)
        column_order, column_factor = ordered_inverse_factor(moment.inputs, self.damping)
        row_factor = None
        if self.output == "full" and moment.output_moment is not None:
            row_order, row_factor = ordered_inverse_factor(moment.output_moment, self.output_damping)
            row_steps = row_factor.diagonal()
        else:
            row_order = torch.arange(outputs, device=matrix.device)
            row_steps = (moment.outputs + self.output_damping * moment.outputs.mean()).rsqrt()
        ordered = matrix[row_order][:, column_order]
        power = (torch.linalg.solve_triangular(column_factor.T, ordered.T, upper=False)).square().sum(0)  # w A wᵀ
        bound = (12 * self.guard * power / inputs).sqrt() / self.alpha
        row_steps = torch.where(bound > 0, torch.minimum(row_steps, bound), row_steps)
        column_exponents = (QUARTERS * column_factor.diagonal().double().log2()).round()
        center = column_exponents.median()
        column_exponents -= center
        wanted = QUARTERS * (math.log2(self.alpha) + row_steps.double().log2()) + center
        row_exponents = wanted.round()
        steps = _power(row_exponents)[:, None] * _power(column_exponents)
        keep = None if mask is None else mask[row_order][:, column_order]
        if row_factor is None:
            rounded = round_columns(ordered, steps, column_factor, keep=keep)
        else:
            rounded = round_both(ordered, steps, row_factor, column_factor, keep)
        rows_back, columns_back = torch.argsort(row_order), torch.argsort(column_order)
        symbols = rounded[rows_back][:, columns_back]
        return symbols, row_exponents[rows_back][:, None].float(), column_exponents[columns_back][None].float()


def _power(exponents: Tensor) -> Tensor:
    return (exponents / QUARTERS).exp2().float()


def _unseen(matrix: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """A matrix whose inputs or gradients were always zero: kept coarsely, since nothing says that it is never needed."""
    deviation = float(matrix.double().square().mean().sqrt()) if matrix.numel() else 0.0
    exponent = round(QUARTERS * math.log2(UNSEEN_STEP * deviation)) if deviation else 0
    symbols = (matrix / 2 ** (exponent / QUARTERS)).round()
    if mask is not None:
        symbols *= mask
    outputs, inputs = matrix.shape
    return symbols, matrix.new_full((outputs, 1), exponent), matrix.new_zeros(1, inputs)
