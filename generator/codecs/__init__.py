"""Codecs by the name that a recipe calls them. A new one is a file here, its decoder in runtime_stub, and a line in each
registry."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Sequence
from typing import Any

from generator.codecs.arranged import Arranged, check_arranged
from generator.codecs.auto import Auto
from generator.codecs.base import Codec, Encoded
from generator.codecs.brotli_raw import Brotli, check_brotli
from generator.codecs.deflate import Zlib, check_zlib
from generator.codecs.lzma_raw import Lzma, check_lzma
from generator.codecs.rans import Rans
from generator.codecs.rans_check import check_rans, check_rans_rows
from generator.codecs.rans_rows import RansRows
from generator.codecs.store import Store, check_store
from generator.codecs.ternary import Base3, Bitmask, check_base3, check_bitmask
from generator.codecs.zstd import Zstd, check_zstd

__all__ = ["CHECKS", "REGISTRY", "REQUIRES", "Auto", "Codec", "Encoded", "codec_errors"]

REGISTRY: dict[str, Callable[..., Codec]] = {
    "arranged": Arranged,
    "auto": Auto,
    "base3": Base3,
    "bitmask": Bitmask,
    "brotli": Brotli,
    "lzma": Lzma,
    "rans": Rans,
    "rans_rows": RansRows,
    "store": Store,
    "zlib": Zlib,
    "zstd": Zstd,
}

# Codec id → modules beyond the standard library, numpy and torch that its decoder imports.
REQUIRES: dict[str, tuple[str, ...]] = {codec.id: codec.requires for codec in (Brotli, Zstd)}


def codec_errors() -> list[type[Exception]]:
    """What the optional modules raise on damaged data, as far as they are installed."""
    found: list[type[Exception]] = [ModuleNotFoundError]
    for module, name in (("brotli", "error"), ("zstandard", "ZstdError")):
        if importlib.util.find_spec(module):
            found.append(getattr(importlib.import_module(module), name))
    return found


# Codec id → function of (coded size, specs, options) from an untrusted manifest; it raises ValueError before anything that
# they ask for is allocated.
CHECKS: dict[str, Callable[[int, Sequence[tuple[str, tuple[int, ...]]], Sequence[Any]], None]] = {
    "arranged": check_arranged,
    "base3": check_base3,
    "bitmask": check_bitmask,
    "brotli": check_brotli,
    "lzma": check_lzma,
    "rans": check_rans,
    "rans_rows": check_rans_rows,
    "store": check_store,
    "zlib": check_zlib,
    "zstd": check_zstd,
}
