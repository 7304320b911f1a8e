"""Decoder of the `rans` codec: adaptive range asymmetric numeral systems with row × column classes.

Asymmetric numeral systems: Duda, arXiv:1311.2540; interleaved lanes: Giesen, arXiv:1402.3392. Every array is a matrix; a class
for each row and one for each column are decoded first, and their sum chooses the frequency table of an element. The tables
adapt to what was decoded, so that none is transmitted. Everything is integer arithmetic, the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_stub.split import Array, Specs

PRECISION = 14  # bits of a frequency
INCREMENT = 32  # what one symbol adds to its count
PRIOR = 11  # bits: the counts that a table begins with add up to about 2^PRIOR
PERIOD = 2**18  # symbols between two updates of the tables, at most; also elements of one block of rows, about

Model = list[Any]  # counts (classes, symbols + 1), whether symmetric, symbols seen, symbols seen when tables are due, tables
Coder = list[Any]  # lanes' states, words, next word, end of the words (where escaped symbols are taken from)


def rans_model(symbols: int, center: int, spread: int, ratio: int, classes: int) -> Model:
    """Tables for one kind of array before anything was seen: `symbols` symbols and, last, the escape.

    The first counts follow Student's t-distribution, (1 + (symbol − center)² / spread)⁻⁴, with a spread that grows by
    ratio / 64 from class to class. A table whose center is in the middle is taken to be symmetric.
    """
    squares = (np.arange(symbols) - center) ** 2
    counts = np.ones((classes, symbols + 1), "i8")
    for row in counts:
        weights = ((spread << 14) // (spread + squares)) ** 4 >> 30
        row[:-1] += (weights << PRIOR) // (weights.sum() + 1)
        spread = (spread * ratio >> 6) + 1
    return [counts, 2 * center == symbols - 1, 0, 0]


def rans_bounds(counts: Array) -> Array:
    """Cumulative frequencies, (classes, symbols + 1), ending at 2^PRECISION; the escape always has a frequency."""
    bounds: Array = counts.cumsum(1)
    bounds = bounds * (2**PRECISION - 1) // bounds[:, -1:]
    bounds[:, -1] += 1
    return bounds


def rans_due(model: Model, lanes: int) -> bool:
    """Whether the tables must be made anew from the counts: often at first, then each time a quarter more was seen."""
    if model[2] < model[3]:
        return False
    model[3] += min(max(model[2] // 4, lanes), PERIOD)
    return True


def rans_adapt(model: Model, classes: Array, symbols: Array) -> None:
    """Count what was decoded; in a symmetric table, the mirror image too."""
    counts = model[0]
    width = counts.shape[1]
    cells = classes * width + np.minimum(symbols, width - 1)
    seen = np.bincount(cells, minlength=counts.size).reshape(counts.shape) * INCREMENT
    counts += seen
    if model[1]:
        counts[:, :-1] += seen[:, -2::-1]
    model[2] += len(symbols)


def rans_read(coder: Coder, model: Model, classes: Array) -> Array:
    """Decode one symbol for each of `classes` (int64 indices of tables); returns uint16."""
    states, words, position, tail = coder
    lanes = len(states)
    decoded = []
    while len(classes):
        if rans_due(model, lanes):
            bounds = rans_bounds(model[0])
            frequencies = np.diff(bounds, axis=1, prepend=0)
            starts = np.arange(len(bounds))[:, None] * 2**PRECISION + bounds - frequencies
            # One entry per slot: the frequency, and the slot's distance from the start of its symbol.
            repeats = frequencies.ravel()
            slots = np.repeat((frequencies * 2**16 - starts).ravel(), repeats) + np.arange(len(bounds) * 2**PRECISION)
            model[4:] = slots.astype("u4"), np.repeat(np.arange(starts.size) % starts.shape[1], repeats).astype("u2")
        table = model[4]
        chunk = classes[: model[3] - model[2]]
        classes = classes[len(chunk) :]
        slots = (chunk * 2**PRECISION).astype("u4")
        for start in range(0, len(chunk), lanes):
            slot = slots[start : start + lanes]
            state = states[: len(slot)]
            slot += state & 2**PRECISION - 1
            entry = table[slot]
            state[:] = (entry >> 16) * (state >> PRECISION) + (entry & 65535)
            low = (state < 65536).nonzero()[0]
            state[low] = state[low] << 16 | words[position : position + len(low)]
            position += len(low)
        symbols = model[5][slots]
        escaped = (symbols == model[0].shape[1] - 1).nonzero()[0]
        tail -= len(escaped)
        symbols[escaped] = words[tail : tail + len(escaped)]
        rans_adapt(model, chunk, symbols)
        decoded.append(symbols)
    coder[2:] = position, tail
    return np.concatenate([np.empty(0, "u2"), *decoded])


def rans_shape(dtype: str, shape: Sequence[int]) -> tuple[int, int]:
    """Rows and columns of an array as it is coded; anything but integers of one or two bytes goes by its bytes."""
    item = np.dtype(dtype)
    count = math.prod(shape)
    if item.kind == "f" or item.itemsize > 2:
        return count, item.itemsize
    rows = shape[0] if count and shape[1:] else 1
    return rows, count // rows


def decode_rans(data: bytes, specs: Specs, lanes: int, kinds: Sequence[Any], members: Sequence[int]) -> list[Array]:
    """Decode arrays.

    Args:
        data: the lanes' states (uint32), then words (uint16) that are taken from the front to renew states and from the
            back for escaped symbols.
        specs: numpy dtype string and shape of each array.
        lanes: number of interleaved states.
        kinds: for each kind of array what is added to its symbols (modulo 2^16) and the arguments of `rans_model` for
            row classes, column classes and elements.
        members: the kind of each array.
    """
    words = np.frombuffer(data, "<u2")
    coder = [words[: 2 * lanes].view("<u4").astype("u4"), words, 2 * lanes, len(words)]
    models = [(shift, *(rans_model(*arguments) for arguments in models)) for shift, *models in kinds]
    arrays = []
    for (dtype, shape), member in zip(specs, members):
        rows, columns = rans_shape(dtype, shape)
        shift, row_model, column_model, model = models[member]
        row_classes = rans_read(coder, row_model, np.zeros(rows, "i8")).astype("i8")[:, None]
        column_classes = rans_read(coder, column_model, np.zeros(columns, "i8"))
        array = np.empty((rows, columns), "u1" if rows * columns != math.prod(shape) else dtype)
        step = PERIOD // max(columns, 1) + 1
        for row in range(0, rows, step):
            block = array[row : row + step]
            block[:] = (rans_read(coder, model, (row_classes[row : row + step] + column_classes).ravel()) + shift).reshape(
                block.shape
            )
        arrays.append(array.view(dtype).reshape(shape))
    return arrays
