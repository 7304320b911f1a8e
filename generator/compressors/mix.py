"""Context mixing, with a decoder of its own in the artifact: a tenth smaller than lzma.

It costs a second or more at every start of the artifact, so it must be asked for.
"""

from __future__ import annotations

import zlib
from typing import ClassVar

from generator.compressors.base import PROGRAM_LIMIT, Compressor, undecodable
from generator.compressors.mixing import MIX_LIMIT, encode_mix
from generator.errors import InputError
from generator.templating import render
from runtime_stub.mixing import decode_mix

MIX_SLOW = 2**18  # bytes that take about ten seconds


class Mix(Compressor):
    """The decoder's own source, deflated, which the bootstrap executes first, and then the coded text."""

    id: ClassVar[str] = "mix"
    expression: ClassVar[str] = "M({scratch}.unused_data)"
    setup: ClassVar[str] = "{scratch}=zlib.decompressobj();exec({scratch}.decompress({program}))"
    executions: ClassVar[int] = 1

    def compress(self, program: bytes) -> bytes:
        if len(program) > min(MIX_LIMIT, MIX_SLOW):
            raise InputError(f"{len(program):,} bytes of code are too many for mix; use lzma")
        return zlib.compress(_decoder(), 9) + encode_mix(program)

    def decompress(self, data: bytes) -> bytes:
        try:
            decompressor = zlib.decompressobj()
            decoder = decompressor.decompress(data, PROGRAM_LIMIT)
        except zlib.error as error:
            raise undecodable(error) from error
        if not decompressor.eof or decoder != _decoder():
            # What would be executed is that decoder, so nothing may be said about the program that another one would give.
            raise InputError("the artifact's code comes with a decoder that is not the one known here")
        coded = decompressor.unused_data
        if int.from_bytes(coded[:3], "big") > MIX_SLOW:
            raise InputError(f"the artifact's code claims more than the {MIX_SLOW:,} bytes that mix is read for")
        return decode_mix(coded)


def _decoder() -> bytes:
    return render("mix_decoder.py.j2").strip().encode()
