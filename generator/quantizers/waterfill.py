"""Reverse water-filling: steps such that every weight adds the same expected loss, one constant for the whole model."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor

from generator.parallel import spread
from generator.quantizers.base import Quantized, Quantizer, dtype_name, integers
from generator.quantizers.feedback import MOST_DAMPING
from generator.quantizers.knob import Knob
from generator.quantizers.matrices import Calibrated, calibrated, join
from generator.quantizers.sampling import sampled_rows
from generator.quantizers.trellis import FINER, Trellis
from generator.quantizers.water_grid import QUARTERS, Columns, WaterGrid, columns_of, power_of_two
from generator.statistics import TensorStatistics

# Symbols, row exponents, column exponents; and how many rows the guard gave smaller steps.
_Arrays: TypeAlias = tuple[Tensor, Tensor, Tensor, int]

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
        trellis: states of a trellis-coded quantizer (`generator.quantizers.trellis`), 4 to 64, with which columns keep their
            order in feedback; 1 for a uniform one. More states take fewer bytes, and longer. It pays with the codec `trellis`,
            which `auto` finds.
        price: of a bit in what the trellis minimizes; an error of half the step that a uniform quantizer has costs 1.
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
    trellis: Literal[1, 4, 8, 16, 32, 64] = 1
    price: float = Field(0.12, ge=0, le=1)
    guard: float = Field(0.1, gt=0)

    @property
    def needs_statistics(self) -> bool:
        return True

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        matrices, transposed = calibrated(name, tensor, statistics, mask, self.id, self.statistics)
        return self._join(name, tensor, matrices, transposed, self._matrix)

    def sample(self, name: str, tensor: Tensor, statistics: TensorStatistics | None, share: float) -> Quantized:
        matrices, transposed = calibrated(name, tensor, statistics, None, self.id, self.statistics)
        return self._join(name, tensor, matrices, transposed, lambda matrix: self._sample_matrix(matrix, share))

    def _join(
        self, name: str, tensor: Tensor, matrices: list[Calibrated], transposed: bool, make: Callable[[Calibrated], _Arrays]
    ) -> Quantized:
        """What `make` gives for each matrix, as the arrays of the tensor."""
        found = spread(make, matrices)
        symbols, rows, columns, refined = zip(*found, strict=True) if found else ((), (), (), ())
        lead = tensor.shape[:-2]
        outputs, inputs = symbols[0].shape if found else (0, 0)
        shape, row_shape, column_shape = (
            (*lead, *(sides[::-1] if transposed else sides)) for sides in ((outputs, inputs), (outputs, 1), (1, inputs))
        )
        arrays = (
            integers(name, join(symbols, shape if found else tensor.shape, transposed)),
            integers(name, join(rows, row_shape, transposed)),
            integers(name, join(columns, column_shape, transposed)),
        )
        return Quantized("grid", "float32", dtype_name(tensor.dtype), arrays, sum(refined))

    def _matrix(self, matrix: Calibrated) -> _Arrays:
        """Symbols (out, in), exponents of rows (out, 1) and columns (1, in), as float32 integers; how many rows are refined."""
        if matrix.unused:
            return self._unseen(matrix.weights, matrix.mask)
        columns, grid, wanted, moment = self._prepare(matrix)
        symbols, rows = grid.round_rows(wanted)
        refined = int(((rows < wanted) & symbols.any(1)).sum())
        if moment is not None:
            grid.couple(moment(), ((rows == wanted) & symbols.any(1)).nonzero()[:, 0], symbols, rows)
        return *_in_place(symbols, rows, columns), refined

    def _sample_matrix(self, matrix: Calibrated, share: float) -> _Arrays:
        """The same of some rows. What other rows feed to them is drawn as noise of the variance that it has."""
        numbers = sampled_rows(len(matrix.weights), share)
        if matrix.unused:
            return self._unseen(matrix.weights[numbers], None)
        columns, grid, wanted, moment = self._prepare(matrix)
        symbols, rows = grid.round_some(numbers, wanted[numbers])
        if moment is not None:
            coupled = (rows == wanted[numbers]) & symbols.any(1)
            grid.couple_some(moment, numbers, coupled, symbols, rows)
        return *_in_place(symbols, rows, columns), 0

    @property
    def _path(self) -> Trellis | None:
        return Trellis(self.trellis, self.price) if self.trellis > 1 else None

    def _unseen(self, matrix: Tensor, mask: Tensor | None) -> _Arrays:
        """A matrix whose inputs or gradients were always zero: kept coarsely, since nothing says that it is never needed."""
        deviation = float(matrix.double().square().mean().sqrt()) if matrix.numel() else 0.0
        exponent = round(QUARTERS * math.log2(UNSEEN_STEP * deviation)) if deviation else 0
        outputs, inputs = matrix.shape
        rows, columns = matrix.new_full((outputs, 1), exponent), matrix.new_zeros(1, inputs)
        if self._path is not None and matrix.numel():
            rows -= FINER
            return self._path.round(matrix, power_of_two(rows), None, torch.eye(inputs).double(), mask), rows, columns, 0
        symbols = (matrix / 2 ** (exponent / QUARTERS)).round()
        if mask is not None:
            symbols *= mask
        return symbols, rows, columns, 0

    def _prepare(self, matrix: Calibrated) -> tuple[Columns, WaterGrid, Tensor, Callable[[], Tensor] | None]:
        """Columns, grid and wanted exponents of the rows; and what gives the moment of their gradients, if they are coupled."""
        known = matrix.statistics
        columns = columns_of(matrix, self.statistics, self.damping, self.guard, natural=self.trellis > 1)
        grid = WaterGrid(matrix, columns, self.alpha, self._path)
        gradients = known.outputs.double()
        gradients = gradients + self.output_damping * gradients.mean()

        def moment() -> Tensor:
            assert known.output_moment is not None
            shrunk = known.output_moment.double() * (1 - self.output_shrinkage)
            shrunk.diagonal().copy_(gradients)
            return shrunk

        coupled = self.output == "full" and known.output_moment is not None
        return columns, grid, grid.row_exponents(gradients.rsqrt()), moment if coupled else None


def _in_place(symbols: Tensor, rows: Tensor, columns: Columns) -> tuple[Tensor, Tensor, Tensor]:
    """Arrays with the columns where they were."""
    back = torch.argsort(columns.factor.order)
    return symbols[:, back], rows[:, None].float(), columns.exponents[back][None].float()
