"""Two-sided feedback for devices that compute much at once: by antidiagonals of tiles, and of entries within tiles.

The entries of one antidiagonal do not wait for each other. See `generator.quantizers.two_sided` for the sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

TILE = 32  # rows and columns of a tile


def round_both_by_antidiagonals(
    weights: Tensor, steps: Tensor, row_feedback: Tensor, column_feedback: Tensor, mask: Tensor
) -> Tensor:
    """As `two_sided.round_both`, for float64 weights and steps and a mask, each (out, in)."""
    outputs, inputs = weights.shape
    rows, columns = -(-outputs // TILE), -(-inputs // TILE)
    padding = (0, columns * TILE - inputs, 0, rows * TILE - outputs)
    values, kept = _tiles(functional.pad(weights, padding)), _tiles(functional.pad(mask, padding))
    grid = _tiles(functional.pad(steps, padding, value=1.0))
    g, f = _padded_factor(row_feedback, rows * TILE), _padded_factor(column_feedback, columns * TILE)
    g_tiles, f_tiles = _tiles(g), _tiles(f)
    symbols, errors, fed = (weights.new_zeros(rows * TILE, columns * TILE) for _ in range(3))  # fed: E F
    found = _tiles(symbols), _tiles(errors), _tiles(fed)
    for diagonal in range(rows + columns - 1):
        first, stop = max(0, diagonal - columns + 1), min(rows, diagonal + 1)
        spans = [(_span(row), _span(diagonal - row)) for row in range(first, stop)]
        r = torch.arange(first, stop, device=weights.device)
        c = diagonal - r
        left = torch.stack([errors[i, : j.start] @ f[: j.start, j] for i, j in spans])
        above = torch.stack([g[: i.start, i].T @ fed[: i.start, j] for i, j in spans])
        g_here, f_here = g_tiles[r, r], f_tiles[c, c]
        symbol, error = _round_tiles(values[r, c], above + g_here.mT @ left, grid[r, c], g_here, f_here, kept[r, c])
        for tiles, value in zip(found, (symbol, error, left + error @ f_here), strict=True):
            tiles[r, c] = value
    return symbols[:outputs, :inputs].float()


def _tiles(matrix: Tensor) -> Tensor:
    """A view of a matrix as tiles, (rows, columns, TILE, TILE)."""
    rows, columns = matrix.shape
    return matrix.view(rows // TILE, TILE, columns // TILE, TILE).transpose(1, 2)


def _span(tile: int) -> slice:
    """The rows or columns of a tile."""
    return slice(tile * TILE, tile * TILE + TILE)


def _padded_factor(factor: Tensor, size: int) -> Tensor:
    """A triangular factor with ones on the diagonal beyond its end."""
    padded = torch.eye(size, dtype=factor.dtype, device=factor.device)
    padded[: len(factor), : len(factor)] = factor
    return padded


@dataclass(frozen=True)
class _Antidiagonal:
    """The entries i + j = `number` of square matrices whose columns are kept in reverse order.

    In that order they lie at equal distances in memory, and so do the rows of the factors that belong to them.

    Attributes:
        number: i + j.
        rows: i of the entries.
        places: where their columns are kept, n − 1 − j, in the order of their rows.
        above, left: rows and columns of which entries are finished.
    """

    number: int
    rows: slice
    places: slice
    above: int
    left: int

    def of(self, matrices: Tensor) -> Tensor:
        """A view of these entries, (tiles, entries)."""
        return matrices[:, self.rows, self.places].diagonal(dim1=1, dim2=2)

    def indices(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """i and j of the entries."""
        rows = torch.arange(self.rows.start, self.rows.stop, device=device)
        return rows, self.number - rows


@cache
def _antidiagonals(size: int) -> list[_Antidiagonal]:
    """Those of a square matrix, in the order in which they are rounded."""
    found = []
    for number in range(2 * size - 1):
        first, stop = max(0, number - size + 1), min(size, number + 1)
        shift = size - 1 - number
        found.append(_Antidiagonal(number, slice(first, stop), slice(first + shift, stop + shift), stop, number - first + 1))
    return found


def _round_tiles(values: Tensor, outer: Tensor, steps: Tensor, g: Tensor, f: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Two-sided feedback within square tiles, all at once.

    Args:
        values, steps, mask: (tiles, n, n).
        outer: what other tiles feed in, likewise.
        g, f: feedback of each tile, (tiles, n, n), unit upper triangular.

    Returns:
        symbols and errors w − q · step, (tiles, n, n).
    """
    g_columns, f_columns = g.mT.contiguous(), f.mT.flip(1).contiguous()  # [t, i]: G[:, i];  [t, n−1−j]: F[:, j]
    values, outer, steps, mask = values.flip(2), outer.flip(2), steps.flip(2), mask.flip(2)
    symbols = torch.zeros_like(values)
    errors = torch.zeros_like(values)  # transposed, [t, n−1−j]: E[:, j]
    fed = torch.zeros_like(values)  # [t, i, j]: (Gᵀ E)[i, j] of finished entries, columns in their own order
    for one in _antidiagonals(values.shape[-1]):
        above = (g_columns[:, one.rows, : one.above] * errors[:, one.places, : one.above]).sum(-1)
        left = (fed[:, one.rows, : one.left] * f_columns[:, one.places, : one.left]).sum(-1)
        value, step = one.of(values), one.of(steps)
        symbol = ((value + one.of(outer) + left + above) / step).round() * one.of(mask)
        error = value - symbol * step
        one.of(symbols).copy_(symbol)
        one.of(errors.mT).copy_(error)
        rows, columns = one.indices(values.device)
        fed[:, rows, columns] = above + error
    return symbols.flip(2), errors.flip(1).mT
