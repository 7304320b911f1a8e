"""Bit packing at any width from 1 to 64."""

from __future__ import annotations

from typing import Any

import numpy as np


def unpack_bits(data: bytes, count: int, width: int) -> np.ndarray[Any, Any]:
    """Read `count` unsigned integers of `width` bits each, least significant bit first.

    Args:
        data: bytes, at least ceil(count * width / 8) of them.
        count: number of integers.
        width: bits per integer, 1 to 64.

    Returns:
        int64 array of shape (count,); a width of 64 wraps to negative numbers.
    """
    bits = np.unpackbits(np.frombuffer(data, "u1", -(-count * width // 8)), count=count * width, bitorder="little")
    words = np.zeros((count, 8), "u1")
    words[:, : -(-width // 8)] = np.packbits(bits.reshape(count, width), axis=1, bitorder="little")
    return words.view("<i8")[:, 0]
