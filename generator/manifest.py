"""The manifest of a payload: what it holds, parsed with every field checked, and the limits that reader and writer share."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from generator.codecs import CHECKS
from generator.errors import InputError
from generator.limits import DECODED_LIMIT, MAX_DIMENSIONS, decoded_limit, extent, spec_bytes
from runtime_stub.payload import MANIFEST_LIMIT
from runtime_stub.registry import DECODERS, DEQUANTIZERS
from runtime_stub.split import Array

SMALL_MANIFEST = 2**20  # bytes of JSON that a coded manifest of any size may hold
TEXT_PER_BYTE = 2**9  # bytes of JSON for each coded byte: the most regular names make some 220
MOST_LISTS = 2**20  # lists in a manifest; a tensor takes six or fewer
MOST_QUOTES = 2**22  # two for each string

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


def manifest_text(streams: Sequence[Stream], tensors: Sequence[StoredTensor]) -> bytes:
    """The manifest's JSON.

    Raises:
        InputError: a name is no text, or it is all too long.
    """
    manifest = [
        [[s.codec, s.size, [[dtype, list(shape)] for dtype, shape in s.specs], *s.options] for s in streams],
        [[t.names, t.dequantizer, t.stored, t.dtype, *t.sources] for t in tensors],
    ]
    text = json.dumps(manifest, separators=(",", ":"), ensure_ascii=False).encode()
    if len(text) > MANIFEST_LIMIT:
        raise InputError(f"the manifest takes {len(text):,} bytes, above the format's limit of {MANIFEST_LIMIT:,}")
    return text


def parse_manifest(text: bytes, coded_size: int) -> Manifest:
    """The manifest, each field of it valid; `check_manifest` sees to it that they fit together.

    Raises:
        ValueError, TypeError, RecursionError: it is malformed.
    """
    check_text(text, coded_size)
    streams, tensors = json.loads(text)
    return Manifest([_stream(*s) for s in streams], [_stored_tensor(*t) for t in tensors], coded_size)


def check_text(text: bytes, coded_size: int) -> None:
    """Raise ValueError for text that would take many times its size in memory, or that a few bytes expand to."""
    if len(text) > max(SMALL_MANIFEST, TEXT_PER_BYTE * coded_size):
        raise ValueError(f"{coded_size:,} bytes expand to {len(text):,}")
    if text.count(b"[") + text.count(b"{") > MOST_LISTS or text.count(b'"') > MOST_QUOTES:
        raise ValueError(f"it has more than {MOST_LISTS:,} lists or {MOST_QUOTES // 2:,} strings")


def check_manifest(manifest: Manifest, stream_bytes: int, payload_size: int) -> None:
    """That the parts of a manifest fit together, and the payload.

    Raises:
        InputError: they do not.
    """
    if sum(stream.size for stream in manifest.streams) != stream_bytes:
        raise InputError("the payload's streams don't fill it exactly")
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
    check_decoded(manifest, payload_size)
    for tensor, places in manifest.arrays_of():
        _check_arrays(tensor, [manifest.streams[stream].specs[index] for stream, index in places])


def check_decoded(manifest: Manifest, payload_size: int) -> None:
    """That a payload of this size does not decode to more than its share (docs/FORMAT.md, Limits).

    Raises:
        InputError: it does; the message names the tensor that takes most.
    """
    arrays = spec_bytes([spec for stream in manifest.streams for spec in stream.specs])
    sizes = {}
    for tensor, places in manifest.arrays_of():
        widest = max(TORCH_DTYPES[tensor.stored].itemsize, TORCH_DTYPES[tensor.dtype].itemsize)
        shapes = [manifest.streams[stream].specs[index][1] for stream, index in places[:1]]
        sizes[tensor.names[0]] = len(tensor.names) * widest * sum(map(extent, shapes))
    decoded = max(arrays, sum(sizes.values()))
    limit = decoded_limit(payload_size)
    if decoded > limit:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"a payload of {payload_size:,} bytes that decodes to {decoded:,}, most of them for tensor {largest[:80]!r}, "
            f"is above the limit of {limit:,}"
        )


def check_writable(results: Mapping[str, Sequence[Array]], names: Mapping[str, list[str]]) -> None:
    """What no payload can hold, found before anything is coded.

    Args:
        results: tensor name → its arrays.
        names: tensor name → all its names.

    Raises:
        InputError: a tensor has too many dimensions, a name is no text, or all together are too large.
    """
    for name, arrays in results.items():
        dimensions = max((array.ndim for array in arrays), default=0)
        if dimensions > MAX_DIMENSIONS:
            raise InputError(f"tensor {name!r} has {dimensions} dimensions; a payload holds at most {MAX_DIMENSIONS}")
        for alias in names[name]:
            if not _is_text(alias):
                raise InputError(f"tensor name {alias!r} is no Unicode text: it has a lone surrogate")
    sizes = {name: sum(array.nbytes for array in arrays) for name, arrays in results.items()}
    if sum(sizes.values()) > DECODED_LIMIT:
        largest = max(sizes, key=lambda name: sizes[name])
        raise InputError(
            f"the tensors take {sum(sizes.values()):,} bytes, above the format's limit of {DECODED_LIMIT:,}; "
            f"the largest is {largest!r}"
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


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
    CHECKS[codec](size, checked, options)
    return Stream(codec, size, checked, list(options))


def _stored_tensor(names: Any, dequantizer: Any, stored: Any, dtype: Any, *sources: Any) -> StoredTensor:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and _is_text(name) for name in names):
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


def _check_arrays(tensor: StoredTensor, specs: list[tuple[str, tuple[int, ...]]]) -> None:
    """That a dequantizer gets arrays that fit together: no broadcast may blow up what is allocated."""
    name = tensor.names[0]
    shapes = [shape for _, shape in specs]
    if tensor.dequantizer == "keep":
        fits = len(specs) == 1 and np.dtype(specs[0][0]).itemsize == TORCH_DTYPES[tensor.stored].itemsize
    elif not specs or tensor.stored != "float32" or specs[0][0][1] not in "iu":
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
