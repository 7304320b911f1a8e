"""Decoders of the packings for ternary symbols; other arrays of the same tensor follow as plain bytes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runtime_stub.split import Array, Specs


def decode_base3(data: bytes, specs: Specs, ternary: Sequence[int]) -> list[Array]:
    """Unpack five symbols −1, 0, 1 from each byte, the first in the lowest base-3 digit.

    Args:
        data: the arrays back to back.
        specs: numpy dtype string and shape of each array.
        ternary: for each array whether it is packed; else its bytes stand as they are.
    """
    arrays = []
    position = 0
    for (dtype, shape), packed in zip(specs, ternary):
        count = math.prod(shape)
        size = -(-count // 5) if packed else count * np.dtype(dtype).itemsize
        octets = np.frombuffer(data, "u1", size, position)
        position += size
        if packed:
            digits = octets[:, None] // np.array([1, 3, 9, 27, 81], "u1") % 3
            arrays.append((digits.ravel()[:count].astype("i1") - 1).astype(dtype).reshape(shape))
        else:
            arrays.append(octets.copy().view(dtype).reshape(shape))
    return arrays


def decode_bitmask(data: bytes, specs: Specs, ternary: Sequence[int]) -> list[Array]:
    """Unpack a bit for each symbol, whether it is not 0, then a sign for each that is not; arguments as for `decode_base3`."""
    arrays = []
    position = 0
    for (dtype, shape), packed in zip(specs, ternary):
        count = math.prod(shape)
        if packed:
            middle = position - (-count // 8)
            array = np.unpackbits(np.frombuffer(data[position:middle], "u1"), count=count).astype(dtype)
            nonzero = array.nonzero()[0]
            position = middle - (-len(nonzero) // 8)
            signs = np.unpackbits(np.frombuffer(data[middle:position], "u1"), count=len(nonzero))
            array[nonzero[signs > 0]] = -1
        else:
            array = np.frombuffer(data, dtype, count, position).copy()
            position += array.nbytes
        arrays.append(array.reshape(shape))
    return arrays
