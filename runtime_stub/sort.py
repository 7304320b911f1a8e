"""Inverse of the `sort` filter: the rows were put into another order, which follows each array."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime_stub.split import Array, Specs, matrix_shape


def sorted_specs(specs: Specs) -> list[Any]:
    """The arrays as the filter gave them on: each one, and the indices that its rows had (uint32)."""
    return [spec for dtype, shape in specs for spec in ((dtype, shape), ("<u4", matrix_shape(shape)[:1]))]


def undo_sort(decode: Any, specs: Specs, earlier: Any) -> list[Array]:
    """Arguments as for every inverse filter, see `runtime_stub.payload.run_stages`."""
    parts = decode(sorted_specs(specs))
    arrays = []
    for rows, order in zip(parts[::2], parts[1::2]):
        # Zeros: where a damaged order leaves rows out, memory that others left must not come through.
        array = np.zeros_like(rows)
        array.reshape(matrix_shape(rows.shape))[order] = rows.reshape(matrix_shape(rows.shape))
        arrays.append(array)
    return arrays
