"""Adaptive rANS with row × column classes."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from generator.codecs.base import UNKNOWN_SIZE, Codec, Encoded, manifest_bytes
from generator.codecs.rans_check import MAX_TABLES, check_rans, rans_excess
from generator.codecs.rans_coder import RansWriter, choose_lanes
from generator.codecs.scale_classes import Kind, make_kind
from generator.fields import Field, specs_of
from generator.limits import Specs, extent
from runtime_stub.rans import decode_rans, rans_matrix, rans_model, scale_classes
from runtime_stub.split import Array


class Rans(Codec):
    """Range asymmetric numeral systems in numpy, one stream with N interleaved lanes for all arrays.

    model: "scale_classes" for tables chosen by row and column, "order0" for one table per kind of array.
    """

    id: ClassVar[str] = "rans"
    decoder = staticmethod(decode_rans)
    mixes_dtypes: ClassVar[bool] = True
    model: Literal["scale_classes", "order0"] = "scale_classes"

    @classmethod
    def measured(cls) -> list[Codec]:
        return [cls(), cls(model="order0")]

    def stream_bytes(self, specs: Specs) -> int:
        return 4 * choose_lanes(_elements(specs))

    def refuses(self, specs: Specs, size: int = UNKNOWN_SIZE) -> str:
        return rans_excess(size, choose_lanes(_elements(specs)), specs)

    def rate(self, fields: Sequence[Field]) -> float:
        return sum(kind.rate() for kind in self._kinds(fields, [_kind_of(field) for field in fields])) / 8

    def estimate(self, fields: Sequence[Field]) -> float:
        writer, options = self._written(fields)
        return writer.bits() / 8 + manifest_bytes(options)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        writer, options = self._written(fields)
        return Encoded(writer.finish(), options)

    def _written(self, fields: Sequence[Field]) -> tuple[RansWriter, list[Any]]:
        """All symbols in decoding order, and the decoder's options."""
        keys = [_kind_of(field) for field in fields]
        kinds = self._kinds(fields, keys) if len(set(keys)) * 3 <= MAX_TABLES else []
        if not kinds or sum(2 + kind.classes for kind in kinds) > MAX_TABLES:
            # More tables than a reader allows: one kind for all arrays of a dtype, whatever their shapes.
            keys = [field.array.dtype.str for field in fields]
            kinds = self._kinds(fields, keys)
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        members = [numbers[key] for key in keys]
        writer = RansWriter(choose_lanes(_elements(specs_of(fields))))
        models = [[rans_model(*arguments) for arguments in kind.arguments()] for kind in kinds]
        places = [iter(zip(kind.matrices, kind.rows, kind.columns, strict=True)) for kind in kinds]
        for member in members:
            matrix, rows, columns = next(places[member])
            symbols = np.concatenate([rows.astype("u2"), columns.astype("u2"), matrix.ravel()])
            scale_classes(writer.reader(symbols), np.empty(matrix.shape, "u2"), 0, *models[member])
        return writer, [writer.lanes, [[kind.shift, *kind.arguments()] for kind in kinds], members]

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        check_rans(size, specs, options)

    def _kinds(self, fields: Sequence[Field], keys: Sequence[Hashable]) -> list[Kind]:
        """One kind for the arrays of each key, in the order in which the keys first occur."""
        members: dict[Hashable, list[Array]] = {}
        for key, field in zip(keys, fields, strict=True):
            members.setdefault(key, []).append(field.array)
        return [make_kind(group, _by_bytes(group[0]), self.model != "order0") for group in members.values()]


def _elements(specs: Specs) -> int:
    return sum(extent(shape) if 0 not in shape else 0 for _, shape in specs)


def _by_bytes(array: Array) -> bool:
    return array.dtype.kind == "f" or array.itemsize > 2


def _kind_of(field: Field) -> Hashable:
    """Arrays of one dtype, role and matrix shape share tables: in a model these are the layers of one role."""
    array = field.array
    return array.dtype.str, field.role, field.along, (0,) if _by_bytes(array) else rans_matrix(array).shape
