"""Rounding with error feedback: each weight's rounding error is made up for by the weights that are rounded after it.

With A⁻¹ = Uᵀ U (U upper triangular) the columns are visited in order, column j's error e_j = (w̃_j − q_j) / U_jj is added
to later columns as e_j U_j, and tr(E A Eᵀ) = Σ e². That is GPTQ (arXiv:2210.17323). With an output side B⁻¹ = Vᵀ V too, the
errors are fed back to later rows as well (`generator.quantizers.two_sided`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from generator.linear_algebra import DAMPING, damped_inverse_factor

MOST_DAMPING = 1e6  # mean diagonals; the moment itself has no part in the sum far below that
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
