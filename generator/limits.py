"""What a payload may decode to: bounds that follow from its size, for readers that do not trust it and for the writer alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Specs = Sequence[tuple[str, Sequence[int]]]  # numpy dtype string and shape of each array

DECODED_LIMIT = 2**34  # bytes, whatever the payload's size
SMALL_PAYLOAD = 2**26  # bytes that a payload of any size may decode to: constant and empty tensors take next to nothing
PER_BYTE = 2**10  # bytes for each of a larger payload: weights of a hundredth of a bit, in float32, take less than half of it
MAX_DIMENSIONS = 32  # what every numpy can hold


def decoded_limit(size: int) -> int:
    """Bytes that `size` coded bytes may decode to."""
    return min(DECODED_LIMIT, max(SMALL_PAYLOAD, PER_BYTE * size))


def extent(shape: Sequence[int]) -> int:
    """Elements of a shape; lengths of 0 count as 1, since the other lengths of an empty array can cost time and memory too."""
    return math.prod(max(length, 1) for length in shape)


def spec_bytes(specs: Specs) -> int:
    """Bytes of arrays, by `extent`."""
    return sum(extent(shape) * np.dtype(dtype).itemsize for dtype, shape in specs)


def is_integer(value: object, low: int, high: int) -> bool:
    """Whether an untrusted JSON value is an integer from `low` to `high`; True and False are not."""
    return type(value) is int and low <= value <= high


def check_no_options(name: str, options: Sequence[Any]) -> None:
    """Raise ValueError if an untrusted manifest gives options to a codec or filter that has none."""
    if options:
        raise ValueError(f"a {name} stream has options")
