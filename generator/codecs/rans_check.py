"""What an untrusted manifest may ask of the `rans` decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from generator.codecs.scale_classes import FLAT, MAX_CLASSES, MAX_SPREAD, MAX_SYMBOLS
from runtime_stub.rans import PRECISION
from runtime_stub.rans_rows import rows_total

MAX_LANES = 1 << 16
MAX_RATIO = 1 << 12
MAX_TABLES = 1 << 12  # of all kinds together; each takes 8 · 2^PRECISION bytes
MAX_STREAM = 1 << 28  # symbols of one stream; the classes of its rows take memory too
SYMBOLS_PER_BYTE = 8 << PRECISION  # a symbol takes at least log2(2^PRECISION / (2^PRECISION − 1)) bits


def check_rans(size: int, specs: Sequence[tuple[str, tuple[int, ...]]], options: Sequence[Any]) -> None:
    """Raise ValueError unless the options are such that the decoder takes memory in proportion to what it decodes."""
    if len(options) != 3:
        raise ValueError("a rans stream has not three options")
    lanes, kinds, members = options
    if not _within(lanes, 1, MAX_LANES) or size % 2 or size < 4 * lanes:
        raise ValueError("a rans stream is too short for its lanes")
    if not isinstance(kinds, list) or not isinstance(members, list):
        raise ValueError("a rans stream has malformed options")
    tables = 0
    for kind in kinds:
        if not isinstance(kind, list) or len(kind) != 4 or not _within(kind[0], 0, 65535):
            raise ValueError("a rans stream has a malformed kind of array")
        rows, columns, elements = kind[1:]
        tables += _check_model(rows, 1) + _check_model(columns, 1) + _check_model(elements, MAX_CLASSES)
    if tables > MAX_TABLES:
        raise ValueError(f"a rans stream asks for {tables:,} tables, above the limit of {MAX_TABLES:,}")
    if len(members) != len(specs) or not all(_within(member, 0, len(kinds) - 1) for member in members):
        raise ValueError("a rans stream does not give each array a kind")
    symbols = sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in specs)
    symbols += sum(shape[0] for _, shape in specs if shape)
    if symbols > min(MAX_STREAM, SYMBOLS_PER_BYTE * size):
        raise ValueError(f"a rans stream of {size:,} bytes can't hold {symbols:,} symbols")


def check_rans_rows(size: int, specs: Sequence[tuple[str, tuple[int, ...]]], options: Sequence[Any]) -> None:
    """The same for `rans_rows`, which has one more array."""
    check_rans(size, [*specs, ("|u1", (rows_total([shape for _, shape in specs]),))], options)


def _check_model(arguments: Any, most_classes: int) -> int:
    """The number of tables that these arguments of `rans_model` ask for."""
    if not isinstance(arguments, list) or len(arguments) != 5:
        raise ValueError("a rans stream has malformed tables")
    symbols, center, spread, ratio, classes = arguments
    if (
        not _within(symbols, 1, MAX_SYMBOLS)
        or not _within(center, 0, MAX_SYMBOLS)
        or not _within(spread, 1, FLAT)
        or not _within(ratio, 1, MAX_RATIO)
        or not _within(classes, 1, most_classes)
        or spread * max(ratio / 64, 1) ** classes > MAX_SPREAD
    ):
        raise ValueError("a rans stream has tables out of bounds")
    return int(classes)


def _within(value: Any, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high
