"""From one decompressed byte string to the arrays it holds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Specs = Sequence[tuple[str, Sequence[int]]]  # numpy dtype string and shape of each array


def split_arrays(data: bytes, specs: Specs) -> list[Array]:
    """Cut `data` into arrays that lie back to back.

    Args:
        data: bytes; exactly the arrays' bytes, C order, little endian.
        specs: numpy dtype string and shape of each array.

    Returns:
        list of writable arrays.
    """
    buffer = bytearray(data)  # writable, which torch asks for
    arrays: list[Array] = []
    position = 0
    for dtype, shape in specs:
        array = np.frombuffer(buffer, dtype, math.prod(shape), position)
        position += array.nbytes
        arrays.append(array.reshape(shape))
    return arrays


def total_bytes(specs: Specs) -> int:
    """Size in bytes of all arrays of `specs` together."""
    return sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in specs)


def matrix_shape(shape: Sequence[int]) -> list[int]:
    """An array as rows and columns: the first length and the product of the others; one row for fewer than two dimensions."""
    rows = shape[0] if shape[1:] else 1
    return [rows, math.prod(shape) // max(rows, 1)]
