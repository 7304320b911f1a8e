"""Two files: the script, with its program as in base85, and beside it the payload as it is. Both count.

The payload's name holds its digest, so that a new one never takes the place of that of an older artifact: the main file, which
is put in place last, always finds the payload that it was made with.
"""

from __future__ import annotations

import ast
import hashlib
import re
from pathlib import Path
from typing import ClassVar

from generator.carriers.base import Cargo, Carrier, Opener, ReadBack, Written
from generator.carriers.base85 import render_text, text_cargo
from generator.errors import InputError

_LAYOUT = re.compile(
    rb"(?:# (?P<header>[ -~]*)\n)?"
    rb"import [^\n]*\n"
    rb'(?P<program_name>\w+)=b"(?P<program>[^"\n]*)"\n'
    rb"try:(?P<payload_name>\w+)=open\(os\.path\.join\(os\.path\.dirname\(os\.path\.realpath\(__file__\)\),(?P<name>[^\n]*)\),"
    rb'"rb"\)\.read\(\)\nexcept OSError as c:raise SystemExit\(c\)\n'
    rb"(?P<run>if zlib\.crc32\(\w+\)!=(?P<crc>[0-9]{1,10}) [^#]*?\n)"
)
_NAME = re.compile(r"(?P<stem>.*)\.(?P<digest>[0-9a-f]{16})\.bin", re.DOTALL)


class Sidecar(Carrier):
    """The script finds its payload by name, in the folder of the file that a symbolic link leads to."""

    id: ClassVar[str] = "sidecar"
    automatic: ClassVar[bool] = False  # nobody gets two files unasked
    ascii: ClassVar[bool] = True
    needs_payload: ClassVar[bool] = True

    def write(self, cargo: Cargo, stem: str) -> Written:
        assert cargo.payload is not None
        digest = digest_of(cargo.payload)
        name = f"{stem}.{digest}.bin"
        condition = f' or hashlib.sha256({cargo.payload_name}).hexdigest()[:{len(digest)}]!="{digest}"'
        main = render_text("sidecar.py.j2", cargo, sidecar=ascii(name), condition=condition, modules=("hashlib", "os"))
        return Written(main, {name: cargo.payload})

    def reader(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        return "read_span", (0, len(payload))

    def read(self, data: bytes, open_beside: Opener) -> ReadBack | None:
        layout = _LAYOUT.fullmatch(data)
        if layout is None:
            return None
        name, stem = _payload_name(layout["name"])
        payload = open_beside(name)
        if not name.endswith(f".{digest_of(payload)}.bin"):
            raise InputError(f"{name} is not the payload that the artifact was made with")
        cargo = text_cargo(layout, payload)
        if self.write(cargo, stem).main != data:
            return None
        return ReadBack(cargo, len(layout["program"]), len(payload), (name,))

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
