"""Rounding with error feedback: each weight's rounding error is made up for by the weights that are rounded after it.

With A = M Mᵀ (M upper triangular) the loss of an error E = W − Q is tr(E A Eᵀ) = ‖E M‖². Column j of E M is
M_jj (E_j + Σ_{l<j} E_l F_lj), where F = M diag(M)⁻¹. So column by column, what earlier errors put into the sum is added to W_j
before it is rounded. That is GPTQ (arXiv:2210.17323) without its inverse, and LDLQ (arXiv:2307.13304). With an output side
B = N Nᵀ too, errors are fed back to later rows as well (`generator.quantizers.two_sided`).

Symbols are decided in float64, and by the CPU, wherever the model is: entry after entry is what it does best. So symbols do not
depend on threads, processes and GPUs. Another CPU sums in another order, which matters only where a value lies within some
1e-12 of the middle between two symbols.
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
    """A damped moment, factored for feedback in an order of its indices.

    Attributes:
        order: of the indices, (n,).
        feedback: F, unit upper triangular in that order, float64 (n, n).
        steps: 1 / M_jj, float64 (n,): what errors of each index may be for equal loss.
    """

    order: Tensor
    feedback: Tensor
    steps: Tensor


def ordered_factor(moment: Tensor, damping: float = DAMPING, natural: bool = False) -> Factor:
    """Factor a moment; errors as for `damped_factor`.

    Args:
        moment: (n, n).
        damping: share of its mean diagonal that is added to its diagonal.
        natural: take its indices as they come; otherwise in descending order of its diagonal, in which GPTQ does best.
    """
    order = torch.arange(len(moment)) if natural else torch.argsort(moment.diagonal(), descending=True, stable=True)
    # With L Lᵀ = J A J, J the reversal of the order, J L J is upper triangular and A = (J L J) (J L J)ᵀ.
    reverse = order.flip(0)
    upper = damped_factor(moment[reverse][:, reverse], damping).flip(0, 1)
    diagonal = upper.diagonal()
    return Factor(order, upper / diagonal, 1 / diagonal)


def round_to(values: Tensor, limit: int | None) -> Tensor:
    """The symbol nearest to each value: an integer, at most `limit` in size."""
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
        value, step, keep, factor, symbol, error = (
            one.numpy() for one in (values, grid[block], kept[block], inner, symbols[block], errors[block])
        )
        round_block(value, step, keep, factor, math.inf if limit is None else float(limit), binary, symbol, error)
    return symbols.T
