"""The payload container: streams and a manifest, written and read with every field checked. docs/FORMAT.md has the bytes.

`runtime_stub.payload` is the reader that ships in the artifact; it trusts the checksum. The reader here trusts nothing: it
validates the manifest before anything is allocated for it, and then lets the very same decoders do the work.
"""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from generator import codecs, dequantizers
from generator.codecs.chain import DECODERS
from generator.codecs.lzma_raw import compress_raw
from generator.errors import CheckError, InputError, brief
from generator.payload import version_1
from generator.payload.manifest import (
    Manifest,
    StoredTensor,
    Stream,
    check_decoded,
    check_manifest,
    check_text,
    manifest_text,
    parse_manifest,
)
from runtime_stub.lzma_raw import inflate_lzma
from runtime_stub.payload import MAGIC, MANIFEST_LIMIT, Entry, is_intact, read_payload, run_stages
from runtime_stub.split import Array
from runtime_stub.tensors import make_tensors

DEQUANTIZERS = {name: kind.function for name, kind in dequantizers.REGISTRY.items()}
HEADER_BYTES = 8
CHECKSUM_BYTES = 4
# What decoders raise on a damaged stream whose checksum was made to match.
UNDECODABLE: tuple[type[Exception], ...] = (
    lzma.LZMAError,
    zlib.error,
    ValueError,
    TypeError,
    RuntimeError,
    LookupError,
    OverflowError,
    MemoryError,
    ModuleNotFoundError,
    *(error for codec in codecs.REGISTRY.values() for error in codec.known_errors()),
)

_PARSERS = {1: version_1.parse_manifest, MAGIC[3]: parse_manifest}


@dataclass(frozen=True)
class Payload:
    """A payload, and what its loader needs.

    Attributes:
        data: the bytes.
        decoders: ids of codecs and filters, in `runtime_stub.registry.DECODERS`, that its streams ask for.
        dequantizers: ids in `runtime_stub.registry.DEQUANTIZERS` that its tensors ask for.
    """

    data: bytes
    decoders: frozenset[str]
    dequantizers: frozenset[str]

    @classmethod
    def read(cls, data: bytes) -> Payload:
        """A payload of bytes that come from elsewhere.

        Raises:
            InputError: they are none, see `read_manifest`.
        """
        manifest = read_manifest(data)
        return cls._of(data, manifest.streams, manifest.tensors)

    @classmethod
    def _of(cls, data: bytes, streams: Sequence[Stream], tensors: Sequence[StoredTensor]) -> Payload:
        ids = frozenset(name for stream in streams for name in stream.ids)
        return cls(data, ids, frozenset(tensor.dequantizer for tensor in tensors))


def write_payload(streams: Sequence[tuple[Stream, bytes]], tensors: Sequence[StoredTensor]) -> Payload:
    """Assemble a payload from coded streams and the tensors that draw on them.

    Raises:
        InputError: a reader would not take it, since it decodes to too much for its size.
    """
    text = manifest_text([stream for stream, _ in streams], tensors)
    coded = compress_raw(text, 3, 0, 0)
    body = MAGIC + struct.pack("<I", len(coded)) + coded + b"".join(data for _, data in streams)
    try:
        check_text(text, len(coded))
    except ValueError as error:
        raise InputError(f"the manifest is one that no reader would take: {error}") from error
    check_decoded(Manifest([stream for stream, _ in streams], list(tensors), len(coded)), len(body) + CHECKSUM_BYTES)
    return Payload._of(body + struct.pack("<I", zlib.crc32(body)), [stream for stream, _ in streams], tensors)


