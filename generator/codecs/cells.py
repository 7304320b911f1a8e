"""Cells: the place (class, symbol) that an element of a matrix has in the tables of its kind, as one number.

Everything here goes through a matrix in blocks of rows and columns, so that what is computed of a block stays in the
processor's cache, and a matrix of any size takes little memory beside itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from runtime_stub.split import Array

BLOCK = 1 << 16  # elements
REACH = 2  # classes by which a row or column may move


def blocks(shape: Sequence[int]) -> Iterator[tuple[slice, slice]]:
    """The rows and columns of each block of a matrix."""
    rows, columns = shape
    width = min(columns, BLOCK) or 1
    height = BLOCK // width
    for row in range(0, rows, height):
        for column in range(0, columns, width):
            yield slice(row, row + height), slice(column, column + width)


def count_cells(matrices: Sequence[Array], rows: Sequence[Array], columns: Sequence[Array], symbols: int) -> Array:
    """How often each class has each symbol, (classes, symbols + 1); those beyond the alphabet are the last.

    Args:
        matrices: symbols, unsigned.
        rows, columns: the classes of each matrix's rows and columns; the class of an element is their sum.
        symbols: size of the alphabet.
    """
    classes = 1 + largest(rows) + largest(columns)
    counts = np.zeros(classes * (symbols + 1), "i8")
    for matrix, row, column in zip(matrices, rows, columns, strict=True):
        for block in blocks(matrix.shape):
            counts += np.bincount(_cells(matrix, row, column, symbols, block).ravel(), minlength=counts.size)
    return counts.reshape(classes, -1)


def moving_bits(matrix: Array, row: Array, column: Array, lengths: Array, along: int) -> Array:
    """Bits that each row (along 1) or column (along 0) of a matrix takes with its class moved by −REACH … REACH.

    Args:
        matrix: symbols, unsigned.
        row, column: the classes of its rows and columns.
        lengths: bits of each symbol in each class, (classes, symbols + 1). A move beyond the first or last class is given the
            lengths of those.
        along: the axis that is summed over.

    Returns:
        (2 · REACH + 1, rows or columns), in float64: whatever the order of the summands, sums differ by nothing that matters.
    """
    width = lengths.shape[1]
    padded = np.pad(lengths, ((REACH, REACH), (0, 0)), "edge").ravel()
    moved = [padded[move * width :] for move in range(2 * REACH + 1)]
    bits = np.zeros((len(moved), matrix.shape[1 - along]))
    for block in blocks(matrix.shape):
        cells = _cells(matrix, row, column, width - 1, block)
        for total, table in zip(bits, moved, strict=True):
            total[block[1 - along]] += table.take(cells).sum(along)
    return bits


def _cells(matrix: Array, row: Array, column: Array, symbols: int, block: tuple[slice, slice]) -> Array:
    """Of the elements of a block, int64."""
    part = matrix[block]
    starts = [(classes[lines] * (symbols + 1)).astype("i4") for classes, lines in zip((row, column), block, strict=True)]
    cells = starts[0][:, None] + starts[1]
    cells += np.minimum(part, min(symbols, np.iinfo(part.dtype).max))  # a narrow dtype holds nothing beyond a large alphabet
    indices: Array = cells.astype("i8")  # what each look-up would convert them to
    return indices


def largest(classes: Sequence[Array]) -> int:
    """The last class that any row or column has; 0 where there are none."""
    return max((int(c.max()) for c in classes if c.size), default=0)
