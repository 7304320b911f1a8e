"""Compression of the code: LZMA1 in the .lzma ("alone") container, parameters found by trial.

Its 13 byte header costs less than spelling out the filters of a raw stream in the bootstrap would.
"""

from __future__ import annotations

import lzma

from generator.errors import InputError

CODE_LIMIT = 2**24  # bytes of decompressed code that are accepted


def compress_code(code: bytes) -> bytes:
    """The smallest .lzma file over literal context and match length."""
    dictionary = 4096
    while dictionary < len(code):  # the container allows powers of two only
        dictionary *= 2
    candidates = []
    for lc in (2, 3, 4):
        for nice_len in (32, 64, 128, 273):
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


def decompress_code(data: bytes) -> bytes:
    """Undo `compress_code`, with bounded memory.

    Raises:
        InputError: damaged, truncated, or more than CODE_LIMIT bytes.
    """
    try:
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=2 * CODE_LIMIT)
        code = decompressor.decompress(data, CODE_LIMIT + 1)
    except (lzma.LZMAError, EOFError) as error:
        raise InputError(f"the artifact's code can't be decompressed: {error}") from error
    if len(code) > CODE_LIMIT:
        raise InputError(f"the artifact's code decompresses to more than {CODE_LIMIT:,} bytes")
    if not decompressor.eof:
        raise InputError("the artifact's code is truncated")
    return code
