"""Decoder of the `brotli` codec: one Brotli stream (RFC 7932) of all arrays back to back. Needs the module brotli."""

from __future__ import annotations

from runtime_stub.split import Array, Specs, split_arrays, total_bytes


def decode_brotli(data: bytes, specs: Specs) -> list[Array]:
    """Decompress the arrays described by `specs`."""
    import brotli

    # Bounded: a few bytes of Brotli can hold gigabytes.
    return split_arrays(brotli.Decompressor().process(data, output_buffer_limit=total_bytes(specs)), specs)
