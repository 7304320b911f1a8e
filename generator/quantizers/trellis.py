"""Trellis-coded quantization: two interleaved grids, and earlier symbols of the row say which of them an entry may use.

A uniform quantizer fills space with cubes, and loses 1.53 dB to the best there is. Here each entry has half the step,
Δ' = Δ / 2, and one of two grids of about the old density: even multiples 2k, or odd ones and zero, 2k − sign(k). Which one
follows from the parities of the k before it, by a machine of 4 to 64 states; of all paths through its trellis the Viterbi
algorithm takes the one of least cost. With 8 states that regains 1.1 dB, with 64 1.25 (Marcellin and Fischer 1990; Schwarz et
al., "Hybrid video coding with trellis-coded quantization", DCC 2019, whose grids these are, and whose 4 and 8 states; ISO/IEC
15938-17).

Each path has made errors of its own, and error feedback goes along with it: a survivor keeps what its errors put into the sums
of later columns. The cost is squared error, in units of the step, plus a price on the bits that a symbol takes, as far as
row and column scales tell (rate–distortion optimized quantization).

Tiles are those of `generator.quantizers.two_sided`: at the right edge of a tile the best survivor is taken, whatever comes.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor

from generator.compiled import compiled
from generator.quantizers.two_sided import Tile, round_both
from generator.trellises import TRANSITIONS
from runtime_stub.split import Array

# Of trellises by states, as ratios of errors' standard deviations: 1.0 to 1.25 dB.
GAINS = {4: 0.89, 8: 0.88, 16: 0.876, 32: 0.871, 64: 0.867}
FINER = 4  # quarter octaves between the steps of both grids together and of one alone

RESOLUTION = 4  # scales that bits are tabulated for, per octave, …
OCTAVES = (-4, 8)  # … from which to which, of a standard deviation in steps
MOST = 64  # largest |k| whose bits are tabulated
WIDTH = 128  # columns of a tile, at most; in wider ones more is gained, and more time taken, …
MANY = 16  # … twice as many from so many states on, which need more columns to part and to meet
TAILS = 0.2  # share of a Laplace distribution in what an entry's symbols follow, the rest is Gaussian


@dataclass(frozen=True)
class Trellis:
    """How rows of a matrix are rounded.

    Attributes:
        states: one of TRANSITIONS.
        price: of a bit, in squared steps Δ'².
    """

    states: int
    price: float

    @property
    def noise(self) -> float:
        """Standard deviation of an error, over that of a uniform quantizer of step Δ'."""
        return 2 * GAINS[self.states]

    def round(
        self, weights: Tensor, steps: Tensor, row_feedback: Tensor | None, column_feedback: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Round a matrix; arguments, result as for `generator.quantizers.two_sided.round_both`, the steps being Δ'."""
        following = np.array(TRANSITIONS[self.states])
        at = np.zeros(len(weights), "i8")  # state of each row
        scales = _scales(weights.double() / steps).numpy()
        bits = _bits() * self.price

        def rounding(rows: slice, columns: slice, tile: Tile) -> None:
            round_trellis_tile(*tile, at[rows], following, scales[rows, columns], bits)

        return round_both(weights, steps, row_feedback, column_feedback, mask, rounding, self._width(weights.shape[1]))

    def _width(self, columns: int) -> int:
        """Columns of a tile, about as many in each."""
        most = WIDTH if self.states < MANY else 2 * WIDTH
        return math.ceil(columns / math.ceil(columns / most))


def _scales(relative: Tensor) -> Tensor:
    """Number of the tabulated scale of each entry, by a rank-one fit to its square; uint8 (out, in).

    Args:
        relative: weights over steps.
    """
    energy = relative.square()
    total = energy.mean().clamp(min=1e-30)
    logarithm = (energy.mean(1, keepdim=True) / total).clamp(min=1e-12).log2() + energy.mean(0).clamp(min=1e-12).log2()
    low, high = (RESOLUTION * octave for octave in OCTAVES)
    return ((logarithm * RESOLUTION / 2).round().clamp(low, high) - low).to(torch.uint8)


@cache
def _bits() -> Array:
    """About the bits of each |k|, (scales, grids, MOST + 1)."""
    low, high = (RESOLUTION * octave for octave in OCTAVES)
    result = np.empty((high - low + 1, 2, MOST + 1))
    for number in range(high - low + 1):
        scale = 2.0 ** ((low + number) / RESOLUTION)
        for grid in range(2):
            levels = [0, *(2 * k - grid for k in range(1, MOST + 2))]
            # Each level stands for what is nearest to it, on its grid; 0 for both sides.
            edges = [(left + right) / 2 for left, right in itertools.pairwise(levels)]
            above = [1.0, *(_beyond(edge / scale) for edge in edges)]
            shares = np.array([(left - right) / 2 for left, right in itertools.pairwise(above)])
            shares[0] *= 2
            result[number, grid] = -np.log2(shares + 1e-12)
    return result


def _beyond(size: float) -> float:
    """The probability that an entry is larger than so many standard deviations."""
    return (1 - TAILS) * math.erfc(size / math.sqrt(2)) + TAILS * math.exp(-math.sqrt(2) * size)


@compiled
def round_trellis_tile(
    values: Array,
    steps: Array,
    kept: Array,
    rows: Array,
    columns: Array,
    symbols: Array,
    errors: Array,
    fed: Array,
    at: Array,
    following: Array,
    scales: Array,
    bits: Array,
) -> None:
    """Round the entries of a tile row by row, each along the best path. (rows, columns).

    Args:
        values, steps, kept, rows, columns, symbols, errors, fed: as for `generator.quantizers.kernels.round_tile`.
        at: state of each row; the one after the tile afterwards.
        following: next state by state and parity, flat.
        scales: row of `bits` for each entry.
        bits: price of each |k|, (scales, grids, sizes).
    """
    height, width = values.shape
    states = len(following) // 2
    most = 2.0 * bits.shape[2] - 2
    cost, new_cost = np.empty(states), np.empty(states)
    ahead, new_ahead = np.empty((states, width)), np.empty((states, width))  # what a survivor's errors put into later sums
    origin = np.empty((width, states), np.int64)
    chosen = np.empty((width, states))
    for row in range(height):
        for above in range(min(row, len(rows))):
            factor = rows[above, row]
            for column in range(width):
                values[row, column] += factor * fed[above, column]
        cost[:] = np.inf
        cost[at[row]] = 0.0
        ahead[at[row]] = 0.0
        for column in range(width):
            step = steps[row, column]
            inverse = 1 / step
            value = values[row, column] + fed[row, column]
            keep = kept[row, column]
            scale = scales[row, column]
            new_cost[:] = np.inf
            chosen[column] = np.nan  # which remains where a value is not a number
            origin[column] = 0
            for state in range(states):
                before = cost[state]
                if before == np.inf:
                    continue
                exact = (value + ahead[state, column]) * inverse
                size = abs(exact)
                # The nearest sizes with even and with odd k: of 0, 4, … and 2, 6, …; or of 0, 3, 7, … and 1, 5, …
                if state & 1:
                    even = max(3.0, 4 * np.floor(size * 0.25 - 0.25) + 3) if size >= 1.5 else 0.0
                    odd = max(1.0, 4 * np.floor(size * 0.25 + 0.25) + 1)
                    even_index, odd_index = even + 1, odd + 1
                else:
                    even = 4 * np.floor(size * 0.25 + 0.5)
                    odd = 4 * np.floor(size * 0.25) + 2
                    even_index, odd_index = even, odd
                if not keep:
                    even, odd = 0.0, np.nan
                prices = bits[scale, state & 1]
                total = before + (size - even) ** 2 + prices[int(min(even_index, most)) >> 1]
                target = following[2 * state]
                if total < new_cost[target]:
                    new_cost[target] = total
                    origin[column, target] = state
                    chosen[column, target] = -even if exact < 0 else even
                total = before + (size - odd) ** 2 + prices[int(min(odd_index, most)) >> 1]
                target = following[2 * state + 1]
                if total < new_cost[target]:
                    new_cost[target] = total
                    origin[column, target] = state
                    chosen[column, target] = -odd if exact < 0 else odd
            for state in range(states):
                if new_cost[state] == np.inf:
                    continue
                error = errors[row, column] - chosen[column, state] * step
                source = origin[column, state]
                for later in range(column + 1, width):
                    new_ahead[state, later] = ahead[source, later] + error * columns[column, later]
            cost, new_cost = new_cost, cost
            ahead, new_ahead = new_ahead, ahead
        state = int(np.argmin(cost))
        at[row] = state
        for column in range(width - 1, -1, -1):
            symbols[row, column] = chosen[column, state]
            state = origin[column, state]
        for column in range(width):
            error = errors[row, column] - symbols[row, column] * steps[row, column]
            errors[row, column] = error
            fed[row, column] += error
            for later in range(column + 1, width):
                fed[row, later] += error * columns[column, later]
