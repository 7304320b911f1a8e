"""LZMA1 in the .lzma ("alone") container: the usual winner.

Its 13 byte header costs less than spelling out the filters of a raw stream in the bootstrap would.
"""

from __future__ import annotations

import lzma
from typing import ClassVar

from generator.compressors.base import PROGRAM_LIMIT, Compressor, check_whole, undecodable


class LzmaAlone(Compressor):
    """The smallest over literal context and match length."""

    id: ClassVar[str] = "lzma"
    automatic: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ("lzma",)
    expression: ClassVar[str] = "lzma.decompress({program})"

    def compress(self, program: bytes) -> bytes:
        return compress_lzma(program)

    def decompress(self, data: bytes) -> bytes:
        try:
            decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2 * PROGRAM_LIMIT)
            program = decompressor.decompress(data, PROGRAM_LIMIT + 1)
        except (lzma.LZMAError, EOFError) as error:
            raise undecodable(error) from error
        return check_whole(program, decompressor.eof)


def compress_lzma(text: bytes, quick: bool = False) -> bytes:
    """The smallest .lzma file over literal context and match length, or with `quick` the one that usually is."""
    dictionary = 4096
    while dictionary < len(text):  # the container allows powers of two only
        dictionary *= 2
    candidates = []
    for lc in (3,) if quick else (2, 3, 4):
        for nice_len in (32,) if quick else (16, 24, 32, 48, 64, 128, 273):
            filters = [
                {
                    "id": lzma.FILTER_LZMA1,
                    "preset": 9 | lzma.PRESET_EXTREME,
                    "dict_size": dictionary,
                    "lc": lc,
                    "lp": 0,
                    "pb": 0,  # source text has no alignment
                    "nice_len": nice_len,
                    "depth": 1000,
                }
            ]
            candidates.append(lzma.compress(text, lzma.FORMAT_ALONE, filters=filters))
    return min(candidates, key=len)
