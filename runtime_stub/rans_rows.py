"""Decoder of the `rans_rows` codec: `rans` after marked rows had the mean of the marked rows before them subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_stub.rans import decode_rans
from runtime_stub.split import Array, Specs


def rows_total(shapes: Sequence[Sequence[int]]) -> int:
    """Rows of all arrays that have rows, which is how many marks there are."""
    return sum(shape[0] for shape in shapes if shape[1:])


def decode_rans_rows(data: bytes, specs: Specs, *options: Any) -> list[Array]:
    """Decode arrays; arguments as for `decode_rans`. The stream has one array more, the marks of all rows (uint8)."""
    *arrays, marks = decode_rans(data, [*specs, ("u1", [rows_total([shape for _, shape in specs])])], *options)
    marked = iter(marks)
    for array in arrays:
        total, count = np.zeros(array.shape[1:], "i8"), 0
        for row in array if array.shape[1:] else []:
            if next(marked):
                # Rounded to nearest; the sum wraps around in the array's dtype, as the encoder's difference did.
                row += ((2 * total + count) // (2 * count or 1)).astype(row.dtype)
                total += row
                count += 1
    return arrays
