"""Inverse of the `delta` filter: another array of the payload was subtracted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime_stub.split import Array, Specs


def undo_delta(decode: Any, specs: Specs, earlier: Any, references: Sequence[Sequence[int]]) -> list[Array]:
    """Arguments as for every inverse filter, see `runtime_stub.payload.run_stages`, and

    Args:
        references: for each array the number of a stream, this one or an earlier one, and the index in it of the array that
            was subtracted, as unsigned integers of its elements' size; empty where none was.
    """
    arrays: list[Array] = []
    for array, reference in zip(decode(specs), references):
        if reference:
            stream, index = reference
            word = "<u%d" % array.itemsize
            flat = array.reshape(-1).view(word)
            flat += [*earlier, arrays][stream][index].reshape(-1).view(word)
        arrays.append(array)
    return arrays
