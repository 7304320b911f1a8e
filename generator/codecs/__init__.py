"""Codecs by the name that a recipe calls them. A new one is a file here, its decoder in runtime_stub, and a line in each
registry."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from generator.codecs.auto import Auto
from generator.codecs.base import Codec, Encoded
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.rans import Rans
from generator.codecs.rans_check import check_rans, check_rans_rows
from generator.codecs.rans_rows import RansRows
from generator.codecs.store import Store

__all__ = ["CHECKS", "REGISTRY", "Auto", "Codec", "Encoded"]

REGISTRY: dict[str, Callable[..., Codec]] = {
    "auto": Auto,
    "lzma": Lzma,
    "rans": Rans,
    "rans_rows": RansRows,
    "store": Store,
    "zlib": Zlib,
}

# Codec id → function of (coded size, specs, options) from an untrusted manifest; it raises ValueError before anything that
# they ask for is allocated.
CHECKS: dict[str, Callable[[int, Sequence[tuple[str, tuple[int, ...]]], Sequence[Any]], None]] = {
    "rans": check_rans,
    "rans_rows": check_rans_rows,
}
