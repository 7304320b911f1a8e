"""Codecs by the name that a recipe calls them. A new one is a file here, its decoder in runtime_stub, and a line in each
registry."""

from __future__ import annotations

from collections.abc import Callable

from generator.codecs.base import Codec, Encoded
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.rans import Rans
from generator.codecs.store import Store

__all__ = ["REGISTRY", "Codec", "Encoded"]

REGISTRY: dict[str, Callable[..., Codec]] = {
    "lzma": Lzma,
    "rans": Rans,
    "store": Store,
    "zlib": Zlib,
}
