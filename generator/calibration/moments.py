"""Symmetric moments: of a product Xᵀ Y that is symmetric only the upper triangle is computed, in strips of rows, and summed."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from generator.calibration.exact import ExactSum
from generator.triangles import pack_rows, unpack

STRIP = 256  # rows; wider ones multiply no faster, and compute more below the diagonal


def strips(width: int) -> Iterator[slice]:
    """The rows of each strip."""
    return (slice(start, min(start + STRIP, width)) for start in range(0, width, STRIP))


class Moment:
    """A sum of symmetric products Xᵀ Y, (width, width), of float32 tensors.

    Attributes:
        parts: of the rows of each strip, the columns from the strip's first row on.
    """

    def __init__(self, width: int, device: torch.device):
        self.width = width
        self.device = device
        self.parts = [ExactSum((rows.stop - rows.start, width - rows.start), device) for rows in strips(width)]

    def add(self, left: Tensor, right: Tensor) -> None:
        """Add leftᵀ right, both (n, width)."""
        for part, rows in zip(self.parts, strips(self.width), strict=True):
            part.add(left[:, rows].mT @ right[:, rows.start :])

    def packed(self) -> Tensor:
        """The packed upper triangle, float64."""
        return torch.cat([pack_rows(part.value()) for part in self.parts])

    def matrix(self) -> Tensor:
        """All of it, float64."""
        return unpack(self.packed(), self.width)


class Diagonal:
    """A sum of vectors, (width,): where of a moment only the diagonal is kept."""

    def __init__(self, width: int, device: torch.device):
        self.width = width
        self.parts = [ExactSum((width,), device)]

    def add(self, values: Tensor) -> None:
        """Add a float32 vector."""
        self.parts[0].add(values)

    def packed(self) -> Tensor:
        """The sum, float64."""
        return self.parts[0].value()


def multiply_lower(inputs: Tensor, lower: Tensor) -> Tensor:
    """inputs · lowerᵀ for a lower triangular matrix, whose zeros are not multiplied.

    Args:
        inputs: (n, width).
        lower: (width, width).
    """
    return torch.cat([inputs[:, : rows.stop] @ lower[rows, : rows.stop].mT for rows in strips(len(lower))], 1)
