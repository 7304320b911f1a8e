"""Reverse water-filling: steps such that every weight adds the same expected loss, one constant for the whole model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from generator.quantizers.base import Quantized, Quantizer, dtype_name, integers
from generator.quantizers.feedback import MOST_DAMPING, ordered_inverse_factor, round_columns
from generator.quantizers.guard import Guard, damped, power, shares
from generator.quantizers.knob import Knob
from generator.quantizers.matrices import Calibrated, calibrated, join
from generator.quantizers.two_sided import round_both
from generator.statistics import TensorStatistics

QUARTERS = 4  # exponents of the step grid per octave
ATTEMPTS = 24  # half octaves by which the guard may shrink a row's steps
COUPLINGS = 3  # attempts at feedback along rows
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
            columns only, as in GPTQ, and several times faster.
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
        symbols: list[Tensor] = []
        rows: list[Tensor] = []
        columns: list[Tensor] = []
        for matrix in matrices:
            for values, value in zip((symbols, rows, columns), self._matrix(matrix), strict=True):
                values.append(value)
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
        order, factor = ordered_inverse_factor(known.inputs, self.damping)
        weights = matrix.weights[:, order]
        mask = torch.ones_like(weights, dtype=torch.bool) if matrix.mask is None else matrix.mask[:, order]
        tokens = damped(matrix.tokens.inputs, self.damping)[order][:, order]
        expansion = damped(known.inputs, self.damping)[order][:, order]
        bounds = shares(self.guard, known.outputs)
        guard = Guard(weights, tokens, expansion, bounds, power(weights * ~mask, tokens))
        exponents = (QUARTERS * factor.diagonal().double().log2()).round()
        center = exponents.median()
        exponents -= center
        grid = _Grid(weights, mask, factor, exponents, center + QUARTERS * math.log2(self.alpha), guard)
        floor = self.output_damping * known.outputs.mean()
        wanted = grid.row_exponents((known.outputs + floor).rsqrt())
        symbols, rows = _round_guarded(grid, wanted)
        if self.output == "full" and known.output_moment is not None:
            shrunk = known.output_moment * (1 - self.output_shrinkage)
            shrunk.diagonal().copy_(known.outputs + floor)
            coupled = (rows == wanted) & symbols.any(1)
            _couple_rows(grid, shrunk, coupled.nonzero()[:, 0], symbols, rows)
        back = torch.argsort(order)
        return symbols[:, back], rows[:, None].float(), exponents[back][None].float()


@dataclass(frozen=True)
class _Grid:
    """A matrix to be rounded: columns in the order of feedback, and their part of the step grid.

    Attributes:
        weights: (out, in).
        mask: boolean, likewise; False forces a zero.
        factor: U, (in, in).
        exponents: of the columns, (in,), in quarter octaves.
        base: what is to be added to a row's step in quarter octaves to make it the row's exponent.
        guard: of this matrix.
    """

    weights: Tensor
    mask: Tensor
    factor: Tensor
    exponents: Tensor
    base: Tensor
    guard: Guard

    def row_exponents(self, steps: Tensor) -> Tensor:
        """The exponents of rows with the relative steps V_ii."""
        return (self.base + QUARTERS * steps.double().log2()).round()

    def steps(self, row_exponents: Tensor) -> Tensor:
        """(rows, in)."""
        return _power(row_exponents)[:, None] * _power(self.exponents)


def _round_guarded(grid: _Grid, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Feedback along columns only; symbols (out, in), and row exponents (out,), smaller than wanted where the guard asks."""
    symbols, exponents = torch.zeros_like(grid.weights), wanted.clone()
    rows = torch.arange(len(wanted), device=wanted.device)
    for attempt in range(ATTEMPTS):
        steps = grid.steps(exponents[rows])
        symbols[rows] = rounded = round_columns(grid.weights[rows], steps, grid.factor, mask=grid.mask[rows])
        errors = rounded * steps - grid.weights[rows]
        broken = grid.guard.broken(rows, errors)
        if not attempt:
            spare = broken & grid.guard.spare(rows, errors)
            symbols[rows[spare]] = 0
            broken &= ~spare
        rows = rows[broken]
        if not len(rows):
            break
        exponents[rows] -= QUARTERS // 2
    return symbols, exponents


def _couple_rows(grid: _Grid, moment: Tensor, rows: Tensor, symbols: Tensor, exponents: Tensor) -> None:
    """Feedback among `rows`, too; changes `symbols` and `exponents` in place.

    A unit without gradient takes up the errors of all others, since its own cost nothing; so rows that break the guard stay
    as they are, and take no part in the next attempt.

    Args:
        moment: B, damped, (out, out).
    """
    for attempt in range(COUPLINGS):
        if len(rows) < 2:
            return
        order, factor = ordered_inverse_factor(moment[rows][:, rows], 0.0)
        ordered = rows[order]
        ordered_exponents = grid.row_exponents(factor.diagonal())
        steps = grid.steps(ordered_exponents)
        rounded = round_both(grid.weights[ordered], steps, factor, grid.factor, grid.mask[ordered])
        fine = ~grid.guard.broken(ordered, rounded * steps - grid.weights[ordered])
        if fine.all() or attempt == COUPLINGS - 1:
            symbols[ordered[fine]], exponents[ordered[fine]] = rounded[fine], ordered_exponents[fine]
            return
        rows = ordered[fine]


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
