"""Reader of the payload; docs/FORMAT.md describes every byte."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from runtime_stub.lzma_raw import inflate_lzma
from runtime_stub.split import Array, Specs

Entry = tuple[list[str], str, str, Array]  # names, torch dtype of the elements, torch dtype of the tensor, elements

MAGIC = b"GPK\x02"
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


def run_stages(
    data: bytes,
    specs: Specs,
    stages: Sequence[Sequence[Any]],
    decoders: Mapping[str, Callable[..., list[Array]]],
    earlier: list[list[Array]],
) -> list[Array]:
    """Decode one stream: the filters' inverses, and the codec's decoder, which is the last stage.

    The inverse of a filter is a function (decode, specs, earlier, *options): it gives the arrays that `specs` tells of, from
    those that the stages after it give for the specs that it calls `decode` with, and from the arrays of earlier streams. A
    decoder is a function (coded bytes, specs, *options).

    Args:
        data: coded bytes.
        specs: numpy dtype string and shape of each array.
        stages: id and options of each.
        decoders: id → function.
        earlier: the arrays of all streams before this one.
    """
    (name, *options), *inner = stages
    if inner:
        return decoders[name](lambda specs: run_stages(data, specs, inner, decoders, earlier), specs, earlier, *options)
    return decoders[name](data, specs, *options)


def read_payload(
    payload: bytes,
    decoders: Mapping[str, Callable[..., list[Array]]],
    dequantizers: Mapping[str, Callable[..., Array]],
) -> Iterator[Entry]:
    """Decode a payload.

    Args:
        payload: bytes.
        decoders: id of a codec or filter → function, see `run_stages`.
        dequantizers: dequantizer id → function (*arrays) → array of weights.

    Yields:
        One entry per stored tensor.
    """
    end = 8 + int.from_bytes(payload[4:8], "little")
    streams, tensors = json.loads(inflate_lzma(payload[8:end], MANIFEST_LIMIT))
    decoded: list[list[Array]] = []
    for size, specs, *stages in streams:
        decoded.append(run_stages(payload[end : end + size], specs, stages, decoders, decoded))
        end += size
    arrays = [iter(stream) for stream in decoded]
    for names, dequantizer, stored, dtype, *sources in tensors:
        yield names, stored, dtype, dequantizers[dequantizer](*(next(arrays[source]) for source in sources))
