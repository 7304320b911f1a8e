"""From a checkpoint and a recipe to a payload: quantize each tensor, plan which chain codes which array, write the streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from generator.codecs.chain import Chain, check_stages
from generator.errors import InputError
from generator.fields import Field, specs_of
from generator.payload import Payload, StoredTensor, Stream, check_decodes_to, write_payload
from generator.payload.manifest import check_writable
from generator.progress import Listener, Stage, logger, track
from generator.recipes.forms import as_recipe
from generator.recipes.recipe import Recipe
from generator.statistics import Statistics
from generator.weights.checkpoint import Checkpoint, from_state_dict
from generator.weights.plan import Plan, loader_bytes, plan
from generator.weights.quantize import Cache, QuantizedCheckpoint, as_statistics, quantize_checkpoint


def encode_state_dict(
    state_dict: Mapping[str, Any],
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    statistics: Statistics | str | Path | None = None,
    progress: Listener | None = None,
) -> bytes:
    """Quantize and code a state dict in memory.

    Args:
        state_dict: name → tensor.
        recipe: a Recipe, its table, or the path of a TOML file; None for the default recipe, or with statistics for
            `waterfill` wherever they tell of a tensor.
        statistics: calibration statistics, or their file, for quantizers that use them.
        progress: told of each step; see `generator.progress`.

    Returns:
        The payload, which `decode_payload` and the packed script turn into the same tensors, bit for bit.

    Raises:
        InputError: a tensor or the recipe is unusable.
    """
    statistics = as_statistics(statistics)
    return encode_checkpoint(from_state_dict(state_dict), as_recipe(recipe, statistics), statistics, progress).data


def encode_checkpoint(
    checkpoint: Checkpoint, recipe: Recipe, statistics: Statistics | None = None, progress: Listener | None = None
) -> Payload:
    """The payload of a checkpoint; errors as for `encode_state_dict`. What it decodes to is compared before it is returned."""
    return encode_quantized(quantize_checkpoint(checkpoint, recipe, statistics, progress=progress), progress)


def encode_quantized(quantized: QuantizedCheckpoint, progress: Listener | None = None) -> Payload:
    """The payload of what a checkpoint was quantized to: planned, coded, and proven."""
    payload = code(quantized, progress=progress)
    prove(payload, quantized, progress)
    return payload


def prove(payload: Payload, quantized: QuantizedCheckpoint, progress: Listener | None = None) -> None:
    """Decode a payload, as stage "decode", and compare every bit with what the quantizers reported.

    Raises:
        CheckError: any differs. That would be a bug, never to be shipped.
    """
    with Stage("decode", progress):
        check_decodes_to(payload.data, _Reported(quantized))


class _Reported(Mapping[str, Tensor]):
    """What the quantizers reported, each tensor made when it is asked for: all together take several times the payload."""

    def __init__(self, quantized: QuantizedCheckpoint):
        self._results = {name: result for first, result in quantized.tensors.items() for name in quantized.names[first]}

    def __getitem__(self, name: str) -> Tensor:
        return self._results[name].tensor()

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)


def code(quantized: QuantizedCheckpoint, cache: Cache | None = None, progress: Listener | None = None) -> Payload:
    """The smallest payload of the plans for these arrays, its loader included.

    Args:
        quantized: the arrays, and what the recipe says of their codecs.
        cache: streams that are coded already.
        progress: told of the planning, as stage "plan", and of each plan that is coded in full, as stage "code".

    Raises:
        InputError: an array can't be coded, or all of them are too much for a payload.
    """
    check_writable({name: result.arrays for name, result in quantized.tensors.items()}, quantized.names)
    cache = cache or Cache()
    fields = quantized.fields()
    with Stage("plan", progress):
        plans = plan(fields, [quantized.codings[field.tensor].of(field) for field in fields], quantized.dequantizers)
    written = []
    refusal = InputError("there is nothing to code")
    for one in track(plans, "code", progress, _label):
        try:
            payload = write(quantized, one, cache)
        except InputError as error:
            refusal = error
            continue
        size = len(payload.data), len(payload.data) + loader_bytes(payload.decoders, payload.dequantizers)
        logger("code").info("by %s: payload of %d bytes, with its loader about %d", _label(one), *size)
        written.append((size[1], payload))
    if not written:
        raise refusal
    return min(written, key=lambda pair: pair[0])[1]


def _label(chosen: Plan) -> str:
    """A plan for people: its chains, each once."""
    return "; ".join(dict.fromkeys(map(str, chosen.chains)))


@dataclass
class _OpenStream:
    """Arrays gathered for one chain, not yet coded."""

    chain: Chain
    fields: list[Field] = field(default_factory=list)


def write(quantized: QuantizedCheckpoint, chosen: Plan, cache: Cache) -> Payload:
    """The payload in which each array is coded by its chain.

    Arrays that share a chain share a stream (of one dtype, for most codecs): statistics carry over from tensor to tensor.
    """
    gathered: dict[tuple[Chain, str], _OpenStream] = {}
    keys = []
    for one, chain in zip(quantized.fields(), chosen.chains, strict=True):
        keys.append((chain, "" if chain.codec.mixes_dtypes else one.array.dtype.newbyteorder("<").str))
        gathered.setdefault(keys[-1], _OpenStream(chain)).fields.append(one)
    # Those that read what others hold come last.
    order = sorted(gathered, key=lambda key: key[0].reads_earlier)
    streams = _coded([gathered[key] for key in order], cache)
    numbers = iter([order.index(key) for key in keys])
    tensors = [
        StoredTensor(quantized.names[name], q.dequantizer, q.stored, q.dtype, [next(numbers) for _ in q.arrays])
        for name, q in quantized.tensors.items()
    ]
    return write_payload(streams, tensors)


def _coded(streams: Sequence[_OpenStream], cache: Cache) -> list[tuple[Stream, bytes]]:
    for stream in streams:  # before any of them is coded
        excess = stream.chain.refuses(stream.fields)
        if excess:
            raise _refusal(stream, f"a stream {excess}")
    earlier: list[list[Field]] = []
    coded = []
    for stream in streams:
        result = cache.encode(stream.chain, stream.fields, earlier)
        specs = specs_of(stream.fields)
        try:
            check_stages(len(result.data), specs, result.stages, list(map(len, earlier)))
        except ValueError as error:
            raise _refusal(stream, str(error)) from error
        coded.append((Stream(len(result.data), specs, result.stages), result.data))
        earlier.append(stream.fields)
    return coded


def _refusal(stream: _OpenStream, why: str) -> InputError:
    largest = max(stream.fields, key=lambda one: one.array.size).tensor
    return InputError(f"codec {stream.chain.codec.id} can't code tensor {largest!r}: {why}; give it another codec, or auto")


def quantization_error(original: Tensor, quantized: Tensor) -> float:
    """Relative error ‖w − ŵ‖ / ‖w‖ (0 when both are zero) in float64."""
    reference = original.double()
    norm = float(reference.norm())
    difference = float((reference - quantized.double()).norm())
    return difference / norm if norm else difference
