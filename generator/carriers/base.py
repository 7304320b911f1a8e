"""The interface of carriers: how payload and program become one runnable file."""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from generator.compressors import REGISTRY as COMPRESSORS
from generator.errors import InputError
from generator.templating import render

DAMAGED = "damaged file: checksum mismatch"
PROGRAM_FILE = "<golfpack>"  # what tracebacks and inspect.getsource call the program, where the script needs its source text


@dataclass(frozen=True)
class Cargo:
    """What a carrier carries.

    Attributes:
        program: what the artifact executes, compressed.
        payload: the payload, or None for a script without weights.
        payload_name: the global variable that the loader finds the bytes of the payload's file in; "" without weights.
        program_name: another global variable that the script does not use.
        scratch_name: and another.
        header: comment line that says what the file is, without the "#"; "" for none.
        compressor: what compressed the program, a name in `generator.compressors.REGISTRY`.
        traceable: whether the program's text is registered with linecache, for inspect.getsource (Triton, torch.jit).
    """

    program: bytes
    payload: bytes | None
    payload_name: str
    program_name: str
    scratch_name: str
    header: str
    compressor: str = "lzma"
    traceable: bool = False


@dataclass(frozen=True)
class Written:
    """The bytes of an artifact: its main file, and what lies beside it."""

    main: bytes
    beside: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """What a byte cap counts."""
        return len(self.main) + sum(map(len, self.beside.values()))


@dataclass(frozen=True)
class ReadBack:
    """What a carrier read back.

    Attributes:
        cargo: what was carried.
        program_size: bytes that the program takes in the artifact.
        payload_size: bytes that the payload takes in the artifact.
        beside: names of the files beside the main one.
    """

    cargo: Cargo
    program_size: int
    payload_size: int
    beside: tuple[str, ...] = ()


Opener = Callable[[str], bytes]  # reads a file beside the artifact; raises InputError


class Carrier(ABC):
    """A carrier writes the file, and reads it back without executing anything.

    Attributes:
        id: its name on the command line.
        automatic: whether "auto" takes it, unless it is told which carriers to choose from.
        ascii: whether the file is text that any editor and any tool reads.
        needs_payload: whether it takes no script without weights.
    """

    id: ClassVar[str]
    automatic: ClassVar[bool] = True
    ascii: ClassVar[bool]
    needs_payload: ClassVar[bool] = False

    @abstractmethod
    def write(self, cargo: Cargo, stem: str) -> Written:
        """The artifact's bytes; `stem` is its file name without extension."""

    @abstractmethod
    def reader(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        """How the loader gets at the payload: a function of runtime_stub.carriage, and its arguments after the file's bytes.

        Args:
            payload: the payload.
            header_size: characters of the header that `write` will be given; 0 for none.
        """

    @abstractmethod
    def read(self, data: bytes, open_beside: Opener) -> ReadBack | None:
        """The cargo of a file that this carrier wrote, every byte of it; None when it did not.

        Raises:
            InputError: this carrier wrote it, but it is damaged.
        """

    def start(self, data: bytes, path: str) -> tuple[bytes, dict[str, Any]]:
        """What Python executes of a main file, and the variables that it sets for it besides the usual ones.

        Args:
            data: the main file's bytes, as this carrier wrote them.
            path: where they lie.
        """
        return data, {}

    def files_beside(self, data: bytes, open_beside: Opener) -> tuple[str, ...]:
        """Names of the files that lie beside a main file of this carrier and are the ones it was made with.

        Raises:
            InputError: one can't be read.
        """
        return ()


def render_bootstrap(
    template: str,
    cargo: Cargo,
    stored: bytes,
    *,
    stored_name: str = "",
    decoded: str = "",
    conversion: str = "",
    condition: str = "",
    modules: tuple[str, ...] = (),
    **values: Any,
) -> str:
    """Fill a carrier's template: what checks, decompresses and executes the program is the same for all.

    Args:
        template: its file.
        cargo: what is carried.
        stored: the program as it stands in the file; its checksum is checked before anything is made of it.
        stored_name: the variable that holds that; without it, the program's.
        decoded: expression of the compressed program; without it, the program's variable.
        conversion: statements that come before it is used.
        condition: further ground to refuse the file, `or …`.
        modules: what the template imports beside what the compressor needs.
        values: what else the template asks for.
    """
    compressor = COMPRESSORS[cargo.compressor]
    names = {"program": decoded or cargo.program_name, "scratch": cargo.scratch_name}
    return render(
        template,
        header=cargo.header,
        modules=sorted({*modules, *compressor.modules, *(["linecache"] if cargo.traceable else []), "zlib"}),
        setup=compressor.setup.format(**names),
        expression=compressor.expression.format(**names),
        program_name=cargo.program_name,
        stored_name=stored_name or cargo.program_name,
        payload_name=cargo.payload_name,
        payload=cargo.payload is not None,
        crc=zlib.crc32(stored),
        condition=condition,
        conversion=conversion,
        damaged=DAMAGED,
        traceable=cargo.traceable,
        program_file=PROGRAM_FILE,
        **values,
    )


def compression_of(bootstrap: bytes) -> tuple[str, bool]:
    """The compressor, and whether the program's text is registered, by the bootstrap's closing statements.

    Raises:
        InputError: no compressor is known that they undo.
    """
    for name, compressor in COMPRESSORS.items():
        if compressor.wrote(bootstrap):
            return name, b"linecache" in bootstrap
    raise InputError("the artifact's bootstrap does not decompress in a known way")


def scratch_of(bootstrap: bytes) -> str:
    """The scratch variable of a bootstrap, where it uses one."""
    found = re.search(rb"(\w+)=zlib\.decompressobj\(\)", bootstrap)
    return found[1].decode() if found else ""


def check_program(stored: bytes, crc: bytes) -> None:
    """Compare the program, as it stands in the file, with the checksum in the bootstrap.

    Raises:
        InputError: it differs.
    """
    if zlib.crc32(stored) != int(crc):
        raise InputError("the artifact is damaged: the checksum of its code does not match")
