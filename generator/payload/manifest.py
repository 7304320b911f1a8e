"""The manifest of a payload: what it holds, parsed with every field checked, and the limits that reader and writer share."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from generator import dequantizers
from generator.codecs.chain import DECODERS, check_stages
from generator.dequantizers import TORCH_DTYPES
from generator.errors import InputError
from generator.limits import DECODED_LIMIT, MAX_DIMENSIONS, Specs, decoded_limit, extent, spec_bytes
from runtime_stub.payload import MANIFEST_LIMIT
from runtime_stub.split import Array

SMALL_MANIFEST = 2**20  # bytes of JSON that a coded manifest of any size may hold
TEXT_PER_BYTE = 2**9  # bytes of JSON for each coded byte: the most regular names make some 220
MOST_LISTS = 2**20  # lists in a manifest; a tensor takes six or fewer
MOST_QUOTES = 2**22  # two for each string

ARRAY_DTYPES = frozenset({"|i1", "|u1", *(f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)), "<f2", "<f4"})


@dataclass(frozen=True)
class Stream:
    """One coded stream and what it holds.

    Attributes:
        size: coded bytes.
        specs: numpy dtype string and shape of each array.
        stages: id and options of each filter, in the order of coding, and of the codec.
    """

    size: int
    specs: Specs
    stages: list[list[Any]]

    @property
    def ids(self) -> list[str]:
        """Of its stages."""
        return [stage[0] for stage in self.stages]

    def __str__(self) -> str:
        *filters, codec = self.ids
        return ", ".join([codec, *filters])


@dataclass(frozen=True)
class StoredTensor:
    """One stored tensor: how to rebuild it, and from which streams its arrays come, in order."""

    names: list[str]
    dequantizer: str
    stored: str
    dtype: str
    streams: list[int]


@dataclass(frozen=True)
class Manifest:
    """What a payload holds."""

    streams: list[Stream]
    tensors: list[StoredTensor]
    coded_size: int  # bytes of the manifest itself, as it stands in the payload
    decoders: Mapping[str, Callable[..., list[Array]]] = field(default_factory=lambda: DECODERS)  # of its version

    def arrays_of(self) -> Iterator[tuple[StoredTensor, list[tuple[int, int]]]]:
        """Each tensor with the (stream, index within the stream) of its arrays."""
        used = [0] * len(self.streams)
        for tensor in self.tensors:
            places = []
            for stream in tensor.streams:
                places.append((stream, used[stream]))
                used[stream] += 1
            yield tensor, places


def manifest_text(streams: Sequence[Stream], tensors: Sequence[StoredTensor]) -> bytes:
    """The manifest's JSON.

    Raises:
        InputError: a name is no text, or it is all too long.
    """
    manifest = [
        [[s.size, [[dtype, list(shape)] for dtype, shape in s.specs], *s.stages] for s in streams],
        [[t.names, t.dequantizer, t.stored, t.dtype, *t.streams] for t in tensors],
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
    read: list[Stream] = []
    for size, specs, *stages in streams:
        read.append(_stream(size, specs, stages, [len(stream.specs) for stream in read]))
    return Manifest(read, [stored_tensor(*tensor) for tensor in tensors], coded_size)


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
        for stream in tensor.streams:
            if stream >= len(used):
                raise InputError(f"tensor {tensor.names[0]!r} draws on stream {stream}, which does not exist")
            used[stream] += 1
    if used != [len(stream.specs) for stream in manifest.streams]:
        raise InputError("the payload's tensors don't use each stored array exactly once")
    check_decoded(manifest, payload_size)
    for tensor, places in manifest.arrays_of():
        specs = [manifest.streams[stream].specs[index] for stream, index in places]
        if not dequantizers.REGISTRY[tensor.dequantizer].takes(tensor.stored, specs):
            raise InputError(f"the arrays of tensor {tensor.names[0]!r} don't fit its dequantizer {tensor.dequantizer!r}")


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


def _stream(size: Any, specs: Any, stages: list[Any], counts: list[int]) -> Stream:
    checked = checked_specs(size, specs)
    check_stages(size, checked, stages, counts)
    return Stream(size, checked, stages)


def checked_specs(size: Any, specs: Any) -> Specs:
    """Dtypes and shapes of a stream's arrays.

    Raises:
        ValueError, TypeError: they, or the stream's size, are malformed.
    """
    if not _is_count(size):
        raise ValueError("a stream has no valid size")
    checked = []
    for dtype, shape in specs:
        if dtype not in ARRAY_DTYPES:
            raise ValueError(f"unknown array dtype {str(dtype)[:40]!r}")
        if not isinstance(shape, list) or len(shape) > MAX_DIMENSIONS or not all(map(_is_count, shape)):
            raise ValueError("a stream has an invalid shape")
        checked.append((dtype, tuple(shape)))
    return checked


def stored_tensor(names: Any, dequantizer: Any, stored: Any, dtype: Any, *streams: Any) -> StoredTensor:
    """A tensor's entry, each field of it valid.

    Raises:
        ValueError: it is malformed.
    """
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and _is_text(name) for name in names):
        raise ValueError("a tensor has no valid names")
    if dequantizer not in dequantizers.REGISTRY:
        raise ValueError(f"tensor {names[0][:80]!r} has unknown dequantizer {str(dequantizer)[:40]!r}")
    if stored not in TORCH_DTYPES or dtype not in TORCH_DTYPES:
        raise ValueError(f"tensor {names[0][:80]!r} has unknown dtype {str(stored)[:40]!r} or {str(dtype)[:40]!r}")
    if not all(map(_is_count, streams)):
        raise ValueError(f"tensor {names[0][:80]!r} has invalid streams")
    return StoredTensor(names, dequantizer, stored, dtype, list(streams))


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48
