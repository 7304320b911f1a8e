"""Two files: the script, with its code as in base85, and beside it the payload as it is. Both count.

The payload's name holds its digest, so that a new one never takes the place of that of an older artifact: the main file, which
is put in place last, always finds the payload that it was made with.
"""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path
from typing import ClassVar

from generator.carriers.base import Carried, Carrier, Opener, Parts, Written
from generator.carriers.base85 import render_text, text_parts
from generator.errors import InputError

_LAYOUT = re.compile(
    rb"(?:# (?P<header>[ -~]*)\n)?"
    rb"import [^\n]*\n"
    rb'(?P<code_name>\w+)=b"(?P<code>[^"\n]*)"\n'
    rb"try:(?P<payload_name>\w+)=open\(os\.path\.join\(os\.path\.dirname\(os\.path\.realpath\(__file__\)\),(?P<name>[^\n]*)\),"
    rb'"rb"\)\.read\(\)\nexcept OSError as c:raise SystemExit\(c\)\n'
    rb"(?P<run>if zlib\.crc32\(\w+\)!=(?P<crc>[0-9]{1,10}) [^#]*?\n)"
)
_NAME = re.compile(r"(?P<stem>.*)\.(?P<digest>[0-9a-f]{16})\.bin", re.DOTALL)


class Sidecar(Carrier):
    """The script finds its payload by name, in the folder of the file that a symbolic link leads to."""

    id: ClassVar[str] = "sidecar"
    ascii: ClassVar[bool] = True
    needs_payload: ClassVar[bool] = True

    def write(self, parts: Parts, stem: str) -> Written:
        assert parts.payload is not None
        digest = digest_of(parts.payload)
        name = f"{stem}.{digest}.bin"
        condition = f' or hashlib.sha256({parts.payload_name}).hexdigest()[:{len(digest)}]!="{digest}"'
        main = render_text("sidecar.py.j2", parts, sidecar=ascii(name), condition=condition, modules=("hashlib", "os"))
        return Written(main, {name: parts.payload})

    def source(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        return "read_span", (0, len(payload))

    def read(self, data: bytes, open_beside: Opener) -> Carried | None:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return None
        name, stem = _payload_name(layout["name"])
        payload = open_beside(name)
        if not name.endswith(f".{digest_of(payload)}.bin"):
            raise InputError(f"{name} is not the payload that the artifact was made with")
        parts = text_parts(layout, payload)
        if self.write(parts, stem).main != data:
            return None
        return Carried(parts, len(layout["code"]), len(payload), (name,))

    def files_beside(self, data: bytes, open_beside: Opener) -> tuple[str, ...]:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return ()
        name, _ = _payload_name(layout["name"])
        return (name,) if name.endswith(f".{digest_of(open_beside(name))}.bin") else ()


def digest_of(payload: bytes) -> str:
    """What the payload's name and the main file hold of it: 64 bits of its SHA-256, hexadecimal."""
    return hashlib.sha256(payload).hexdigest()[:16]


def _payload_name(literal: bytes) -> tuple[str, str]:
    """The name of the payload that a main file asks for, and the stem in it.

    Raises:
        InputError: it is none that `write` gives, or not of a file beside.
    """
    try:
        name = ast.literal_eval(literal.decode("ascii"))
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise InputError(f"the artifact's name of its payload is damaged: {error}") from error
    found = _NAME.fullmatch(name) if isinstance(name, str) else None
    if found is None or not found["stem"] or Path(name).name != name or name.startswith("."):
        raise InputError(f"the artifact reads its payload from {name!r}, which is not beside it")
    return name, found["stem"]
