"""Brotli (RFC 7932); needs the module brotli to build and to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field

from generator.codecs.base import Codec, Encoded, check_no_options, joined
from generator.errors import InputError
from generator.limits import Specs
from runtime_stub.split import Array


class Brotli(Codec):
    """Quality 11 with the largest standard window."""

    id: ClassVar[str] = "brotli"
    requires: ClassVar[tuple[str, ...]] = ("brotli",)
    quality: int = Field(default=11, ge=0, le=11)

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        try:
            import brotli
        except ModuleNotFoundError as error:
            raise InputError("codec brotli needs the module brotli; install golfpack[codecs]") from error
        return Encoded(brotli.compress(joined(arrays), quality=self.quality, lgwin=24))


def check_brotli(size: int, specs: Specs, options: Sequence[Any]) -> None:
    """Raise ValueError if there are options."""
    check_no_options("brotli", options)
