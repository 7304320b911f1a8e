"""The guard: which rows of a matrix have errors that the expansion of the loss can't be trusted with.

A unit that is off on every calibration token has no gradient, and so no error of its row would cost anything. But a large
error turns it on. The expansion is good for errors that are small against what the unit's input is anyhow, w H wᵀ over
tokens; so that is what errors are compared with.

All in float64, so that no verdict depends on the order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

STRICTEST = 0.3  # times the share that rows with average gradients have, for rows without any
BLOCK = 256  # columns of a moment at a time


@dataclass(frozen=True)
class Guard:
    """Bounds on the errors of a matrix's rows.

    Attributes:
        tokens: H, the second moment of the inputs per token, as `folded` gives it, (in, in).
        bounds: greatest error e H eᵀ of each row, (out,).
    """

    tokens: Tensor
    bounds: Tensor

    def broken(self, rows: Tensor, errors: Tensor, pruned: Tensor | None) -> Tensor:
        """Which rows (k,) have errors beyond their bounds; boolean (k,).

        Args:
            rows: their numbers.
            errors: (k, in).
            pruned: the part of the errors that zeros asked for bring by themselves, not held against a row; None for none.
        """
        bounds = self.bounds[rows]
        return power(errors, self.tokens) > (bounds if pruned is None else bounds + power(pruned, self.tokens))


def shares(share: float, gradients: Tensor) -> Tensor:
    """The bound of each row as a share of w H wᵀ: `share`, and less for rows whose gradients g (out,) are below average, of
    which less is known."""
    return share * (gradients / gradients.mean()).sqrt().clamp(STRICTEST, 1)


def power(rows: Tensor, moment: Tensor) -> Tensor:
    """r M rᵀ of each row r of (k, n), for a folded moment M; (k,)."""
    total = rows.new_zeros(len(rows))
    for start in range(0, len(moment), BLOCK):
        block = slice(start, start + BLOCK)
        total += ((rows[:, : block.stop] @ moment[: block.stop, block]) * rows[:, block]).sum(1)
    return total


def folded(moment: Tensor, damping: float) -> Tensor:
    """An upper triangle in float64 with the same quadratic form as the moment with `damping` times its mean diagonal added to
    its diagonal; it takes half the work."""
    exact = moment.double()
    triangle = exact.triu(1) * 2
    diagonal = exact.diagonal()
    triangle.diagonal().copy_(diagonal + damping * diagonal.mean())
    return triangle
