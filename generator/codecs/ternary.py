"""Packings for ternary symbols, without entropy coding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from generator.codecs.base import Codec, Encoded
from generator.fields import Field
from generator.limits import Specs, check_no_options
from runtime_stub.split import Array
from runtime_stub.ternary import decode_base3, decode_bitmask


class _Packing(Codec):
    """What the two share: they are for symbols −1, 0 and 1 alone."""

    def takes(self, field: Field) -> bool:
        return field.role in ("symbols", "raw") and is_ternary(field.array)

    @classmethod
    def _check_signed(cls, specs: Specs, options: Sequence[Any]) -> None:
        check_no_options(cls.id, options)
        if any(np.dtype(dtype).kind != "i" for dtype, _ in specs):
            raise ValueError(f"a {cls.id} stream holds numbers without sign")


class Base3(_Packing):
    """Five symbols −1, 0, 1 in a byte (3⁵ = 243): 1.6 bits each."""

    id: ClassVar[str] = "base3"
    decoder = staticmethod(decode_base3)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        parts = []
        for field in fields:
            digits = np.zeros(-(-field.array.size // 5) * 5, "u1")
            digits[: field.array.size] = field.array.reshape(-1) + 1
            parts.append((digits.reshape(-1, 5) @ np.array([1, 3, 9, 27, 81], "u1")).astype("u1").tobytes())
        return Encoded(b"".join(parts))

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        cls._check_signed(specs, options)
        expected = sum(-(-math.prod(shape) // 5) for _, shape in specs)
        if size != expected:
            raise ValueError(f"a base3 stream has {size:,} bytes where its arrays take {expected:,}")


class Bitmask(_Packing):
    """A bit for each symbol that tells whether it is 0, a sign for each that is not; beats base 3 above 60 % zeros."""

    id: ClassVar[str] = "bitmask"
    decoder = staticmethod(decode_bitmask)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        parts = []
        for field in fields:
            values = field.array.reshape(-1)
            parts += [np.packbits(values != 0).tobytes(), np.packbits(values[values != 0] < 0).tobytes()]
        return Encoded(b"".join(parts))

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        cls._check_signed(specs, options)
        masks = sum(-(-math.prod(shape) // 8) for _, shape in specs)
        if not masks <= size <= 2 * masks:  # how many signs there are is known when the mask is
            raise ValueError(f"a bitmask stream of {size:,} bytes does not fit its arrays")


def is_ternary(array: Array) -> bool:
    """Whether every element is −1, 0 or 1, in a signed integer dtype."""
    return array.dtype.kind == "i" and (not array.size or (int(array.min()) >= -1 and int(array.max()) <= 1))
