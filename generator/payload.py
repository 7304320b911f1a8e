"""The payload container: streams and a manifest, written and read with every field checked. docs/FORMAT.md has the bytes.

`runtime_stub.payload` is the reader that ships in the artifact; it trusts the checksum. The reader here trusts nothing: it
validates the manifest before anything is allocated for it, and then lets the very same decoders do the work.
"""

from __future__ import annotations

import json
import lzma
import math
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from generator.codecs import CHECKS, codec_errors
from generator.codecs.lzma_raw import compress_raw
from generator.errors import CheckError, InputError
from runtime_stub.lzma_raw import inflate_lzma
from runtime_stub.payload import MAGIC, MANIFEST_LIMIT, is_intact, read_payload
from runtime_stub.registry import DECODERS, DEQUANTIZERS
from runtime_stub.split import Array
from runtime_stub.tensors import make_tensors

HEADER_BYTES = 8
CHECKSUM_BYTES = 4
DECODED_LIMIT = 2**34  # bytes of all decoded arrays together
MAX_DIMENSIONS = 32
# What decoders raise on a damaged stream whose checksum was made to match.
UNDECODABLE: tuple[type[Exception], ...] = (
    lzma.LZMAError,
    zlib.error,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    OverflowError,
    *codec_errors(),
)
ARRAY_DTYPES = frozenset({"|i1", "|u1", *(f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)), "<f2", "<f4"})
TORCH_DTYPES = {
    str(value).removeprefix("torch."): value
    for value in vars(torch).values()
    if isinstance(value, torch.dtype) and value.itemsize <= 8 and "quint" not in str(value) and "qint" not in str(value)
}


@dataclass(frozen=True)
class Stream:
    """One coded stream and what it holds."""

    codec: str
    size: int
    specs: list[tuple[str, tuple[int, ...]]]  # numpy dtype string and shape of each array
    options: list[Any]


@dataclass(frozen=True)
class StoredTensor:
    """One stored tensor: how to rebuild it, and from which streams its arrays come, in order."""

    names: list[str]
    dequantizer: str
    stored: str
    dtype: str
    sources: list[int]


@dataclass(frozen=True)
class Manifest:
    """What a payload holds."""

    streams: list[Stream]
    tensors: list[StoredTensor]
    coded_size: int  # bytes of the manifest itself, as it stands in the payload

    def arrays_of(self) -> Iterator[tuple[StoredTensor, list[tuple[int, int]]]]:
        """Each tensor with the (stream, index within the stream) of its arrays."""
        used = [0] * len(self.streams)
        for tensor in self.tensors:
            places = []
            for source in tensor.sources:
                places.append((source, used[source]))
                used[source] += 1
            yield tensor, places


def write_payload(streams: Sequence[tuple[Stream, bytes]], tensors: Sequence[StoredTensor]) -> bytes:
    """Assemble a payload from coded streams and the tensors that draw on them."""
    manifest = [
        [[s.codec, s.size, [[dtype, list(shape)] for dtype, shape in s.specs], *s.options] for s, _ in streams],
        [[t.names, t.dequantizer, t.stored, t.dtype, *t.sources] for t in tensors],
    ]
    text = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > MANIFEST_LIMIT:
        raise InputError(f"the manifest takes {len(text):,} bytes, above the format's limit of {MANIFEST_LIMIT:,}")
    coded = compress_raw(text, 3, 0, 0)
    body = MAGIC + struct.pack("<I", len(coded)) + coded + b"".join(data for _, data in streams)
    return body + struct.pack("<I", zlib.crc32(body))


def read_manifest(payload: bytes) -> Manifest:
    """Check a payload's frame, checksum and manifest, without decoding any stream.

    Raises:
        InputError: it is not a payload, is of another version, is damaged, or its manifest is not consistent.
    """
    if payload[:3] != MAGIC[:3]:
        raise InputError("not a golfpack payload: the magic bytes are missing")
    if payload[:4] != MAGIC:
        raise InputError(f"payload of format version {payload[3] if len(payload) > 3 else '?'}; known here: {MAGIC[3]}")
    if len(payload) < HEADER_BYTES + CHECKSUM_BYTES or not is_intact(payload):
        raise InputError("the payload is damaged: its checksum does not match")
    coded_size = struct.unpack_from("<I", payload, 4)[0]
    if HEADER_BYTES + coded_size + CHECKSUM_BYTES > len(payload):
        raise InputError("the payload's manifest is longer than the payload")
    try:
        text = inflate_lzma(payload[HEADER_BYTES : HEADER_BYTES + coded_size], MANIFEST_LIMIT)
        streams, tensors = json.loads(text)
        manifest = Manifest([_stream(*s) for s in streams], [_stored_tensor(*t) for t in tensors], coded_size)
    except (lzma.LZMAError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"the payload's manifest is malformed: {error}") from error
    _check_consistency(manifest, len(payload) - HEADER_BYTES - coded_size - CHECKSUM_BYTES)
    return manifest


def decode_payload(payload: bytes) -> dict[str, Tensor]:
    """Decode a payload to its state dict: the same tensors, bit for bit, that the artifact loads.

    Raises:
        InputError: the payload is damaged, hostile, or of another version.
    """
    read_manifest(payload)
    try:
        return make_tensors(read_payload(payload, DECODERS, DEQUANTIZERS))
    except UNDECODABLE as error:
        raise InputError(f"the payload's streams can't be decoded: {error}") from error


