"""Priors: the table of costs leads to those that a search of all would find."""

from __future__ import annotations

import numpy as np
import pytest

from generator.codecs.priors import HALF_OCTAVES, LEARNED, MAX_SPREAD, RATIOS, fit_prior
from runtime_stub.rans import rans_model


def first_bits(counts: np.ndarray, center: int, spread: int, ratio: int) -> float:
    """What the first LEARNED symbols of each class take, on average."""
    totals = np.maximum(counts.sum(1, keepdims=True), 1)
    prior = rans_model(counts.shape[1] - 1, center, spread, ratio, len(counts))[0]
    return -float((counts / totals * np.minimum(totals, LEARNED) * np.log2(prior / prior.sum(1, keepdims=True))).sum())


def bells(classes: int, symbols: int, growth: float, elements: int = 3000) -> np.ndarray:
    """Counts of bell-shaped symbols whose width grows from class to class; the middle class has none."""
    rng = np.random.default_rng(classes)
    center = symbols // 2
    counts = np.zeros((classes, symbols + 1), int)
    for number in range(classes):
        values = np.rint(rng.normal(size=elements) * growth**number) + center
        counts[number] = np.bincount(np.clip(values, 0, symbols).astype(int), minlength=symbols + 1)
    if classes > 2:
        counts[classes // 2] = 0
    return counts


@pytest.mark.parametrize(("classes", "symbols", "growth"), [(1, 63, 1), (2, 31, 3), (9, 63, 1.3), (20, 255, 1.2), (5, 4095, 4)])
def test_nothing_is_better_by_much(classes: int, symbols: int, growth: float) -> None:
    counts = bells(classes, symbols, growth)
    spread, ratio = fit_prior(counts, symbols // 2)
    assert spread * (ratio / 64) ** classes <= MAX_SPREAD / 2
    best = min(
        first_bits(counts, symbols // 2, round(2 ** (exponent / 2)), other)
        for exponent in range(HALF_OCTAVES)
        for other in (RATIOS if classes > 1 else (64,))
        if round(2 ** (exponent / 2)) * (other / 64) ** classes <= MAX_SPREAD / 2
    )
    assert first_bits(counts, symbols // 2, spread, ratio) <= best * (1 + 1e-3)


def test_no_symbols_at_all() -> None:
    spread, ratio = fit_prior(np.zeros((3, 8), int), 3)
    assert spread >= 1
    assert ratio in RATIOS
