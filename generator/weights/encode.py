"""From a checkpoint and a recipe to a payload: quantize each tensor, group the arrays into streams, code the streams."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from generator.codecs import CHECKS, Auto, Codec
from generator.codecs.base import specs_of
from generator.errors import InputError
from generator.manifest import check_writable
from generator.payload import Payload, StoredTensor, Stream, check_decodes_to, write_payload
from generator.progress import Listener
from generator.quantizers import Quantized
from generator.recipes.forms import as_recipe
from generator.recipes.recipe import Recipe
from generator.source.compress import compress_lzma
from generator.source.loader import render_loader
from generator.source.shrink import minify
from generator.statistics import Statistics
from generator.weights.checkpoint import Checkpoint, from_state_dict
from generator.weights.quantize import Cache, as_statistics, quantize_checkpoint
from runtime_stub.split import Array

AUTO_TRIALS = 2  # plans of `auto` that are coded in full; the smallest payload with its loader is kept


@dataclass
class _OpenStream:
    """Arrays gathered for one codec, not yet coded."""

    codec: Codec
    arrays: list[Array] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # the tensor of each


def encode_state_dict(
    state_dict: Mapping[str, Any],
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    stats: Statistics | str | Path | None = None,
    progress: Listener | None = None,
) -> bytes:
    """Quantize and code a state dict in memory.

    Args:
        state_dict: name → tensor.
        recipe: a Recipe, its table, or the path of a TOML file; None for the default recipe, or with statistics for
            `waterfill` wherever they tell of a tensor.
        stats: calibration statistics, or their file, for quantizers that use them.
        progress: told of each step; see `generator.progress`.

    Returns:
        The payload, which `decode_payload` and the packed script turn into the same tensors, bit for bit.

    Raises:
        InputError: a tensor or the recipe is unusable.
    """
    statistics = as_statistics(stats)
    return encode_checkpoint(from_state_dict(state_dict), as_recipe(recipe, statistics), statistics, progress).data


def encode_checkpoint(
    checkpoint: Checkpoint, recipe: Recipe, statistics: Statistics | None = None, progress: Listener | None = None
) -> Payload:
    """Quantize and code a checkpoint; the result has been decoded and compared before it is returned."""
    quantized, codecs = quantize_checkpoint(checkpoint, recipe, statistics, progress=progress)
    payload = code(quantized, codecs, checkpoint.names, Cache())
    check_decodes_to(payload.data, {name: q.tensor() for name, q in quantized.items()})
    return payload


@lru_cache(maxsize=256)
def _loader_bytes(codecs: frozenset[str], dequantizers: frozenset[str]) -> int:
    """About what the loader for these takes in the artifact."""
    loader = render_loader(codecs, dequantizers, "payload")
    return len(compress_lzma(minify(ast.Module([loader], [])).encode(), quick=True))


def code(
    quantized: Mapping[str, Quantized], codecs: Mapping[str, Codec], names: Mapping[str, list[str]], cache: Cache
) -> Payload:
    """The payload with each array coded by its tensor's codec, or by what `auto` finds smallest."""
    check_writable({name: result.arrays for name, result in quantized.items()}, names)
    arrays = [(name, array) for name, result in quantized.items() for array in result.arrays]
    fixed = [codecs[name] for name, _ in arrays]
    automatic = [number for number, codec in enumerate(fixed) if isinstance(codec, Auto)]
    if not automatic:
        return _write(quantized, fixed, names, cache)
    dequantizers = {result.dequantizer for result in quantized.values()}
    others = frozenset(codec.id for codec in fixed if not isinstance(codec, Auto))

    def loader_bytes(ids: frozenset[str]) -> int:
        return _loader_bytes(others | ids, frozenset(dequantizers))

    plans = {}
    for auto in dict.fromkeys(codec for codec in fixed if isinstance(codec, Auto)):
        plans[auto] = auto.plans(
            [array for (_, array), codec in zip(arrays, fixed, strict=True) if codec == auto], loader_bytes, AUTO_TRIALS
        )
    smallest: tuple[int, Payload] | None = None
    refusal: InputError | None = None
    for rank in range(min(AUTO_TRIALS, max(map(len, plans.values())))):
        remaining = {auto: iter(ranked[min(rank, len(ranked) - 1)].codecs) for auto, ranked in plans.items()}
        chosen = [next(remaining[codec]) if isinstance(codec, Auto) else codec for codec in fixed]
        try:
            payload = _write(quantized, chosen, names, cache)
        except InputError as error:
            refusal = error
            continue
        total = len(payload.data) + loader_bytes(frozenset(codec.id for codec in chosen))
        if smallest is None or total < smallest[0]:
            smallest = total, payload
    if smallest is None:
        raise refusal or InputError("there is nothing to code")
    return smallest[1]


def _write(
    quantized: Mapping[str, Quantized], codecs: Sequence[Codec], names: Mapping[str, list[str]], cache: Cache
) -> Payload:
    """Arrays that share a codec share a stream (of one dtype, for most codecs): statistics carry over from tensor to tensor."""
    streams: dict[tuple[Codec, str], _OpenStream] = {}
    numbers: dict[tuple[Codec, str], int] = {}
    tensors = []
    remaining = iter(codecs)
    for name, result in quantized.items():
        sources = []
        for array in result.arrays:
            codec = next(remaining)
            key = (codec, "" if codec.mixes_dtypes else array.dtype.newbyteorder("<").str)
            stream = streams.setdefault(key, _OpenStream(codec))
            stream.arrays.append(array)
            stream.names.append(name)
            sources.append(numbers.setdefault(key, len(numbers)))
        tensors.append(StoredTensor(names[name], result.dequantizer, result.stored, result.dtype, sources))
    for stream in streams.values():
        excess = stream.codec.refuses(stream.arrays)
        if excess:
            raise _refusal(stream, f"a stream {excess}")
    return write_payload(list(_coded(streams.values(), cache)), tensors)


def _coded(streams: Iterable[_OpenStream], cache: Cache) -> Iterable[tuple[Stream, bytes]]:
    for stream in streams:
        encoded = cache.encode(stream.codec, stream.arrays)
        specs = specs_of(stream.arrays)
        try:
            CHECKS[stream.codec.id](len(encoded.data), specs, encoded.options)
        except ValueError as error:
            raise _refusal(stream, str(error)) from error
        yield Stream(stream.codec.id, len(encoded.data), specs, encoded.options), encoded.data


def _refusal(stream: _OpenStream, why: str) -> InputError:
    largest = max(zip(stream.arrays, stream.names, strict=True), key=lambda pair: pair[0].size)[1]
    return InputError(f"codec {stream.codec.id} can't code tensor {largest!r}: {why}; give it another codec, or auto")


def quantization_error(original: Tensor, quantized: Tensor) -> float:
    """Relative error ‖w − ŵ‖ / ‖w‖ (0 when both are zero) in float64."""
    reference = original.double()
    norm = float(reference.norm())
    difference = float((reference - quantized.double()).norm())
    return difference / norm if norm else difference
