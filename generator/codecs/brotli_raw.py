"""Brotli (RFC 7932); needs the module brotli to build and to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field as Option

from generator.codecs.base import Codec, Encoded, joined
from generator.errors import InputError
from generator.fields import Field
from generator.limits import Specs, check_no_options
from runtime_stub.brotli_raw import decode_brotli


class Brotli(Codec):
    """Quality 11 with the largest standard window."""

    id: ClassVar[str] = "brotli"
    decoder = staticmethod(decode_brotli)
    requires: ClassVar[tuple[str, ...]] = ("brotli",)
    errors: ClassVar[tuple[str, ...]] = ("brotli.error",)
    quality: int = Option(default=11, ge=0, le=11)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        try:
            import brotli
        except ModuleNotFoundError as error:
            raise InputError("codec brotli needs the module brotli; install golfpack[codecs]") from error
        return Encoded(brotli.compress(joined(fields), quality=self.quality, lgwin=24))

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        check_no_options(cls.id, options)
