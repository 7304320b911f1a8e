"""Paths through the trellises that a quantizer may take and a codec may code; see `generator.quantizers.trellis`."""

from __future__ import annotations

import numpy as np

from runtime_stub.split import Array

# Octal parity checks (h⁰, h¹) of convolutional codes: Ungerboeck, "Channel coding with multilevel/phase signals", IEEE
# Transactions on Information Theory 28, 1982, table I (amplitude modulation).
_CHECKS = {16: (0o23, 0o04), 32: (0o45, 0o10), 64: (0o103, 0o024)}


def _transitions(checks: tuple[int, int]) -> tuple[int, ...]:
    """The machine of a code, a shift register whose last bit is the grid (its systematic encoder with feedback).

    Bit i of h⁰ and h¹ says whether the grid and the choice within it, i steps before, count for the grid.
    """
    by_grid, by_choice = (one >> 1 for one in checks)
    states = 1 << by_grid.bit_length()
    return tuple(
        state >> 1 ^ grid * by_grid ^ (parity ^ grid) * by_choice
        for state in range(states)
        for grid in (state & 1,)
        for parity in range(2)
    )


# Next state by state and parity of k, flat; odd states have the odd grid.
TRANSITIONS = {
    8: (0, 2, 5, 7, 1, 3, 6, 4, 2, 0, 4, 6, 3, 1, 7, 5),
    4: (0, 1, 2, 3, 1, 0, 3, 2),
    **{states: _transitions(checks) for states, checks in _CHECKS.items()},
}


def path(symbols: Array, states: int) -> tuple[Array, Array] | None:
    """What symbols q = 2k − grid · sign(k) along the last dimension are in a trellis of so many states.

    Args:
        symbols: integers, at most 2^15 − 2 in size.

    Returns:
        k and grid (0 or 1) of each, int16 and uint8 of the shape of `symbols`; None if a row is no path of the trellis.
    """
    following = np.array(TRANSITIONS[states], "u1")
    state = np.zeros(symbols.shape[:-1], "u1")
    result, grids = np.empty(symbols.shape, "i2"), np.empty(symbols.shape, "u1")
    for column in range(symbols.shape[-1]):
        values = symbols[..., column].astype("i2")
        grid = state & 1
        doubled = values + grid * np.sign(values)
        if (doubled & 1).any():
            return None
        k = doubled >> 1
        result[..., column], grids[..., column] = k, grid
        state = following[2 * state + (k & 1)]
    return result, grids
