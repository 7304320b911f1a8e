"""Plain ASCII: payload and code as base85 string literals (25 % overhead); the portable default."""

from __future__ import annotations

import base64
import re
import zlib
from typing import ClassVar

from generator.carriers.base import Carrier, Parts
from generator.errors import InputError
from generator.templating import render

DAMAGED = "damaged file: checksum mismatch"
# The whole file, as templates/base85.py.j2 writes it.
_LAYOUT = re.compile(
    rb"(?:# (?P<header>[^\n]*)\n)?"
    rb"import base64,lzma,zlib\n"
    rb'(?:(?P<payload_name>\w+)=base64\.b85decode\("(?P<payload>[^"\n]*)"\)\n)?'
    rb'(?P<code_name>\w+)=base64\.b85decode\("(?P<code>[^"\n]*)"\)\n'
    rb'if zlib\.crc32\([^\n]*?\)!=(?P<crc>[0-9]{1,10}):raise SystemExit\("[^\n]*"\)\n'
    rb"exec\(lzma\.decompress\((?P=code_name)\)\)\n"
)


class Base85(Carrier):
    """RFC 1924's alphabet, four bytes in five characters, none of which needs escaping in a string literal."""

    id: ClassVar[str] = "base85"

    def write(self, parts: Parts) -> bytes:
        return render(
            "base85.py.j2",
            header=parts.header,
            payload=base64.b85encode(parts.payload).decode() if parts.payload is not None else "",
            payload_name=parts.payload_name,
            code=base64.b85encode(parts.code).decode(),
            code_name=parts.code_name,
            crc=_checksum(parts.code, parts.payload),
            damaged=DAMAGED,
        ).encode("ascii")

    def text_size(self, data: bytes) -> int:
        return -(-len(data) * 5 // 4)

    def read(self, data: bytes) -> Parts | None:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return None
        try:
            code = base64.b85decode(layout["code"])
            payload = base64.b85decode(layout["payload"]) if layout["payload"] is not None else None
        except ValueError as error:
            raise InputError(f"the artifact's base85 text is damaged: {error}") from error
        if _checksum(code, payload) != int(layout["crc"]):
            raise InputError("the artifact is damaged: its checksum does not match")
        return Parts(
            code,
            payload,
            (layout["payload_name"] or b"").decode(),
            layout["code_name"].decode(),
            (layout["header"] or b"").decode("ascii", "replace"),
        )


def _checksum(code: bytes, payload: bytes | None) -> int:
    return zlib.crc32(code, zlib.crc32(payload) if payload is not None else 0)
