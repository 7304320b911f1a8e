"""Decoder of the `rans` codec: adaptive range asymmetric numeral systems with row × column classes.

Asymmetric numeral systems: Duda, arXiv:1311.2540; interleaved lanes: Giesen, arXiv:1402.3392. Every array is a matrix; a class
for each row and one for each column are decoded first, and their sum chooses the frequency table of an element. The tables
adapt to what was decoded, so that none is transmitted. Everything is integer arithmetic, the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_stub.split import Array, Specs

PRECISION = 13  # bits of a frequency
INCREMENT = 32  # what one symbol adds to its count
PRIOR = 1024  # what the counts of a fresh table add up to, about
COUNTED = 2**16  # symbols of each period that are counted: enough, and counting takes time
PERIOD = 2**18  # symbols between two updates of the tables, at most; also elements of a block of rows, about

Model = list[Any]  # counts (classes, symbols + 1), whether symmetric, symbols until the tables are renewed, tables


def rans_model(symbols: int, center: int, spread: int, ratio: int, classes: int) -> Model:
    """Tables for one kind of array before anything was seen: `symbols` symbols and, last, the escape.

    The first counts follow Student's t-distribution, (1 + (symbol − center)² / spread)⁻⁴, with a spread that grows by
    ratio / 64 from class to class. A table whose center is in the middle is taken to be symmetric.
    """
    counts = np.ones((classes, symbols + 1), "i8")
    for row in counts:
        weights = ((spread << 14) // (spread + (np.arange(symbols) - center) ** 2)) ** 4 >> 30
        row[:-1] += weights * PRIOR // weights.sum()
        spread = (spread * ratio >> 6) + 1
    return [counts, 2 * center == symbols - 1, 0]


def rans_renew(model: Model, lanes: int) -> tuple[Array, Array]:
    """Frequencies and starts of all symbols, (classes, symbols + 1) each, from the counts so far.

    The frequencies of a class add up to 2^PRECISION; the escape always has one. Tables are renewed each time an eighth
    more was seen (a sixteenth, where they are not symmetric), at most every PERIOD symbols.
    """
    bounds = model[0].cumsum(1)
    bounds = bounds * (2**PRECISION - 1) // bounds[:, -1:]
    bounds[:, -1] += 1
    model[2] = min(max(int(model[0].sum()) >> 9, lanes), PERIOD)
    frequencies = np.diff(bounds, 1, 1, 0)
    return frequencies, bounds - frequencies


def rans_adapt(model: Model, classes: Array, symbols: Array) -> None:
    """Count the symbols whose classes are given, at most the first COUNTED; in a symmetric table, the mirror image too."""
    counts = model[0]
    cells = classes * counts.shape[1] + np.minimum(symbols[:COUNTED], counts.shape[1] - 1)
    seen = np.bincount(cells, None, counts.size).reshape(counts.shape) * INCREMENT
    counts += seen
    if model[1]:
        counts[:, :-1] += seen[:, -2::-1]
    model[2] -= len(symbols)


def rans_lookup(model: Model, lanes: int) -> None:
    """Renew the tables: of each slot of each class an entry and the symbol. An entry holds the symbol's frequency above
    PRECISION bits, and the slot's distance from the symbol's start in them."""
    frequencies, starts = rans_renew(model, lanes)
    width = starts.shape[1]
    count = len(starts) * 2**PRECISION
    entries = (frequencies * 2**PRECISION - starts - np.arange(0, count, 2**PRECISION)[:, None]).astype("u4")
    repeats = frequencies.ravel()
    model[3:] = (
        np.repeat(entries, repeats) + np.arange(count, dtype="u4"),
        np.repeat(np.arange(starts.size, dtype="u4") % width, repeats),
    )


def rans_slots(coder: list[Array], entries: Array, slots: Array) -> None:
    """Add to the first slot of each symbol's table what its lane's state says; one step takes a symbol from each lane.

    Args:
        coder: the lanes' states, and the words that are left (uint32 both); advanced.
        entries: of `rans_lookup`.
        slots: shape (symbols,), uint32, multiples of 2^PRECISION; overwritten.
    """
    states, words = coder
    bits, mask = map(np.array, np.array([PRECISION, 2**PRECISION - 1], "u4"))  # faster than Python's integers
    for start in range(0, len(slots), len(states)):
        slot = slots[start : start + len(states)]
        state = states[: len(slot)]
        slot += state & mask
        entry = entries.take(slot)
        state >>= bits
        state *= entry >> bits
        state += entry & mask
        low = (state < 65536).nonzero()[0]
        state[low] = state[low] << 16 | words[: len(low)]
        words = words[len(low) :]
    coder[1] = words


def rans_read(coder: list[Array], model: Model, classes: Array) -> Array:
    """Decode one symbol (uint32) for each of `classes` (uint32, the first slots of tables: multiples of 2^PRECISION).

    Args:
        coder: the lanes' states, and the words that are left (uint32 both): taken from the front to renew states, and from
            the back for escaped symbols. Advanced by what is read.
        model: the tables; they adapt.
        classes: shape (symbols,); overwritten.
    """
    decoded = [np.empty(0, "u4")]
    while len(classes):
        if not model[2]:
            rans_lookup(model, len(coder[0]))
        slots = classes[: model[2]]
        classes = classes[len(slots) :]
        rans_slots(coder, model[3], slots)
        symbols = model[4].take(slots)
        escaped = (symbols == model[0].shape[1] - 1).nonzero()[0]
        end = len(coder[1]) - len(escaped)
        symbols[escaped] = coder[1][end:]
        coder[1] = coder[1][:end]
        rans_adapt(model, slots[:COUNTED] >> PRECISION, symbols)
        decoded.append(symbols)
    return np.concatenate(decoded)


def rans_start(data: bytes, lanes: int) -> list[Array]:
    """The coder that `rans_read` takes, of a stream: the lanes' states (uint32), then words (uint16)."""
    words = np.frombuffer(data, "<u2").astype("u4")
    return [words[1 : 2 * lanes : 2] << 16 | words[: 2 * lanes : 2], words[2 * lanes :]]


