"""Cells: counts and costs of classes, block by block, are what one finds element by element."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.codecs import cells
from generator.codecs.cells import REACH, blocks, count_cells, moving_bits


@given(rows=st.integers(0, 40), columns=st.integers(0, 40), block=st.integers(1, 50))
@settings(max_examples=60, deadline=None)
def test_blocks_are_small_and_cover_each_element_once(rows: int, columns: int, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "BLOCK", block)
        seen = np.zeros((rows, columns), int)
        for place in blocks(seen.shape):
            assert 0 < seen[place].size <= block
            seen[place] += 1
    assert (seen == 1).all()


@given(data=st.data(), dtype=st.sampled_from(["u1", "u2"]), symbols=st.integers(1, 300))
@settings(max_examples=40, deadline=None)
def test_counts_and_costs(data: st.DataObject, dtype: str, symbols: int) -> None:
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shapes = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=3))
    matrices = [rng.integers(0, min(symbols + 9, np.iinfo(dtype).max), shape).astype(dtype) for shape in shapes]
    rows, columns = ([rng.integers(0, 4, shape[side]) for shape in shapes] for side in (0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cells, "BLOCK", 7)
        counts = count_cells(matrices, rows, columns, symbols)
        assert counts.sum() == sum(matrix.size for matrix in matrices)
        expected = np.zeros_like(counts)
        lengths = rng.random(counts.shape)
        for matrix, row, column in zip(matrices, rows, columns, strict=True):
            coded = np.minimum(matrix.astype("i8"), symbols)
            np.add.at(expected, (row[:, None] + column, coded), 1)
            for along in (0, 1):
                bits = moving_bits(matrix, row, column, lengths, along)
                for move in range(-REACH, REACH + 1):
                    table = np.clip(row[:, None] + column + move, 0, len(lengths) - 1)
                    np.testing.assert_allclose(bits[move + REACH], lengths[table, coded].sum(along))
        np.testing.assert_array_equal(counts, expected)
