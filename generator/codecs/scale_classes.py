"""The model half of `rans`: row and column classes of matrices, and the priors of the tables that they choose.

Quantized weights are nearly independent draws from bell-shaped distributions whose width differs by row and by column. A rank-1
fit of the mean magnitude, on a log2 grid, gives the classes; their sum tells the width of an element's distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from runtime_stub.rans import rans_matrix, rans_model
from runtime_stub.split import Array

MAX_SYMBOLS = 4095
MAX_CLASSES = 64
MAX_SPREAD = 1 << 48  # of the last class; larger ones would overflow 64 bits
UNSEEN = 0.02  # count of a symbol that a class does not have, for code lengths
FLAT = 1 << 40  # spread of a prior that is the same everywhere
PRIOR_RATIOS = (64, 72, 80, 90, 101, 114, 128, 144, 161, 203, 256)
MAX_OCTAVES = 26  # of the first class's spread
LEARNED = 64  # symbols of each class that its prior is fitted for; tables then know more than the prior
REFINEMENTS = 2  # rounds of giving each row and column the class that codes it shortest
# Classes per octave that are tried, of rows and of columns.
RESOLUTION_PAIRS = [(0, 0), *(pair for n in (1, 2, 3, 4, 6) for pair in ((n, n), (0, n), (n, 0)))]


@dataclass
class Kind:
    """Arrays that share tables, as matrices of symbols (uint16), and the classes of their rows and columns."""

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
        return 1 + _largest(self.rows) + _largest(self.columns)

    def arguments(self) -> list[list[int]]:
        """Arguments of `rans_model` for row classes, column classes and elements."""
        return [
            _class_arguments(self.rows),
            _class_arguments(self.columns),
            [self.symbols, self.center, self.spread, self.ratio, self.classes],
        ]


def make_kind(arrays: Sequence[Array], by_bytes: bool, fitted: bool = True) -> Kind:
    """Fit classes to arrays of one kind.

    Args:
        arrays: integers of one or two bytes, or arrays that go by their bytes.
        by_bytes: the latter; then the position of a byte within its element is its column class.
        fitted: False for one table and no classes (`order0`).
    """
    if by_bytes:
        matrices = [rans_matrix(np.ascontiguousarray(array)).astype("u2") for array in arrays]
        kind = Kind(0, 256, 128, matrices, [np.zeros(len(m), "i8") for m in matrices])
        kind.columns = [np.arange(m.shape[1]) if fitted else np.zeros(m.shape[1], "i8") for m in matrices]
        return kind
    kind = _alphabet([rans_matrix(array) for array in arrays])
    _choose_classes(kind, RESOLUTION_PAIRS if fitted else [(0, 0)])
    for _ in range(REFINEMENTS if kind.classes > 1 else 0):
        _reassign(kind)
    kind.spread, kind.ratio = _prior(kind)
    return kind


def _choose_classes(kind: Kind, resolutions: Sequence[tuple[int, int]]) -> None:
    """Give each row and column the class that its scale in a rank-1 fit has, at those of `resolutions` that code shortest.

    Args:
        kind: its rows, columns and ratio are filled in.
        resolutions: pairs of classes per octave, of rows and of columns.
    """
    scales = [_rank_one(_magnitude(matrix, kind)) for matrix in kind.matrices]
    row_scales, column_scales = ([np.log2(pair[side]) for pair in scales] for side in (0, 1))
    best = float("inf")
    for row_resolution, column_resolution in resolutions:
        rows, columns = _grid(row_scales, row_resolution), _grid(column_scales, column_resolution)
        if _largest(rows) + _largest(columns) >= MAX_CLASSES:
            continue
        cost = _cost(kind, rows, columns)
        if cost < best:
            best, kind.rows, kind.columns = cost, rows, columns
            finest = max(row_resolution, column_resolution)
            kind.ratio = round(64 * 2 ** (2 / finest)) if finest else 64


def _alphabet(matrices: Sequence[Array]) -> Kind:
    """Symbols from 0: signed values around their middle, others from their minimum; rare extremes are left to the escape."""
    values = np.concatenate([matrix.reshape(-1) for matrix in matrices]).astype("i8")
    if not values.size:
        return Kind(0, 1, 0, [matrix.astype("u2") for matrix in matrices])
    low, high = int(values.min()), int(values.max())
    if high - low >= 256:
        # Table entries far beyond where nearly all values lie would cost more than escapes.
        inner = [int(v) for v in np.quantile(values, (0.0005, 0.9995), method="nearest")]
        margin = (inner[1] - inner[0]) // 2 + 1
        low, high = max(low, inner[0] - margin), min(high, inner[1] + margin)
    if low < 0 < high:
        high = min(max(-low, high), MAX_SYMBOLS // 2)
        low = -high
        symbols, center = 2 * high + 1, high
    else:
        symbols = min(high - low + 1, MAX_SYMBOLS)
        center = min(int(np.median(values)) - low, symbols - 1)
        if 2 * center == symbols - 1:  # that would make the table symmetric
            symbols += 1
    return Kind(low % 65536, symbols, center, [((matrix.astype("i8") - low) % 65536).astype("u2") for matrix in matrices])


def _magnitude(matrix: Array, kind: Kind) -> Array:
    """Distance from the center, escaped symbols at the edge."""
    magnitude: Array = np.abs(np.minimum(matrix, kind.symbols - 1).astype("f4") - kind.center)
    return magnitude


def _rank_one(magnitude: Array) -> tuple[Array, Array]:
    """Row and column scales whose product fits the mean magnitude."""
    rows, columns = magnitude.shape
    if not magnitude.size:
        return np.ones(rows), np.ones(columns)
    row_scale, column_scale = np.ones(rows), np.ones(columns)
    for _ in range(4):
        # Half an observation of the mean keeps empty rows and columns finite.
        column_scale = (magnitude.T @ (1 / row_scale) + 0.5) / (rows + 0.5)
        row_scale = (magnitude @ (1 / column_scale) + 0.5) / (columns + 0.5)
    return row_scale, column_scale


def _grid(logarithms: Sequence[Array], resolution: int) -> list[Array]:
    """Rounded to 1/resolution, from 0; all 0 for resolution 0."""
    classes = [np.rint(values * resolution).astype("i8") for values in logarithms]
    least = min((int(c.min()) for c in classes if c.size), default=0)
    return [c - least for c in classes]


def _cost(kind: Kind, rows: Sequence[Array], columns: Sequence[Array]) -> float:
    """Bits for elements and classes with ideal tables, and for the tables' learning."""
    return sum(_bits(counts) for counts in (_counts(kind, rows, columns), _histogram(rows), _histogram(columns)))


