"""The same arrays through every codec at hand: size, speed, memory."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from generator import codecs, filters
from generator.codecs.chain import DECODERS, Chain
from generator.errors import CheckError, InputError
from generator.fields import Field, specs_of
from generator.measure.external import ExternalRun, external_runs
from generator.progress import Listener, logger, track
from generator.quantizers import Quantized
from generator.recipes.coding import chain_of
from generator.recipes.forms import as_recipe
from generator.recipes.recipe import Recipe
from generator.weights.checkpoint import Checkpoint, load_checkpoint
from generator.weights.quantize import quantize_checkpoint
from runtime_stub.payload import run_stages
from runtime_stub.split import Array


@dataclass(frozen=True)
class Measurement:
    """One codec on all arrays.

    Attributes:
        codec: its name and what sets it apart.
        bytes: coded size, all streams and what the decoder needs beside them.
        bits_per_weight: of the arrays' elements.
        to_bound: bytes over the order-0 bound; None where that is 0, since every array repeats one number.
        encode_seconds, decode_seconds: processor time of one run in one thread (elapsed time for outside programs).
        peak_bytes: the most memory that Python and numpy held while decoding, the result included; None where unknown.
    """

    codec: str
    bytes: int
    bits_per_weight: float
    to_bound: float | None
    encode_seconds: float
    decode_seconds: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Bench:
    """All measurements of one checkpoint."""

    checkpoint: str
    arrays: int
    elements: int
    raw_bytes: int
    order0_bytes: int
    measurements: list[Measurement]

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def bench(
    weights: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
    external: bool = True,
    progress: Listener | None = None,
) -> Bench:
    """Code the integers that a checkpoint is quantized to with every codec.

    Args:
        weights: a checkpoint file. Integer tensors are taken as they are, others as the recipe quantizes them.
        recipe: a Recipe, its table, or the path of a TOML file; None for the default recipe.
        key: where in a nested checkpoint the state dict is.
        external: also run lrzip and zpaq, where they are installed.
        progress: told of each tensor that is quantized, and of each codec, as stage "bench".

    Raises:
        InputError: the checkpoint or the recipe is unusable, or no tensor is quantized to integers.
        CheckError: a codec did not give back what went in.
    """
    checkpoint = load_checkpoint(weights, key)
    quantized = quantize_checkpoint(checkpoint, as_recipe(recipe), progress=progress).tensors
    arrays = integers_of(checkpoint, quantized, str(weights))
    elements = sum(array.size for array in arrays.values())
    bound = sum(order0_bytes(array) for array in arrays.values())
    fields = [Field(array, "symbols", name) for name, array in arrays.items()]
    runs = [(str(chain), partial(_measure, chain, fields, bound)) for chain in _chains(fields)]
    if external:
        runs += [(name, partial(_measure_external, run, elements, bound)) for name, run in external_runs(arrays)]
    measurements = []
    for name, run in track(runs, "bench", progress, itemgetter(0)):
        measurements.append(run())
        logger("bench").info("%s: %d bytes", name, measurements[-1].bytes)
    raw = sum(array.nbytes for array in arrays.values())
    return Bench(str(weights), len(arrays), elements, raw, round(bound), sorted(measurements, key=lambda m: m.bytes))


def integers_of(checkpoint: Checkpoint, quantized: Mapping[str, Quantized], title: str) -> dict[str, Array]:
    """Tensor name → its symbols, for every tensor of a checkpoint that is integer, or was quantized to integers.

    Raises:
        InputError: there is none; the message has the checkpoint's title.
    """
    arrays = {}
    for name, tensor in checkpoint.tensors.items():
        symbols = quantized[name].arrays[0]
        real = tensor.is_floating_point() or tensor.is_complex()
        if tensor.numel() and symbols.dtype.kind in "iu" and (quantized[name].dequantizer != "keep" or not real):
            arrays[name] = symbols
    if not arrays:
        raise InputError(f"checkpoint {title} holds no integers, and the recipe quantizes nothing to integers")
    return arrays


def order0_bytes(array: Array) -> float:
    """The order-0 bound: the entropy of the array's own histogram."""
    _, counts = np.unique(array, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8) if array.size else 0.0


def _chains(fields: Sequence[Field]) -> list[Chain]:
    """What the codecs and filters at hand want to be measured, as far as it is meant for these arrays."""
    plain = [Chain(codec) for kind in codecs.REGISTRY.values() for codec in kind.measured()]
    filtered = [chain_of(recipe) for kind in filters.REGISTRY.values() for recipe in kind.measured]
    chains = [chain for chain in (*plain, *filtered) if isinstance(chain, Chain)]
    installed = [chain for chain in chains if all(map(importlib.util.find_spec, chain.codec.requires))]
    return [chain for chain in installed if _has_use(chain, fields)]


def _has_use(chain: Chain, fields: Sequence[Field]) -> bool:
    """Whether the codec is meant for all arrays, and each filter does something to one."""
    fitting = [chain.fitting(field) for field in fields]
    used = {one for fitted in fitting if fitted is not None for one in fitted.filters}
    return None not in fitting and used == set(chain.filters)


def _measure(chain: Chain, fields: Sequence[Field], bound: float) -> Measurement:
    """Streams as `golfpack build` makes them: arrays of one dtype together, or all."""
    groups: dict[tuple[Chain | None, str], list[Field]] = {}
    for field in fields:
        dtype = "" if chain.codec.mixes_dtypes else field.array.dtype.str
        groups.setdefault((chain.fitting(field), dtype), []).append(field)
    size, encode, decode, peak = 0, 0.0, 0.0, 0
    for (fitted, _), group in groups.items():
        assert fitted is not None
        start = time.process_time()
        coded = fitted.encode(group)
        encode += time.process_time() - start
        size += len(coded.data)
        specs = [(dtype, list(shape)) for dtype, shape in specs_of(group)]
        start = time.process_time()
        decoded = run_stages(coded.data, specs, coded.stages, DECODERS, [])
        decode += time.process_time() - start
        if any(left.tobytes() != right.array.tobytes() for left, right in zip(decoded, group, strict=True)):
            raise CheckError(f"codec {chain} does not give back what went in; please report this bug")
        del decoded
        tracemalloc.start()
        decoded = run_stages(coded.data, specs, coded.stages, DECODERS, [])
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del decoded
    elements = sum(field.array.size for field in fields)
    return Measurement(str(chain), size, 8 * size / elements, size / bound if bound else None, encode, decode, peak)


def _measure_external(run: Callable[[], ExternalRun], elements: int, bound: float) -> Measurement:
    done = run()
    to_bound = done.bytes / bound if bound else None
    return Measurement(
        done.name, done.bytes, 8 * done.bytes / elements, to_bound, done.encode_seconds, done.decode_seconds, None
    )
