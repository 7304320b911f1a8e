"""Trellis-coded quantization: paths, the rounding that finds the best one, and the codec that knows where they lead."""

from __future__ import annotations

import contextlib
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from arrays import coded_size, fields, path_symbols
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from generator.codecs.rans import Rans
from generator.codecs.trellis import LARGEST, Trellis
from generator.errors import InputError
from generator.fields import Field
from generator.payload import StoredTensor, Stream, decode_payload, write_payload
from generator.quantizers import trellis as quantizing
from generator.quantizers.two_sided import TILE, round_both
from generator.trellises import TRANSITIONS, path

STATES = sorted(TRANSITIONS)


def drawn(rows: int, columns: int, scale: float = 1.0, states: int = 8, seed: int = 0) -> np.ndarray:
    """Symbols on random paths."""
    noise = np.random.default_rng(seed).normal(size=(rows, columns)) * scale * 2 ** np.linspace(-1, 1, columns)
    symbols = path_symbols(np.rint(noise).astype("i8"), states)
    return symbols.astype("i1" if np.abs(symbols).max() < 128 else "<i2")


@pytest.mark.parametrize("states", STATES)
def test_a_trellis_is_sound(states: int) -> None:
    following = np.array(TRANSITIONS[states]).reshape(states, 2)
    assert sorted(following.ravel().tolist()) == sorted([*range(states), *range(states)])  # each state has two ways in
    assert (following[:, 0] != following[:, 1]).all()
    assert following[0, 0] == 0  # a row of zeros is a path
    for state in range(states):  # all lead to both grids within a few steps
        reached, steps = {state}, 0
        while {one & 1 for one in reached} != {0, 1}:
            reached, steps = set(following[sorted(reached)].ravel().tolist()), steps + 1
        assert steps <= 4


@pytest.mark.parametrize("states", STATES)
@given(k=hnp.arrays(np.int64, hnp.array_shapes(min_dims=1, max_dims=3, max_side=9), elements=st.integers(-9, 9)))
@settings(max_examples=40, deadline=None)
def test_a_path_is_found_again(states: int, k: np.ndarray) -> None:
    found = path(path_symbols(k, states), states)
    assert found is not None
    assert (found[0] == k).all()
    assert (path_symbols(k, states) == 2 * k - found[1] * np.sign(k)).all()


def test_more_states_leave_smaller_errors() -> None:
    """By about what Marcellin and Fischer 1990 have: 0.99, 1.09, 1.16, 1.22 and 1.27 dB at a high rate, in long rows."""
    weights = 60 * torch.randn(192, 512, generator=torch.Generator().manual_seed(0)).double()
    steps, identity = torch.ones(1, 1).double(), torch.eye(512).double()
    found = [quantizing.Trellis(states, 0.0).round(weights, steps, None, identity) for states in STATES]
    uniform = 4 / 12  # of twice the step, which has about as much entropy
    gains = [10 * math.log10(uniform / float((one - weights).square().mean())) for one in found]
    assert gains == sorted(gains)
    assert 0.9 < gains[0] < 1.1
    assert 1.18 < gains[-1] < 1.3
    for states, gain in zip(STATES, gains, strict=True):
        assert abs(gain + 20 * math.log10(quantizing.GAINS[states])) < 0.1


def test_what_is_no_path_is_told() -> None:
    assert path(np.array([[2, 1]]), 8) is None  # the odd grid comes two symbols after an odd k at the earliest
    assert path(np.array([[1]]), 4) is None


