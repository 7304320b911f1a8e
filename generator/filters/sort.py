"""Rows in an order in which neighbours are alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from generator.fields import Field
from generator.filters.base import Filter
from generator.limits import Specs, check_no_options, decoded_limit, spec_bytes
from runtime_stub.sort import sorted_specs, undo_sort
from runtime_stub.split import Array, matrix_shape


class Sort(Filter):
    """Rows in order of their norm or similarity; the permutation is stored.

    by: "norm" (L2), or "similarity": each is followed by the nearest in L1 that is left, as in PR #1855 of the challenge.
    """

    id: ClassVar[str] = "sort"
    inverse = staticmethod(undo_sort)
    measured: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"id": "lzma", "filters": ["sort", "transpose"]},
        {"id": "lzma", "filters": [{"id": "sort", "by": "similarity"}, "transpose"]},
    )
    by: Literal["norm", "similarity"] = "norm"

    def takes(self, field: Field) -> bool:
        return field.array.ndim > 1 and len(field.array) > 1 and field.role != "indices"

    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        result = []
        for field in fields:
            rows = field.array.reshape(matrix_shape(field.array.shape))
            order = row_order(rows, self.by)
            indices = Field(order.astype("<u4"), "indices", field.tensor, "rows")
            result += [replace(field, array=rows[order].reshape(field.array.shape)), indices]
        return result, []

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        check_no_options(cls.id, options)
        inner = sorted_specs(specs)
        if spec_bytes(inner) > decoded_limit(size):
            raise ValueError(f"a sorted stream of {size:,} bytes can't hold so many rows")
        return inner


def row_order(matrix: Array, by: str) -> Array:
    """Indices of the rows in the order in which they are stored."""
    values = np.nan_to_num(matrix.astype("f4"))
    if by == "norm" or not matrix.size:
        return np.argsort((values.astype("f8") ** 2).sum(1), kind="stable")
    left = np.arange(1, len(values))
    chosen = [0]
    while left.size:
        nearest = int(np.abs(values[left] - values[chosen[-1]]).sum(1).argmin())
        chosen.append(int(left[nearest]))
        left = np.delete(left, nearest)
    return np.array(chosen)
