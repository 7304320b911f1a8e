"""The interface of codecs."""

from __future__ import annotations

import importlib.util
import json
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from generator.fields import Field, specs_of
from generator.limits import Specs
from runtime_stub.split import Array

UNKNOWN_SIZE = 2**48  # bytes of a stream that is not coded yet


@dataclass(frozen=True)
class Encoded:
    """What a codec made of arrays.

    Attributes:
        data: the coded bytes.
        options: what the decoder takes after the data and the specs; JSON values, kept in the manifest.
    """

    data: bytes
    options: list[Any] = field(default_factory=list)


class Codec(BaseModel, ABC):
    """A codec is its configuration, and all that is to be known of it; subclasses add options as fields.

    Attributes:
        id: its name in recipes and in the manifest.
        decoder: its decoder in runtime_stub: a function (coded bytes, specs, *options) → arrays.
        requires: modules that the decoder imports, beyond the standard library, numpy and torch.
        errors: what those raise on damaged data, as MODULE.NAME.
        automatic: whether `auto` may take it, as far as the modules that it requires are allowed.
        mixes_dtypes: whether arrays of several dtypes are better coded in one stream.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: ClassVar[str]
    decoder: ClassVar[Callable[..., list[Array]]]
    requires: ClassVar[tuple[str, ...]] = ()
    errors: ClassVar[tuple[str, ...]] = ()
    automatic: ClassVar[bool] = True
    mixes_dtypes: ClassVar[bool] = False

    def takes(self, field: Field) -> bool:
        """Whether it is meant for such an array; `auto` finds a codec for others."""
        return True

    @classmethod
    def measured(cls) -> list[Codec]:
        """What `golfpack bench` measures of it."""
        return [cls()]

    def stream_bytes(self, specs: Specs) -> int:
        """Overhead of one stream of these arrays, however well they are coded."""
        return 0

    def rate(self, fields: Sequence[Field]) -> float:
        """About the bytes that more of such arrays add to a stream for as many elements: what is told once is left out."""
        return float(len(self.encode(fields).data) - self.stream_bytes(specs_of(fields)))

    def estimate(self, fields: Sequence[Field]) -> float:
        """About the bytes of these arrays in a stream with others, its options included and `stream_bytes` not: what `auto`
        compares, without searches that take longer than they are worth there."""
        encoded = self.encode(fields)
        return len(encoded.data) + manifest_bytes(encoded.options) - self.stream_bytes(specs_of(fields))

    def refuses(self, specs: Specs, size: int = UNKNOWN_SIZE) -> str:
        """Why a reader would not take one stream of such arrays, of so many bytes; "" when it would.

        Asked before anything is coded, so that another codec can be chosen.
        """
        return ""

    @abstractmethod
    def encode(self, fields: Sequence[Field]) -> Encoded:
        """Code arrays into one stream.

        Raises:
            InputError: they can't be coded.
        """

    @classmethod
    @abstractmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        """Hold what an untrusted manifest says against what the decoder takes, before anything is allocated for it.

        Args:
            size: coded bytes of the stream.
            specs: dtype and shape of the arrays that the decoder is to give.
            options: of the decoder.

        Raises:
            ValueError: the options are malformed, or ask for too much memory or time.
        """

    @classmethod
    def known_errors(cls) -> list[type[Exception]]:
        """`errors`, as far as their modules are installed."""
        return [pkgutil.resolve_name(name) for name in cls.errors if importlib.util.find_spec(name.partition(".")[0])]

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value}" for name, value in self.model_dump(exclude_defaults=True).items())
        return f"{self.id} ({options})" if options else self.id


def manifest_bytes(options: Sequence[Any]) -> float:
    """About what options take in the manifest, whose JSON compresses three to one."""
    return len(json.dumps(options)) / 3


def joined(fields: Sequence[Field]) -> bytes:
    """The arrays' bytes back to back, C order."""
    return b"".join(np.ascontiguousarray(field.array).tobytes() for field in fields)
