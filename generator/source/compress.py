"""Compression of the code. Each coder knows the statements that decompress and execute its output in the artifact.

LZMA1 in the .lzma ("alone") container is the usual winner: its 13 byte header costs less than spelling out the filters of a
raw stream in the bootstrap would. `mix` saves a tenth on top, and costs a second or more at every start of the artifact, so it
has to be asked for; so has brotli, which is not in the standard library.
"""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from generator.errors import InputError
from generator.source.mixing import MIX_LIMIT, encode_mix
from generator.templating import render
from runtime_stub.mixing import decode_mix

CODE_LIMIT = 2**24  # bytes of decompressed code that are accepted
MIX_SLOW = 2**18  # bytes that `mix` takes about ten seconds for


@dataclass(frozen=True)
class Coder:
    """A way to compress code.

    Attributes:
        id: its name on the command line.
        modules: what the bootstrap imports for it.
        expression: Python that decompresses the variable {code}; {scratch} is another name to use.
        setup: Python statement that must come before, or "".
        compress: text → bytes.
        decompress: its inverse with bounded memory; raises InputError.
    """

    id: str
    modules: tuple[str, ...]
    expression: str
    setup: str
    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes], bytes]


def compress_code(code: bytes, coder: str = "lzma") -> bytes:
    """Compress with one coder."""
    return CODERS[coder].compress(code)


def decompress_code(data: bytes, coder: str = "lzma") -> bytes:
    """Undo `compress_code`, with bounded memory.

    Raises:
        InputError: damaged, truncated, or more than CODE_LIMIT bytes.
    """
    return CODERS[coder].decompress(data)


def compress_lzma(code: bytes, quick: bool = False) -> bytes:
    """The smallest .lzma file over literal context and match length, or with `quick` the one that usually is."""
    dictionary = 4096
    while dictionary < len(code):  # the container allows powers of two only
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
            candidates.append(lzma.compress(code, lzma.FORMAT_ALONE, filters=filters))
    return min(candidates, key=len)


def _decompress_lzma(data: bytes) -> bytes:
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2 * CODE_LIMIT)
        code = decompressor.decompress(data, CODE_LIMIT + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(f"the artifact's code can't be decompressed: {error}") from error
    return _checked(code, decompressor.eof)


def _compress_zlib(code: bytes) -> bytes:
    return zlib.compress(code, 9)


def _decompress_zlib(data: bytes) -> bytes:
    try:
        decompressor = zlib.decompressobj()
        code = decompressor.decompress(data, CODE_LIMIT + 1)
    except zlib.error as error:
        raise InputError(f"the artifact's code can't be decompressed: {error}") from error
    return _checked(code, decompressor.eof)


def _compress_brotli(code: bytes) -> bytes:
    try:
        import brotli
    except ImportError as error:
        raise InputError("code compression with brotli needs its package: pip install brotli") from error
    compressed: bytes = brotli.compress(code, mode=brotli.MODE_TEXT, quality=11, lgwin=24)
    return compressed


def _decompress_brotli(data: bytes) -> bytes:
    try:
        import brotli
    except ImportError as error:
        raise InputError("the artifact's code is compressed with brotli; to read it: pip install brotli") from error
    try:
        decompressor = brotli.Decompressor()
        code = decompressor.process(data, output_buffer_limit=CODE_LIMIT + 1)
        while len(code) <= CODE_LIMIT and not decompressor.is_finished():
            more = decompressor.process(b"", output_buffer_limit=CODE_LIMIT + 1 - len(code))
            if not more:
                break
            code += more
    except brotli.error as error:
        raise InputError(f"the artifact's code can't be decompressed: {error}") from error
    return _checked(code, decompressor.is_finished())


def _compress_mix(code: bytes) -> bytes:
    """The decoder's own source, deflated, and then the coded text."""
    if len(code) > min(MIX_LIMIT, MIX_SLOW):
        raise InputError(f"{len(code):,} bytes of code are too many for mix; use lzma")
    return zlib.compress(_mix_decoder(), 9) + encode_mix(code)


def _decompress_mix(data: bytes) -> bytes:
    try:
        decompressor = zlib.decompressobj()
        decoder = decompressor.decompress(data, CODE_LIMIT)
    except zlib.error as error:
        raise InputError(f"the artifact's code can't be decompressed: {error}") from error
    if not decompressor.eof or decoder != _mix_decoder():
        # What would be executed is that decoder, so nothing may be said about the code that another one would give.
        raise InputError("the artifact's code comes with a decoder that is not the one known here")
    coded = decompressor.unused_data
    if int.from_bytes(coded[:3], "big") > MIX_SLOW:
        raise InputError(f"the artifact's code claims more than the {MIX_SLOW:,} bytes that mix is read for")
    return decode_mix(coded)


def _mix_decoder() -> bytes:
    return render("mix_decoder.py.j2").strip().encode()


def _checked(code: bytes, complete: bool) -> bytes:
    if len(code) > CODE_LIMIT:
        raise InputError(f"the artifact's code decompresses to more than {CODE_LIMIT:,} bytes")
    if not complete:
        raise InputError("the artifact's code is truncated")
    return code


CODERS = {
    coder.id: coder
    for coder in (
        Coder("lzma", ("lzma",), "lzma.decompress({code})", "", compress_lzma, _decompress_lzma),
        Coder("zlib", (), "zlib.decompress({code})", "", _compress_zlib, _decompress_zlib),
        Coder("brotli", ("brotli",), "brotli.decompress({code})", "", _compress_brotli, _decompress_brotli),
        Coder(
            "mix",
            (),
            "M({scratch}.unused_data)",
            "{scratch}=zlib.decompressobj();exec({scratch}.decompress({code}))",
            _compress_mix,
            _decompress_mix,
        ),
    )
}
AUTOMATIC = ("lzma", "zlib")