def price_of(bits: np.ndarray, scale: int, symbol: int, grid: int) -> float:
    return float(bits[scale, grid, min((abs(symbol) + grid) >> 1, bits.shape[2] - 1)])


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("price", [0.0, 0.3])
def test_the_best_of_all_paths_is_found(states: int, price: float) -> None:
    """Without feedback the Viterbi algorithm is exact."""
    source = torch.Generator().manual_seed(1)
    weights = torch.randn(40, 5, generator=source, dtype=torch.float64) * 2
    steps = torch.rand(40, 5, generator=source, dtype=torch.float64) + 0.5
    found = quantizing.Trellis(states, price).round(weights, steps, None, torch.eye(5).double()).numpy()
    scales, bits = quantizing._scales(weights / steps).numpy(), quantizing._bits() * price
    for row, exact in enumerate((weights / steps).numpy()):

        def cost(k: tuple[int, ...], row: int = row, exact: np.ndarray = exact) -> tuple[float, np.ndarray]:
            symbols, state, total = path_symbols(np.array([k]), states)[0], 0, 0.0
            for column, value in enumerate(k):
                total += (exact[column] - symbols[column]) ** 2
                total += price_of(bits, scales[row, column], symbols[column], state & 1)
                state = TRANSITIONS[states][2 * state + (value & 1)]
            return total, symbols

        # Of either parity the nearest, as the quantizer has it: a price moves no symbol to another of the same parity.
        near = [range(int(np.floor(value / 2)) - 1, int(np.floor(value / 2)) + 4) for value in exact]
        best = min((cost(k) for k in itertools.product(*near)), key=lambda one: one[0])
        mine = path(found[row : row + 1].astype("i8"), states)
        assert mine is not None
        assert cost(tuple(mine[0][0].tolist()))[0] <= best[0] + 0.02 * price * 10


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("coupled", [False, True])
def test_errors_are_a_decibel_less(states: int, coupled: bool) -> None:
    source = torch.Generator().manual_seed(2)
    rows, columns = TILE + 9, 2 * quantizing.WIDTH + 5
    weights = 30 * torch.randn(rows, columns, generator=source, dtype=torch.float64)
    feedback = torch.eye(columns).double() + torch.randn(columns, columns, generator=source).double().triu(1) / 20
    both = torch.eye(rows).double() + torch.randn(rows, rows, generator=source).double().triu(1) / 20
    row_feedback = both if coupled else None
    one = torch.ones(1, 1).double()

    def loss(symbols: torch.Tensor, step: float) -> float:
        error = (weights - symbols.double() * step) @ feedback
        return float((both.T @ error if coupled else error).square().mean())

    uniform = loss(round_both(weights, 2 * one, row_feedback, feedback), 2.0)
    found = quantizing.Trellis(states, 0.0).round(weights, one, row_feedback, feedback)
    assert path(found.numpy().astype("i8"), states) is not None
    assert loss(found, 1.0) < uniform * 10 ** (-0.9 / 10)


