"""Decoder of the `lzma` codec: a raw LZMA1 stream, no container, of all arrays back to back."""

from __future__ import annotations

import lzma

from runtime_stub.split import Array, Specs, split_arrays, total_bytes


def inflate_lzma(data: bytes, size: int, lc: int = 3, lp: int = 0, pb: int = 0) -> bytes:
    """Decompress at most `size` bytes of raw LZMA1 with the given literal context, literal position and position bits."""
    # The dictionary need not be larger than what is decoded.
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": max(size, 4096), "lc": lc, "lp": lp, "pb": pb}]
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters).decompress(data, size)


def decode_lzma(data: bytes, specs: Specs, lc: int, lp: int, pb: int) -> list[Array]:
    """Decompress the arrays described by `specs`."""
    return split_arrays(inflate_lzma(data, total_bytes(specs), lc, lp, pb), specs)
