"""Zstandard (RFC 8878); needs the module zstandard to build and to run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from pydantic import Field as Option

from generator.codecs.base import Codec, Encoded, joined
from generator.errors import InputError
from generator.fields import Field
from generator.limits import Specs, is_integer
from runtime_stub.zstd import decode_zstd


class Zstd(Codec):
    """One frame without checksum, dictionary id or content size; long-distance matching over the whole stream.

    `dictionary` bytes of a dictionary trained on the arrays go before the frame, and count. It is meant for many small arrays
    with much in common; in one stream, matching finds most of that by itself.
    """

    id: ClassVar[str] = "zstd"
    decoder = staticmethod(decode_zstd)
    requires: ClassVar[tuple[str, ...]] = ("zstandard",)
    errors: ClassVar[tuple[str, ...]] = ("zstandard.ZstdError",)
    level: int = Option(default=22, ge=1, le=22)
    dictionary: int = Option(default=0, ge=0, le=1 << 20)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        try:
            import zstandard
        except ModuleNotFoundError as error:
            raise InputError("codec zstd needs the module zstandard; install golfpack[codecs]") from error
        data = joined(fields)
        # 2^27 is the largest window that decoders accept without being told.
        window = min(27, max(10, len(data).bit_length()))
        parameters = zstandard.ZstdCompressionParameters.from_level(
            self.level,
            source_size=len(data),
            window_log=window,
            enable_ldm=True,
            write_checksum=False,
            write_content_size=False,
            write_dict_id=False,
        )
        if not self.dictionary:
            return Encoded(zstandard.ZstdCompressor(compression_params=parameters).compress(data))
        try:
            trained = zstandard.train_dictionary(self.dictionary, [joined([field]) for field in fields])
        except zstandard.ZstdError as error:
            raise InputError(
                f"codec zstd can't train a dictionary of {self.dictionary} bytes on these tensors: {error}"
            ) from error
        words = trained.as_bytes()
        compressor = zstandard.ZstdCompressor(compression_params=parameters, dict_data=trained)
        return Encoded(words + compressor.compress(data), [len(words)])

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        if len(options) > 1 or not all(is_integer(length, 1, size) for length in options):  # of a dictionary within
            raise ValueError("a zstd stream has malformed options")
