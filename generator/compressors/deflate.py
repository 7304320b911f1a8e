"""zlib: smaller than lzma for programs of a few hundred bytes."""

from __future__ import annotations

import zlib
from typing import ClassVar

from generator.compressors.base import PROGRAM_LIMIT, Compressor, check_whole, undecodable


class Deflate(Compressor):
    """Its module is in every bootstrap, for the checksum."""

    id: ClassVar[str] = "zlib"
    automatic: ClassVar[bool] = True
    expression: ClassVar[str] = "zlib.decompress({program})"

    def compress(self, program: bytes) -> bytes:
        return zlib.compress(program, 9)

    def decompress(self, data: bytes) -> bytes:
        try:
            decompressor = zlib.decompressobj()
            program = decompressor.decompress(data, PROGRAM_LIMIT + 1)
        except zlib.error as error:
            raise undecodable(error) from error
        return check_whole(program, decompressor.eof)
