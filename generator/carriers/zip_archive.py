"""A zip archive with a __main__.py (PEP 441): payload and program as they are, then the archive's records, 300 bytes in all."""

from __future__ import annotations

import re
import struct
import zlib
from io import BytesIO
from types import SimpleNamespace
from typing import Any, ClassVar
from zipfile import ZipFile

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

_MAIN = b"__main__.py"
_TIME = 0x21 << 16  # 1 January 1980, the earliest that the format knows
_END = 22
_BOOTSTRAP = re.compile(
    rb"import [^\n]*\n__file__=__loader__\.archive\nsys\.path\[0\]=[^\n]*\n"
    rb'(?:(?P<payload_name>\w+)=open\(__file__,"rb"\)\.read\(\);(?P<named>\w+)=(?P=payload_name)'
    rb'|(?P<alone>\w+)=open\(__file__,"rb"\)\.read\(\))\[(?P<start>[0-9]{1,10}):(?P<end>[0-9]{1,10})\]\n'
    rb"(?P<run>if zlib\.crc32\(\w+\)!=(?P<crc>[0-9]{1,10}):[^#]*\n)"
)


class ZipArchive(Carrier):
    """`python train_gpt.py` runs it; it is not Python text, and multiprocessing's spawn can't import it."""

    id: ClassVar[str] = "zip"
    ascii: ClassVar[bool] = False

    def write(self, cargo: Cargo, stem: str) -> Written:
        front = (f"# {cargo.header}\n" if cargo.header else "").encode() + (cargo.payload or b"")
        bootstrap = render_bootstrap(
            "zip_main.py.j2", cargo, cargo.program, modules=("os", "sys"), start=len(front), program_size=len(cargo.program)
        ).encode()
        front += cargo.program
        common = struct.pack("<5H3I2H", 10, 0, 0, 0, 0x21, zlib.crc32(bootstrap), len(bootstrap), len(bootstrap), len(_MAIN), 0)
        local = b"PK\3\4" + common + _MAIN + bootstrap
        central = b"PK\1\2" + struct.pack("<H", 10) + common + struct.pack("<3H2I", 0, 0, 0, 0, len(front)) + _MAIN
        end = b"PK\5\6" + struct.pack("<4H2IH", 0, 0, 1, 1, len(central), len(front) + len(local), 0)
        return Written(front + local + central + end)

    def reader(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        return "read_span", (header_size + 3 if header_size else 0, len(payload))

    def start(self, data: bytes, path: str) -> tuple[bytes, dict[str, Any]]:
        return ZipFile(BytesIO(data)).read(_MAIN.decode()), {"__loader__": SimpleNamespace(archive=path)}

    def read(self, data: bytes, open_beside: Opener) -> ReadBack | None:
        if len(data) < _END or data[-_END : -_END + 4] != b"PK\5\6":
            return None
        central_size, central = struct.unpack_from("<2I", data, len(data) - _END + 12)
        if central + central_size + _END != len(data) or data[central : central + 4] != b"PK\1\2" or central_size < 46:
            return None
        local = struct.unpack_from("<I", data, central + 42)[0]
        layout = _BOOTSTRAP.fullmatch(data[local + 30 + len(_MAIN) : central])
        if layout is None:
            return None
        start, end = int(layout["start"]), int(layout["end"])
        if not start <= end == local:
            raise InputError("the artifact's code is not where its bootstrap reads it")
        program = data[start:end]
        check_program(program, layout["crc"])
        header = re.match(rb"# (golfpack [^\n]{0,200})\n", data)
        front = header.end() if header else 0
        cargo = Cargo(
            program,
            data[front:start] if layout["payload_name"] else None,
            (layout["payload_name"] or b"").decode(),
            (layout["named"] or layout["alone"]).decode(),
            scratch_of(layout["run"]),
            header[1].decode("ascii", "replace") if header else "",
            *compression_of(layout["run"]),
        )
        if self.write(cargo, "").main != data:
            return None
        return ReadBack(cargo, end - start, start - front)