def _counts(kind: Kind, rows: Sequence[Array], columns: Sequence[Array]) -> Array:
    """How often each class has each symbol, (classes, symbols + 1)."""
    classes = 1 + _largest(rows) + _largest(columns)
    width = kind.symbols + 1
    counts = np.zeros(classes * width, "i8")
    for matrix, row, column in zip(kind.matrices, rows, columns, strict=True):
        cells = (row[:, None] + column) * width + np.minimum(matrix, kind.symbols)
        counts += np.bincount(cells.ravel(), minlength=counts.size)
    return counts.reshape(classes, width)


def _reassign(kind: Kind) -> None:
    """Move each row and column by up to two classes to where its symbols and the class itself take fewest bits."""
    counts = _counts(kind, kind.rows, kind.columns) + UNSEEN
    lengths = (-np.log2(counts / counts.sum(1, keepdims=True))).astype("f4")
    for along, classes, others in ((1, kind.rows, kind.columns), (0, kind.columns, kind.rows)):
        most = _largest(classes)
        if not most:
            continue
        frequency = _histogram(classes)[0] + 0.5
        side = -np.log2(frequency / frequency.sum())
        for number, (matrix, current, other) in enumerate(zip(kind.matrices, classes, others, strict=True)):
            symbols = np.minimum(matrix, kind.symbols)
            options = np.clip(current + np.arange(-2, 3)[:, None], 0, most)
            bits = []
            for option in options:
                table = option[:, None] + other if along else other[:, None] + option
                bits.append(lengths[table, symbols].sum(along) + side[option])
            classes[number] = options[np.argmin(bits, 0), np.arange(len(current))]


def _histogram(classes: Sequence[Array]) -> Array:
    return np.bincount(np.concatenate([np.zeros(0, "i8"), *classes]))[None, :]


def _bits(counts: Array) -> float:
    """Entropy of each row of counts, and half a logarithm for each occurring symbol that has to be learned."""
    occurring = counts > 0
    entropy = (counts[occurring] * np.log2(counts[occurring])).sum()
    totals = counts.sum(1)
    totals = totals[totals > 0]
    return float((totals * np.log2(totals)).sum() - entropy + 0.5 * np.log2(counts[occurring]).sum())


def _prior(kind: Kind) -> tuple[int, int]:
    """Spread and ratio of the priors that fit the first symbols of all classes best."""
    counts = _counts(kind, kind.rows, kind.columns)
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    weights = counts / totals * np.minimum(totals, LEARNED)
    best = (float("inf"), 1, 64)
    for ratio in PRIOR_RATIOS if kind.classes > 1 else (64,):
        for spread in (round(2 ** (exponent / 2)) for exponent in range(2 * MAX_OCTAVES)):
            if spread * (ratio / 64) ** kind.classes > MAX_SPREAD / 2:
                break
            prior = rans_model(kind.symbols, kind.center, spread, ratio, kind.classes)[0]
            bits = -float((weights * np.log2(prior / prior.sum(1, keepdims=True))).sum())
            best = min(best, (bits, spread, ratio))
    return best[1:]


def _class_arguments(classes: Sequence[Array]) -> list[int]:
    values = np.concatenate([np.zeros(0, "i8"), *classes])
    if not values.size or not values.max():
        return [1, 1, 1, 64, 1]
    center = int(np.median(values))
    symbols = int(values.max()) + 1
    symbols += 2 * center == symbols - 1
    return [symbols, center, max(1, round(5 * float(((values - center) ** 2).mean()))), 64, 1]


def _largest(classes: Sequence[Array]) -> int:
    return max((int(c.max()) for c in classes if c.size), default=0)
