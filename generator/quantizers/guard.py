"""The guard: which rows of a matrix have errors that the expansion of the loss can't be trusted with.

A unit that is off on every calibration token has no gradient, and so no error of its row would cost anything. But a large
error turns it on. The expansion is good for errors that are small against what the unit's input is anyhow, w H wᵀ over
tokens; so that is what errors are compared with.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STRICTEST = 0.3  # times the share that rows with average gradients have, for rows without any
SPARE = 1.5  # a row may become zero if that raises its expected loss by no more than this factor


@dataclass(frozen=True)
class Guard:
    """Bounds on the errors of a matrix's rows.

    Attributes:
        weights: (out, in).
        tokens: H, the second moment of the inputs per token, (in, in).
        expansion: the moment by which the expected loss is reckoned, A or H, (in, in).
        share: greatest error e H eᵀ of each row, as a share of w H wᵀ, (out,).
        pruned: error that zeros asked for bring by themselves, (out,); it is not held against a row.
    """

    weights: Tensor
    tokens: Tensor
    expansion: Tensor
    share: Tensor
    pruned: Tensor | float = 0.0

    def broken(self, rows: Tensor, errors: Tensor) -> Tensor:
        """Which of `rows` (k,) have errors (k, in) beyond the bound; boolean (k,)."""
        bound = self.share[rows] * power(self.weights[rows], self.tokens)
        pruned = self.pruned[rows] if isinstance(self.pruned, Tensor) else self.pruned
        return power(errors, self.tokens) > bound + pruned

    def spare(self, rows: Tensor, errors: Tensor) -> Tensor:
        """Which of `rows` (k,) would hardly lose more as zeros, which turn nothing on, than by errors (k, in)."""
        return power(self.weights[rows], self.expansion) <= SPARE * power(errors, self.expansion)


def shares(share: float, gradients: Tensor) -> Tensor:
    """The bound of each row: `share`, and less for rows whose gradients g (out,) are below average, of which less is known."""
    return share * (gradients / gradients.mean()).sqrt().clamp(STRICTEST, 1)


def power(rows: Tensor, moment: Tensor) -> Tensor:
    """r M rᵀ of each row r of (k, n); (k,)."""
    return ((rows @ moment) * rows).sum(1)


def damped(moment: Tensor, damping: float) -> Tensor:
    """The moment with `damping` times its mean diagonal added to its diagonal."""
    return moment + damping * moment.diagonal().mean() * torch.eye(len(moment), device=moment.device, dtype=moment.dtype)
