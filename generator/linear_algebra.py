"""Inverting second moments: what calibration and error feedback share."""

from __future__ import annotations

import torch
from torch import Tensor

from generator.errors import InputError

DAMPING = 0.01  # of the mean diagonal, wherever a moment is inverted


def damped_factor(moment: Tensor, damping: float = DAMPING) -> Tensor:
    """L in float64 where L Lᵀ = moment + damping · mean(diagonal) · 1; identity for a moment of zeros.

    Damping is doubled until the factorization succeeds, as a rank-deficient moment may need in spite of it.

    Raises:
        InputError: the moment holds NaN or Inf, or numbers so large that none succeeds.
    """
    exact = moment.double()
    mean = exact.diagonal().mean()
    identity = torch.eye(len(exact), dtype=torch.float64, device=exact.device)
    if mean <= 0:
        return identity
    while damping * mean < torch.inf and exact.isfinite().all():
        factor: Tensor
        factor, info = torch.linalg.cholesky_ex(exact + damping * mean * identity)
        if not info.item():
            return factor
        damping = max(2 * damping, 1e-6)
    raise InputError(
        "a second moment of the statistics holds NaN, Inf or numbers too large to invert; calibrate again in float32"
    )


def damped_inverse_factor(moment: Tensor, damping: float = DAMPING) -> Tensor:
    """L⁻¹ of `damped_factor`, with its errors."""
    factor = damped_factor(moment, damping)
    identity = torch.eye(len(factor), dtype=torch.float64, device=factor.device)
    inverse: Tensor = torch.linalg.solve_triangular(factor, identity, upper=False)
    return inverse
