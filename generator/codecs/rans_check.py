"""What an untrusted manifest may ask of the `rans` decoder, and what a writer may therefore ask of the encoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from generator.codecs.priors import FLAT, MAX_SPREAD
from generator.codecs.scale_classes import MAX_CLASSES, MAX_SYMBOLS
from generator.limits import Specs, decoded_limit, is_integer
from runtime_stub.rans import PERIOD, PRECISION, PRIOR

MAX_LANES = 1 << 16
MAX_RATIO = 1 << 12
MAX_TABLES = 1 << 12  # of all kinds together; each takes 8 · 2^PRECISION bytes
MAX_STREAM = 1 << 28  # symbols of one stream; the classes of its rows and columns are symbols too
MAX_STEPS = 1 << 17  # symbols for each lane: what the decoder takes 2 s for
SYMBOLS_PER_BYTE = 8 << PRECISION  # a symbol takes at least log2(2^PRECISION / (2^PRECISION − 1)) bits
CLASS_BYTES = 16  # memory for each row and column, while the classes are decoded
RENEWALS = 1 << 15  # of single tables, whatever the stream's size: what the decoder takes some seconds for
GROWTH = 16.5  # 1 / ln(17 / 16): each renewal waits for a sixteenth of all counts more


def check_rans(size: int, specs: Specs, options: Sequence[Any], most_classes: int = MAX_CLASSES) -> None:
    """Raise ValueError unless the options are such that the decoder takes memory and time in proportion to what it decodes.

    Args:
        size: coded bytes.
        specs: dtypes and shapes of the arrays.
        options: of `decode_rans`.
        most_classes: tables that a kind's elements may choose from.
    """
    if len(options) != 3:
        raise ValueError("a rans stream has not three options")
    lanes, kinds, members = options
    if not is_integer(lanes, 1, MAX_LANES) or size % 2 or size < 4 * lanes:
        raise ValueError("a rans stream is too short for its lanes")
    if not isinstance(kinds, list) or not isinstance(members, list):
        raise ValueError("a rans stream has malformed options")
    tables = 0
    for kind in kinds:
        if not isinstance(kind, list) or len(kind) != 4 or not is_integer(kind[0], 0, 65535):
            raise ValueError("a rans stream has a malformed kind of array")
        rows, columns, elements = kind[1:]
        tables += _check_model(rows, 1) + _check_model(columns, 1) + _check_model(elements, most_classes)
    if tables > MAX_TABLES:
        raise ValueError(f"a rans stream asks for {tables:,} tables, above the limit of {MAX_TABLES:,}")
    if len(members) != len(specs) or not all(is_integer(member, 0, len(kinds) - 1) for member in members):
        raise ValueError("a rans stream does not give each array a kind")
    excess = rans_excess(size, lanes, specs)
    if excess:
        raise ValueError(f"a rans stream of {size:,} bytes {excess}")
    symbols = [0] * len(kinds)
    for (dtype, shape), member in zip(specs, members, strict=True):
        symbols[member] += math.prod(shape) * _octets(dtype)
    renewals = sum(_renewals(kind[3], lanes, count) for kind, count in zip(kinds, symbols, strict=True))
    if renewals > max(RENEWALS, size):
        raise ValueError(f"a rans stream of {size:,} bytes renews its tables too often")


def rans_excess(size: int, lanes: int, specs: Specs) -> str:
    """What is too much in a stream of these arrays with so many bytes and lanes; "" when all of it can be read."""
    rows = sum(shape[0] if shape[1:] else 1 for _, shape in specs)
    columns = sum(math.prod(shape[1:] or shape) for _, shape in specs if 0 not in shape)
    # Arrays that go by their bytes have a row for each element.
    elements = sum(math.prod(shape) for dtype, shape in specs if _octets(dtype) > 1)
    symbols = sum(math.prod(shape) * _octets(dtype) for dtype, shape in specs) + rows + columns + elements
    most = min(MAX_STREAM, SYMBOLS_PER_BYTE * size, MAX_STEPS * lanes)
    if symbols > most:
        return f"and {lanes:,} lanes can't hold {symbols:,} symbols (at most {most:,})"
    if CLASS_BYTES * (rows + columns + elements) > decoded_limit(size):
        return f"can't hold {rows + columns + elements:,} rows and columns"
    return ""


def _octets(dtype: str) -> int:
    """Symbols of an element: one, or one for each byte."""
    kind = np.dtype(dtype)
    return kind.itemsize if kind.kind == "f" or kind.itemsize > 2 else 1


def _renewals(arguments: Sequence[int], lanes: int, symbols: int) -> float:
    """How many tables are made anew, at most, while so many symbols are decoded with a model."""
    alphabet, classes = arguments[0], arguments[4]
    growing = GROWTH * math.log1p(32 * symbols / (classes * max(PRIOR, alphabet)))
    return classes * (1 + min(symbols / lanes, growing) + symbols / PERIOD)


def _check_model(arguments: Any, most_classes: int) -> int:
    """The number of tables that these arguments of `rans_model` ask for."""
    if not isinstance(arguments, list) or len(arguments) != 5:
        raise ValueError("a rans stream has malformed tables")
    symbols, center, spread, ratio, classes = arguments
    if (
        not is_integer(symbols, 1, MAX_SYMBOLS)
        or not is_integer(center, 0, MAX_SYMBOLS)
        or not is_integer(spread, 1, FLAT)
        or not is_integer(ratio, 1, MAX_RATIO)
        or not is_integer(classes, 1, most_classes)
        or spread * max(ratio / 64, 1) ** classes > MAX_SPREAD
    ):
        raise ValueError("a rans stream has tables out of bounds")
    return int(classes)
