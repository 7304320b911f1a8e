"""Rows that resemble each other, such as the rows of an embedding's rare tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from generator.fields import Field
from generator.filters.base import Filter
from generator.limits import Specs, check_no_options, decoded_limit
from runtime_stub.center import centered_specs, undo_center
from runtime_stub.split import Array, matrix_shape

ROUNDS = 5
GAIN = 0.8  # a row is masked where that leaves less than this share of its magnitude
ROW_BYTES = 128  # what each row counts for against what a payload may decode to: the inverse takes microseconds for it


class Center(Filter):
    """The masked rows of each matrix have the mean of the masked rows before them subtracted.

    Tokens that hardly occur in training all move in the same direction, that of the mean hidden state: their rows of the
    embedding are one vector and some noise.
    """

    id: ClassVar[str] = "center"
    inverse = staticmethod(undo_center)
    automatic: ClassVar[tuple[str, ...]] = ("rans",)
    measured: ClassVar[tuple[Mapping[str, Any], ...]] = ({"id": "rans", "filters": ["center"]},)

    def takes(self, field: Field) -> bool:
        return field.role == "symbols" and field.array.ndim > 1 and field.array.dtype.kind == "i" and field.array.itemsize <= 2

    def bears(self, field: Field) -> bool:
        return field.array.dtype.kind in "iu"

    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        result, masks = [], []
        for field in fields:
            rows = field.array.reshape(matrix_shape(field.array.shape))
            mask = _similar_rows(rows)
            result.append(replace(field, array=_subtract_mean(rows, mask).reshape(field.array.shape)))
            masks.append(mask)
        mask = np.concatenate([np.zeros(0, "u1"), *masks]).astype("u1")
        return [*result, Field(mask, "indices", along="rows")], []

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        check_no_options(cls.id, options)
        inner = centered_specs(specs)
        rows = inner[-1][1][0]
        if ROW_BYTES * rows > decoded_limit(size):
            raise ValueError(f"a centered stream of {size:,} bytes can't hold {rows:,} rows")
        return inner


def _similar_rows(matrix: Array) -> Array:
    """A mask of the rows that lie about a common center, much closer to it than to zero."""
    rows = matrix.astype("f4")
    magnitude = np.abs(rows).sum(1)
    if len(rows) < 2 or not magnitude.any():
        return np.zeros(len(rows), "u1")
    steps = np.abs(np.diff(rows, axis=0)).sum(1) / np.maximum(magnitude[1:] + magnitude[:-1], 1)
    center = rows[int(steps.argmin())]
    similar = np.zeros(len(rows), bool)
    for _ in range(ROUNDS):
        similar = np.abs(rows - center).sum(1) < GAIN * magnitude
        if similar.sum() < 2:
            return np.zeros(len(rows), "u1")
        center = np.rint(rows[similar].mean(0))
    mask: Array = similar.astype("u1")
    return mask


def _subtract_mean(matrix: Array, mask: Array) -> Array:
    residual = matrix.copy()
    total = np.zeros(matrix.shape[1:], "i8")
    for count, number in enumerate(np.flatnonzero(mask)):
        residual[number] = matrix[number] - ((2 * total + count) // (2 * count or 1)).astype(matrix.dtype)
        total += matrix[number]
    return residual
