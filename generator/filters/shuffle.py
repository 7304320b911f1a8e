"""Bytes by their place in the element."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from generator.fields import Field
from generator.filters.base import Filter
from generator.limits import Specs, check_no_options
from runtime_stub.shuffle import shuffled_specs, undo_shuffle


class Shuffle(Filter):
    """All first bytes of the elements, then all second ones, … (byte shuffle, as in Blosc and HDF5)."""

    id: ClassVar[str] = "shuffle"
    inverse = staticmethod(undo_shuffle)
    measured: ClassVar[tuple[Mapping[str, Any], ...]] = ({"id": "lzma", "filters": ["shuffle"]},)

    def takes(self, field: Field) -> bool:
        return field.array.itemsize > 1

    def apply(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[list[Field], list[Any]]:
        octets = [np.ascontiguousarray(field.array).reshape(-1, 1).view("u1").T for field in fields]
        return [
            replace(field, array=np.ascontiguousarray(part), elements="") for field, part in zip(fields, octets, strict=True)
        ], []

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any], place: tuple[int, Sequence[int]]) -> Specs:
        check_no_options(cls.id, options)
        return shuffled_specs(specs)
