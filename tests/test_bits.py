"""Bit packing at every width."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from generator.codecs.store import pack_bits
from runtime_stub.bits import unpack_bits


@given(st.data(), st.integers(1, 64))
def test_round_trip(data: st.DataObject, width: int) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, 2**width - 1), max_size=40)), dtype=np.uint64)
    packed = pack_bits(values, width)
    assert len(packed) == -(-len(values) * width // 8)
    assert (unpack_bits(packed, len(values), width).view(np.uint64) == values).all()


def test_bit_order_is_least_significant_first() -> None:
    assert pack_bits(np.array([1, 2, 3, 0, 5], np.uint64), 3).hex() == "d150"  # 001 010 011 000 101, low bits first


def test_too_few_bytes_is_an_error() -> None:
    with pytest.raises(ValueError, match="buffer"):
        unpack_bits(b"\x00", 4, 6)
