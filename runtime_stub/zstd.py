"""Decoder of the `zstd` codec: one Zstandard frame of all arrays back to back. Needs the module zstandard at run time."""

from __future__ import annotations

from runtime_stub.split import Array, Specs, split_arrays, total_bytes


def decode_zstd(data: bytes, specs: Specs) -> list[Array]:
    """Decompress the arrays described by `specs`."""
    import zstandard

    return split_arrays(zstandard.ZstdDecompressor().stream_reader(data).read(total_bytes(specs)), specs)
