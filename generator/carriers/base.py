"""The interface of carriers: how payload and code become one runnable file."""

from __future__ import annotations

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
        payload_name: the global variable that the loader finds the open payload file in; "" without weights.
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
        """How the loader gets at the payload: a function of runtime_stub.carriage, and its arguments after the open file."""

    @abstractmethod
    def read(self, data: bytes, open_beside: Opener) -> Carried | None:
        """The parts of a file that this carrier wrote, every byte of it; None when it did not.

        Raises:
            InputError: this carrier wrote it, but it is damaged.
        """


def render_bootstrap(template: str, parts: Parts, **values: Any) -> str:
    """Fill a carrier's template: what decompresses and executes the code is the same for all."""
    coder = CODERS[parts.coder]
    expression = coder.expression.format(code=parts.code_name, scratch=parts.scratch_name)
    return render(
        template,
        header=parts.header,
        modules=coder.modules,
        setup=coder.setup.format(code=parts.code_name, scratch=parts.scratch_name),
        expression=expression,
        code_name=parts.code_name,
        scratch_name=parts.scratch_name,
        payload_name=parts.payload_name,
        payload=parts.payload is not None,
        crc=zlib.crc32(parts.code),
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


def check_code(code: bytes, crc: bytes) -> None:
    """Compare the code with the checksum in the bootstrap.

    Raises:
        InputError: it differs.
    """
    if zlib.crc32(code) != int(crc):
        raise InputError("the artifact is damaged: the checksum of its code does not match")
