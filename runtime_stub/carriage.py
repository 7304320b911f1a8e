"""How the loader finds the payload in the bytes of the artifact's file, or of the file beside it."""

from __future__ import annotations

import numpy as np


def read_span(file: bytes, start: int, size: int) -> bytes:
    """`size` bytes that stand in the file as they are, from byte `start` on."""
    return file[start : start + size]


def read_base85(file: bytes, length: int) -> bytes:
    """The file's last `length` bytes are Ascii85 without abbreviations: five digits from "!" on for four bytes.

    The same as base64.a85decode, at a multiple of its speed and a fraction of its memory. A last group of n + 1 digits holds n
    bytes. A few line ends may follow, as editors and uploads add them.
    """
    text = file[-length - 9 :].rstrip()[-length:]
    # A damaged file may be shorter than it should be: the checksum tells, so nothing here may fail.
    digits = np.frombuffer(text + b"u" * (-len(text) % 5), "u1").reshape(-1, 5)
    words = np.zeros(len(digits), "u4")
    for place in range(5):
        words *= 85
        words += digits[:, place] - 33
    words.byteswap(True)
    return words.tobytes()[: length * 4 // 5]


def read_latin1(file: bytes, size: int, flags: int) -> bytes:
    """The file's last bytes are `size` bytes of payload, in which the three that a comment can't hold (NUL, line feed and
    carriage return) had their top bit set, and `flags` bytes of seven bits each that tell which of the bytes 128, 138 and 141
    those were.
    """
    octets = np.frombuffer(bytearray(file[-size - flags : len(file) - flags]), "u1")
    places = np.flatnonzero(np.isin(octets, [128, 138, 141]))
    bits = np.unpackbits(np.frombuffer(file[len(file) - flags :], "u1")).reshape(-1, 8)[:, 1:].ravel()
    # resize: a damaged file may have more places than bits, and the checksum tells.
    octets[places] ^= np.resize(bits, len(places)) << 7
    return octets.tobytes()
