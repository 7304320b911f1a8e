"""The model half of `rans`: row and column classes of matrices, and the priors of the tables that they choose.

Quantized weights are nearly independent draws from bell-shaped distributions whose width differs by row and by column. A rank-1
fit of the mean magnitude, on a log2 grid, gives the classes; their sum tells the width of an element's distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from generator.codecs.cells import REACH, blocks, count_cells, largest, moving_bits
from generator.codecs.priors import FLAT, fit_prior
from runtime_stub.rans import rans_matrix
from runtime_stub.split import Array

MAX_SYMBOLS = 4095
MAX_CLASSES = 64
UNSEEN = 0.02  # count of a symbol that a class does not have, for code lengths
SAMPLE = 1 << 20  # elements of a kind, about, that resolutions are compared on
REFINEMENTS = 2  # rounds of giving each row and column the class that codes it shortest
# Classes per octave that are tried, of rows and of columns.
RESOLUTION_PAIRS = [(0, 0), *(pair for n in (1, 2, 3, 4, 6) for pair in ((n, n), (0, n), (n, 0)))]


@dataclass
class Kind:
    """Arrays that share tables, as matrices of symbols (uint8, or uint16 where need be), and the classes of their rows and
    columns."""

    shift: int  # what the decoder adds to a symbol, modulo 2^16
    symbols: int
    center: int
    matrices: list[Array]
    rows: list[Array] = field(default_factory=list)
    columns: list[Array] = field(default_factory=list)
    spread: int = FLAT
    ratio: int = 64

    @property
    def classes(self) -> int:
        """Number of tables for elements."""
        return 1 + largest(self.rows) + largest(self.columns)

    def arguments(self) -> list[list[int]]:
        """Arguments of `rans_model` for row classes, column classes and elements."""
        return [
            _class_arguments(self.rows),
            _class_arguments(self.columns),
            [self.symbols, self.center, self.spread, self.ratio, self.classes],
        ]

    def counts(self) -> Array:
        """How often each class has each symbol, (classes, symbols + 1)."""
        return count_cells(self.matrices, self.rows, self.columns, self.symbols)

    def rate(self) -> float:
        """Bits of the elements and of the rows' classes with ideal tables: what twice as many rows take twice."""
        return ideal_bits(self.counts()) + self.row_bits()

    def row_bits(self) -> float:
        """Bits of the rows' classes with ideal tables."""
        return ideal_bits(_histogram(self.rows))


def make_kind(arrays: Sequence[Array], by_bytes: bool, fitted: bool = True) -> Kind:
    """Fit classes to arrays of one kind.

    Args:
        arrays: integers of one or two bytes, or arrays that go by their bytes.
        by_bytes: the latter; then the position of a byte within its element is its column class.
        fitted: False for one table and no classes (`order0`).
    """
    if by_bytes:
        matrices = [rans_matrix(np.ascontiguousarray(array)) for array in arrays]
        kind = Kind(0, 256, 128, matrices, [np.zeros(len(m), "i8") for m in matrices])
        kind.columns = [np.arange(m.shape[1]) if fitted else np.zeros(m.shape[1], "i8") for m in matrices]
        return kind
    kind = fit_classes([rans_matrix(array) for array in arrays], fitted)
    kind.spread, kind.ratio = fit_prior(kind.counts(), kind.center)
    return kind


def fit_classes(matrices: Sequence[Array], fitted: bool = True) -> Kind:
    """A kind of matrices of integers (one or two bytes) without its prior; `fitted` as for `make_kind`."""
    kind = _alphabet(matrices)
    _choose_classes(kind, RESOLUTION_PAIRS if fitted else [(0, 0)])
    for _ in range(REFINEMENTS if kind.classes > 1 else 0):
        _reassign(kind)
    return kind