def decode_streams(payload: bytes, manifest: Manifest) -> list[list[Array]]:
    """The arrays of every stream, before dequantization."""
    position = HEADER_BYTES + manifest.coded_size
    decoded = []
    for stream in manifest.streams:
        specs = [(dtype, list(shape)) for dtype, shape in stream.specs]
        try:
            decoded.append(DECODERS[stream.codec](payload[position : position + stream.size], specs, *stream.options))
        except UNDECODABLE as error:
            raise InputError(f"the payload's {stream.codec} stream can't be decoded: {error}") from error
        position += stream.size
    return decoded


def check_decodes_to(payload: bytes, expected: dict[str, Tensor]) -> None:
    """Compare what a payload decodes to with what the quantizers reported.

    Raises:
        CheckError: any tensor differs in any bit. That would be a bug in a codec, never to be shipped.
    """
    decoded = decode_payload(payload)
    for name, tensor in expected.items():
        if not same_bits(decoded[name], tensor):
            raise CheckError(f"tensor {name!r} decodes to other bits than its quantizer reported; please report this bug")


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit (NaNs and signed zeros included)."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if not left.numel():
        return True
    octets = (t.contiguous().reshape(-1).view(torch.uint8) for t in (left, right))
    return torch.equal(*octets)


def _stream(codec: Any, size: Any, specs: Any, *options: Any) -> Stream:
    if codec not in DECODERS:
        raise ValueError(f"unknown codec {str(codec)[:40]!r}")
    if not _is_count(size):
        raise ValueError(f"a stream of {codec} has no valid size")
    checked = []
    for dtype, shape in specs:
        if dtype not in ARRAY_DTYPES:
            raise ValueError(f"unknown array dtype {str(dtype)[:40]!r}")
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_count, shape)):
            raise ValueError(f"a stream of {codec} has an invalid shape")
        checked.append((dtype, tuple(shape)))
    if codec in CHECKS:
        CHECKS[codec](size, checked, options)
    return Stream(codec, size, checked, list(options))


def _stored_tensor(names: Any, dequantizer: Any, stored: Any, dtype: Any, *sources: Any) -> StoredTensor:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("a tensor has no valid names")
    if dequantizer not in DEQUANTIZERS:
        raise ValueError(f"tensor {names[0][:80]!r} has unknown dequantizer {str(dequantizer)[:40]!r}")
    if stored not in TORCH_DTYPES or dtype not in TORCH_DTYPES:
        raise ValueError(f"tensor {names[0][:80]!r} has unknown dtype {str(stored)[:40]!r} or {str(dtype)[:40]!r}")
    if not all(map(_is_count, sources)):
        raise ValueError(f"tensor {names[0][:80]!r} has invalid sources")
    return StoredTensor(names, dequantizer, stored, dtype, list(sources))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48


def _check_consistency(manifest: Manifest, stream_bytes: int) -> None:
    if sum(stream.size for stream in manifest.streams) != stream_bytes:
        raise InputError("the payload's streams don't fill it exactly")
    decoded = sum(math.prod(shape) * np.dtype(dtype).itemsize for s in manifest.streams for dtype, shape in s.specs)
    if decoded > DECODED_LIMIT:
        raise InputError(f"the payload claims to decode to {decoded:,} bytes, above the limit of {DECODED_LIMIT:,}")
    names = [name for tensor in manifest.tensors for name in tensor.names]
    if len(set(names)) != len(names):
        raise InputError("the payload names a tensor twice")
    used = [0] * len(manifest.streams)
    for tensor in manifest.tensors:
        for source in tensor.sources:
            if source >= len(used):
                raise InputError(f"tensor {tensor.names[0]!r} draws on stream {source}, which does not exist")
            used[source] += 1
    if used != [len(stream.specs) for stream in manifest.streams]:
        raise InputError("the payload's tensors don't use each stored array exactly once")
    for tensor, places in manifest.arrays_of():
        _check_arrays(tensor, [manifest.streams[stream].specs[index] for stream, index in places])


def _check_arrays(tensor: StoredTensor, specs: list[tuple[str, tuple[int, ...]]]) -> None:
    """That a dequantizer gets arrays that fit together: no broadcast may blow up what is allocated."""
    name = tensor.names[0]
    shapes = [shape for _, shape in specs]
    if tensor.dequantizer == "keep":
        fits = len(specs) == 1 and np.dtype(specs[0][0]).itemsize == TORCH_DTYPES[tensor.stored].itemsize
    elif tensor.stored != "float32" or specs[0][0][1] not in "iu":
        fits = False
    elif tensor.dequantizer == "groups":
        fits = len(specs) == 2 and _is_grouped(*shapes)
    else:
        factors = {"scale": 1, "grid": 2}[tensor.dequantizer]
        fits = len(specs) == 1 + factors and all(_broadcasts(shape, shapes[0]) for shape in shapes[1:])
        # Exponents are bounded by their dtype: 2^(±127/4) of int8, 2^(±32767/4) of int16 (0 or infinity in float32).
        fits &= tensor.dequantizer != "grid" or all(dtype in ("|i1", "<i2") for dtype, _ in specs[1:])
    if not fits:
        raise InputError(f"the arrays of tensor {name!r} don't fit its dequantizer {tensor.dequantizer!r}")


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of `shape` can be spread over one of `target` without making it larger."""
    return len(shape) == len(target) and all(size in (1, full) for size, full in zip(shape, target, strict=True))


def _is_grouped(symbols: tuple[int, ...], scales: tuple[int, ...]) -> bool:
    """Whether scales (rows, groups) divide the symbols into rows, and each row into so many parts of equal width."""
    if len(scales) != 2 or not all(scales) or math.prod(symbols) % scales[0]:
        return False
    width = math.prod(symbols) // scales[0]
    return scales[1] <= max(1, width)
