"""A comment in Latin-1: nearly every byte stands for itself, and the file still is Python text (0.34 % overhead)."""

from __future__ import annotations

import math
import re
from typing import ClassVar

import numpy as np

from generator.carriers.base import Cargo, Carrier, Opener, ReadBack, Written, check_program, compression_of, render_bootstrap
from generator.errors import InputError

# The time to turn base 253 back into bytes grows with the square of the length; this is about 0.2 s.
NUMBER_LIMIT = 2**16
_ESCAPES = ((b"\1", b"\1\5"), (b"\0", b"\1\2"), (b"\n", b"\1\3"), (b"\r", b"\1\4"))
_UNESCAPING = r'.replace(b"\1\2",b"\0").replace(b"\1\3",b"\n").replace(b"\1\4",b"\r").replace(b"\1\5",b"\1")'
_LAYOUT = re.compile(
    rb"#coding:latin1(?: (?P<header>[^\n]*))?\n"
    rb"import [^\n]*\n"
    rb'(?:(?P<payload_name>\w+)=open\(__file__,"rb"\)\.read\(\);(?P<scratch>\w+)=(?P=payload_name)'
    rb'\[-[0-9]{1,10}:-(?P<payload_length>[0-9]{1,10})\]|(?P<scratch_alone>\w+)=open\(__file__,"rb"\)\.read\(\)\[-[0-9]{1,10}:\])\n'
    rb"(?P<run>if zlib\.crc32\(\w+\)!=(?P<crc>[0-9]{1,10}):[^\n]*\n"
    rb"(?P<program_name>\w+)=(?P<number>0\n)?[^#]*?\n)"
    rb"#(?P<text>[^\n\r\0]*)"
)
_MOVED = bytes([0, 10, 13])  # what a comment can't hold, and where it goes; a flag tells it from what stood there before
_STOOD = bytes([128, 138, 141])
_ZEROS = re.compile(rb'bytes\.fromhex\("(0*)%x"%')


class Latin1(Carrier):
    """Needs tools that keep bytes as they are: a copy through UTF-8 or with other line ends is damaged, and says so."""

    id: ClassVar[str] = "latin1"
    ascii: ClassVar[bool] = False

    def write(self, cargo: Cargo, stem: str) -> Written:
        escaped = len(cargo.program) > NUMBER_LIMIT
        stored = escape(cargo.program) if escaped else to_base253(cargo.program)
        text = stored + (to_comment(cargo.payload) if cargo.payload is not None else b"")
        name, scratch = cargo.program_name, cargo.scratch_name
        number = f"{name}=0\nfor c in {scratch}:{name}={name}*253+c-1-(c>10)-(c>13)"
        bootstrap = render_bootstrap(
            "latin1.py.j2",
            cargo,
            stored,
            stored_name=scratch,
            conversion=f"{name}={scratch}{_UNESCAPING}" if escaped else number,
            # Not to_bytes, whose length a damaged file could make gigabytes.
            decoded=name if escaped else f'bytes.fromhex("{leading_zeros(cargo.program)}%x"%{name})',
            length=len(text),
            program_length=len(stored),
        )
        return Written(bootstrap.encode("latin-1") + text)

    def reader(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        return "read_latin1", (len(payload), -(-sum(payload.count(value) for value in _MOVED + _STOOD) // 7))

    def read(self, data: bytes, open_beside: Opener) -> ReadBack | None:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return None
        text = layout["text"]
        length = len(text) - int(layout["payload_length"] or 0)
        if length < 0:
            raise InputError("the artifact's code is longer than its file")
        check_program(text[:length], layout["crc"])
        if layout["number"]:
            zeros = _ZEROS.search(layout["run"])
            if zeros is None or length > 2 * NUMBER_LIMIT:
                raise InputError("the artifact's code is longer than a number in base 253 may be")
            program = from_base253(text[:length], len(zeros[1]))
        else:
            program = unescape(text[:length])
        cargo = Cargo(
            program,
            from_comment(text[length:]) if layout["payload_name"] else None,
            (layout["payload_name"] or b"").decode(),
            layout["program_name"].decode(),
            (layout["scratch"] or layout["scratch_alone"]).decode(),
            (layout["header"] or b"").decode("latin-1"),
            *compression_of(layout["run"]),
        )
        if self.write(cargo, "").main != data:
            return None
        return ReadBack(cargo, length, len(text) - length)


def to_base253(data: bytes) -> bytes:
    """One number in base 253, most significant digit first; its digits are the bytes that a comment can hold, in order."""
    number = int.from_bytes(data, "big")
    digits = np.zeros(math.ceil(len(data) * 8 / math.log2(253)) if data else 0, "u1")
    for place in range(len(digits) - 1, -1, -1):
        number, digit = divmod(number, 253)
        digits[place] = digit
    digits += 1
    digits += digits >= 10
    digits += digits >= 13
    return digits.tobytes()


def from_base253(text: bytes, zeros: int = 0) -> bytes:
    """Undo `to_base253`, as the bootstrap does; `zeros` is how many hexadecimal digits 0 the bytes begin with.

    Raises:
        InputError: the digits are none of whole bytes.
    """
    number = 0
    for digit in text:
        number = number * 253 + digit - 1 - (digit > 10) - (digit > 13)
    try:
        return bytes.fromhex("0" * zeros + f"{number:x}" * bool(text))
    except ValueError as error:
        raise InputError("the artifact's code is damaged: its number is none of whole bytes") from error


def leading_zeros(data: bytes) -> str:
    """The zeros that `data` begins with in hexadecimal, before the digits of its number."""
    digits = data.hex()
    return digits[: len(digits) - len(digits.lstrip("0") or "0")] if digits else ""


def escape(data: bytes) -> bytes:
    """Two bytes for each of the three that a comment can't hold, and for the escape itself."""
    for plain, escaped in _ESCAPES:
        data = data.replace(plain, escaped)
    return data


def unescape(text: bytes) -> bytes:
    """Undo `escape`, as the bootstrap does."""
    for plain, escaped in reversed(_ESCAPES):
        text = text.replace(escaped, plain)
    return text


def to_comment(payload: bytes) -> bytes:
    """What `runtime_stub.carriage.read_latin1` reads: the payload with three byte values moved, and which ones were."""
    octets = np.frombuffer(payload, "u1").copy()
    moved = np.isin(octets, [*_MOVED])
    places = moved | np.isin(octets, [*_STOOD])
    bits = moved[places]
    octets[moved] ^= 128
    groups = np.ones((-(-len(bits) // 7), 8), "u1")
    groups[:, 1:] = np.pad(bits, (0, -len(bits) % 7)).reshape(-1, 7)
    return octets.tobytes() + np.packbits(groups).tobytes()


def from_comment(text: bytes) -> bytes:
    """Undo `to_comment`, without being told where the flags begin: only one place agrees with what stands before it.

    Raises:
        InputError: no place does.
    """
    from runtime_stub.carriage import read_latin1

    octets = np.frombuffer(text, "u1")
    flags = np.concatenate([[0], np.cumsum(np.isin(octets, [*_STOOD]))])
    lengths = np.arange(len(flags)) - (-flags // 7)
    size = int(np.searchsorted(lengths, len(text)))
    if lengths[size] != len(text):
        raise InputError("the artifact's Latin-1 text is damaged")
    return read_latin1(text, size, len(text) - size)
