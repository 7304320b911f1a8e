"""The interface of carriers: how payload and code become one runnable file."""

from __future__ import annotations

import re
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from generator.errors import InputError
from generator.source.compress import CODERS
from generator.templating import render

DAMAGED = "damaged file: checksum mismatch"
SOURCE_NAME = "<golfpack>"  # what tracebacks and inspect.getsource call the code, where the script needs its source text


@dataclass(frozen=True)
class Parts:
    """What a carrier carries.

    Attributes:
        code: compressed code.
        payload: the payload, or None for a script without weights.
        payload_name: the global variable that the loader finds the bytes of the payload's file in; "" without weights.
        code_name: another global variable that the script does not use.
        scratch_name: and another.
        header: comment line that says what the file is, without the "#"; "" for none.
        coder: name of the code's compression in `generator.source.compress.CODERS`.
        traceable: whether the code's source text is registered with linecache, for inspect.getsource (Triton, torch.jit).
    """

    code: bytes
    payload: bytes | None
    payload_name: str
    code_name: str
    scratch_name: str
    header: str
    coder: str = "lzma"
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
class Carried:
    """What a carrier read back.

    Attributes:
        parts: what was carried.
        code_size: bytes that the code takes in the artifact.
        payload_size: bytes that the payload takes in the artifact.
        beside: names of the files beside the main one.
    """

    parts: Parts
    code_size: int
    payload_size: int
    beside: tuple[str, ...] = ()


Opener = Callable[[str], bytes]  # reads a file beside the artifact; raises InputError


class Carrier(ABC):
    """A carrier writes the file, and reads it back without executing anything."""

    id: ClassVar[str]
    ascii: ClassVar[bool]  # whether the file is text that any editor and any tool reads
    needs_payload: ClassVar[bool] = False

    @abstractmethod
    def write(self, parts: Parts, stem: str) -> Written:
        """The artifact's bytes; `stem` is its file name without extension."""

    @abstractmethod
    def source(self, payload: bytes, header_size: int) -> tuple[str, tuple[int, ...]]:
        """How the loader gets at the payload: a function of runtime_stub.carriage, and its arguments after the file's bytes.

        Args:
            payload: the payload.
            header_size: characters of the header that `write` will be given; 0 for none.
        """

    @abstractmethod
    def read(self, data: bytes, open_beside: Opener) -> Carried | None:
        """The parts of a file that this carrier wrote, every byte of it; None when it did not.

        Raises:
            InputError: this carrier wrote it, but it is damaged.
        """

    def files_beside(self, data: bytes, open_beside: Opener) -> tuple[str, ...]:
        """Names of the files that lie beside a main file of this carrier and are the ones it was made with.

        Raises:
            InputError: one can't be read.
        """
        return ()


def render_bootstrap(
    template: str,
    parts: Parts,
    carried: bytes,
    *,
    carried_name: str = "",
    decoded: str = "",
    conversion: str = "",
    condition: str = "",
    modules: tuple[str, ...] = (),
    **values: Any,
) -> str:
    """Fill a carrier's template: what checks, decompresses and executes the code is the same for all.

    Args:
        template: its file.
        parts: what is carried.
        carried: the code as it stands in the file; its checksum is checked before anything is made of it.
        carried_name: the variable that holds that; without it, the code's.
        decoded: expression of the compressed code; without it, the code's variable.
        conversion: statements that come before it is used.
        condition: further ground to refuse the file, `or …`.
        modules: what the template imports beside what the code's compression needs.
        values: what else the template asks for.
    """
    coder = CODERS[parts.coder]
    names = {"code": decoded or parts.code_name, "scratch": parts.scratch_name}
    return render(
        template,
        header=parts.header,
        modules=sorted({*modules, *coder.modules, *(["linecache"] if parts.traceable else []), "zlib"}),
        setup=coder.setup.format(**names),
        expression=coder.expression.format(**names),
        code_name=parts.code_name,
        carried_name=carried_name or parts.code_name,
        payload_name=parts.payload_name,
        payload=parts.payload is not None,
        crc=zlib.crc32(carried),
        condition=condition,
        conversion=conversion,
        damaged=DAMAGED,
        traceable=parts.traceable,
        source_name=SOURCE_NAME,
        **values,
    )


def coder_of(bootstrap: bytes) -> tuple[str, bool]:
    """The code's compression, and whether its source is registered, by the bootstrap's closing statements.

    Raises:
        InputError: neither is known.
    """
    for name, coder in CODERS.items():
        if coder.expression.split("{")[0].encode() in bootstrap:
            return name, b"linecache" in bootstrap
    raise InputError("the artifact's bootstrap does not decompress in a known way")


def scratch_of(bootstrap: bytes) -> str:
    """The scratch variable of a bootstrap, where it uses one."""
    found = re.search(rb"(\w+)=zlib\.decompressobj\(\)", bootstrap)
    return found[1].decode() if found else ""


def check_code(carried: bytes, crc: bytes) -> None:
    """Compare the code, as it stands in the file, with the checksum in the bootstrap.

    Raises:
        InputError: it differs.
    """
    if zlib.crc32(carried) != int(crc):
        raise InputError("the artifact is damaged: the checksum of its code does not match")
