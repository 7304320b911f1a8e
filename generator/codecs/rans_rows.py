"""rANS of matrices some of whose rows resemble each other, such as the rows of an embedding's rare tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from generator.codecs.base import UNKNOWN_SIZE, Encoded, specs_of
from generator.codecs.rans import Rans
from generator.codecs.rans_check import ROW_BYTES, rans_excess, with_marks
from generator.codecs.rans_coder import choose_lanes, total_symbols
from runtime_stub.split import Array

ROUNDS = 5
GAIN = 0.8  # a row is marked where that leaves less than this share of its magnitude


class RansRows(Rans):
    """`rans` after the marked rows of each matrix had the mean of the marked rows before them subtracted.

    Tokens that hardly occur in training all move in the same direction, that of the mean hidden state: their rows of the
    embedding are one vector and some noise.
    """

    id: ClassVar[str] = "rans_rows"

    def refuses(self, arrays: Sequence[Array], size: int = UNKNOWN_SIZE) -> str:
        rows = sum(len(array) for array in arrays if array.ndim > 1)
        lanes = choose_lanes(total_symbols(arrays) + rows)
        return rans_excess(size, lanes, with_marks(specs_of(arrays)), ROW_BYTES)

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        marks = [_similar_rows(array) for array in arrays if array.ndim > 1]
        remaining = iter(marks)
        residuals = [_subtract_mean(array, next(remaining)) if array.ndim > 1 else array for array in arrays]
        return super().encode([*residuals, np.concatenate([np.zeros(0, "u1"), *marks]).astype("u1")])


def _similar_rows(array: Array) -> Array:
    """Which rows lie about a common center, much closer to it than to zero."""
    if array.dtype.kind != "i" or array.itemsize > 2 or not array.size:
        return np.zeros(len(array), "u1")
    rows = array.reshape(len(array), -1).astype("f4")
    magnitude = np.abs(rows).sum(1)
    if len(rows) < 2 or not magnitude.any():
        return np.zeros(len(array), "u1")
    steps = np.abs(np.diff(rows, axis=0)).sum(1) / np.maximum(magnitude[1:] + magnitude[:-1], 1)
    center = rows[int(steps.argmin())]
    similar = np.zeros(len(rows), bool)
    for _ in range(ROUNDS):
        similar = np.abs(rows - center).sum(1) < GAIN * magnitude
        if similar.sum() < 2:
            return np.zeros(len(array), "u1")
        center = np.rint(rows[similar].mean(0))
    marks: Array = similar.astype("u1")
    return marks


def _subtract_mean(array: Array, marks: Array) -> Array:
    residual = array.copy()
    total = np.zeros(array.shape[1:], "i8")
    for count, number in enumerate(np.flatnonzero(marks)):
        residual[number] = array[number] - ((2 * total + count) // (2 * count or 1)).astype(array.dtype)
        total += array[number]
    return residual