def read_manifest(payload: bytes) -> Manifest:
    """Check a payload's frame, checksum and manifest, without decoding any stream.

    Raises:
        InputError: it is not a payload, is of another version, is damaged, or its manifest is not consistent.
    """
    if payload[:3] != MAGIC[:3]:
        raise InputError("not a golfpack payload: the magic bytes are missing")
    version = payload[3] if len(payload) > 3 else None
    if version not in _PARSERS:
        raise InputError(f"payload of format version {'?' if version is None else version}; known here: 1 and 2")
    if len(payload) < HEADER_BYTES + CHECKSUM_BYTES or not is_intact(payload):
        raise InputError("the payload is damaged: its checksum does not match")
    coded_size = struct.unpack_from("<I", payload, 4)[0]
    if HEADER_BYTES + coded_size + CHECKSUM_BYTES > len(payload):
        raise InputError("the payload's manifest is longer than the payload")
    try:
        text = inflate_lzma(payload[HEADER_BYTES : HEADER_BYTES + coded_size], MANIFEST_LIMIT)
        manifest = _PARSERS[version](text, coded_size)
    except (lzma.LZMAError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise InputError(f"the payload's manifest is malformed: {_reason(error)}") from error
    check_manifest(manifest, len(payload) - HEADER_BYTES - coded_size - CHECKSUM_BYTES, len(payload))
    return manifest


def decode_payload(payload: bytes) -> dict[str, Tensor]:
    """Decode a payload to its state dict: the same tensors, bit for bit, that the artifact loads.

    Raises:
        InputError: the payload is damaged, hostile, or of another version.
    """
    return dict(_decoded(payload))


def _decoded(payload: bytes) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a payload by each of their names, made one after the other; errors as for `decode_payload`."""
    manifest = read_manifest(payload)
    try:
        if manifest.decoders is DECODERS:
            entries = read_payload(payload, DECODERS, DEQUANTIZERS)  # as the artifact does it
        else:
            entries = _entries(manifest, decode_streams(payload, manifest))
        for entry in entries:
            yield from make_tensors([entry]).items()
    except UNDECODABLE as error:
        raise InputError(f"the payload's streams can't be decoded: {_reason(error)}") from error


def decode_streams(payload: bytes, manifest: Manifest) -> list[list[Array]]:
    """The arrays of every stream, before dequantization."""
    position = HEADER_BYTES + manifest.coded_size
    decoded: list[list[Array]] = []
    for stream in manifest.streams:
        specs = [(dtype, list(shape)) for dtype, shape in stream.specs]
        data = payload[position : position + stream.size]
        try:
            decoded.append(run_stages(data, specs, stream.stages, manifest.decoders, decoded))
        except UNDECODABLE as error:
            raise InputError(f"the payload's {stream} stream can't be decoded: {_reason(error)}") from error
        position += stream.size
    return decoded


def _entries(manifest: Manifest, arrays: list[list[Array]]) -> Iterator[Entry]:
    """What `read_payload` gives, of a version that it does not read."""
    for tensor, places in manifest.arrays_of():
        elements = DEQUANTIZERS[tensor.dequantizer](*(arrays[stream][index] for stream, index in places))
        yield tensor.names, tensor.stored, tensor.dtype, elements


def _reason(error: BaseException) -> str:
    """What an exception says, on one line; some say nothing."""
    return "there is not enough memory" if isinstance(error, MemoryError) else brief(error) or type(error).__name__


def check_decodes_to(payload: bytes, expected: Mapping[str, Tensor]) -> None:
    """Compare what a payload decodes to with what the quantizers reported, tensor by tensor.

    Raises:
        CheckError: any tensor differs in any bit, or is missing. That would be a bug in a codec, never to be shipped.
    """
    missing = set(expected)
    for name, tensor in _decoded(payload):
        if name in missing and not same_bits(tensor, expected[name]):
            raise CheckError(f"tensor {name!r} decodes to other bits than its quantizer reported; please report this bug")
        missing.discard(name)
    if missing:
        raise CheckError(f"tensor {min(missing)!r} is missing from what the payload decodes to; please report this bug")


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Whether two tensors agree in dtype, shape and every bit (NaNs and signed zeros included)."""
    if left.dtype != right.dtype or left.shape != right.shape:
        return False
    if not left.numel():
        return True
    return np.array_equal(_bits(left), _bits(right))


def _bits(tensor: Tensor) -> Array:
    """The elements of a tensor as words of their size."""
    flat = tensor.detach().cpu().reshape(-1)
    if flat.stride() != (1,):  # a single element may have any, and pass for contiguous
        flat = flat.clone(memory_format=torch.contiguous_format)
    word = {2: torch.int16, 4: torch.int32, 8: torch.int64}.get(flat.dtype.itemsize, torch.uint8)
    words: Array = flat.view(word).numpy()
    return words
