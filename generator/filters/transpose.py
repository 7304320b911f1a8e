"""Columns before rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from generator.fields import Field
from generator.filters.base import Filter
from generator.limits import Specs, check_no_options
from runtime_stub.split import matrix_shape
from runtime_stub.transpose import transposed_specs, undo_transpose


class Transpose(Filter):
    """Each array as a matrix of its first dimension and all others, transposed: for codecs that look at neighbours."""

    id: ClassVar[str] = "transpose"
    inverse = staticmethod(undo_transpose)
    measured: ClassVar[tuple[Mapping[str, Any], ...]] = ({"id": "lzma", "filters": ["transpose"]},)

    def takes(self, field: Field) -> bool:
        return field.array.ndim > 1

    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        arrays = [np.ascontiguousarray(field.array.reshape(matrix_shape(field.array.shape)).T) for field in fields]
        return [replace(field, array=array) for field, array in zip(fields, arrays, strict=True)], []

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        check_no_options(cls.id, options)
        return transposed_specs(specs)
