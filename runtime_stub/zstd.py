"""Decoder of the `zstd` codec: one Zstandard frame of all arrays back to back. Needs the module zstandard at run time."""

from __future__ import annotations

from runtime_stub.split import Array, Specs, split_arrays, total_bytes


def decode_zstd(data: bytes, specs: Specs, dictionary: int = 0) -> list[Array]:
    """Decompress the arrays described by `specs`; the first `dictionary` bytes are a dictionary."""
    import zstandard

    words = zstandard.ZstdCompressionDict(data[:dictionary]) if dictionary else None
    reader = zstandard.ZstdDecompressor(words).stream_reader(data[dictionary:])
    return split_arrays(reader.read(total_bytes(specs)), specs)
