"""Inverse of the `shuffle` filter: all first bytes of the elements came first, then all second ones, and so on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from runtime_stub.split import Array, Specs


def shuffled_specs(specs: Specs) -> list[Any]:
    """The arrays as the filter gave them on: bytes, (bytes of an element, elements)."""
    return [("|u1", [np.dtype(dtype).itemsize, math.prod(shape)]) for dtype, shape in specs]


def undo_shuffle(decode: Any, specs: Specs, earlier: Any) -> list[Array]:
    """Arguments as for every inverse filter, see `runtime_stub.payload.run_stages`."""
    return [
        np.frombuffer(bytearray(octets.T.tobytes()), dtype).reshape(shape)
        for octets, (dtype, shape) in zip(decode(shuffled_specs(specs)), specs)
    ]
