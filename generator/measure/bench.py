"""The same arrays through every codec at hand: size, speed, memory."""

from __future__ import annotations

import importlib.util
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from generator.codecs import Codec
from generator.codecs.arranged import Arranged
from generator.codecs.brotli_raw import Brotli
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.rans import Rans
from generator.codecs.rans_rows import RansRows
from generator.codecs.store import Store
from generator.codecs.ternary import Base3, Bitmask, is_ternary
from generator.codecs.zstd import Zstd
from generator.errors import CheckError, InputError
from generator.measure.external import ExternalRun, external_runs
from generator.progress import Listener, logger, track
from generator.recipes.forms import as_recipe
from generator.recipes.recipe import Recipe
from generator.weights.checkpoint import load_checkpoint
from generator.weights.quantize import quantize_checkpoint
from runtime_stub.registry import DECODERS
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
    arrays = integer_arrays(weights, recipe, key, progress)
    elements = sum(array.size for array in arrays.values())
    bound = sum(order0_bytes(array) for array in arrays.values())
    values = list(arrays.values())
    runs = [(name, partial(_measure, name, codec, values, bound)) for name, codec in _codecs(values)]
    if external:
        runs += [(name, partial(_measure_external, run, elements, bound)) for name, run in external_runs(arrays)]
    measurements = []
    for name, run in track(runs, "bench", progress, itemgetter(0)):
        measurements.append(run())
        logger("bench").info("%s: %d bytes", name, measurements[-1].bytes)
    raw = sum(array.nbytes for array in arrays.values())
    return Bench(str(weights), len(arrays), elements, raw, round(bound), sorted(measurements, key=lambda m: m.bytes))


def integer_arrays(
    weights: str | Path,
    recipe: Recipe | Mapping[str, Any] | str | Path | None,
    key: str | None,
    progress: Listener | None = None,
) -> dict[str, Array]:
    """Tensor name → its symbols, for every tensor that is integer or that the recipe quantizes to integers."""
    checkpoint = load_checkpoint(weights, key)
    quantized, _ = quantize_checkpoint(checkpoint, as_recipe(recipe), progress=progress)
    arrays = {}
    for name, tensor in checkpoint.tensors.items():
        symbols = quantized[name].arrays[0]
        real = tensor.is_floating_point() or tensor.is_complex()
        if tensor.numel() and symbols.dtype.kind in "iu" and (quantized[name].dequantizer != "keep" or not real):
            arrays[name] = symbols
    if not arrays:
        raise InputError(f"checkpoint {weights} holds no integers, and the recipe quantizes nothing to integers")
    return arrays


def order0_bytes(array: Array) -> float:
    """The order-0 bound: the entropy of the array's own histogram."""
    _, counts = np.unique(array, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8) if array.size else 0.0


def _codecs(arrays: Sequence[Array]) -> Iterator[tuple[str, Codec]]:
    yield "store (bit packing)", Store()
    if all(map(is_ternary, arrays)):
        yield "base3", Base3()
        yield "bitmask", Bitmask()
    yield "zlib", Zlib()
    yield "lzma", Lzma()
    yield "lzma, transposed", Arranged(transpose=True)
    yield "lzma, shuffled", Arranged(transpose=False, shuffle=True)
    yield "lzma, transposed, rows by norm", Arranged(transpose=True, order="norm")
    yield "lzma, transposed, rows by similarity", Arranged(transpose=True, order="similarity")
    if importlib.util.find_spec("zstandard"):
        yield "zstd", Zstd()
    if importlib.util.find_spec("brotli"):
        yield "brotli", Brotli()
    yield "rans, order 0", Rans(model="order0")
    yield "rans, scale classes", Rans()
    yield "rans_rows", RansRows()


def _measure(name: str, codec: Codec, arrays: Sequence[Array], bound: float) -> Measurement:
    """Streams as `golfpack build` makes them: arrays of one dtype together, or all."""
    groups: dict[str, list[Array]] = {}
    for array in arrays:
        groups.setdefault("" if codec.mixes_dtypes else array.dtype.str, []).append(array)
    size, encode, decode, peak = 0, 0.0, 0.0, 0
    for group in groups.values():
        start = time.process_time()
        encoded = codec.encode(group)
        encode += time.process_time() - start
        size += len(encoded.data)
        specs = [(array.dtype.str, list(array.shape)) for array in group]
        start = time.process_time()
        decoded = DECODERS[codec.id](encoded.data, specs, *encoded.options)
        decode += time.process_time() - start
        if any(left.tobytes() != right.tobytes() for left, right in zip(decoded, group, strict=True)):
            raise CheckError(f"codec {name} does not give back what went in; please report this bug")
        del decoded
        tracemalloc.start()
        decoded = DECODERS[codec.id](encoded.data, specs, *encoded.options)
        peak = max(peak, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        del decoded
    elements = sum(array.size for array in arrays)
    return Measurement(name, size, 8 * size / elements, size / bound if bound else None, encode, decode, peak)


def _measure_external(run: Callable[[], ExternalRun], elements: int, bound: float) -> Measurement:
    done = run()
    to_bound = done.bytes / bound if bound else None
    return Measurement(
        done.name, done.bytes, 8 * done.bytes / elements, to_bound, done.encode_seconds, done.decode_seconds, None
    )
