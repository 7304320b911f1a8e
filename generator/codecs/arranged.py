"""General compression after a rearrangement: transposed, split into byte planes, rows sorted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np

from generator.codecs.base import Codec, Encoded
from generator.codecs.deflate import Zlib, check_zlib
from generator.codecs.lzma_raw import Lzma, check_lzma
from generator.limits import Specs, decoded_limit, is_integer, spec_bytes
from runtime_stub.arranged import row_count
from runtime_stub.split import Array


class Arranged(Codec):
    """`inner` after rearranging.

    transpose: columns before rows.
    shuffle: all first bytes of the elements, then all second ones, … (byte shuffle).
    order: rows by "norm" (L2) or by "similarity" (each followed by the nearest in L1 that is left, as in PR #1855 of the
        challenge); the permutation is stored.
    """

    id: ClassVar[str] = "arranged"
    mixes_dtypes: ClassVar[bool] = True
    inner: Literal["lzma", "zlib"] = "lzma"
    transpose: bool = True
    shuffle: bool = False
    order: Literal["norm", "similarity"] | None = None

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        axes = [1, 0] if self.transpose else [0, 1]
        axes = [2, *axes] if self.shuffle else [*axes, 2]
        parts: list[Array] = []
        for array in arrays:
            rows = row_count(array.shape)
            flat = np.ascontiguousarray(array).reshape(-1).view("u1")
            octets = flat.reshape(rows, array.size // max(rows, 1), array.itemsize)
            if self.order is not None:
                order = row_order(array.reshape(octets.shape[:2]), self.order)
                octets = octets[order]
            parts.append(np.ascontiguousarray(octets.transpose(axes)))
            if self.order is not None:
                parts.append(order.astype("<u4"))
        encoded = (Lzma() if self.inner == "lzma" else Zlib()).encode(parts)
        return Encoded(encoded.data, [self.inner, axes, int(self.order is not None), *encoded.options])


def check_arranged(size: int, specs: Specs, options: Sequence[Any]) -> None:
    """Raise ValueError unless the axes are a permutation, and the inner codec takes its options."""
    if len(options) < 3 or options[0] not in ("lzma", "zlib") or not is_integer(options[2], 0, 1):
        raise ValueError("an arranged stream has malformed options")
    inner, axes, ordered, *others = options
    if not isinstance(axes, list) or not all(is_integer(axis, 0, 2) for axis in axes) or sorted(axes) != [0, 1, 2]:
        raise ValueError("an arranged stream has axes that are no permutation of 0, 1, 2")
    {"lzma": check_lzma, "zlib": check_zlib}[inner](size, specs, others)
    indices = [("<u4", (row_count(shape),)) for _, shape in specs] if ordered else []
    if spec_bytes([*specs, *indices]) > decoded_limit(size):
        raise ValueError(f"an arranged stream of {size:,} bytes can't hold so many rows")


def row_order(matrix: Array, order: str) -> Array:
    """Indices of the rows in the order in which they are stored."""
    values = np.nan_to_num(matrix.astype("f4"))
    if order == "norm" or not matrix.size:
        return np.argsort((values.astype("f8") ** 2).sum(1), kind="stable")
    left = np.arange(1, len(values))
    chosen = [0]
    while left.size:
        nearest = int(np.abs(values[left] - values[chosen[-1]]).sum(1).argmin())
        chosen.append(int(left[nearest]))
        left = np.delete(left, nearest)
    return np.array(chosen)
