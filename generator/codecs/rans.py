"""Adaptive rANS with row × column classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import numpy as np

from generator.codecs.base import UNKNOWN_SIZE, Codec, Encoded, specs_of
from generator.codecs.rans_check import MAX_TABLES, rans_excess
from generator.codecs.rans_coder import RansWriter, choose_lanes, total_symbols
from generator.codecs.scale_classes import Kind, make_kind
from runtime_stub.rans import PERIOD, rans_matrix, rans_model
from runtime_stub.split import Array


class Rans(Codec):
    """Range asymmetric numeral systems in numpy, one stream with N interleaved lanes for all arrays.

    model: "scale_classes" for tables chosen by row and column, "order0" for one table per kind of array.
    """

    id: ClassVar[str] = "rans"
    mixes_dtypes: ClassVar[bool] = True
    model: Literal["scale_classes", "order0"] = "scale_classes"

    def stream_bytes(self, arrays: Sequence[Array]) -> int:
        return 4 * choose_lanes(total_symbols(arrays))

    def refuses(self, arrays: Sequence[Array], size: int = UNKNOWN_SIZE) -> str:
        return rans_excess(size, choose_lanes(total_symbols(arrays)), specs_of(arrays))

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        keys = [_kind_of(array) for array in arrays]
        kinds = self._kinds(arrays, keys) if len(set(keys)) * 3 <= MAX_TABLES else []
        if not kinds or sum(2 + kind.classes for kind in kinds) > MAX_TABLES:
            # More tables than a reader allows: one kind for all arrays of a dtype, whatever their shapes.
            keys = [(dtype, ()) for dtype, _ in keys]
            kinds = self._kinds(arrays, keys)
        numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
        options = [[kind.shift, *kind.arguments()] for kind in kinds]
        writer = RansWriter(choose_lanes(total_symbols(arrays)))
        models = [[rans_model(*arguments) for arguments in kind.arguments()] for kind in kinds]
        places = [iter(zip(kind.matrices, kind.rows, kind.columns, strict=True)) for kind in kinds]
        members = [numbers[key] for key in keys]
        for member in members:
            matrix, rows, columns = next(places[member])
            row_model, column_model, model = models[member]
            writer.write(row_model, np.zeros(len(rows), "i8"), rows.astype("u2"))
            writer.write(column_model, np.zeros(len(columns), "i8"), columns.astype("u2"))
            step = PERIOD // (len(columns) + 1) + 1
            for row in range(0, len(rows), step):
                classes = (rows[row : row + step, None] + columns).ravel()
                writer.write(model, classes, matrix[row : row + step].ravel())
        return Encoded(writer.finish(), [writer.lanes, options, members])

    def _kinds(self, arrays: Sequence[Array], keys: Sequence[tuple[str, tuple[int, ...]]]) -> list[Kind]:
        """One kind for the arrays of each key, in the order in which the keys first occur."""
        members: dict[tuple[str, tuple[int, ...]], list[Array]] = {}
        for key, array in zip(keys, arrays, strict=True):
            members.setdefault(key, []).append(array)
        return [make_kind(group, _by_bytes(group[0]), self.model != "order0") for group in members.values()]


def _by_bytes(array: Array) -> bool:
    return array.dtype.kind == "f" or array.itemsize > 2


def _kind_of(array: Array) -> tuple[str, tuple[int, ...]]:
    """Arrays of one dtype and matrix shape share tables: in a model these are the layers of one role."""
    return array.dtype.str, (0,) if _by_bytes(array) else rans_matrix(array).shape