def _choose_classes(kind: Kind, resolutions: Sequence[tuple[int, int]]) -> None:
    """Give each row and column the class that its scale in a rank-1 fit has, at those of `resolutions` that code shortest.

    Args:
        kind: its rows and columns are filled in.
        resolutions: pairs of classes per octave, of rows and of columns.
    """
    elements = sum(matrix.size for matrix in kind.matrices)
    every = -(-elements // SAMPLE) or 1
    sampled = [matrix[::every] for matrix in kind.matrices]
    weight = elements / (sum(matrix.size for matrix in sampled) or 1)
    scales = [_rank_one(_magnitude(matrix, kind)) for matrix in kind.matrices]
    row_scales, column_scales = ([np.log2(pair[side]) for pair in scales] for side in (0, 1))
    best = float("inf")
    for row_resolution, column_resolution in resolutions:
        rows, columns = _grid(row_scales, row_resolution), _grid(column_scales, column_resolution)
        if largest(rows) + largest(columns) >= MAX_CLASSES:
            continue
        counts = count_cells(sampled, [row[::every] for row in rows], columns, kind.symbols)
        # Bits for elements and classes with ideal tables, and for the tables' learning.
        cost = _bits(counts, weight) + _bits(_histogram(rows)) + _bits(_histogram(columns))
        if cost < best:
            best, kind.rows, kind.columns = cost, rows, columns


def _alphabet(matrices: Sequence[Array]) -> Kind:
    """Symbols from 0: signed values around their middle, others from their minimum; rare extremes are left to the escape."""
    filled = [matrix for matrix in matrices if matrix.size]
    if not filled:
        return Kind(0, 1, 0, [matrix.astype("u1") for matrix in matrices])
    least, most = min(int(matrix.min()) for matrix in filled), max(int(matrix.max()) for matrix in filled)
    low, high = least, most
    if high - low >= 256:
        # Table entries far beyond where nearly all values lie would cost more than escapes.
        values = np.concatenate([matrix.ravel() for matrix in filled]).astype("i4")
        inner = [int(v) for v in np.quantile(values, (0.0005, 0.9995), method="nearest")]
        margin = (inner[1] - inner[0]) // 2 + 1
        low, high = max(low, inner[0] - margin), min(high, inner[1] + margin)
    if low < 0 < high:
        high = min(max(-low, high), MAX_SYMBOLS // 2)
        low = -high
        symbols, center = 2 * high + 1, high
    else:
        symbols = min(high - low + 1, MAX_SYMBOLS)
        center = min(int(np.median(np.concatenate([matrix.ravel() for matrix in filled]))) - low, symbols - 1)
        if 2 * center == symbols - 1:  # that would make the table symmetric
            symbols += 1
    dtype = "u1" if low <= least and most - low < 256 else "u2"
    return Kind(low % 65536, symbols, center, [(m.astype("u2") - np.uint16(low % 65536)).astype(dtype) for m in matrices])


def _magnitude(matrix: Array, kind: Kind) -> Array:
    """Distance from the center, escaped symbols at the edge."""
    magnitude: Array = np.abs(np.minimum(matrix, min(kind.symbols - 1, np.iinfo(matrix.dtype).max)).astype("f4") - kind.center)
    return magnitude


def _rank_one(magnitude: Array) -> tuple[Array, Array]:
    """Row and column scales whose product fits the mean magnitude."""
    rows, columns = magnitude.shape
    if not magnitude.size:
        return np.ones(rows), np.ones(columns)
    row_scale, column_scale = np.ones(rows), np.ones(columns)
    for _ in range(4):
        # Half an observation of the mean keeps empty rows and columns finite.
        column_scale = (_product(1 / row_scale, magnitude.T) + 0.5) / (rows + 0.5)
        row_scale = (_product(1 / column_scale, magnitude) + 0.5) / (columns + 0.5)
    return row_scale, column_scale


def _product(vector: Array, matrix: Array) -> Array:
    """A float32 matrix times a float64 vector, of which a copy in float64 is never made as a whole."""
    product = np.zeros(len(matrix))
    for rows, columns in blocks(matrix.shape):
        product[rows] += matrix[rows, columns].astype("f8") @ vector[columns]
    return product


def _grid(logarithms: Sequence[Array], resolution: int) -> list[Array]:
    """Rounded to 1/resolution, from 0; all 0 for resolution 0."""
    classes = [np.rint(values * resolution).astype("i8") for values in logarithms]
    least = min((int(c.min()) for c in classes if c.size), default=0)
    return [c - least for c in classes]


def _reassign(kind: Kind) -> None:
    """Move each row and column by up to REACH classes to where its symbols and the class itself take fewest bits."""
    counts = kind.counts() + UNSEEN
    lengths = -np.log2(counts / counts.sum(1, keepdims=True))
    for along, classes in ((1, kind.rows), (0, kind.columns)):
        most = largest(classes)
        if not most:
            continue
        frequency = _histogram(classes)[0] + 0.5
        side = -np.log2(frequency / frequency.sum())
        for number, matrix in enumerate(kind.matrices):
            bits = moving_bits(matrix, kind.rows[number], kind.columns[number], lengths, along)
            options = classes[number] + np.arange(-REACH, REACH + 1)[:, None]
            there = (options >= 0) & (options <= most)
            bits = np.where(there, bits + side[np.clip(options, 0, most)], np.inf)
            classes[number] = options[np.argmin(bits, 0), np.arange(options.shape[1])]


def _histogram(classes: Sequence[Array]) -> Array:
    return np.bincount(np.concatenate([np.zeros(0, "i8"), *classes]))[None, :]


def _bits(counts: Array, weight: float = 1.0) -> float:
    """Entropy of each row of counts, of which each stands for `weight` of its kind, and half a logarithm for each occurring
    symbol that has to be learned."""
    return weight * ideal_bits(counts) + 0.5 * float(np.log2(counts[counts > 0] * weight).sum())


def ideal_bits(counts: Array) -> float:
    """Entropy of each row of counts, in bits for all that was counted."""
    totals, occurring = counts.sum(1), counts[counts > 0]
    totals = totals[totals > 0]
    return float((totals * np.log2(totals)).sum() - (occurring * np.log2(occurring)).sum())


def _class_arguments(classes: Sequence[Array]) -> list[int]:
    values = np.concatenate([np.zeros(0, "i8"), *classes])
    if not values.size or not values.max():
        return [1, 1, 1, 64, 1]
    center = int(np.median(values))
    symbols = int(values.max()) + 1
    symbols += 2 * center == symbols - 1
    return [symbols, center, max(1, round(5 * float(((values - center) ** 2).mean()))), 64, 1]
