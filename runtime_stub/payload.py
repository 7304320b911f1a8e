"""Reader of the payload; docs/FORMAT.md describes every byte."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runtime_stub.lzma_raw import inflate_lzma
from runtime_stub.split import Array

Entry = tuple[list[str], str, str, Array]  # names, torch dtype of the elements, torch dtype of the tensor, elements

MAGIC = b"GPK\x01"
MANIFEST_LIMIT = 2**24
CHECKSUM_RESIDUE = 0x2144DF1C  # what CRC-32 gives for any data followed by its own CRC-32


def is_intact(payload: bytes) -> bool:
    """Whether the payload's closing CRC-32 matches everything before it."""
    return zlib.crc32(payload) == CHECKSUM_RESIDUE


def checked(payload: bytes) -> bytes:
    """The payload as it is; the program ends with one sentence when its closing CRC-32 does not match."""
    if not is_intact(payload):
        raise SystemExit("damaged file: checksum mismatch")
    return payload


def read_payload(
    payload: bytes,
    decoders: Mapping[str, Callable[..., list[Array]]],
    dequantizers: Mapping[str, Callable[..., Array]],
) -> Iterator[Entry]:
    """Decode a payload.

    Args:
        payload: bytes.
        decoders: codec id → function (coded bytes, specs, *options) → list of arrays.
        dequantizers: dequantizer id → function (*arrays) → array of weights.

    Yields:
        One entry per stored tensor.
    """
    end = 8 + int.from_bytes(payload[4:8], "little")
    streams, tensors = json.loads(inflate_lzma(payload[8:end], MANIFEST_LIMIT))
    arrays: list[Iterator[Any]] = []
    for codec, size, specs, *options in streams:
        arrays.append(iter(decoders[codec](payload[end : end + size], specs, *options)))
        end += size
    for names, dequantizer, stored, dtype, *sources in tensors:
        yield names, stored, dtype, dequantizers[dequantizer](*(next(arrays[source]) for source in sources))
