"""The priors of a kind's tables: what `rans_model` starts from, fitted to the symbols that are to be coded."""

from __future__ import annotations

import numpy as np

from runtime_stub.rans import rans_model
from runtime_stub.split import Array

MAX_SPREAD = 1 << 48  # of the last class; larger ones would overflow 64 bits
FLAT = 1 << 40  # spread of a prior that is the same everywhere
RATIOS = (64, 72, 80, 90, 101, 114, 128, 144, 161, 203, 256)
HALF_OCTAVES = 52  # of the first class's spread
LEARNED = 64  # symbols of each class that its prior is fitted for; tables then know more than the prior
FINALISTS = 8  # priors that are compared exactly


def fit_prior(counts: Array, center: int) -> tuple[int, int]:
    """Spread and ratio of the priors with which the first symbols of all classes take fewest bits.

    What a class takes as a function of its spread is tabulated once, in half octaves, and looked up for the classes of each
    candidate; the best ones are then compared exactly.

    Args:
        counts: how often each class has each symbol, (classes, symbols + 1).
        center: the symbol at which priors are highest.
    """
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    weights = counts / totals * np.minimum(totals, LEARNED)
    candidates, spreads = _candidates(len(counts))
    knots = _half_octaves(int(spreads.max()).bit_length() * 2 + 1)
    table = np.array([_bits(weights, center, spread, 64, single=True) for spread in knots])
    expected = np.zeros(len(candidates))
    for bits, spread in zip(table.T, spreads.T, strict=True):
        expected += np.interp(np.log2(spread), np.log2(knots), bits)
    finalists = [candidates[number] for number in np.argsort(expected, kind="stable")[:FINALISTS]]
    return min((float(_bits(weights, center, *one).sum()), *one) for one in finalists)[1:]


def _half_octaves(count: int) -> list[int]:
    return sorted({round(2 ** (exponent / 2)) for exponent in range(count)})


def _candidates(classes: int) -> tuple[list[tuple[int, int]], Array]:
    """Spreads and ratios that a reader takes, the smallest spreads first, and the spread that each gives each class."""
    pairs = [
        (spread, ratio)
        for spread in _half_octaves(HALF_OCTAVES)
        for ratio in (RATIOS if classes > 1 else (64,))
        if spread * (ratio / 64) ** classes <= MAX_SPREAD / 2
    ]
    spread, ratio = np.array(pairs).T
    spreads = [spread]
    for _ in range(classes - 1):
        spreads.append((spreads[-1] * ratio >> 6) + 1)
    return pairs, np.array(spreads).T


def _bits(weights: Array, center: int, spread: int, ratio: int, single: bool = False) -> Array:
    """What the symbols of each class take at first: with the priors of its own, or all with the `single` one of that spread."""
    prior = rans_model(weights.shape[1] - 1, center, spread, ratio, 1 if single else len(weights))[0]
    bits: Array = -(weights * np.log2(prior / prior.sum(1, keepdims=True))).sum(1)
    return bits
