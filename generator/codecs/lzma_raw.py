"""Raw LZMA1 with filters chosen by trial."""

from __future__ import annotations

import lzma
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from pydantic import Field as Option
from pydantic import model_validator

from generator.codecs.base import Codec, Encoded, joined, manifest_bytes
from generator.fields import Field
from generator.limits import Specs, is_integer
from runtime_stub.lzma_raw import decode_lzma

SAMPLE_BYTES = 1 << 18
NICE_LENGTHS = (273, 64, 16)

Setting = TypeVar("Setting")


class Lzma(Codec):
    """LZMA1 without a container: no header, no checksum, no index.

    `lc`, `lp` and `pb` (literal context, literal position and position bits, lc + lp ≤ 4) and then `nice_len` (the match
    length that ends a search) are chosen on a sample from the stream unless they are given. The dictionary is always the
    whole stream: a smaller one finds fewer matches and saves nothing.
    """

    id: ClassVar[str] = "lzma"
    decoder = staticmethod(decode_lzma)
    lc: int | None = Option(default=None, ge=0, le=4)
    lp: int | None = Option(default=None, ge=0, le=4)
    pb: int | None = Option(default=None, ge=0, le=4)
    nice_len: int | None = Option(default=None, ge=5, le=273)

    @model_validator(mode="after")
    def _check_sum(self) -> Lzma:
        if (self.lc or 0) + (self.lp or 0) > 4:
            raise ValueError(f"lc + lp must be at most 4, not {self.lc} + {self.lp}")
        return self

    def estimate(self, fields: Sequence[Field]) -> float:
        parameters = self.lc or 0, self.lp or 0, self.pb or 0
        return len(compress_raw(joined(fields), *parameters, self.nice_len or 64)) + manifest_bytes(parameters)

    def encode(self, fields: Sequence[Field]) -> Encoded:
        data = joined(fields)
        start = max(0, len(data) - SAMPLE_BYTES) // 2 & ~7
        sample = data[start : start + SAMPLE_BYTES]
        candidates = self._candidates(max((field.array.itemsize for field in fields), default=1))
        lc, lp, pb = _best(candidates, lambda parameters: compress_raw(sample, *parameters))
        lengths = [self.nice_len] if self.nice_len is not None else NICE_LENGTHS
        nice_len = _best(lengths, lambda length: compress_raw(sample, lc, lp, pb, length))
        return Encoded(compress_raw(data, lc, lp, pb, nice_len), [lc, lp, pb])

    def _candidates(self, itemsize: int) -> list[tuple[int, int, int]]:
        """Parameters worth trying: position bits up to those that tell apart the bytes of one element."""
        position = range(max(1, itemsize.bit_length()))
        return [
            (lc, lp, pb)
            for lc in ([self.lc] if self.lc is not None else range(5))
            for lp in ([self.lp] if self.lp is not None else position)
            for pb in ([self.pb] if self.pb is not None else position)
            if lc + lp <= 4
        ]

    @classmethod
    def check(cls, size: int, specs: Specs, options: Sequence[Any]) -> None:
        # Literal context, literal position and position bits that LZMA allows.
        if len(options) != 3 or not all(is_integer(bits, 0, 4) for bits in options) or options[0] + options[1] > 4:
            raise ValueError("an lzma stream has malformed options")


def _best(options: Sequence[Setting], compress: Callable[[Setting], bytes]) -> Setting:
    """The one that makes fewest bytes; a single one without a trial."""
    return options[0] if len(options) == 1 else min(options, key=lambda option: len(compress(option)))


def compress_raw(data: bytes, lc: int, lp: int, pb: int, nice_len: int = 273) -> bytes:
    """One raw LZMA1 stream; `runtime_stub.lzma_raw.inflate_lzma` reads it."""
    filters = [
        {
            "id": lzma.FILTER_LZMA1,
            "preset": 9 | lzma.PRESET_EXTREME,
            "dict_size": max(len(data), 4096),
            "lc": lc,
            "lp": lp,
            "pb": pb,
            "nice_len": nice_len,
        }
    ]
    return lzma.compress(data, lzma.FORMAT_RAW, filters=filters)