def test_zeros_that_are_asked_for_and_what_is_no_number() -> None:
    weights = 5 * torch.randn(30, 50, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    mask = torch.rand(30, 50, generator=torch.Generator().manual_seed(4)) > 0.4
    found = quantizing.Trellis(8, 0.1).round(weights, torch.ones(1, 1).double(), None, torch.eye(50).double(), mask)
    assert not found[~mask].any()
    assert found[mask].any()
    assert path(found.numpy().astype("i8"), 8) is not None
    weights[3, 4] = torch.nan
    found = quantizing.Trellis(8, 0.1).round(weights, torch.ones(1, 1).double(), None, torch.eye(50).double())
    assert found[3].isnan().any()
    assert not found[:3].isnan().any()


@pytest.mark.parametrize("states", STATES)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_round_trip(states: int, data: st.DataObject) -> None:
    shapes = st.one_of(
        st.sampled_from([(1, 1), (1, 300), (300, 1), (17, 129), (2, 3, 40)]),
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=9),
    )
    largest = data.draw(st.sampled_from([1, 6, 60, LARGEST // 2]))
    elements = st.integers(-largest, largest)
    arrays = []
    for shape in data.draw(st.lists(shapes, min_size=1, max_size=3)):
        array = path_symbols(data.draw(hnp.arrays(np.int64, shape, elements=elements)), states)
        arrays.append(array.astype("i1" if np.abs(array).max() < 128 else "<i2"))
    coded_size(Trellis(), *arrays)


def test_rows_may_run_along_the_dimension_before_the_last() -> None:
    stack = path_symbols(np.random.default_rng(0).integers(-3, 4, (2, 30, 50)), 8).astype("i1")
    across = np.ascontiguousarray(stack.swapaxes(1, 2))
    assert not any(path(matrix.astype("i8"), states) for matrix in across for states in STATES)
    assert abs(coded_size(Trellis(), across) - coded_size(Trellis(), stack)) < 8


def test_it_pays_to_know_the_grid() -> None:
    arrays = [drawn(300, 400, 0.8, seed=seed) for seed in range(3)]
    assert coded_size(Trellis(), *arrays) < 0.85 * coded_size(Rans(), *arrays)


def test_large_alphabets() -> None:
    rng = np.random.default_rng(5)
    for low, high in ((-10, 200), (-140, 140), (-2000, 2000), (5, 700)):
        coded_size(Trellis(), path_symbols(rng.integers(low, high, (20, 300)), 8).astype("<i2"))


def test_outliers_are_escaped() -> None:
    symbols = drawn(200, 300).astype("<i2")
    clean = coded_size(Trellis(), symbols)
    k, _ = path(symbols, 8)
    k = k.astype("i8")
    k[::40, 7] += 2 * 7000
    spoiled = path_symbols(k, 8).astype("<i2")
    assert coded_size(Trellis(), spoiled) < clean + 5 * 10 + 4


@given(array=hnp.arrays(np.int8, (12, 30)))
@settings(max_examples=20, deadline=None)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    for one in (array, array[0], array.astype("f4"), array[:0], array.astype("<i4")):
        field = Field(np.ascontiguousarray(one), "symbols", "layer")
        assert one is array or not Trellis().takes(field)
        if not Trellis().takes(field):
            with pytest.raises(InputError, match="'layer'"):
                Trellis().encode([field])


def test_too_many_columns_are_left_to_another_codec() -> None:
    assert "takes too long" in Trellis().refuses([("|i1", (2, 70000))], 10**6)
    assert not Trellis().refuses([("|i1", (512, 2048))] * 10, 10**6)


def payload_of(data: bytes, options: list[Any], shape: tuple[int, ...] = (30, 40), dtype: str = "|i1") -> bytes:
    stream = Stream(len(data), [(dtype, shape)], [["trellis", *options]])
    kept = {"|i1": "int8", "<i2": "int16", "|u1": "uint8"}[dtype]
    return write_payload([(stream, data)], [StoredTensor(["w"], "keep", kept, kept, [0])]).data


@given(position=st.integers(0, 10**6), value=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_corrupted_words_never_crash(position: int, value: int) -> None:
    array = drawn(30, 40)
    encoded = Trellis().encode(fields(array))
    damaged = bytearray(encoded.data)
    damaged[position % len(damaged)] ^= value
    with contextlib.suppress(InputError):
        assert decode_payload(payload_of(bytes(damaged), encoded.options))["w"].shape == array.shape


@given(cut=st.integers(0, 200))
@settings(max_examples=30, deadline=None)
def test_truncated_words_are_refused(cut: int) -> None:
    encoded = Trellis().encode(fields(drawn(30, 40)))
    with pytest.raises(InputError):
        decode_payload(payload_of(encoded.data[: len(encoded.data) - 2 - 2 * cut], encoded.options))


ONE = [1, 1, 1, 64, 1]
KIND = [-1, 65533, list(TRANSITIONS[8]), ONE, ONE, [7, 3, 50, 64, 2]]


def test_the_kind_that_is_spoiled_below_is_fine() -> None:
    assert decode_payload(payload_of(bytes(4000), [16, [KIND], [0]]))["w"].shape == (30, 40)


@pytest.mark.parametrize(
    ("options", "shape", "dtype"),
    [
        *(
            (options, (30, 40), "|i1")
            for options in (
                [],
                [0, [KIND], [0]],
                [16, [KIND], []],
                [16, [KIND], [1]],
                [16, [KIND, KIND], [0]],
                [16, [], [0]],
                [16, [KIND[1:]], [0]],
                [16, [[0, *KIND[1:]]], [0]],
                [16, [["-1", *KIND[1:]]], [0]],
                [16, [[-1, 65533, [], *KIND[3:]]], [0]],
                [16, [[-1, 65533, [0, 2], *KIND[3:]]], [0]],
                [16, [[-1, 65533, [0, 0, 0], *KIND[3:]]], [0]],
                [16, [[-1, 65533, [0, 1.5], *KIND[3:]]], [0]],
                [16, [[-1, 65533, [0] * 4000, *KIND[3:]]], [0]],
                [16, [[-1, 65533, 7, *KIND[3:]]], [0]],
                [16, [[-1, 70000, *KIND[2:]]], [0]],
                [16, [[*KIND[:5], [7, 3, 50, 64, 1000]]], [0]],
                [16, [[*KIND[:5], "table"]], [0]],
                ["16", [KIND], [0]],
                [16, {"0": KIND}, [0]],
            )
        ),
        ([16, [KIND], [0]], (1200,), "|i1"),
        ([16, [KIND], [0]], (0, 40), "|i1"),
        ([16, [KIND], [0]], (30, 40), "|u1"),
        ([16, [KIND], [0]], (1, 70000), "|i1"),
    ],
)
def test_hostile_manifests_are_refused(options: list[Any], shape: tuple[int, ...], dtype: str) -> None:
    with pytest.raises(InputError, match="manifest is malformed|can't be decoded"):
        decode_payload(payload_of(bytes(1000), options, shape, dtype))


@given(
    options=st.recursive(
        st.integers(-5, 70000) | st.text(max_size=2) | st.none(), lambda s: st.lists(s, max_size=6), max_leaves=30
    )
)
@settings(max_examples=100, deadline=None)
def test_arbitrary_options_give_clean_errors(options: Any) -> None:
    with contextlib.suppress(InputError):
        decode_payload(payload_of(bytes(300), options if isinstance(options, list) else [options]))
