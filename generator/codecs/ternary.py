"""Packings for ternary symbols, without entropy coding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from generator.codecs.base import Codec, Encoded
from generator.limits import Specs, is_integer
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


def check_base3(size: int, specs: Specs, options: Sequence[Any]) -> None:
    """Raise ValueError unless each array is marked as ternary or not, and the stream is as long as its arrays are."""
    _check_marks("base3", specs, options)
    expected = sum(-(-math.prod(s) // 5) if packed else _plain(d, s) for (d, s), packed in zip(specs, options[0], strict=True))
    if size != expected:
        raise ValueError(f"a base3 stream has {size:,} bytes where its arrays take {expected:,}")


def check_bitmask(size: int, specs: Specs, options: Sequence[Any]) -> None:
    """The same, as far as the length of a bitmask stream is known before it is decoded."""
    _check_marks("bitmask", specs, options)
    masks = sum(-(-math.prod(shape) // 8) for (_, shape), packed in zip(specs, options[0], strict=True) if packed)
    plain = sum(_plain(d, s) for (d, s), packed in zip(specs, options[0], strict=True) if not packed)
    if not plain + masks <= size <= plain + 2 * masks:
        raise ValueError(f"a bitmask stream of {size:,} bytes does not fit its arrays")


def _check_marks(codec: str, specs: Specs, options: Sequence[Any]) -> None:
    if len(options) != 1 or not isinstance(options[0], list) or len(options[0]) != len(specs):
        raise ValueError(f"a {codec} stream does not tell which of its arrays are ternary")
    for mark, (dtype, _) in zip(options[0], specs, strict=True):
        if not is_integer(mark, 0, int(np.dtype(dtype).kind == "i")):
            raise ValueError(f"a {codec} stream has a malformed mark, or one for symbols without sign")


def _plain(dtype: str, shape: Sequence[int]) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def is_ternary(array: Array) -> bool:
    """Whether every element is −1, 0 or 1, in a signed integer dtype."""
    return array.dtype.kind == "i" and (not array.size or (int(array.min()) >= -1 and int(array.max()) <= 1))
