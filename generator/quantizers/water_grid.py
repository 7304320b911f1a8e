"""The grid of `waterfill` for one matrix: steps that are powers of two in rows and columns, and rows that keep to the guard."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.parallel import spread
from generator.quantizers.feedback import STRIP, Factor, ordered_factor, round_columns
from generator.quantizers.guard import Guard, folded, power, shares
from generator.quantizers.matrices import Calibrated
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


def columns_of(matrix: Calibrated, kind: str | None, damping: float, share: float) -> Columns:
    """Those of a matrix.

    Args:
        matrix: whose `statistics` are of this kind.
        kind: of statistics.
        damping: share of a moment's mean diagonal that is added to its diagonal.
        share: of the guard.
    """

    def make() -> Columns:
        factor = matrix.factor(kind, damping)
        exponents = (QUARTERS * factor.steps.log2()).round()
        center = exponents.median()
        tokens = folded(matrix.tokens.inputs[factor.order][:, factor.order], damping)
        bounds = shares(share, matrix.statistics.outputs.double()) * power(matrix.weights[:, factor.order].double(), tokens)
        return Columns(factor, exponents - center, center.reshape(1), Guard(tokens, bounds))

    return matrix.memory.recall((matrix.key, "columns", kind, damping, share), make)


class WaterGrid:
    """A matrix to be rounded, its columns in the order of feedback.

    Attributes:
        columns: what is known of them.
        weights: (out, in).
        mask: boolean, likewise; False forces a zero. None for no zeros.
    """

    def __init__(self, matrix: Calibrated, columns: Columns, alpha: float):
        order = columns.factor.order
        self.columns = columns
        self.weights = matrix.weights[:, order]
        self.mask = None if matrix.mask is None else matrix.mask[:, order]
        self._matrix = matrix
        self._base = columns.center + QUARTERS * math.log2(alpha)

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
        if wanted.is_cuda:
            return self._round_strip(slice(0, len(wanted)), wanted)
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
            rounded = round_both(weights, steps, factor.feedback, self.columns.factor.feedback, mask)
            fine = ~self._broken(rows, rounded * steps - weights)
            if fine.all() or attempt == COUPLINGS - 1:
                symbols[rows[fine]], exponents[rows[fine]] = rounded[fine], wanted[fine]
                return
            numbers = rows[fine]

    def _round_strip(self, strip: slice, wanted: Tensor) -> tuple[Tensor, Tensor]:
        first = strip.start
        symbols, exponents = torch.zeros_like(self.weights[strip]), wanted.clone()
        rows = torch.arange(first, first + len(wanted), device=wanted.device)
        for attempt in range(ATTEMPTS):
            weights, steps, mask = self._part(rows, exponents[rows - first])
            rounded = round_columns(weights, steps, self.columns.factor.feedback, mask=mask)
            symbols[rows - first] = rounded
            errors = rounded * steps - weights
            broken = self._broken(rows, errors)
            if not attempt:
                spare = broken.clone()
                spare[broken] = self._loss(weights[broken]) <= SPARE * self._loss(errors[broken])
                symbols[rows[spare] - first] = 0
                broken &= ~spare
            rows = rows[broken]
            if not len(rows):
                break
            exponents[rows - first] -= QUARTERS // 2
        return symbols, exponents

    def _part(self, rows: Tensor, exponents: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weights, steps and mask of some rows with such exponents."""
        steps = power_of_two(exponents)[:, None] * power_of_two(self.columns.exponents)
        return self.weights[rows].double(), steps, None if self.mask is None else self.mask[rows]

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

        return matrix.memory.recall((matrix.key, "rows", attempt), make, lambda known: torch.equal(known.numbers, numbers))


def power_of_two(exponents: Tensor) -> Tensor:
    """What exponents of quarter octaves stand for: float32 as in an artifact, in float64."""
    return (exponents / QUARTERS).exp2().float().double()