def rans_matrix(array: Array) -> Array:
    """A view of an array as the matrix that is coded; anything but integers of one or two bytes goes by its bytes."""
    if array.dtype.kind == "f" or array.itemsize > 2:
        return array.reshape(-1, 1).view("u1")
    return array.reshape(len(array) if array.size and array.shape[1:] else 1, -1)


def scale_classes(read: Any, matrix: Array, shift: int, row_model: Model, column_model: Model, model: Model) -> None:
    """Context model: a class for each row and one for each column, whose sum chooses the table of an element.

    A context model fills a matrix by asking `read` for symbols, in any order and as many at a time as it can tell the classes
    of, from what it was given before. Encoder and decoder call the same one; only what `read` does differs.

    Args:
        read: function (model, classes) → symbols, as `rans_read`.
        matrix: (rows, columns), to be filled.
        shift: what is added to the symbols, modulo the range of the matrix's dtype.
        row_model, column_model, model: tables for the classes of rows and columns, and for elements.
    """
    rows, columns = (
        read(tables, np.zeros(length, "u4")) << PRECISION for tables, length in zip((row_model, column_model), matrix.shape)
    )
    step = PERIOD // (len(columns) + 1) + 1
    for row in range(0, len(matrix), step):
        block = rows[row : row + step, None] + columns
        matrix[row : row + step] = (read(model, block.ravel()) + shift).reshape(block.shape)


def decode_rans(
    data: bytes, specs: Specs, lanes: int, kinds: Sequence[Any], members: Sequence[int], context: Any = None
) -> list[Array]:
    """Decode arrays.

    Args:
        data: see `rans_start`.
        specs: numpy dtype string and shape of each array.
        lanes: number of interleaved states.
        kinds: for each kind of array what is added to its symbols (modulo the range of the dtype) and the arguments of
            `rans_model` for each of the context model's sets of tables.
        members: the kind of each array.
        context: the context model, `scale_classes` unless a codec with another one calls this function with it.
    """
    coder = rans_start(data, lanes)
    models = [(shift, *(rans_model(*arguments) for arguments in models)) for shift, *models in kinds]
    arrays = []
    for (dtype, shape), member in zip(specs, members):
        array = np.empty(shape, dtype)
        read = lambda tables, classes: rans_read(coder, tables, classes)  # noqa: E731
        (context or scale_classes)(read, rans_matrix(array), *models[member])
        arrays.append(array)
    return arrays
