"""Inverse of the `transpose` filter: columns were laid down before rows."""

from __future__ import annotations

from typing import Any

from runtime_stub.split import Array, Specs, matrix_shape


def transposed_specs(specs: Specs) -> list[Any]:
    """The arrays as the filter gave them on."""
    return [(dtype, matrix_shape(shape)[::-1]) for dtype, shape in specs]


def undo_transpose(decode: Any, specs: Specs, earlier: Any) -> list[Array]:
    """Arguments as for every inverse filter, see `runtime_stub.payload.run_stages`."""
    return [array.T.copy().reshape(shape) for array, (_, shape) in zip(decode(transposed_specs(specs)), specs)]
