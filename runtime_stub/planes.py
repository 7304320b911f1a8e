"""Inverse of the `planes` filter: signs, exponents and mantissas of floating numbers were stored apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_stub.split import Array, Specs


def plane_specs(specs: Specs, layouts: Sequence[Sequence[int]]) -> list[Any]:
    """The arrays as the filter gave them on: for each one a plane for each number of bits, in the fewest bytes."""
    return [
        ("<u%d" % (4 if bits > 16 else 2) if bits > 8 else "|u1", shape)
        for (_, shape), layout in zip(specs, layouts)
        for bits in layout
    ]


def undo_planes(decode: Any, specs: Specs, earlier: Any, layouts: Sequence[Sequence[int]]) -> list[Array]:
    """Arguments as for every inverse filter, see `runtime_stub.payload.run_stages`, and

    Args:
        layouts: for each array the bits of sign, exponent and mantissa, which add up to its elements' width.
    """
    planes = iter(decode(plane_specs(specs, layouts)))
    arrays = []
    for (dtype, shape), layout in zip(specs, layouts):
        # One dimension: arithmetic on arrays without any gives numpy scalars of other dtypes.
        words = np.zeros(math.prod(shape), "<u%d" % np.dtype(dtype).itemsize)
        for bits in layout:
            words <<= bits
            words |= next(planes).reshape(-1)
        arrays.append(words.view(dtype).reshape(shape))
    return arrays
