"""Decoder of the `arranged` codec: general compression of bytes that were transposed, shuffled or sorted by row first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_stub.deflate import decode_zlib
from runtime_stub.lzma_raw import decode_lzma
from runtime_stub.split import Array, Specs


def row_count(shape: Sequence[int]) -> int:
    """Rows of an array: its first length, or one for fewer than two dimensions."""
    return shape[0] if shape[1:] else 1


def decode_arranged(data: bytes, specs: Specs, inner: str, axes: Sequence[int], ordered: int, *options: Any) -> list[Array]:
    """Decode arrays.

    Args:
        data: coded by `inner`.
        specs: numpy dtype string and shape of each array.
        inner: "lzma" or "zlib".
        axes: in what order rows (0), columns (1) and the bytes of an element (2) were laid down.
        ordered: whether each array is followed by the original indices (uint32) of its rows.
        options: of `inner`.
    """
    laid = []
    for dtype, shape in specs:
        rows, item = row_count(shape), np.dtype(dtype).itemsize
        lengths = rows, math.prod(shape) // max(rows, 1), item
        laid.append(("u1", [lengths[axis] for axis in axes]))
        if ordered:
            laid.append(("<u4", [rows]))
    decode: Any = {"lzma": decode_lzma, "zlib": decode_zlib}[inner]
    parts = iter(decode(data, laid, *options))
    arrays = []
    for dtype, shape in specs:
        matrix = next(parts).transpose(np.argsort(axes))
        if ordered:
            order = next(parts)
            places = order.argsort()
            if (order[places] != np.arange(len(order))).any():
                raise ValueError("row indices are no permutation")
            matrix = matrix[places]
        arrays.append(np.frombuffer(bytearray(matrix.tobytes()), dtype).reshape(shape))
    return arrays
