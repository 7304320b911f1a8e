"""Floating numbers taken apart: exponents are few and alike, mantissas nearly noise (compare ZipNN, arXiv:2411.05239)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from generator.fields import Field, specs_of
from generator.filters.base import Filter
from generator.limits import Specs, is_integer
from runtime_stub.planes import plane_specs, undo_planes

# Bits of sign, exponent and mantissa; by torch dtype, or by numpy's for arrays of numbers.
LAYOUTS = {
    "float16": (1, 5, 10),
    "bfloat16": (1, 8, 7),
    "float32": (1, 8, 23),
    "float8_e4m3fn": (1, 4, 3),
    "float8_e5m2": (1, 5, 2),
}


class Planes(Filter):
    """Sign, exponent and mantissa of each element, each in a plane of its own."""

    id: ClassVar[str] = "planes"
    inverse = staticmethod(undo_planes)
    automatic: ClassVar[tuple[str, ...]] = ("rans",)
    measured: ClassVar[tuple[Mapping[str, Any], ...]] = ({"id": "rans", "filters": ["planes"]},)

    def takes(self, field: Field) -> bool:
        return _layout(field) is not None

    def bears(self, field: Field) -> bool:
        return self.takes(field)

    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        [layouts] = self.foreseen(fields)
        dtypes = iter(plane_specs(specs_of(fields), layouts))
        result = []
        for field, layout in zip(fields, layouts, strict=True):
            words = np.ascontiguousarray(field.array).reshape(-1).view(f"<u{field.array.itemsize}")
            position = 8 * field.array.itemsize
            for bits in layout:
                position -= bits
                plane = (words >> words.dtype.type(position)) & words.dtype.type(2**bits - 1)
                array = plane.astype(next(dtypes)[0]).reshape(field.array.shape)
                result.append(replace(field, array=array, role="symbols", elements=""))
        return result, [layouts]

    def foreseen(self, fields: Sequence[Field]) -> list[Any]:
        return [[list(_layout(field) or ()) for field in fields]]

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        if len(options) != 1 or not isinstance(options[0], list) or len(options[0]) != len(specs):
            raise ValueError("a planes stream does not give each array its layout")
        for layout, (dtype, _) in zip(options[0], specs, strict=True):
            if not isinstance(layout, list) or not all(is_integer(bits, 1, 32) for bits in layout):
                raise ValueError("a planes stream has a malformed layout")
            if sum(layout) != 8 * np.dtype(dtype).itemsize or len(layout) != 3:
                raise ValueError("a planes stream has a layout that does not fill its elements")
        return plane_specs(specs, options[0])


def _layout(field: Field) -> tuple[int, ...] | None:
    """Bits of an element's parts; None for what is no floating number."""
    if field.array.dtype.kind == "f":
        return LAYOUTS.get(field.array.dtype.name)
    return LAYOUTS.get(field.elements)
