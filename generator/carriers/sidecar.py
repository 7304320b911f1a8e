"""Two files: the script, with its code as in base85, and beside it the payload as it is. Both count."""

from __future__ import annotations

import base64
import json
import re
from typing import ClassVar

from generator.carriers.base import Carried, Carrier, Opener, Parts, Written, render_bootstrap
from generator.carriers.base85 import text_parts
from generator.errors import InputError

_LAYOUT = re.compile(
    rb"(?:# (?P<header>[^\n]*)\n)?"
    rb"import [^\n]*\n"
    rb'(?P<code_name>\w+)=base64\.b85decode\("(?P<code>[^"\n]*)"\)\n'
    rb'(?P<payload_name>\w+)=open\(os\.path\.join\([^\n"]*,(?P<sidecar>"[^\n"]*")\),"rb"\)\n'
    rb"(?P<run>if zlib\.crc32\(\w+\)!=(?P<crc>[0-9]{1,10}):[^#]*?\n)"
)


class Sidecar(Carrier):
    """The script finds its payload by name, in the folder of the file that a symbolic link leads to."""

    id: ClassVar[str] = "sidecar"
    ascii: ClassVar[bool] = True
    needs_payload: ClassVar[bool] = True

    def write(self, parts: Parts, stem: str) -> Written:
        assert parts.payload is not None
        code = base64.b85encode(parts.code).decode()
        name = f"{stem}.bin"
        text = render_bootstrap("sidecar.py.j2", parts, code=code, sidecar=json.dumps(name))
        return Written(text.encode("ascii"), {name: parts.payload})

    def source(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        return "read_span", (0, len(payload))

    def read(self, data: bytes, open_beside: Opener) -> Carried | None:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return None
        try:
            name = str(json.loads(layout["sidecar"]))
        except ValueError as error:
            raise InputError(f"the artifact's name of its payload is damaged: {error}") from error
        if not name.endswith(".bin") or "/" in name or "\\" in name or name.startswith("."):
            raise InputError(f"the artifact reads its payload from {name!r}, which is not beside it")
        payload = open_beside(name)
        parts = text_parts(layout, payload)
        if self.write(parts, name.removesuffix(".bin")).main != data:
            return None
        return Carried(parts, len(layout["code"]), len(payload), (name,))
