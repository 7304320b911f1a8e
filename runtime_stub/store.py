"""Decoder of the `store` codec: bit packing, no entropy coding."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from runtime_stub.bits import unpack_bits
from runtime_stub.split import Array, Specs


def decode_store(data: bytes, specs: Specs, widths: Sequence[tuple[int, int]]) -> list[Array]:
    """Unpack arrays whose elements were reduced by their minimum and packed at the fewest bits.

    Args:
        data: bytes; each array starts at a byte boundary.
        specs: numpy dtype string and shape of each array.
        widths: list of [width in bits, minimum], one per array; width 0 means every element is the minimum.
    """
    arrays = []
    position = 0
    for (dtype, shape), (width, minimum) in zip(specs, widths):
        count = math.prod(shape)
        end = position - (-count * width // 8)
        # Integers of the array's own size, so that float arrays come back through their bit patterns.
        array = np.empty(shape, "<i%d" % np.dtype(dtype).itemsize)
        array[...] = (unpack_bits(data[position:end], count, width).reshape(shape) if width else np.zeros(1, "i8")) + minimum
        arrays.append(array.view(dtype))
        position = end
    return arrays
