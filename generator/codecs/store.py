"""Bit packing without entropy coding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from generator.codecs.base import Codec, Encoded
from generator.fields import Field
from generator.limits import Specs, is_integer
from runtime_stub.split import Array
from runtime_stub.store import decode_store


class Store(Codec):
    """Each array at the fewest bits that hold its range; floating arrays at their full width."""

    id: ClassVar[str] = "store"
    decoder = staticmethod(decode_store)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        packed = [_pack(field.array) for field in fields]
        return Encoded(b"".join(data for data, _, _ in packed), [[[width, least] for _, width, least in packed]])

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        # Each array has a width and a minimum, and the stream is as long as the widths say.
        if len(options) != 1 or not isinstance(options[0], list) or len(options[0]) != len(specs):
            raise ValueError("a store stream does not give each array a width and a minimum")
        expected = 0
        for pair, (dtype, shape) in zip(options[0], specs, strict=True):
            bits = 8 * np.dtype(dtype).itemsize
            if not isinstance(pair, list) or len(pair) != 2 or not is_integer(pair[0], 0, bits):
                raise ValueError("a store stream has a malformed width")
            if not is_integer(pair[1], -(2**63), 2**63 - 1):
                raise ValueError("a store stream has a malformed minimum")
            expected += -(-math.prod(shape) * pair[0] // 8)
        if size != expected:
            raise ValueError(f"a store stream has {size:,} bytes where its arrays take {expected:,}")


def pack_bits(values: Array, width: int) -> bytes:
    """Unsigned integers (64-bit words, below 2^width) at `width` bits each, least significant bit first."""
    octets = np.ascontiguousarray(values, "<u8").view("u1").reshape(-1, 8)
    bits = np.unpackbits(octets, axis=1, count=width, bitorder="little")
    return np.packbits(bits.reshape(-1), bitorder="little").tobytes()


def _pack(array: Array) -> tuple[bytes, int, int]:
    """The packed bytes, the width in bits and the minimum that was subtracted."""
    if array.dtype.kind not in "iu":
        array = array.view(f"<u{array.itemsize}")
    if not array.size:
        return b"", 0, 0
    least, largest = int(array.min()), int(array.max())
    width = (largest - least).bit_length()
    if width == 8 * array.itemsize:
        least = 0  # the full width anyway, and no minimum to store
    if not -(2**63) <= least < 2**63:  # uint64 far above: the reader adds in int64
        least, width = 0, 64
    # Two's complement wraps around in the subtraction here and in the reader's addition alike.
    words = array.reshape(-1).astype("<i8") - np.int64(least)
    return pack_bits(words.view("<u8") & np.uint64(2**width - 1), width), width, least
