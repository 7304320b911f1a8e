"""Plain ASCII: the program as a base85 string literal, the payload as Ascii85 in the closing comment (25 % overhead)."""

from __future__ import annotations

import base64
import re
from typing import ClassVar

from generator.carriers.base import (
    Cargo,
    Carrier,
    Opener,
    ReadBack,
    Written,
    check_program,
    compression_of,
    render_bootstrap,
    scratch_of,
)
from generator.errors import InputError

# The whole file, as templates/base85.py.j2 writes it; what a match leaves open is compared with a fresh rendering.
_LAYOUT = re.compile(
    rb"(?:# (?P<header>[ -~]*)\n)?"
    rb"import [^\n]*\n"
    rb'(?P<program_name>\w+)=b"(?P<program>[^"\n]*)"\n'
    rb'(?:(?P<payload_name>\w+)=open\(__file__,"rb"\)\.read\(\)\n)?'
    rb"(?P<run>if zlib\.crc32\(\w+\)!=(?P<crc>[0-9]{1,10}):[^#]*?\n)"
    rb"(?:#(?P<text>[!-u]*)\n)?"
)


class Base85(Carrier):
    """The portable default. Ascii85's digits are contiguous, so numpy decodes them without a table."""

    id: ClassVar[str] = "base85"
    ascii: ClassVar[bool] = True

    def write(self, cargo: Cargo, stem: str) -> Written:
        text = encode_ascii85(cargo.payload) if cargo.payload is not None else ""
        return Written(render_text("base85.py.j2", cargo, text=text))

    def reader(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        return "read_base85", (len(payload) + -(-len(payload) // 4),)

    def read(self, data: bytes, open_beside: Opener) -> ReadBack | None:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return None
        try:
            payload = decode_ascii85(layout["text"]) if layout["text"] is not None else None
        except ValueError as error:
            raise InputError(f"the artifact's base85 text is damaged: {error}") from error
        cargo = text_cargo(layout, payload)
        if self.write(cargo, "").main != data:
            return None
        return ReadBack(cargo, len(layout["program"]), len(layout["text"] or b""))


def render_text(template: str, cargo: Cargo, *, condition: str = "", modules: tuple[str, ...] = (), **values: str) -> bytes:
    """A main file whose program is a base85 literal; arguments as for `render_bootstrap`."""
    literal = base64.b85encode(cargo.program)
    text = render_bootstrap(
        template,
        cargo,
        literal,
        decoded=f"base64.b85decode({cargo.program_name})",
        condition=condition,
        modules=("base64", *modules),
        program=literal.decode(),
        **values,
    )
    return text.encode("ascii")


def text_cargo(layout: re.Match[bytes], payload: bytes | None) -> Cargo:
    """The cargo of a file whose program is a base85 literal, from the groups of its layout.

    Raises:
        InputError: the program is damaged.
    """
    check_program(layout["program"], layout["crc"])
    try:
        program = base64.b85decode(layout["program"])
    except ValueError as error:
        raise InputError(f"the artifact's base85 text is damaged: {error}") from error
    return Cargo(
        program,
        payload,
        (layout["payload_name"] or b"").decode(),
        layout["program_name"].decode(),
        scratch_of(layout["run"]),
        (layout["header"] or b"").decode("ascii", "replace"),
        *compression_of(layout["run"]),
    )


def encode_ascii85(data: bytes) -> str:
    """Ascii85 in which four zero bytes are five digits like any others; base64.a85encode would write "z"."""
    import numpy as np

    words = np.frombuffer(data + bytes(-len(data) % 4), ">u4").astype("u4")
    digits = np.empty((len(words), 5), "u1")
    for place in range(4, -1, -1):
        digits[:, place] = words % 85 + 33
        words //= 85
    return digits.tobytes()[: len(data) + -(-len(data) // 4)].decode("ascii")


def decode_ascii85(text: bytes) -> bytes:
    """Undo `encode_ascii85` with the loader's own decoder.

    Raises:
        ValueError: that encoder does not write such text.
    """
    from runtime_stub.carriage import read_base85

    data = read_base85(text, len(text))
    if encode_ascii85(data).encode() != text:
        raise ValueError("not the Ascii85 of any bytes")
    return data
