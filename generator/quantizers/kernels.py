"""The sequential part of error feedback, compiled: a block of columns, a tile of rows and columns. All in float64."""

from __future__ import annotations

import numpy as np

from generator.compiled import compiled
from runtime_stub.split import Array

STRIP = 64  # rows of a block at a time: what stays in the nearest cache


@compiled
def round_block(
    values: Array, steps: Array, kept: Array, feedback: Array, limit: float, binary: bool, symbols: Array, errors: Array
) -> None:
    """Round columns one after the other, each error passed on to those after it. Arrays are (columns, rows).

    Args:
        values: weights and what earlier blocks feed in; overwritten.
        steps: of each weight.
        kept: boolean; False forces a zero.
        feedback: F of these columns, (columns, columns).
        limit: greatest symbol.
        binary: symbols are ±1.
        symbols: to be filled.
        errors: holds the weights; w − q · step afterwards.
    """
    columns, rows = values.shape
    for first in range(0, rows, STRIP):
        stop = min(first + STRIP, rows)
        for column in range(columns):
            for row in range(first, stop):
                value, step = values[column, row], steps[column, row]
                if binary:
                    symbol = -1.0 if value < 0 else 1.0
                else:
                    symbol = np.rint(value / step)
                    symbol = limit if symbol > limit else symbol  # in this form, since NaN is to remain
                    symbol = -limit if symbol < -limit else symbol
                symbol = symbol if kept[column, row] else 0.0
                symbols[column, row] = symbol
                errors[column, row] -= symbol * step
            for later in range(column + 1, columns):
                factor = feedback[column, later]
                for row in range(first, stop):
                    values[later, row] += errors[column, row] * factor


@compiled
def round_tile(
    values: Array, steps: Array, kept: Array, rows: Array, columns: Array, symbols: Array, errors: Array, fed: Array
) -> None:
    """Round the entries of a tile row by row, each error passed on to the right, each row's to the rows below. (rows, columns).

    Args:
        values: weights and what other tiles feed in from above, not from the left.
        steps, kept: as for `round_block`.
        rows: the row side's F of these rows, (rows, rows); (0, 0) for none.
        columns: the column side's F of these columns.
        symbols: to be filled.
        errors: holds the weights; w − q · step afterwards.
        fed: holds what tiles to the left feed in; E F of this tile's columns afterwards.
    """
    height, width = values.shape
    for row in range(height):
        for above in range(min(row, len(rows))):
            factor = rows[above, row]
            for column in range(width):
                values[row, column] += factor * fed[above, column]
        for column in range(width):
            step = steps[row, column]
            symbol = np.rint((values[row, column] + fed[row, column]) / step) if kept[row, column] else 0.0
            error = errors[row, column] - symbol * step
            symbols[row, column] = symbol
            errors[row, column] = error
            fed[row, column] += error
            for later in range(column + 1, width):
                fed[row, later] += error * columns[column, later]
