"""The grid of `waterfill` for one matrix: steps that are powers of two in rows and columns, and rows that keep to the guard."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.parallel import spread
from generator.quantizers.feedback import STRIP, Factor, ordered_factor, round_columns
from generator.quantizers.guard import Guard, folded, power, shares
from generator.quantizers.matrices import Calibrated
from generator.quantizers.trellis import FINER, Trellis
from generator.quantizers.two_sided import round_both

QUARTERS = 4  # exponents of the step grid per octave
ATTEMPTS = 24  # half octaves by which the guard may shrink a row's steps
COUPLINGS = 3  # attempts at feedback along rows
SPARE = 1.5  # a row may become zero if that raises its expected loss by no more than this factor


@dataclass(frozen=True)
class Columns:
    """What is known of a matrix's columns, whatever the rate.

    Attributes:
        factor: of the moment of the inputs.
        exponents: of the columns' steps, in quarter octaves, about 0, (in,) float64.
        center: what was subtracted to make them so, (1,).
        guard: of the rows, for columns in the factor's order.
    """

    factor: Factor
    exponents: Tensor
    center: Tensor
    guard: Guard


@dataclass(frozen=True)
class Rows:
    """Rows that feed their errors to each other, whatever the rate.

    Attributes:
        numbers: which they are, (k,).
        factor: of the moment of their gradients.
    """

    numbers: Tensor
    factor: Factor


@dataclass(frozen=True)
class Coupled:
    """Sampled rows that others feed their errors to, whatever the rate.

    Attributes:
        steps: 1 / N_ii of each row, (k,).
        spread: standard deviation of what is fed to a row, in steps, (k,).
        noise: drawn for it, (k, in), in steps of the columns; what has to be added to the weights for that.
    """

    steps: Tensor
    spread: Tensor
    noise: Tensor


def columns_of(matrix: Calibrated, kind: str | None, damping: float, share: float, natural: bool = False) -> Columns:
    """Those of a matrix.

    Args:
        matrix: whose `statistics` are of this kind.
        kind: of statistics.
        damping: share of a moment's mean diagonal that is added to its diagonal.
        share: of the guard.
        natural: whether the columns keep their order.
    """

    def make() -> Columns:
        factor = matrix.factor(kind, damping, natural)
        exponents = (QUARTERS * factor.steps.log2()).round()
        center = exponents.median()
        tokens = folded(matrix.tokens.inputs[factor.order][:, factor.order], damping)
        bounds = shares(share, matrix.statistics.outputs.double()) * power(matrix.weights[:, factor.order].double(), tokens)
        return Columns(factor, exponents - center, center.reshape(1), Guard(tokens, bounds))

    return matrix.memory.recall((matrix.key, "columns", kind, damping, share, natural), make)


class WaterGrid:
    """A matrix to be rounded, its columns in the order of feedback.

    Attributes:
        columns: what is known of them.
        weights: (out, in).
        mask: boolean, likewise; False forces a zero. None for no zeros.
        trellis: how rows are rounded; None for each entry to the nearest multiple of its step. Then steps are finer.
    """

    def __init__(self, matrix: Calibrated, columns: Columns, alpha: float, trellis: Trellis | None = None):
        order = columns.factor.order
        self.columns = columns
        self.weights = matrix.weights[:, order]
        self.mask = None if matrix.mask is None else matrix.mask[:, order]
        self._matrix = matrix
        self.trellis = trellis
        self._base = columns.center + QUARTERS * math.log2(alpha) - (FINER if trellis else 0)

    def row_exponents(self, steps: Tensor) -> Tensor:
        """The exponents of rows with the relative steps 1 / N_ii, float64."""
        return (self._base + QUARTERS * steps.log2()).round()

    def round_rows(self, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Feedback along columns only.

        Args:
            wanted: exponents of the rows, (out,).

        Returns:
            Symbols (out, in), and row exponents (out,), smaller than wanted where the guard asks.
        """
        strips = [slice(start, start + STRIP) for start in range(0, len(wanted), STRIP)]
        found = spread(lambda rows: self._round_strip(rows, wanted[rows]), strips)
        symbols, exponents = zip(*found, strict=True)
        return torch.cat(symbols), torch.cat(exponents)

    def couple(self, moment: Tensor, numbers: Tensor, symbols: Tensor, exponents: Tensor) -> None:
        """Feedback among some rows, too; changes `symbols` and `exponents` in place.

        A unit without gradient takes up the errors of all others, since its own cost nothing; so rows that break the guard stay
        as they are, and take no part in the next attempt.

        Args:
            moment: B, damped, (out, out).
            numbers: of the rows, (k,).
        """
        for attempt in range(COUPLINGS):
            if len(numbers) < 2:
                return
            factor = self._rows(moment, numbers, attempt).factor
            rows = numbers[factor.order]
            wanted = self.row_exponents(factor.steps)
            weights, steps, mask = self._part(rows, wanted)
            rounded = self._rounded(weights, steps, mask, factor.feedback)
            fine = ~self._broken(rows, rounded * steps - weights)
            if fine.all() or attempt == COUPLINGS - 1:
                symbols[rows[fine]], exponents[rows[fine]] = rounded[fine], wanted[fine]
                return
            numbers = rows[fine]

    def couple_some(
        self, moment: Callable[[], Tensor], numbers: Tensor, coupled: Tensor, symbols: Tensor, exponents: Tensor
    ) -> None:
        """Feedback from other rows to some, as `couple` would give it, drawn at random; changes `symbols` and `exponents`.

        With z = Gᵀ E F, G and F the feedback of rows and columns, the rounding errors z are nearly white, z_ij of variance
        Δ_ij² / 12. What earlier rows feed to entry (i, j) then has the variance Δ_ij² / 12 · (N_ii² (B⁻¹)_ii − 1), B = N Nᵀ.

        Args:
            moment: gives B, damped, (out, out).
            numbers: of the rows, (k,).
            coupled: boolean (k,), whether a row takes part.
            symbols: (k, in), as rounded without other rows.
            exponents: (k,), likewise.
        """
        known = self._coupled(moment, numbers)
        wanted = self.row_exponents(known.steps)
        weights, steps, _ = self._part(numbers, wanted)
        grids = 1.0 if self.trellis is None else self.trellis.noise
        fed = weights + known.noise * (power_of_two(wanted) * known.spread * grids)[:, None]
        rounded = self._rounded(fed, steps)
        fine = coupled & ~self._broken(numbers, rounded * steps - weights)
        symbols[fine], exponents[fine] = rounded[fine], wanted[fine]

    def _coupled(self, moment: Callable[[], Tensor], numbers: Tensor) -> Coupled:
        matrix = self._matrix

        def make() -> Coupled:
            factor = ordered_factor(moment(), 0.0)
            upper = factor.feedback / factor.steps  # N
            identity = torch.eye(len(upper), dtype=upper.dtype)
            inverse = torch.linalg.solve_triangular(upper, identity, upper=True)
            deviation = ((inverse.square().sum(0) / factor.steps.square() - 1).clamp(min=0) / 12).sqrt()
            back = torch.argsort(factor.order)[numbers]
            feedback = self.columns.factor.feedback
            drawn = torch.randn(len(numbers), len(feedback), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            scaled = drawn * power_of_two(self.columns.exponents)
            noise = torch.linalg.solve_triangular(feedback, scaled, upper=True, left=False, unitriangular=True)
            return Coupled(factor.steps[back], deviation[back], noise)

        return matrix.memory.recall((matrix.key, "coupled", len(numbers), self.trellis is None), make)

    def _round_strip(self, strip: slice, wanted: Tensor) -> tuple[Tensor, Tensor]:
        return self.round_some(torch.arange(strip.start, strip.start + len(wanted)), wanted)

    def round_some(self, numbers: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of these numbers (k,), each by itself: symbols (k, in), and exponents (k,), as `round_rows`."""
        symbols, exponents = self.weights.new_zeros(len(numbers), self.weights.shape[1]), wanted.clone()
        left = torch.arange(len(numbers))
        for attempt in range(ATTEMPTS):
            rows = numbers[left]
            weights, steps, mask = self._part(rows, exponents[left])
            rounded = self._rounded(weights, steps, mask)
            symbols[left] = rounded
            errors = rounded * steps - weights
            broken = self._broken(rows, errors)
            if not attempt:
                spare = broken.clone()
                spare[broken] = self._loss(weights[broken]) <= SPARE * self._loss(errors[broken])
                symbols[left[spare]] = 0
                broken &= ~spare
            left = left[broken]
            if not len(left):
                break
            exponents[left] -= QUARTERS // 2
        return symbols, exponents

    def _part(self, rows: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weights, steps and mask of some rows with such exponents."""
        steps = power_of_two(exponents)[:, None] * power_of_two(self.columns.exponents)
        return self.weights[rows].double(), steps, None if self.mask is None else self.mask[rows]

    def _rounded(self, weights: Tensor, steps: Tensor, mask: Tensor | None = None, rows: Tensor | None = None) -> Tensor:
        """Symbols of weights, with feedback along columns, and along rows where their feedback G is given."""
        columns = self.columns.factor.feedback
        if self.trellis is not None:
            return self.trellis.round(weights, steps, rows, columns, mask)
        if rows is None:
            return round_columns(weights, steps, columns, mask=mask)
        return round_both(weights, steps, rows, columns, mask)

    def _broken(self, rows: Tensor, errors: Tensor) -> Tensor:
        pruned = None if self.mask is None else self.weights[rows].double() * ~self.mask[rows]
        return self.columns.guard.broken(rows, errors, pruned)

    def _loss(self, errors: Tensor) -> Tensor:
        """Expected loss of errors (k, in) of rows, but for the gradient of each row; (k,)."""
        factor = self.columns.factor
        return ((errors @ factor.feedback) / factor.steps).square().sum(1)

    def _rows(self, moment: Tensor, numbers: Tensor, attempt: int) -> Rows:
        """Those rows, factored; kept for when the same ones are asked for at another rate."""
        matrix = self._matrix

        def make() -> Rows:
            return Rows(numbers, ordered_factor(moment[numbers][:, numbers], 0.0))

        key = matrix.key, "rows", attempt, self.trellis is None
        return matrix.memory.recall(key, make, lambda known: torch.equal(known.numbers, numbers))


def power_of_two(exponents: Tensor) -> Tensor:
    """What exponents of quarter octaves stand for: float32 as in an artifact, in float64."""
    return (exponents / QUARTERS).exp2().float().double()
