"""The interface of compressors: what makes the program small, and what the bootstrap does to get it back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from generator.errors import InputError

PROGRAM_LIMIT = 2**24  # bytes of a decompressed program that are accepted


class Compressor(ABC):
    """A way to compress the program, and the Python that undoes it in the artifact.

    Attributes:
        id: its name on the command line.
        automatic: whether "auto" tries it.
        modules: what the bootstrap imports for it.
        requires: those of them that are not in the standard library.
        expression: Python that decompresses the variable {program}; {scratch} is another name to use.
        setup: Python statement that must come before, or "".
        executions: how often the bootstrap calls exec before it executes the program.
    """

    id: ClassVar[str]
    automatic: ClassVar[bool] = False
    modules: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    expression: ClassVar[str]
    setup: ClassVar[str] = ""
    executions: ClassVar[int] = 0

    @abstractmethod
    def compress(self, program: bytes) -> bytes:
        """The program as it goes into the artifact.

        Raises:
            InputError: it is too long, or a module is missing.
        """

    @abstractmethod
    def decompress(self, data: bytes) -> bytes:
        """Undo `compress`, with bounded memory.

        Raises:
            InputError: the data is damaged, truncated, or more than PROGRAM_LIMIT bytes; or a module is missing.
        """

    def wrote(self, bootstrap: bytes) -> bool:
        """Whether a bootstrap decompresses in this way."""
        return self.expression.split("{")[0].encode() in bootstrap


def undecodable(error: Exception) -> InputError:
    """What is said of a program that a library refuses to decompress."""
    return InputError(f"the artifact's code can't be decompressed: {error}")


def check_whole(program: bytes, complete: bool) -> bytes:
    """The program, if all of it is there.

    Args:
        program: what decompressed, cut off after PROGRAM_LIMIT + 1 bytes.
        complete: whether the compressed data came to its end.

    Raises:
        InputError: it is too long, or truncated.
    """
    if len(program) > PROGRAM_LIMIT:
        raise InputError(f"the artifact's code decompresses to more than {PROGRAM_LIMIT:,} bytes")
    if not complete:
        raise InputError("the artifact's code is truncated")
    return program
