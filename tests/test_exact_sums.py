"""Sums that are the same in any order, symmetric moments, packed triangles."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.calibration import exact
from generator.calibration.exact import BIN_BITS, HIGHEST, LOWEST, ExactSum
from generator.calibration.moments import Moment, multiply_lower
from generator.errors import InputError
from generator.triangles import pack_rows, packed_diagonal, packed_size, unpack

CPU = torch.device("cpu")
floats = st.floats(width=32, allow_nan=False, allow_infinity=False)


def summed(numbers: list[float]) -> ExactSum:
    total = ExactSum((1,), CPU)
    for number in numbers:
        total.add(torch.tensor([number], dtype=torch.float32))
    return total


def merged(sums: list[ExactSum]) -> ExactSum:
    """As over processes: bins agreed, then the slices added."""
    total = ExactSum((1,), CPU)
    total.raise_to(max(part.bin for part in sums))
    for part in sums:
        part.raise_to(total.bin)
        total.high += part.high
        total.low += part.low
        total.count(part.terms)
    return total


@settings(deadline=None)
@given(st.lists(floats, min_size=1, max_size=30), st.randoms(use_true_random=False), st.integers(1, 4))
def test_any_order_and_any_share_give_the_same_bits(numbers: list[float], order: random.Random, processes: int) -> None:
    value = summed(numbers).value()
    shuffled = order.sample(numbers, len(numbers))
    assert torch.equal(value, summed(shuffled).value())
    assert torch.equal(value, merged([summed(shuffled[rank::processes]) for rank in range(processes)]).value())
    true = sum(map(Fraction, numbers))
    largest = max(map(abs, numbers))
    lost = abs(Fraction(float(value)) - true)
    floor = Fraction(2) ** (BIN_BITS * (LOWEST - 1) - 1)
    # 2⁻³⁶ of the largest for each number, and one rounding of the sum to float64.
    assert lost <= len(numbers) * max(Fraction(largest) / 2**36, floor) + abs(true) / 2**52


@pytest.mark.parametrize("number", [0.0, 2.0**-149, 1e-40, 1.0, 2.0**35, 2.0**35 - 2048, 2.0**-37, 3.4028234e38])
def test_numbers_at_the_edges_of_bins_come_back(number: float) -> None:
    assert float(summed([number]).value()) == float(torch.tensor(number, dtype=torch.float32))
    assert LOWEST <= summed([number]).bin <= HIGHEST


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_stays_whatever_comes_after_it(number: float) -> None:
    assert summed([1.0, number, 3e38, 1.0]).value().isnan().all()
    assert merged([summed([1.0]), summed([number]), summed([3e38])]).value().isnan().all()


def test_as_many_terms_as_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    largest = math.nextafter(2.0 ** (BIN_BITS - 1), 0)  # of a bin
    assert exact.MOST_TERMS * largest <= 2.0**53
    monkeypatch.setattr(exact, "MOST_TERMS", 3)
    total = summed([1.0, 2.0, 3.0])
    with pytest.raises(InputError, match="use a weight 3 times"):
        total.add(torch.ones(1))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 12))
def test_moments_are_products_whatever_the_strips(width: int, rows: int, strip: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("generator.calibration.moments.STRIP", strip)
        x = torch.randn(rows, width, generator=torch.Generator().manual_seed(width))
        moment = Moment(width, CPU)
        moment.add(x, x)
        moment.add(x, 2 * x)
        torch.testing.assert_close(moment.matrix(), (3 * x.T @ x).double(), rtol=1e-5, atol=1e-5)
        assert torch.equal(moment.matrix(), moment.matrix().T)
        lower = torch.randn(width, width, generator=torch.Generator().manual_seed(rows)).tril()
        torch.testing.assert_close(multiply_lower(x, lower), x @ lower.T, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 9))
def test_triangles_are_packed_and_unpacked(width: int) -> None:
    matrix = torch.arange(width * width, dtype=torch.float32).reshape(width, width)
    matrix = matrix + matrix.T
    packed = pack_rows(matrix)
    assert len(packed) == packed_size(width)
    assert torch.equal(unpack(packed, width), matrix)
    assert torch.equal(packed_diagonal(packed, width), matrix.diagonal())
    if width > 2:
        assert torch.equal(torch.cat((pack_rows(matrix[:2]), pack_rows(matrix[2:, 2:]))), packed)
