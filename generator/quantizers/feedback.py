"""Rounding with error feedback: each weight's rounding error is made up for by the weights that are rounded after it.

With A⁻¹ = Uᵀ U (U upper triangular) the columns are visited in order, column j's error e_j = (w̃_j − q_j) / U_jj is added
to later columns as e_j U_j, and tr(E A Eᵀ) = Σ e². That is GPTQ (arXiv:2210.17323). With an output side B⁻¹ = Vᵀ V too, the
errors are fed back to later rows as well (two-sided LDLQ; compare YAQA, arXiv:2505.22988): W − Q = Vᵀ e U and
tr(B E A Eᵀ) = Σ e².
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from generator.linear_algebra import DAMPING, damped_inverse_factor

MOST_DAMPING = 1e6  # mean diagonals; the moment itself has no part in the sum far below that
TILE = 32  # rows and columns of the tiles of two-sided feedback
BLOCK = 64  # columns whose mutual feedback is applied one by one; later ones get theirs as one matrix product


def ordered_inverse_factor(moment: Tensor, damping: float = DAMPING) -> tuple[Tensor, Tensor]:
    """U of the damped moment with its indices in descending order of its diagonal, in which GPTQ does best.

    Returns:
        the order (n,), and U in float32 (n, n), upper triangular in that order: (moment + damping)⁻¹ = Uᵀ U.
    """
    order = torch.argsort(moment.diagonal(), descending=True, stable=True)
    # L⁻¹ of the reversed matrix, reversed again, is lower triangular of the inverse's other factorization: with
    # M = J A J = L Lᵀ, A⁻¹ = (J L⁻¹ J)ᵀ (J L⁻¹ J), and J L⁻¹ J is upper triangular.
    reverse = order.flip(0)
    inverse = damped_inverse_factor(moment[reverse][:, reverse], damping)
    return order, inverse.flip(0, 1).float().contiguous()


def round_to(values: Tensor, limit: int | None, binary: bool) -> Tensor:
    """The symbol nearest to each value: an integer, at most `limit` in size; or ±1."""
    if binary:
        return torch.where(values < 0, -1.0, 1.0)
    symbols = values.round()
    return symbols if limit is None else symbols.clamp(-limit, limit)


def round_columns(
    weights: Tensor,
    steps: Tensor,
    factor: Tensor,
    limit: int | None = None,
    binary: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """One-sided feedback (GPTQ).

    Args:
        weights: (out, in) float32, columns in the order of `factor`.
        steps: positive, broadcast against weights: (out, in), (out, 1), (1, in).
        factor: U, (in, in) upper triangular.
        limit: greatest symbol; None for no clipping.
        binary: symbols are ±1.
        mask: boolean (out, in); False forces a zero.

    Returns:
        symbols (out, in), float32 integers.
    """
    rest = weights.T.clone(memory_format=torch.contiguous_format)  # (in, out): a column's weights side by side
    grid = steps.expand_as(weights).T
    symbols = torch.empty_like(rest)
    for start in range(0, len(rest), BLOCK):
        stop = min(start + BLOCK, len(rest))
        inner = factor[start:stop, start:stop]
        errors = torch.empty_like(rest[start:stop])
        for column in range(start, stop):
            values, step = rest[column], grid[column]
            symbol = round_to(values / step, limit, binary)
            if mask is not None:
                symbol = torch.where(mask[:, column], symbol, 0)
            symbols[column] = symbol
            local = column - start
            errors[local] = (values - symbol * step) / inner[local, local]
            rest[column + 1 : stop].addr_(inner[local, local + 1 :], errors[local], alpha=-1)
        rest[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1)
    return symbols.T.contiguous()


def round_both(weights: Tensor, steps: Tensor, row_factor: Tensor, column_factor: Tensor, mask: Tensor | None = None) -> Tensor:
    """Two-sided feedback.

    An entry waits for all entries above and to the left of it. So the matrix is cut into square tiles, the tiles of one
    antidiagonal are rounded together, and within them the entries of one antidiagonal.

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
    values = functional.pad(weights, padding)
    grid = functional.pad(steps.expand_as(weights), padding, value=1.0)
    kept = functional.pad(torch.ones_like(weights, dtype=torch.bool) if mask is None else mask, padding)
    v, u = _padded_factor(row_factor, rows * TILE), _padded_factor(column_factor, columns * TILE)
    v_tiles = torch.stack([v[i : i + TILE, i : i + TILE] for i in range(0, len(v), TILE)])
    u_tiles = torch.stack([u[j : j + TILE, j : j + TILE] for j in range(0, len(u), TILE)])
    errors = torch.zeros_like(values)
    fed = torch.zeros_like(values)  # e U
    symbols = torch.zeros_like(values)
    for diagonal in range(rows + columns - 1):
        tiles = [(row, diagonal - row) for row in range(max(0, diagonal - columns + 1), min(rows, diagonal + 1))]
        places = [(slice(r * TILE, r * TILE + TILE), slice(c * TILE, c * TILE + TILE)) for r, c in tiles]
        left = torch.stack([errors[r, : c.start] @ u[: c.start, c] for r, c in places])
        above = torch.stack([v[: r.start, r].T @ fed[: r.start, c] for r, c in places])
        row_tiles, column_tiles = v_tiles[[r for r, _ in tiles]], u_tiles[[c for _, c in tiles]]
        rest = torch.stack([values[place] for place in places]) - above - row_tiles.mT @ left
        rounded, error = _round_tiles(
            rest,
            torch.stack([grid[place] for place in places]),
            row_tiles,
            column_tiles,
            torch.stack([kept[place] for place in places]),
        )
        through = left + error @ column_tiles
        for number, place in enumerate(places):
            symbols[place], errors[place], fed[place] = rounded[number], error[number], through[number]
    return symbols[:outputs, :inputs]


