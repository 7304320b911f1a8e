"""Raw deflate (RFC 1951)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field as Option

from generator.codecs.base import Codec, Encoded, joined
from generator.fields import Field
from generator.limits import Specs, check_no_options
from runtime_stub.deflate import decode_zlib


class Zlib(Codec):
    """zlib without its header and checksum; the payload has a checksum of its own."""

    id: ClassVar[str] = "zlib"
    decoder = staticmethod(decode_zlib)
    level: int = Option(default=9, ge=0, le=9)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        compressor = zlib.compressobj(self.level, zlib.DEFLATED, -15, 9)
        return Encoded(compressor.compress(joined(fields)) + compressor.flush())

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        check_no_options(cls.id, options)
