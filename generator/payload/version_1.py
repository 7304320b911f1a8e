"""Payloads of format version 1, which golfpack no longer writes: read as they were.

A stream was `[codec, size, specs, option, …]`, without filters. Of its codecs, `arranged` and `rans_rows` have become filters,
and `base3` and `bitmask` also held arrays as plain bytes. docs/FORMAT.md describes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from generator import codecs
from generator.codecs.chain import DECODERS as PRESENT
from generator.codecs.rans_check import check_rans
from generator.limits import Specs, decoded_limit, is_integer, spec_bytes
from generator.payload.manifest import Manifest, Stream, check_text, checked_specs, stored_tensor
from runtime_stub.deflate import decode_zlib
from runtime_stub.lzma_raw import decode_lzma
from runtime_stub.rans import decode_rans
from runtime_stub.split import Array, matrix_shape
from runtime_stub.ternary import decode_base3, decode_bitmask

ROW_BYTES = 128  # what each row of `rans_rows` counts for against what a payload may decode to


def parse_manifest(text: bytes, coded_size: int) -> Manifest:
    """The manifest of a payload of version 1, each field of it valid; arguments and errors as for that of today."""
    check_text(text, coded_size)
    streams, tensors = json.loads(text)
    return Manifest([_stream(*s) for s in streams], [stored_tensor(*t) for t in tensors], coded_size, DECODERS)


def _stream(codec: Any, size: Any, specs: Any, *options: Any) -> Stream:
    if not isinstance(codec, str) or codec not in DECODERS:
        raise ValueError(f"unknown codec {str(codec)[:40]!r}")
    checked = checked_specs(size, specs)
    if codec in CHECKS:
        CHECKS[codec](size, checked, options)
    else:
        codecs.REGISTRY[codec].check(size, checked, options)
    return Stream(size, checked, [[codec, *options]])


def _arranged(data: bytes, specs: Specs, inner: str, axes: Sequence[int], ordered: int, *options: Any) -> list[Array]:
    """LZMA or deflate of bytes whose rows (0), columns (1) and places in an element (2) were laid down in the order `axes`; if
    `ordered`, each array is followed by the original indices (uint32) of its rows."""
    laid: list[Any] = []
    for dtype, shape in specs:
        lengths = *matrix_shape(shape), np.dtype(dtype).itemsize
        laid.append(("u1", [lengths[axis] for axis in axes]))
        if ordered:
            laid.append(("<u4", [lengths[0]]))
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


def _check_arranged(size: int, specs: Specs, options: Sequence[Any]) -> None:
    if len(options) < 3 or options[0] not in ("lzma", "zlib") or not is_integer(options[2], 0, 1):
        raise ValueError("an arranged stream has malformed options")
    inner, axes, ordered, *others = options
    if not isinstance(axes, list) or not all(is_integer(axis, 0, 2) for axis in axes) or sorted(axes) != [0, 1, 2]:
        raise ValueError("an arranged stream has axes that are no permutation of 0, 1, 2")
    codecs.REGISTRY[inner].check(size, specs, others)
    indices = [("<u4", (matrix_shape(shape)[0],)) for _, shape in specs] if ordered else []
    if spec_bytes([*specs, *indices]) > decoded_limit(size):
        raise ValueError(f"an arranged stream of {size:,} bytes can't hold so many rows")


def _rans_rows(data: bytes, specs: Specs, *options: Any) -> list[Array]:
    """rANS of arrays and, last, a mark (uint8) for each row; marked rows had the mean of those before them subtracted."""
    *arrays, marks = decode_rans(data, _with_marks(specs), *options)
    marked = iter(marks)
    for array in arrays:
        total, count = np.zeros(array.shape[1:], "i8"), 0
        for row in array if array.shape[1:] else []:
            if next(marked):
                row += ((2 * total + count) // (2 * count or 1)).astype(row.dtype)
                total += row
                count += 1
    return arrays


def _check_rans_rows(size: int, specs: Specs, options: Sequence[Any]) -> None:
    inner = _with_marks(specs)
    check_rans(size, inner, options)
    if ROW_BYTES * inner[-1][1][0] > decoded_limit(size):
        raise ValueError(f"a rans_rows stream of {size:,} bytes can't hold {inner[-1][1][0]:,} rows")


def _with_marks(specs: Specs) -> Specs:
    return [*specs, ("|u1", (sum(shape[0] for _, shape in specs if shape[1:]),))]


def _packing(decode: Callable[[bytes, Specs], list[Array]], length: Callable[[bytes, int], int]) -> Callable[..., list[Array]]:
    """A decoder of one ternary array, and how many bytes it takes, as a decoder of streams in which others are plain bytes."""

    def decode_all(data: bytes, specs: Specs, packed: Sequence[int]) -> list[Array]:
        arrays = []
        for (dtype, shape), is_packed in zip(specs, packed, strict=True):
            count = math.prod(shape)
            size = length(data, count) if is_packed else count * np.dtype(dtype).itemsize
            if is_packed:
                arrays += decode(data[:size], [(dtype, shape)])
            else:
                arrays.append(np.frombuffer(bytearray(data[:size]), dtype, count).reshape(shape))
            data = data[size:]
        return arrays

    return decode_all


def _base3_bytes(data: bytes, count: int) -> int:
    return -(-count // 5)


def _bitmask_bytes(data: bytes, count: int) -> int:
    mask = -(-count // 8)
    nonzero = np.unpackbits(np.frombuffer(data[:mask], "u1"), count=count).sum()
    return mask - (-int(nonzero) // 8)


def _check_base3(size: int, specs: Specs, options: Sequence[Any]) -> None:
    packed, plain = _check_marks("base3", specs, options)
    expected = plain + sum(-(-count // 5) for count in packed)
    if size != expected:
        raise ValueError(f"a base3 stream has {size:,} bytes where its arrays take {expected:,}")


def _check_bitmask(size: int, specs: Specs, options: Sequence[Any]) -> None:
    packed, plain = _check_marks("bitmask", specs, options)
    masks = sum(-(-count // 8) for count in packed)
    if not plain + masks <= size <= plain + 2 * masks:
        raise ValueError(f"a bitmask stream of {size:,} bytes does not fit its arrays")


def _check_marks(codec: str, specs: Specs, options: Sequence[Any]) -> tuple[list[int], int]:
    """Elements of each ternary array, and bytes of the others."""
    if len(options) != 1 or not isinstance(options[0], list) or len(options[0]) != len(specs):
        raise ValueError(f"a {codec} stream does not tell which of its arrays are ternary")
    for mark, (dtype, _) in zip(options[0], specs, strict=True):
        if not is_integer(mark, 0, int(np.dtype(dtype).kind == "i")):
            raise ValueError(f"a {codec} stream has a malformed mark, or one for symbols without sign")
    pairs = list(zip(specs, options[0], strict=True))
    plain = sum(math.prod(shape) * np.dtype(dtype).itemsize for (dtype, shape), mark in pairs if not mark)
    return [math.prod(shape) for (_, shape), mark in pairs if mark], plain


DECODERS: dict[str, Callable[..., list[Array]]] = {
    **{name: PRESENT[name] for name in ("brotli", "lzma", "rans", "store", "zlib", "zstd")},
    "arranged": _arranged,
    "base3": _packing(decode_base3, _base3_bytes),
    "bitmask": _packing(decode_bitmask, _bitmask_bytes),
    "rans_rows": _rans_rows,
}

CHECKS: dict[str, Callable[[int, Specs, Sequence[Any]], None]] = {
    "arranged": _check_arranged,
    "base3": _check_base3,
    "bitmask": _check_bitmask,
    "rans_rows": _check_rans_rows,
}
