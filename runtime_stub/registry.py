"""Every decoder by the id that stands in the payload's manifest. The emitter inlines only what a payload uses."""

from __future__ import annotations

from collections.abc import Callable

from runtime_stub.arranged import decode_arranged
from runtime_stub.brotli_raw import decode_brotli
from runtime_stub.deflate import decode_zlib
from runtime_stub.dequantize import grid, groups, keep, scale
from runtime_stub.lzma_raw import decode_lzma
from runtime_stub.rans import decode_rans
from runtime_stub.rans_rows import decode_rans_rows
from runtime_stub.split import Array
from runtime_stub.store import decode_store
from runtime_stub.ternary import decode_base3, decode_bitmask
from runtime_stub.zstd import decode_zstd

DECODERS: dict[str, Callable[..., list[Array]]] = {
    "arranged": decode_arranged,
    "base3": decode_base3,
    "bitmask": decode_bitmask,
    "brotli": decode_brotli,
    "lzma": decode_lzma,
    "rans": decode_rans,
    "rans_rows": decode_rans_rows,
    "store": decode_store,
    "zlib": decode_zlib,
    "zstd": decode_zstd,
}

DEQUANTIZERS: dict[str, Callable[..., Array]] = {
    "grid": grid,
    "groups": groups,
    "keep": keep,
    "scale": scale,
}