def _padded_factor(factor: Tensor, size: int) -> Tensor:
    """A triangular factor with ones on the diagonal beyond its end."""
    padded = torch.eye(size, dtype=factor.dtype, device=factor.device)
    padded[: len(factor), : len(factor)] = factor
    return padded


def _round_tiles(values: Tensor, steps: Tensor, v: Tensor, u: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Two-sided feedback within square tiles, all at once.

    Columns are kept in reverse order, so that the entries of an antidiagonal, and the rows of the factors that belong to
    them, lie at equal distances in memory.

    Args:
        values, steps, keep: (tiles, n, n).
        v, u: factors of each tile, (tiles, n, n), upper triangular.

    Returns:
        symbols and errors e, (tiles, n, n).
    """
    size = values.shape[-1]
    v_columns, u_columns = v.mT.contiguous(), u.mT.flip(1).contiguous()  # [t, i]: V[:, i];  [t, n−1−j]: U[:, j]
    v_diagonal, u_diagonal = v.diagonal(dim1=1, dim2=2), u.diagonal(dim1=1, dim2=2).flip(1)
    reversed_values, reversed_steps, kept = values.flip(2), steps.flip(2), keep.flip(2)
    errors = torch.zeros_like(values)  # [t, n−1−j]: e[:, j]
    fed = torch.zeros_like(values)  # [t, i]: (Vᵀ e)[i, :] of finished entries
    symbols = torch.zeros_like(values)
    for diagonal in range(2 * size - 1):
        # Row i meets column j = diagonal − i, kept at place n−1−diagonal+i.
        first, last = max(0, diagonal - size + 1), min(size, diagonal + 1)
        shift = size - 1 - diagonal
        rows, places = slice(first, last), slice(first + shift, last + shift)
        width = diagonal - first + 1
        above = (v_columns[:, rows, :last] * errors[:, places, :last]).sum(-1)
        left = (fed[:, rows, :width] * u_columns[:, places, :width]).sum(-1)
        u_here, v_here = u_diagonal[:, places], v_diagonal[:, rows]
        step = reversed_steps[:, rows, places].diagonal(dim1=1, dim2=2)
        rest = reversed_values[:, rows, places].diagonal(dim1=1, dim2=2) - left - above * u_here
        symbol = (rest / step).round() * kept[:, rows, places].diagonal(dim1=1, dim2=2)
        error = (rest - symbol * step) / (u_here * v_here)
        symbols[:, rows, places].diagonal(dim1=1, dim2=2).copy_(symbol)
        errors[:, places, rows].diagonal(dim1=1, dim2=2).copy_(error)
        here = torch.arange(first, last, device=values.device)
        fed[:, here, diagonal - here] = above + error * v_here
    return symbols.flip(2), errors.flip(1).mT
