"""A product of two narrow integer factors, added to a tensor's elements with the same bits everywhere."""

from __future__ import annotations

import numpy as np

from runtime_stub.split import Array


def add_product(weights: Array, left: Array, left_scales: Array, right: Array, right_scales: Array) -> Array:
    """Weights (…, rows, columns), float32, plus left (…, rows, rank) times right (…, rank, columns).

    A matrix product sums in an order of the library's choice. So this sums outer products, one after the other: each factor,
    each product and each sum is rounded once by IEEE 754.

    Args:
        weights: overwritten.
        left, right: integers.
        left_scales: broadcast against left.
        right_scales: (…, rank, groups), of equal parts of the right factor's rows; the last may be shorter.
    """
    width = right.shape[-1]
    spread = np.repeat(right_scales, -(-width // right_scales.shape[-1]), -1)[..., :width]
    rows = left.astype("f4") * left_scales.astype("f4")
    columns = right.astype("f4") * spread.astype("f4")
    for k in range(left.shape[-1]):
        weights += rows[..., k, None] * columns[..., k, None, :]
    return weights
