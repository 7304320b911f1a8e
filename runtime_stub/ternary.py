"""Decoders of the packings for ternary symbols."""

from __future__ import annotations

import math

import numpy as np

from runtime_stub.split import Array, Specs


def decode_base3(data: bytes, specs: Specs) -> list[Array]:
    """Unpack five symbols −1, 0, 1 from each byte, the first in the lowest base-3 digit; each array begins with a byte."""
    arrays = []
    position = 0
    for dtype, shape in specs:
        count = math.prod(shape)
        octets = np.frombuffer(data, "u1", -(-count // 5), position)
        position += len(octets)
        digits = octets[:, None] // np.array([1, 3, 9, 27, 81], "u1") % 3
        arrays.append((digits.ravel()[:count].astype("i1") - 1).astype(dtype).reshape(shape))
    return arrays


def decode_bitmask(data: bytes, specs: Specs) -> list[Array]:
    """Unpack a bit for each symbol, whether it is not 0, then a sign for each that is not; both begin with a byte."""
    arrays = []
    position = 0
    for dtype, shape in specs:
        count = math.prod(shape)
        middle = position - (-count // 8)
        array = np.unpackbits(np.frombuffer(data[position:middle], "u1"), count=count).astype(dtype)
        nonzero = array.nonzero()[0]
        position = middle - (-len(nonzero) // 8)
        signs = np.unpackbits(np.frombuffer(data[middle:position], "u1"), count=len(nonzero))
        array[nonzero[signs > 0]] = -1
        arrays.append(array.reshape(shape))
    return arrays
