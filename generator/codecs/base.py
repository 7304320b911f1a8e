"""The interface of codecs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from runtime_stub.split import Array

UNKNOWN_SIZE = 2**48  # bytes of a stream that is not coded yet


@dataclass(frozen=True)
class Encoded:
    """One coded stream.

    Attributes:
        data: the coded bytes.
        options: what the decoder takes after the data and the specs; JSON values, kept in the manifest.
    """

    data: bytes
    options: list[Any] = field(default_factory=list)


class Codec(BaseModel, ABC):
    """A codec is its configuration; subclasses add options as fields and implement `encode`.

    The decoder is the function with the same id in `runtime_stub.registry.DECODERS`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: ClassVar[str]
    requires: ClassVar[tuple[str, ...]] = ()  # modules that the decoder imports, beyond the standard library, numpy and torch
    mixes_dtypes: ClassVar[bool] = False  # whether arrays of several dtypes are better coded in one stream

    def stream_bytes(self, arrays: Sequence[Array]) -> int:
        """Overhead of one stream of these arrays, however well they are coded."""
        return 0

    def needed_to_build(self) -> tuple[str, ...]:
        """Modules that `encode` may import, beyond the standard library, numpy and torch."""
        return self.requires

    def refuses(self, arrays: Sequence[Array], size: int = UNKNOWN_SIZE) -> str:
        """Why a reader would not take one stream of these arrays, of so many bytes; "" when it would.

        Asked before anything is coded, so that another codec can be chosen.
        """
        return ""

    @abstractmethod
    def encode(self, arrays: Sequence[Array]) -> Encoded:
        """Code arrays (little endian, any dtype but object, any shape) into one stream."""


def specs_of(arrays: Sequence[Array]) -> list[tuple[str, tuple[int, ...]]]:
    """The arrays' dtypes and shapes, as the manifest has them."""
    return [(array.dtype.newbyteorder("<").str, array.shape) for array in arrays]


def check_no_options(codec: str, options: Sequence[Any]) -> None:
    """Raise ValueError if an untrusted manifest gives options to a codec that has none."""
    if options:
        raise ValueError(f"a {codec} stream has options")


def joined(arrays: Sequence[Array]) -> bytes:
    """The arrays' bytes back to back, C order."""
    return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)
