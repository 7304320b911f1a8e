"""Decoder of the `trellis` codec: rANS of what a trellis-coded quantizer chose, whose earlier symbols say what a symbol may be.

A symbol k stands for 2k on the even grid and for 2k − sign(k) on the odd one. A machine with a handful of states, driven along
each row by the parities of k, says which grid it is; the odd states have the odd one. Rows are independent of each other,
so that all rows of a kind, of all its arrays, are decoded at once, column after column.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from runtime_stub.rans import PRECISION, Model, rans_model, rans_read, rans_start
from runtime_stub.split import Array, Specs


def trellis_rows(
    read: Any, views: Sequence[Array], shift: int, following: Sequence[int], row_model: Model, column_model: Model, model: Model
) -> None:
    """Context model of the arrays of a kind: the class of an element is twice the sum of those of its row and its column, plus
    the number of its grid.

    Args:
        read: function (model, classes) → symbols, as `rans_read`.
        views: arrays to be filled, whose last dimension is that of the rows, as long in each.
        shift: what is added to the symbols read, modulo 2^16.
        following: next state by state and parity, flat.
        row_model, column_model, model: tables for the classes of rows and columns, and for elements.
    """
    heights = [view[..., 0].size for view in views]
    rows = read(row_model, np.zeros(sum(heights), "u4")) * (2 << PRECISION)
    columns = [read(column_model, np.zeros(view.shape[-1], "u4")) * (2 << PRECISION) for view in views]
    state = np.zeros(len(rows), "u4")
    for column, classes in enumerate(zip(*columns)):
        grid = state & 1
        k = (read(model, rows + np.repeat(classes, heights) + (grid << PRECISION)) + shift).astype("i2")
        state = np.array(following, "u4").take(2 * state + (k & 1))
        values = 2 * k - grid.astype("i2") * np.sign(k)
        for view, height in zip(views, heights):
            view[..., column] = values[:height].reshape(view.shape[:-1])
            values = values[height:]


def decode_trellis(data: bytes, specs: Specs, lanes: int, kinds: Sequence[Any], members: Sequence[int]) -> list[Array]:
    """Decode arrays.

    Args:
        data, specs, lanes, members: as for `decode_rans`.
        kinds: for each kind of array the dimension that rows run along, then `shift` and `following` of `trellis_rows`, and the
            arguments of `rans_model` for the classes of rows, for those of columns, and for elements.
    """
    coder = rans_start(data, lanes)
    arrays = [np.empty(shape, dtype) for dtype, shape in specs]
    for number, (axis, shift, following, *models) in enumerate(kinds):
        views = [array.swapaxes(axis, -1) for array, member in zip(arrays, members) if member == number]
        read = lambda tables, classes: rans_read(coder, tables, classes)  # noqa: E731
        trellis_rows(read, views, shift, following, *(rans_model(*arguments) for arguments in models))
    return arrays
