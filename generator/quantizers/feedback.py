"""Rounding with error feedback: each weight's rounding error is made up for by the weights that are rounded after it.

With A = M Mᵀ (M upper triangular) the loss of an error E = W − Q is tr(E A Eᵀ) = ‖E M‖². Column j of E M is
M_jj (E_j + Σ_{l<j} E_l F_lj), where F = M diag(M)⁻¹. So column by column, what earlier errors put into the sum is added to W_j
before it is rounded. That is GPTQ (arXiv:2210.17323) without its inverse, and LDLQ (arXiv:2307.13304). With an output side
B = N Nᵀ too, errors are fed back to later rows as well (`generator.quantizers.two_sided`).

Symbols are decided in float64. So they do not depend on the order of summation, hence on threads, processes and devices, but
where a value lies within some 1e-12 of the middle between two symbols.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.linear_algebra import DAMPING, damped_factor
from generator.parallel import spread
from generator.quantizers.kernels import round_block

MOST_DAMPING = 1e6  # mean diagonals; the moment itself has no part in the sum far below that
BLOCK = 64  # columns whose mutual feedback is applied one by one; earlier ones give theirs as one matrix product
STRIP = 512  # rows that one thread rounds at a time


@dataclass(frozen=True)
class Factor:
    """A damped moment, factored for feedback with its indices in descending order of its diagonal, in which GPTQ does best.

    Attributes:
        order: of the indices, (n,).
        feedback: F, unit upper triangular in that order, float64 (n, n).
        steps: 1 / M_jj, float64 (n,): what errors of each index may be for equal loss.
    """

    order: Tensor
    feedback: Tensor
    steps: Tensor


def ordered_factor(moment: Tensor, damping: float = DAMPING) -> Factor:
    """Factor a moment, (n, n); errors as for `damped_factor`."""
    order = torch.argsort(moment.diagonal(), descending=True, stable=True)
    # With L Lᵀ = J A J, J the reversal of the order, J L J is upper triangular and A = (J L J) (J L J)ᵀ.
    reverse = order.flip(0)
    upper = damped_factor(moment[reverse][:, reverse], damping).flip(0, 1)
    diagonal = upper.diagonal()
    return Factor(order, upper / diagonal, 1 / diagonal)


def round_to(values: Tensor, limit: int | None, binary: bool) -> Tensor:
    """The symbol nearest to each value: an integer, at most `limit` in size; or ±1."""
    if binary:
        return torch.where(values < 0, -1.0, 1.0)
    symbols = values.round()
    return symbols if limit is None else symbols.clamp(-limit, limit)


def round_columns(
    weights: Tensor,
    steps: Tensor,
    feedback: Tensor,
    limit: int | None = None,
    binary: bool = False,
    mask: Tensor | None = None,
) -> Tensor:
    """One-sided feedback (GPTQ).

    Args:
        weights: (out, in), columns in the order of `feedback`.
        steps: positive, broadcast against weights: (out, in), (out, 1), (1, in).
        feedback: F, unit upper triangular, float64 (in, in).
        limit: greatest symbol; None for no clipping.
        binary: symbols are ±1.
        mask: boolean (out, in); False forces a zero.

    Returns:
        symbols (out, in), integers in float32.
    """
    grid = steps.expand_as(weights)
    if not weights.numel():
        return weights.float()

    def strip(rows: slice) -> Tensor:
        return _round_rows(weights[rows], grid[rows], feedback, limit, binary, None if mask is None else mask[rows])

    if weights.is_cuda:  # which has its own way of sharing work
        return strip(slice(None))
    return torch.cat(spread(strip, [slice(start, start + STRIP) for start in range(0, len(weights), STRIP)]))


def _round_rows(
    weights: Tensor, steps: Tensor, feedback: Tensor, limit: int | None, binary: bool, mask: Tensor | None
) -> Tensor:
    errors = weights.T.to(torch.float64, memory_format=torch.contiguous_format, copy=True)  # (in, out); before that, weights
    grid = steps.T.double().contiguous()
    kept = torch.ones_like(errors, dtype=torch.bool) if mask is None else mask.T.contiguous()
    symbols = torch.empty_like(errors, dtype=torch.float32)
    for start in range(0, len(errors), BLOCK):
        block = slice(start, start + BLOCK)
        values = torch.addmm(errors[block], feedback[:start, block].T, errors[:start])
        inner = feedback[block, block].contiguous()
        if weights.is_cuda:
            round_block_by_torch(values, grid[block], kept[block], inner, limit, binary, symbols[block], errors[block])
        else:
            value, step, keep, factor, symbol, error = (
                one.numpy() for one in (values, grid[block], kept[block], inner, symbols[block], errors[block])
            )
            round_block(value, step, keep, factor, math.inf if limit is None else float(limit), binary, symbol, error)
    return symbols.T


def round_block_by_torch(
    values: Tensor,
    steps: Tensor,
    kept: Tensor,
    feedback: Tensor,
    limit: int | None,
    binary: bool,
    symbols: Tensor,
    errors: Tensor,
) -> None:
    """As `kernels.round_block`, for tensors on any device."""
    for column, value in enumerate(values):
        symbol = torch.where(kept[column], round_to(value / steps[column], limit, binary), 0)
        symbols[column] = symbol
        errors[column] -= symbol * steps[column]
        values[column + 1 :].addr_(feedback[column, column + 1 :], errors[column])
