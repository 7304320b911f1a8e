"""How the loader reads the payload from the artifact itself, or from the file beside it."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np


def read_span(file: BinaryIO, start: int, size: int) -> bytes:
    """`size` bytes that stand in the file as they are, from byte `start` on."""
    file.seek(start)
    return file.read(size)


def read_base85(file: BinaryIO, length: int) -> bytes:
    """The file's last `length` bytes are Ascii85 without abbreviations: five digits from "!" on for four bytes.

    The same as base64.a85decode, at a multiple of its speed and a fraction of its memory. A last group of n + 1 digits holds n
    bytes.
    """
    file.seek(-length, 2)
    digits = np.frombuffer(file.read() + b"u" * (-length % 5), "u1").reshape(-1, 5)
    words = np.zeros(len(digits), "u4")
    for place in range(5):
        words *= 85
        words += digits[:, place] - 33
    words.byteswap(True)
    return words.tobytes()[: length * 4 // 5]


def read_latin1(file: BinaryIO, size: int, marks: int) -> bytes:
    """The file's last bytes are `size` bytes of payload, in which the three that a comment can't hold (NUL, line feed and
    carriage return) had their top bit set, and `marks` bytes of seven bits each that tell which of the bytes 128, 138 and 141
    those were.
    """
    file.seek(-size - marks, 2)
    payload = bytearray(file.read(size))
    octets = np.frombuffer(payload, "u1")
    places = np.flatnonzero(np.isin(octets, [128, 138, 141]))
    bits = np.unpackbits(np.frombuffer(file.read(), "u1")).reshape(-1, 8)[:, 1:].ravel()
    octets[places] ^= bits[: len(places)] << 7
    return octets.tobytes()
