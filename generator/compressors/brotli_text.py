"""Brotli, whose dictionary knows English; its package has to be there where the artifact runs, so it must be asked for."""

from __future__ import annotations

from typing import ClassVar

from generator.compressors.base import PROGRAM_LIMIT, Compressor, check_whole, undecodable
from generator.errors import InputError


class BrotliText(Compressor):
    """Quality 11, in the mode for text."""

    id: ClassVar[str] = "brotli"
    modules: ClassVar[tuple[str, ...]] = ("brotli",)
    requires: ClassVar[tuple[str, ...]] = ("brotli",)
    expression: ClassVar[str] = "brotli.decompress({program})"

    def compress(self, program: bytes) -> bytes:
        try:
            import brotli
        except ImportError as error:
            raise InputError("code compression with brotli needs its package: pip install brotli") from error
        compressed: bytes = brotli.compress(program, mode=brotli.MODE_TEXT, quality=11, lgwin=24)
        return compressed

    def decompress(self, data: bytes) -> bytes:
        try:
            import brotli
        except ImportError as error:
            raise InputError("the artifact's code is compressed with brotli; to read it: pip install brotli") from error
        try:
            decompressor = brotli.Decompressor()
            program = decompressor.process(data, output_buffer_limit=PROGRAM_LIMIT + 1)
            while len(program) <= PROGRAM_LIMIT and not decompressor.is_finished():
                more = decompressor.process(b"", output_buffer_limit=PROGRAM_LIMIT + 1 - len(program))
                if not more:
                    break
                program += more
        except brotli.error as error:
            raise undecodable(error) from error
        return check_whole(program, decompressor.is_finished())
