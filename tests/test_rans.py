"""rANS: exact, compact, and unimpressed by hostile streams."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
from arrays import coded_size, fields
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from generator.codecs.chain import Chain
from generator.codecs.rans import Rans
from generator.codecs.rans_coder import RansWriter, choose_lanes
from generator.errors import InputError
from generator.filters.center import Center
from generator.payload import StoredTensor, Stream, decode_payload, write_payload
from generator.payload.container import UNDECODABLE
from runtime_stub.rans import PRECISION, decode_rans, rans_model

RANGES = {"constant": (7, 7), "two values": (-1, 0), "ternary": (-1, 1), "int6": (-31, 31), "full int8": (-128, 127)}


CENTERED = Chain(Rans(), (Center(),))


def assert_round_trip(codec: Rans | Chain, arrays: list[np.ndarray]) -> int:
    if isinstance(codec, Chain):
        arrays = [array for array in arrays if codec.fitting(fields(array)[0]) == codec]
    return coded_size(codec, *arrays)


def bell(rows: int, columns: int, scale: Any = 6.0, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(rows, columns)) * scale
    return np.clip(np.rint(noise), -127, 127).astype(np.int8)


@pytest.mark.parametrize("codec", [Rans(), Rans(model="order0"), CENTERED], ids=["classes", "order0", "center"])
@pytest.mark.parametrize("values", RANGES.values(), ids=RANGES)
@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_round_trip_of_ranges(codec: Rans | Chain, values: tuple[int, int], data: st.DataObject) -> None:
    shapes = st.one_of(
        st.sampled_from([(0,), (1,), (), (1, 300), (300, 1), (3, 2, 4, 5), (0, 4), (4, 0), (17, 129)]),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=9),
    )
    elements = st.integers(*values)
    arrays = data.draw(st.lists(shapes.flatmap(lambda shape: hnp.arrays(np.int8, shape, elements=elements)), max_size=3))
    assert_round_trip(codec, arrays)


@pytest.mark.parametrize("dtype", ["<i2", "<u2", "<i4", "<f2", "<f4"])
def test_wide_arrays_with_outliers(dtype: str) -> None:
    values = bell(40, 50).astype(dtype)
    info = np.finfo(dtype) if values.dtype.kind == "f" else np.iinfo(dtype)
    values[3, 4], values[39, 49], values[0, 0] = info.max, info.min, info.max
    assert_round_trip(Rans(), [values])


def test_outliers_are_escaped_and_do_not_cost_the_others() -> None:
    clean = bell(400, 500).astype("<i2")
    spoiled = clean.copy()
    spoiled[::40, 7] = 30000
    assert assert_round_trip(Rans(), [spoiled]) < assert_round_trip(Rans(), [clean]) + 10 * 8


def test_large_alphabet() -> None:
    values = np.random.default_rng(0).integers(0, 4000, 30000).astype("<u2")
    assert assert_round_trip(Rans(), [values]) < 30000 * 2


def test_constant_arrays_cost_nothing_but_the_lanes() -> None:
    array = np.full((500, 400), -3, np.int8)
    assert assert_round_trip(Rans(), [array]) < 4 * choose_lanes(array.size) + 40


def test_overhead_over_the_models_ideal_length() -> None:
    array = bell(250, 400)
    _, counts = np.unique(array, return_counts=True)
    entropy = -(counts * np.log2(counts / array.size)).sum() / 8
    assert assert_round_trip(Rans(), [array]) < 1.01 * entropy
    # The lanes' share at 8 million symbols of 3.3 bits: three bytes for each.
    assert 3 * choose_lanes(8_000_000) < 0.002 * 8_000_000 * 3.3 / 8


def test_coder_comes_within_a_thousandth_of_the_probabilities_it_is_given() -> None:
    array = bell(1000, 300)
    writer = RansWriter(64)
    writer.write(rans_model(255, 127, 180, 64, 1), np.zeros(array.size, "i8"), (array.ravel().astype("i4") + 127).astype("u2"))
    ideal = writer.bits() / 8
    assert len(writer.finish()) < 1.001 * ideal + 3.2 * 64


def test_column_and_row_classes_pay() -> None:
    rng = np.random.default_rng(1)
    rows, columns = 2 ** rng.normal(size=(300, 1)), 2 ** rng.normal(size=400)
    array = bell(300, 400, 6 * rows * columns)
    plain, classes = assert_round_trip(Rans(model="order0"), [array]), assert_round_trip(Rans(), [array])
    assert classes < 0.92 * plain


def test_many_tiny_arrays_share_their_tables() -> None:
    rng = np.random.default_rng(2)
    arrays = [(40 + np.rint(rng.normal(size=8) * 2)).astype(np.uint8) for _ in range(1000)]
    assert assert_round_trip(Rans(), arrays) < 1.1 * 8000 * 3.1 / 8 + 4 * choose_lanes(8000)


def test_similar_rows_lose_their_mean() -> None:
    center = bell(1, 256, 20, seed=3)
    array = np.where(np.arange(300)[:, None] % 3 > 0, center + bell(300, 256, 1.5, seed=4), bell(300, 256, 20, seed=5)).astype(
        np.int8
    )
    assert assert_round_trip(CENTERED, [array]) < 0.75 * assert_round_trip(Rans(), [array])


def test_row_means_wrap_around() -> None:
    array = np.array([[127, -128, 5, 5]] * 4 + [[-128, 127, 5, 5]] * 4, np.int8).repeat(8, 1)
    assert_round_trip(CENTERED, [array])


def test_resolutions_compared_on_a_sample_cost_next_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    arrays = [bell(300, 200, 6 * 2 ** rng.normal(size=(300, 1)) * 2 ** rng.normal(size=200), seed) for seed in range(3)]
    full = assert_round_trip(Rans(), arrays)
    monkeypatch.setattr("generator.codecs.scale_classes.SAMPLE", 20000)
    assert assert_round_trip(Rans(), arrays) < 1.001 * full


def test_encoding_is_deterministic() -> None:
    array = bell(100, 300, 2 ** np.random.default_rng(0).normal(size=300) * 4)
    assert Rans().encode(fields(array)) == Rans().encode(fields(array.copy()))


def payload_of(encoded_data: bytes, options: list[Any], shape: tuple[int, ...] = (30, 40)) -> bytes:
    stream = Stream(len(encoded_data), [("|i1", shape)], [["rans", *options]])
    return write_payload([(stream, encoded_data)], [StoredTensor(["w"], "keep", "int8", "int8", [0])]).data


@given(position=st.integers(0, 10**6), value=st.integers(1, 255))
@settings(max_examples=60, deadline=None)
def test_corrupted_words_never_crash(position: int, value: int) -> None:
    array = bell(30, 40)
    encoded = Rans().encode(fields(array))
    damaged = bytearray(encoded.data)
    damaged[position % len(damaged)] ^= value
    # The payload's checksum is made anew: this is a forger, not an accident.
    try:
        tensors = decode_payload(payload_of(bytes(damaged), encoded.options))
    except InputError:
        return
    assert tensors["w"].shape == array.shape


@given(cut=st.integers(0, 400))
@settings(max_examples=30, deadline=None)
def test_truncated_words_are_refused(cut: int) -> None:
    encoded = Rans().encode(fields(bell(30, 40)))
    with pytest.raises(InputError):
        decode_payload(payload_of(encoded.data[: len(encoded.data) - 2 - 2 * cut], encoded.options))


KIND = [0, [1, 1, 1, 64, 1], [1, 1, 1, 64, 1], [63, 31, 50, 64, 1]]


@pytest.mark.parametrize(
    "options",
    [
        [],
        [0, [KIND], [0]],
        [10**9, [KIND], [0]],
        [16, [KIND], []],
        [16, [KIND], [1]],
        [16, [KIND], [-1]],
        [16, [], [0]],
        [16, [KIND[:2]], [0]],
        [16, [[70000, *KIND[1:]]], [0]],
        [16, [[*KIND[:3], [10**9, 31, 50, 64, 1]]], [0]],
        [16, [[*KIND[:3], [63, 31, 50, 64, 10**6]]], [0]],
        [16, [[*KIND[:3], [63, 31, 2**70, 64, 1]]], [0]],
        [16, [[*KIND[:3], [63, 31, 0, 64, 1]]], [0]],
        [16, [[*KIND[:3], [63, 31, 2**40, 4096, 64]]], [0]],
        [16, [[*KIND[:3], [63, -5, 50, 64, 1]]], [0]],
        [16, [[*KIND[:3], [63.5, 31, 50, 64, 1]]], [0]],
        [16, [[*KIND[:3], "table"]], [0]],
        [16, [KIND] * 5000, [0]],
        ["16", [KIND], [0]],
        [16, {"0": KIND}, [0]],
    ],
)
def test_hostile_options_are_refused(options: list[Any]) -> None:
    with pytest.raises(InputError, match="manifest is malformed|can't be decoded"):
        decode_payload(payload_of(bytes(1000), options))


@pytest.mark.parametrize("shape", [(2**40,), (2**33, 1), (2**40, 0), (1, 2**34)])
def test_huge_claims_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError):
        decode_payload(payload_of(bytes(1000), [16, [KIND], [0]], shape))


@given(
    options=st.recursive(
        st.integers(-5, 70000) | st.text(max_size=2) | st.none(), lambda s: st.lists(s, max_size=5), max_leaves=30
    )
)
@settings(max_examples=100, deadline=None)
def test_arbitrary_options_give_clean_errors(options: Any) -> None:
    with contextlib.suppress(InputError):
        decode_payload(payload_of(bytes(300), options if isinstance(options, list) else [options]))


def test_decoder_raises_only_what_the_reader_expects() -> None:
    encoded = Rans().encode(fields(bell(30, 40)))
    for end in range(0, len(encoded.data), 16):
        with pytest.raises(UNDECODABLE):
            decode_rans(encoded.data[:end], [("|i1", (30, 40))], *encoded.options)


def parity_classes(read: Any, matrix: np.ndarray, shift: int, model: Any) -> None:
    """A context model with a state for each row, driven by the row's earlier symbols: four states, as in trellis-coded
    quantization, of which the upper two choose the second set of tables. One step reads a column across all rows."""
    states = np.zeros(len(matrix), "u4")
    for column in range(matrix.shape[1]):
        symbols = read(model, (states >> 1) << PRECISION)
        matrix[:, column] = symbols + shift
        states = (states << 1 & 2) | ((states >> 1) ^ (symbols & 1))


def test_a_state_machine_fits_as_context_model() -> None:
    rng = np.random.default_rng(0)
    states, matrix = np.zeros(300, "i8"), np.zeros((300, 200), "i1")
    for column in range(200):  # the states differ in the width of their symbols
        drawn = np.rint(rng.normal(size=300) * np.where(states > 1, 4, 1)).astype("i8")
        symbols = np.clip(drawn, -10, 10) + 10
        matrix[:, column] = symbols - 10
        states = (states << 1 & 2) | ((states >> 1) ^ (symbols & 1))
    arguments = [21, 10, 20, 64, 2]
    writer = RansWriter(64)
    symbols = (matrix.T.astype("i2") + 10).astype("u2").ravel()  # in the order in which they are read
    parity_classes(writer.reader(symbols), np.empty(matrix.shape, "i1"), 65526, rans_model(*arguments))
    data = writer.finish()
    kinds = [[65526, arguments]]  # −10
    [decoded] = decode_rans(data, [("|i1", matrix.shape)], 64, kinds, [0], parity_classes)
    assert (decoded == matrix).all()
    assert len(data) < coded_size(Rans(), matrix) - 500
