"""Symmetric matrices as packed upper triangles: row by row, each from its diagonal on, n (n + 1) / 2 elements for n × n."""

from __future__ import annotations

import torch
from torch import Tensor


def packed_size(width: int) -> int:
    """Elements of a packed triangle.

    >>> packed_size(3)
    6
    """
    return width * (width + 1) // 2


def pack_rows(rows: Tensor) -> Tensor:
    """Of the first rows of a symmetric matrix, or of what is left of it below and to the right of an element of the diagonal,
    the elements from the diagonal on.

    Args:
        rows: (k, n), k ≤ n.

    >>> pack_rows(torch.arange(9).reshape(3, 3))
    tensor([0, 1, 2, 4, 5, 8])
    """
    return rows[torch.ones_like(rows, dtype=torch.bool).triu()]


def unpack(packed: Tensor, width: int) -> Tensor:
    """The symmetric matrix (width, width) of a packed triangle.

    >>> unpack(torch.arange(3), 2)
    tensor([[0, 1],
            [1, 2]])
    """
    matrix = packed.new_zeros(width, width)
    matrix.masked_scatter_(torch.ones_like(matrix, dtype=torch.bool).triu(), packed)
    return matrix.add_(matrix.triu(1).mT)


def packed_diagonal(packed: Tensor, width: int) -> Tensor:
    """The diagonals (..., width) of packed triangles (..., width (width + 1) / 2).

    >>> packed_diagonal(torch.tensor([0, 1, 2, 4, 5, 8]), 3)
    tensor([0, 4, 8])
    """
    row = torch.arange(width, device=packed.device)
    return packed[..., row * width - row * (row - 1) // 2]
