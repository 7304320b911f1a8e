"""Compressors of the program by name. A new one is a file here and a line in REGISTRY."""

from __future__ import annotations

from generator.compressors.base import PROGRAM_LIMIT, Compressor
from generator.compressors.brotli_text import BrotliText
from generator.compressors.deflate import Deflate
from generator.compressors.lzma_alone import LzmaAlone, compress_lzma
from generator.compressors.mix import Mix

__all__ = ["AUTO", "PROGRAM_LIMIT", "REGISTRY", "Compressor", "compress", "compress_lzma"]

REGISTRY: dict[str, Compressor] = {
    compressor.id: compressor
    for compressor in (
        LzmaAlone(),
        Deflate(),
        BrotliText(),
        Mix(),
    )
}
AUTO = "auto"  # the smallest of those that it may take


def compress(program: bytes, name: str = AUTO) -> tuple[str, bytes]:
    """Compress a program.

    Args:
        program: its text.
        name: the compressor, or "auto" for whichever gives the fewest bytes.

    Returns:
        The compressor's name, and the bytes.

    Raises:
        InputError: the compressor does not take it.
    """
    tried = [one.id for one in REGISTRY.values() if one.automatic] if name == AUTO else [name]
    return min(((one, REGISTRY[one].compress(program)) for one in tried), key=lambda pair: len(pair[1]))
