"""Codecs by the name that a recipe calls them. A new one is a file here, its decoder in runtime_stub, a line in REGISTRY."""

from __future__ import annotations

from generator.codecs.base import Codec, Encoded
from generator.codecs.brotli_raw import Brotli
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.rans import Rans
from generator.codecs.store import Store
from generator.codecs.ternary import Base3, Bitmask
from generator.codecs.trellis import Trellis
from generator.codecs.zstd import Zstd

__all__ = ["REGISTRY", "Codec", "Encoded"]

# `auto` takes the first of several that are equally good.
REGISTRY: dict[str, type[Codec]] = {
    "rans": Rans,
    "zlib": Zlib,
    "store": Store,
    "trellis": Trellis,
    "base3": Base3,
    "bitmask": Bitmask,
    "lzma": Lzma,
    "brotli": Brotli,
    "zstd": Zstd,
}
