"""Decoder of the `zlib` codec: a raw deflate stream (RFC 1951) of all arrays back to back."""

from __future__ import annotations

import zlib

from runtime_stub.split import Array, Specs, split_arrays, total_bytes


def decode_zlib(data: bytes, specs: Specs) -> list[Array]:
    """Inflate the arrays described by `specs`."""
    # One byte more than needed is asked for, so that zlib reads the end-of-block code of a full stream.
    return split_arrays(zlib.decompressobj(-15).decompress(data, total_bytes(specs) + 1), specs)
