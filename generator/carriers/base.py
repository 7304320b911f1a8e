"""The interface of carriers: how payload and code become one runnable file."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Parts:
    """What a carrier carries.

    Attributes:
        code: compressed code.
        payload: the payload, or None for a script without weights.
        payload_name: the global variable that the loader finds the payload in.
        code_name: another global variable that the script does not use.
        header: comment line that says what the file is, without the "#"; "" for none.
    """

    code: bytes
    payload: bytes | None
    payload_name: str
    code_name: str
    header: str


class Carrier(ABC):
    """A carrier writes the file, and reads it back without executing anything."""

    id: ClassVar[str]

    @abstractmethod
    def write(self, parts: Parts) -> bytes:
        """The file's bytes."""

    @abstractmethod
    def text_size(self, data: bytes) -> int:
        """Bytes that `data` (code or payload) takes in the file."""

    @abstractmethod
    def read(self, data: bytes) -> Parts | None:
        """The parts of a file that this carrier wrote; None when it did not.

        Raises:
            InputError: this carrier wrote it, but it is damaged.
        """
