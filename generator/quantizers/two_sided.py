"""Rounding with error feedback along rows and columns (two-sided LDLQ; compare YAQA, arXiv:2505.22988).

With A = M Mᵀ and B = N Nᵀ the loss tr(B E A Eᵀ) is ‖Nᵀ E M‖². With F = M diag(M)⁻¹ and G = N diag(N)⁻¹, entry (i, j) of Nᵀ E M
is N_ii M_jj Σ_{k≤i, l≤j} G_ki E_kl F_lj. So an entry waits for all entries above and to the left of it, and what they put into
its sum is added to its weight before that is rounded. The matrix is cut into square tiles, which wait for each other likewise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

import torch
from torch import Tensor

from generator.quantizers.kernels import round_tile
from runtime_stub.split import Array

TILE = 64  # rows and columns of a tile

# Of a tile the arguments of `generator.quantizers.kernels.round_tile`; and what rounds it, given its rows and its columns, too.
# Tiles come from the left to the right, and those of the same columns from above.
Tile: TypeAlias = tuple[Array, Array, Array, Array, Array, Array, Array, Array]
Rounding: TypeAlias = Callable[[slice, slice, Tile], None]


def round_both(
    weights: Tensor,
    steps: Tensor,
    row_feedback: Tensor | None,
    column_feedback: Tensor,
    mask: Tensor | None = None,
    rounding: Rounding = lambda rows, columns, tile: round_tile(*tile),
    width: int = TILE,
) -> Tensor:
    """Two-sided feedback.

    Args:
        weights: (out, in), rows and columns in the order of the feedback.
        steps: positive, broadcast against weights: (out, in), (out, 1), (1, in).
        row_feedback: G, unit upper triangular, float64 (out, out); None for none.
        column_feedback: F, unit upper triangular, float64 (in, in).
        mask: boolean (out, in); False forces a zero.
        rounding: what rounds the tiles; each entry to the nearest multiple of its step, unless it is given.
        width: columns of a tile.

    Returns:
        symbols (out, in), integers in float32.
    """
    grid = steps.expand_as(weights)
    kept = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    outputs, inputs = weights.shape
    errors = weights.to(torch.float64, copy=True)  # w − q · step as far as it is known, weights beyond
    symbols = torch.empty_like(weights, dtype=torch.float32)
    for panel in _spans(inputs, width):
        error, step, keep = errors[:, panel].contiguous(), grid[:, panel].double().contiguous(), kept[:, panel].contiguous()
        symbol = torch.empty_like(error, dtype=torch.float32)
        fed = errors[:, : panel.start] @ column_feedback[: panel.start, panel]  # E F of the panel
        columns = column_feedback[panel, panel].contiguous()
        for span in _spans(outputs, TILE):
            if row_feedback is None:
                values, rows = error[span].clone(), fed.new_zeros(0, 0)
            else:
                values = torch.addmm(error[span], row_feedback[: span.start, span].T, fed[: span.start])
                rows = row_feedback[span, span].contiguous()
            arrays = (values, step[span], keep[span], rows, columns, symbol[span], error[span], fed[span])
            rounding(span, panel, cast("Tile", tuple(one.numpy() for one in arrays)))
        symbols[:, panel], errors[:, panel] = symbol, error
    return symbols


def _spans(size: int, width: int) -> Iterator[slice]:
    """The rows or columns of each tile."""
    return (slice(start, min(start + width, size)) for start in range(0, size, width))
