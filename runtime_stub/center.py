"""Inverse of the `center` filter: masked rows had the mean of the masked rows before them subtracted."""

from __future__ import annotations

from typing import Any

import numpy as np

from runtime_stub.split import Array, Specs, matrix_shape


def centered_specs(specs: Specs) -> list[Any]:
    """The arrays as the filter gave them on: all of them, and the mask of all their rows (uint8)."""
    return [*specs, ("|u1", [sum(matrix_shape(shape)[0] for _, shape in specs)])]


def undo_center(decode: Any, specs: Specs, earlier: Any) -> list[Array]:
    """Arguments as for every inverse filter, see `runtime_stub.payload.run_stages`."""
    arrays: list[Array]
    *arrays, mask = decode(centered_specs(specs))
    masked = iter(mask)
    for array in arrays:
        matrix = array.reshape(matrix_shape(array.shape))
        total, count = np.zeros(matrix.shape[1:], "i8"), 0
        for row in matrix:
            if next(masked):
                # Rounded to nearest; the sum wraps around in the array's dtype, as the encoder's difference did.
                row += ((2 * total + count) // (2 * count or 1)).astype(row.dtype)
                total += row
                count += 1
    return arrays
