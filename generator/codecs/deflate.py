"""Raw deflate (RFC 1951)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from generator.codecs.base import Codec, Encoded, check_no_options, joined
from generator.limits import Specs
from runtime_stub.split import Array


class Zlib(Codec):
    """zlib without its header and checksum; the payload has a checksum of its own."""

    id: ClassVar[str] = "zlib"
    level: int = Field(default=9, ge=0, le=9)

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, -15, 9)
        return Encoded(compressor.compress(joined(arrays)) + compressor.flush())


def check_zlib(size: int, specs: Specs, options: Sequence[Any]) -> None:
    """Raise ValueError if there are options."""
    check_no_options("zlib", options)
