"""Sums that don't depend on the order of what is added, nor on how it is shared out over processes.

Floating-point addition is not associative. So each number is cut into slices, multiples of fixed powers of two, and the slices
of one power are added on their own: all their sums are whole multiples of it below 2⁵³, which float64 adds exactly. This is the
indexed summation of Demmel and Nguyen (Parallel reproducible summation, IEEE Transactions on Computers 64, 2015), with slices
by rounding.

Bin k holds multiples of 2^(36 k). The slice of x in bin k is what the bins above leave of it, rounded to such a multiple; it is
zero in all bins k with |x| < 2^(36 k − 1). A sum keeps two bins: the highest that any of its numbers reaches, and the next.
When a larger number comes, bins move down, and the lowest is dropped. Whether it comes first or last, the two that remain hold
the slices of all numbers. What is lost of each number is less than 2⁻³⁶ of the largest; products in float32 lose 2⁻²⁴.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from generator.errors import InputError

BIN_BITS = 36
LOWEST, HIGHEST = -4, 3  # bins that float32 can reach, from 2⁻¹⁴⁹ to 2¹²⁸
MOST_TERMS = 1 << 53 - BIN_BITS  # each is at most 2³⁵ multiples; half of what float64 has room for


class ExactSum:
    """The sum of float32 tensors of one shape.

    Attributes:
        bin: the higher one of the two that are kept.
        high, low: sums of the slices in it and in the one below, float64.
        terms: how many tensors were added.
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device):
        self.bin = LOWEST
        self.high = torch.zeros(shape, dtype=torch.float64, device=device)
        self.low = torch.zeros_like(self.high)
        self.terms = 0

    def add(self, values: Tensor) -> None:
        """Add a tensor; if it holds NaN or Inf, the sum is NaN.

        Raises:
            InputError: too many were added.
        """
        self.count(1)
        largest = float(torch.linalg.vector_norm(values, math.inf)) if values.numel() else 0.0
        if not math.isfinite(largest):
            self.raise_to(HIGHEST)
            self.high.fill_(math.nan)
            return
        self.raise_to(_bin_of(largest))
        rest = values.double()
        high = _rounded(rest, self.bin)
        self.high.add_(high)
        self.low.add_(_rounded(rest.sub_(high), self.bin - 1))

    def count(self, terms: int) -> None:
        """Note that so many tensors were added.

        Raises:
            InputError: there are so many that a sum might not be exact.
        """
        self.terms += terms
        if self.terms > MOST_TERMS:
            raise InputError(f"calibration can use a weight {MOST_TERMS:,} times; give fewer or larger batches")

    def raise_to(self, bin_: int) -> None:
        """Make a bin the higher one of the two, if it isn't below it."""
        shift = bin_ - self.bin
        if shift <= 0:
            return
        if shift == 1:
            self.high, self.low = self.low.zero_(), self.high
        else:
            self.high.zero_()
            self.low.zero_()
        self.bin = bin_

    def value(self) -> Tensor:
        """The sum in float64, rounded once."""
        return self.high + self.low


def _bin_of(largest: float) -> int:
    """The bin that numbers up to this one reach: with |x| < 2^(36 (bin + 1) − 1)."""
    if not largest:
        return LOWEST
    exponent = math.frexp(largest)[1]
    return max(LOWEST, -(-(exponent + 1) // BIN_BITS) - 1)


def _rounded(values: Tensor, bin_: int) -> Tensor:
    """Float64 numbers below 2⁵¹ multiples of a bin, each rounded to one."""
    # Beside this number, float64 has no digits below the multiple.
    anchor = math.ldexp(1.5, 52 + BIN_BITS * bin_)
    return values.add(anchor).sub_(anchor)
