"""Every codec gives back every array."""

from __future__ import annotations

import numpy as np
import pytest
from arrays import coded_size, fields
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from generator import codecs
from generator.codecs.lzma_raw import compress_raw
from generator.fields import specs_of
from runtime_stub.lzma_raw import inflate_lzma
from runtime_stub.registry import DECODERS

DTYPES = ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(np.dtype(dtype), SHAPES))


def round_trip(codec: codecs.Codec, arrays: list[np.ndarray]) -> None:
    coded_size(codec, *(array for array in arrays if codec.takes(fields(array)[0])))


@pytest.mark.parametrize("codec", sorted(codecs.REGISTRY))
@given(arrays=st.lists(ARRAYS, max_size=4))
@settings(max_examples=40, deadline=None)
def test_round_trip(codec: str, arrays: list[np.ndarray]) -> None:
    round_trip(codecs.REGISTRY[codec](), arrays)


@pytest.mark.parametrize("codec", sorted(codecs.REGISTRY))
@pytest.mark.parametrize(
    "array",
    [
        np.zeros((0, 3), "|i1"),
        np.full((7, 5), -3, "|i1"),
        np.arange(-128, 128).astype("|i1"),
        np.array([-(2**63), 2**63 - 1, 0], "<i8"),
        np.array([0, 2**64 - 1], "<u8"),
        np.array([2**64 - 2, 2**64 - 1], "<u8"),
        np.array([np.nan, -0.0, np.inf], "<f4"),
        np.array(5, "<i8"),
    ],
    ids=[
        "empty",
        "constant",
        "full int8",
        "int64 extremes",
        "uint64 extremes",
        "uint64 near the top",
        "special floats",
        "scalar",
    ],
)
def test_hard_arrays(codec: str, array: np.ndarray) -> None:
    round_trip(codecs.REGISTRY[codec](), [array, array])


@pytest.mark.parametrize("codec", sorted(codecs.REGISTRY))
def test_estimates_are_close(codec: str) -> None:
    drawn = np.random.default_rng(0).choice(np.array([-1, 0, 0, 1], "i1"), (2, 300, 200))
    given = fields(*(4 * drawn if codec == "trellis" else drawn))  # multiples of 4 never leave the even grid
    one = codecs.REGISTRY[codec]()
    size = len(one.encode(given).data) - one.stream_bytes(specs_of(given))
    assert one.estimate(given) == pytest.approx(size, rel=0.02, abs=64)


def test_store_takes_only_the_bits_that_the_range_needs() -> None:
    symbols = np.arange(-31, 32, dtype=np.int8).repeat(8)
    assert len(codecs.REGISTRY["store"]().encode(fields(symbols)).data) == 63 * 8 * 6 // 8


def test_lzma_has_no_container() -> None:
    encoded = codecs.REGISTRY["lzma"]().encode(fields(np.zeros(1000, np.int8)))
    assert len(encoded.data) < 20
    assert (
        encoded.options
        == codecs.REGISTRY["lzma"](**dict(zip(("lc", "lp", "pb"), encoded.options, strict=True)))
        .encode(fields(np.zeros(1000, np.int8)))
        .options
    )


def test_lzma_parameters_follow_the_data() -> None:
    generator = np.random.default_rng(0)
    words = (generator.integers(0, 16, 20_000) + 4096 * generator.integers(0, 3, 20_000)).astype("<i2")
    chosen = codecs.REGISTRY["lzma"]().encode(fields(words))
    fixed = codecs.REGISTRY["lzma"](lc=3, lp=0, pb=0).encode(fields(words))
    assert chosen.options[1:] != [0, 0]
    assert len(chosen.data) < len(fixed.data)


def test_inflate_stops_at_the_size_asked_for() -> None:
    bomb = compress_raw(bytes(10_000_000), 3, 0, 0)
    assert len(inflate_lzma(bomb, 1000)) == 1000


@pytest.mark.parametrize("codec", ["lzma", "zlib"])
def test_truncated_streams_are_errors(codec: str) -> None:
    array = np.random.default_rng(0).integers(0, 256, 1000).astype("|u1")
    encoded = codecs.REGISTRY[codec]().encode(fields(array))
    with pytest.raises(ValueError, match="buffer"):
        DECODERS[codec](encoded.data[: len(encoded.data) // 2], [("|u1", [1000])], *encoded.options)
