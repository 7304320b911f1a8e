"""Packings for ternary symbols, without entropy coding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from generator.codecs.base import Codec, Encoded
from runtime_stub.split import Array


class Base3(Codec):
    """Five symbols −1, 0, 1 in a byte (3⁵ = 243): 1.6 bits each. Arrays with other values are kept as plain bytes."""

    id: ClassVar[str] = "base3"

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        parts = []
        for array in arrays:
            if not is_ternary(array):
                parts.append(array.tobytes())
                continue
            digits = np.zeros(-(-array.size // 5) * 5, "u1")
            digits[: array.size] = array.reshape(-1) + 1
            parts.append((digits.reshape(-1, 5) @ np.array([1, 3, 9, 27, 81], "u1")).astype("u1").tobytes())
        return Encoded(b"".join(parts), [[int(is_ternary(array)) for array in arrays]])


class Bitmask(Codec):
    """A bit for each symbol that tells whether it is 0, a sign for each that is not; beats base 3 above 60 % zeros."""

    id: ClassVar[str] = "bitmask"

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        parts = []
        for array in arrays:
            if is_ternary(array):
                values = array.reshape(-1)
                parts += [np.packbits(values != 0).tobytes(), np.packbits(values[values != 0] < 0).tobytes()]
            else:
                parts.append(array.tobytes())
        return Encoded(b"".join(parts), [[int(is_ternary(array)) for array in arrays]])


def is_ternary(array: Array) -> bool:
    """Whether every element is −1, 0 or 1, in a signed integer dtype."""
    return array.dtype.kind == "i" and (not array.size or (int(array.min()) >= -1 and int(array.max()) <= 1))
