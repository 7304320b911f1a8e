"""From the arrays that a quantizer emitted back to weights."""

from __future__ import annotations

import numpy as np

from runtime_stub.low_rank import add_product
from runtime_stub.split import Array


def keep(values: Array) -> Array:
    """Values that were stored as they are."""
    return values


def scale(symbols: Array, scales: Array) -> Array:
    """Uniform quantization: symbols (any integer dtype) times scales (float16, broadcast against them), in float32.

    One multiplication per weight, rounded once by IEEE 754: the same bits on every machine.
    """
    weights: Array = symbols.astype("f4") * scales.astype("f4")
    return weights


def groups(symbols: Array, scales: Array) -> Array:
    """Uniform quantization in groups: scales (rows, groups), of equal parts of the symbols' rows; the last may be shorter."""
    matrix = symbols.reshape(len(scales), -1)
    width = matrix.shape[1]
    spread = np.repeat(scales, -(-width // scales.shape[1]), 1)[:, :width]
    return scale(matrix, spread).reshape(symbols.shape)


def grid(symbols: Array, rows: Array, columns: Array) -> Array:
    """Uniform quantization with steps 2^((rows + columns) / 4); rows and columns (integers) broadcast against symbols.

    A quarter octave is a float32 from a table times an exact power of two, and two multiplications in a fixed order, each
    rounded once by IEEE 754, give the same bits on every machine.
    """
    quarters = np.array([1, 1.1892071, 1.4142135, 1.6817929], "f4")
    weights: Array = symbols.astype("f4")
    for exponents in rows, columns:
        weights *= np.ldexp(quarters[exponents & 3], exponents >> 2)
    return weights


def grid_gains(symbols: Array, rows: Array, columns: Array, row_gains: Array, column_gains: Array) -> Array:
    """What `grid` gives, times 1 + gain / 64 for the gains (int8) of rows and columns, which are exact in float32."""
    weights = grid(symbols, rows, columns)
    for gains in row_gains, column_gains:
        weights *= 1 + gains.astype("f4") / 64
    return weights


def scale_low_rank(symbols: Array, scales: Array, left: Array, left_scales: Array, right: Array, right_scales: Array) -> Array:
    """What `scale` gives, and a product of two factors; see `add_product`."""
    return add_product(scale(symbols, scales), left, left_scales, right, right_scales)


def groups_low_rank(symbols: Array, scales: Array, left: Array, left_scales: Array, right: Array, right_scales: Array) -> Array:
    """What `groups` gives, and a product of two factors; see `add_product`."""
    return add_product(groups(symbols, scales), left, left_scales, right, right_scales)


def grid_low_rank(
    symbols: Array, rows: Array, columns: Array, left: Array, left_scales: Array, right: Array, right_scales: Array
) -> Array:
    """What `grid` gives, and a product of two factors; see `add_product`."""
    return add_product(grid(symbols, rows, columns), left, left_scales, right, right_scales)
