"""Rounding with error feedback along rows and columns (two-sided LDLQ; compare YAQA, arXiv:2505.22988).

With A⁻¹ = Uᵀ U and B⁻¹ = Vᵀ V, both upper triangular, an entry's error e_ij is fed back to all entries below and to the right
of it: W − Q = Vᵀ e U, and tr(B E A Eᵀ) = Σ e². So an entry waits for all entries above and to the left of it. The matrix is
cut into square tiles; the tiles of one antidiagonal are rounded together, and within them the entries of one antidiagonal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional

TILE = 32  # rows and columns of a tile


def round_both(weights: Tensor, steps: Tensor, row_factor: Tensor, column_factor: Tensor, mask: Tensor | None = None) -> Tensor:
    """Two-sided feedback.

    Args:
        weights: (out, in) float32, rows and columns in the order of the factors.
        steps: as for `round_columns`.
        row_factor: V, (out, out) upper triangular.
        column_factor: U, (in, in) upper triangular.
        mask: boolean (out, in); False forces a zero.

    Returns:
        symbols (out, in), float32 integers.
    """
    outputs, inputs = weights.shape
    rows, columns = -(-outputs // TILE), -(-inputs // TILE)
    padding = (0, columns * TILE - inputs, 0, rows * TILE - outputs)
    mask = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    values = _tiles(functional.pad(weights, padding))
    grid = _tiles(functional.pad(steps.expand_as(weights), padding, value=1.0))
    kept = _tiles(functional.pad(mask, padding))
    v, u = _padded_factor(row_factor, rows * TILE), _padded_factor(column_factor, columns * TILE)
    v_tiles, u_tiles = _tiles(v), _tiles(u)
    symbols, errors, fed = (weights.new_zeros(rows * TILE, columns * TILE) for _ in range(3))  # fed: e U
    found = _tiles(symbols), _tiles(errors), _tiles(fed)
    for diagonal in range(rows + columns - 1):
        first, stop = max(0, diagonal - columns + 1), min(rows, diagonal + 1)
        spans = [(_span(row), _span(diagonal - row)) for row in range(first, stop)]
        r = torch.arange(first, stop, device=weights.device)
        c = diagonal - r
        left = torch.stack([errors[i, : j.start] @ u[: j.start, j] for i, j in spans])
        above = torch.stack([v[: i.start, i].T @ fed[: i.start, j] for i, j in spans])
        v_here, u_here = v_tiles[r, r], u_tiles[c, c]
        rest = values[r, c] - above - v_here.mT @ left
        symbol, error = _round_tiles(rest, grid[r, c], v_here, u_here, kept[r, c])
        for tiles, value in zip(found, (symbol, error, left + error @ u_here), strict=True):
            tiles[r, c] = value
    return symbols[:outputs, :inputs]


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


def _round_tiles(values: Tensor, steps: Tensor, v: Tensor, u: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Two-sided feedback within square tiles, all at once.

    Args:
        values, steps, mask: (tiles, n, n).
        v, u: factors of each tile, (tiles, n, n), upper triangular.

    Returns:
        symbols and errors e, (tiles, n, n).
    """
    v_columns, u_columns = v.mT.contiguous(), u.mT.flip(1).contiguous()  # [t, i]: V[:, i];  [t, n−1−j]: U[:, j]
    v_diagonal, u_diagonal = v.diagonal(dim1=1, dim2=2), u.diagonal(dim1=1, dim2=2).flip(1)
    values, steps, mask = values.flip(2), steps.flip(2), mask.flip(2)
    symbols = torch.zeros_like(values)
    errors = torch.zeros_like(values)  # transposed, [t, n−1−j]: e[:, j]
    fed = torch.zeros_like(values)  # [t, i, j]: (Vᵀ e)[i, j] of finished entries, columns in their own order
    for one in _antidiagonals(values.shape[-1]):
        v_here, u_here = v_diagonal[:, one.rows], u_diagonal[:, one.places]
        above = (v_columns[:, one.rows, : one.above] * errors[:, one.places, : one.above]).sum(-1)
        left = (fed[:, one.rows, : one.left] * u_columns[:, one.places, : one.left]).sum(-1)
        rest, step = one.of(values) - left - above * u_here, one.of(steps)
        symbol = (rest / step).round() * one.of(mask)
        error = (rest - symbol * step) / (u_here * v_here)
        one.of(symbols).copy_(symbol)
        one.of(errors.mT).copy_(error)
        rows, columns = one.indices(values.device)
        fed[:, rows, columns] = above + error * v_here
    return symbols.flip(2), errors.flip(1).mT
