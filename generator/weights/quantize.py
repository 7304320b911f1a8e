"""From a checkpoint, a recipe and statistics to what each tensor becomes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from generator.codecs.chain import Chain, Coded
from generator.errors import InputError
from generator.fields import Field
from generator.progress import Listener, logger
from generator.quantizers import Quantized, Quantizer
from generator.quantizers.lqer import Lqer, uncorrected
from generator.recipes.coding import Coding
from generator.recipes.recipe import Recipe
from generator.statistics import Statistics, load_statistics
from generator.weights.checkpoint import Checkpoint
from generator.weights.workers import Alone, Source, Workers

log = logger("quantize")


@dataclass
class Cache:
    """What was computed for one checkpoint and one set of statistics, for doing it again with another recipe.

    Attributes:
        quantized: tensor → its quantizer and the result.
        coded: chain and identities of the arrays of a stream, and of those before it that it depends on → the coded stream.
            The arrays are kept beside it, so that their identities stay theirs.
    """

    quantized: dict[str, tuple[Quantizer, Quantized]] = field(default_factory=dict)
    coded: dict[tuple[Chain, tuple[int, ...]], tuple[Coded, list[Field]]] = field(default_factory=dict)

    def encode(self, chain: Chain, fields: list[Field], earlier: Sequence[list[Field]]) -> Coded:
        """The coded stream of these very arrays, after streams of `earlier` ones."""
        known = [*fields, *(one for stream in earlier if chain.reads_earlier for one in stream)]
        key = chain, tuple(id(one.array) for one in known)
        if key not in self.coded:
            self.coded[key] = chain.encode(fields, earlier), known
        return self.coded[key][0]

    def forget_old_streams(self) -> None:
        """Drop streams of arrays that are no longer the result of any quantizer."""
        current = {id(array) for _, result in self.quantized.values() for array in result.arrays}
        self.coded = {key: entry for key, entry in self.coded.items() if current.issuperset(key[1])}


@dataclass(frozen=True)
class QuantizedCheckpoint:
    """What a checkpoint was quantized to, and what the recipe says of coding it.

    Attributes:
        tensors: first name of each tensor → what its quantizer made of it.
        codings: first name → how it is coded.
        names: first name → all names.
    """

    tensors: dict[str, Quantized]
    codings: dict[str, Coding]
    names: dict[str, list[str]]

    @property
    def dequantizers(self) -> frozenset[str]:
        """Ids of those that a payload of it needs."""
        return frozenset(result.dequantizer for result in self.tensors.values())

    def fields(self) -> list[Field]:
        """All arrays, tensor by tensor."""
        return [field for name, result in self.tensors.items() for field in result.fields(name)]

    def state_dict(self) -> dict[str, Tensor]:
        """The state dict that an artifact will load, bit for bit."""
        return {name: result.tensor() for first, result in self.tensors.items() for name in self.names[first]}


def quantize_checkpoint(
    checkpoint: Checkpoint,
    recipe: Recipe,
    statistics: Statistics | None = None,
    cache: Cache | None = None,
    progress: Listener | None = None,
    workers: Workers | None = None,
) -> QuantizedCheckpoint:
    """What each tensor becomes, and how it is coded; what the cache knows is not computed again.

    Args:
        checkpoint: the tensors.
        recipe: which quantizer and codec each gets.
        statistics: of calibration.
        cache: of earlier calls with the same checkpoint and statistics.
        progress: told of each tensor that is quantized, as stage "quantize".
        workers: who quantizes this very checkpoint with these statistics; None for this process.

    Raises:
        InputError: a tensor, the recipe or the statistics are unusable.
    """
    cache = cache or Cache()
    if statistics is not None:
        statistics.check_against(checkpoint.tensors, checkpoint.names)
    choices = recipe.choose(checkpoint.tensors, checkpoint.names)
    for name, choice in choices.items():
        _check_known(name, checkpoint, choice.quantizer, recipe, statistics)
    counts = Counter(choice.quantizer.id for choice in choices.values())
    log.info("by %s: %s", recipe.title, ", ".join(f"{count} × {id}" for id, count in sorted(counts.items())))
    outdated = [
        (name, choice.quantizer)
        for name, choice in choices.items()
        if name not in cache.quantized or cache.quantized[name][0] != choice.quantizer
    ]
    workers = workers or Alone(Source(checkpoint, statistics))
    try:
        found = workers.map(quantize_tensor, outdated, "quantize", progress)
    except InputError as error:
        raise InputError(f"{error} ({recipe.title})") from error
    for (name, quantizer), result in zip(outdated, found, strict=True):
        cache.quantized[name] = quantizer, result
    results = {name: cache.quantized[name][1] for name in checkpoint.tensors}
    _keep_worst(checkpoint, {name: choice.quantizer for name, choice in choices.items()}, results)
    return QuantizedCheckpoint(results, {name: choice.codec for name, choice in choices.items()}, checkpoint.names)


def _keep_worst(checkpoint: Checkpoint, quantizers: dict[str, Quantizer], results: dict[str, Quantized]) -> None:
    """Leave only the corrections that `worst` of lqer asks for: of the tensors with the largest errors without them."""
    limited: dict[int, list[str]] = {}  # by how many
    for name, quantizer in quantizers.items():
        if isinstance(quantizer, Lqer) and quantizer.worst is not None and results[name] is not uncorrected(results[name]):
            limited.setdefault(quantizer.worst, []).append(name)
    for count, names in limited.items():
        plain = {name: uncorrected(results[name]) for name in names}
        errors = {name: float((checkpoint.tensors[name].double() - plain[name].tensor().double()).norm()) for name in names}
        worst = sorted(names, key=lambda name: -errors[name])[:count]
        log.info("lqer corrects %s", ", ".join(worst) or "nothing")
        results.update({name: plain[name] for name in names if name not in worst})


def quantize_tensor(source: Source, name: str, quantizer: Quantizer) -> Quantized:
    """What one tensor becomes; errors as for `Quantizer.quantize`."""
    started = time.perf_counter()
    tensor = source.tensor(name)
    result = quantizer.quantize(name, tensor, source.known(name))
    arrays = " + ".join(f"{array.dtype}{list(array.shape)}" for array in result.arrays)
    seconds = time.perf_counter() - started
    log.debug("%s %s by %r: %s %s in %.2f s", name, list(tensor.shape), quantizer, result.dequantizer, arrays, seconds)
    return result


def _check_known(
    name: str, checkpoint: Checkpoint, quantizer: Quantizer, recipe: Recipe, statistics: Statistics | None
) -> None:
    """That there are statistics where a quantizer can't do without; before anything is computed."""
    names = checkpoint.names[name]
    if quantizer.needs_statistics and (statistics is None or statistics.find(names) is None):
        why = "give --statistics" if statistics is None else statistics.why_missing(names)
        raise InputError(f"tensor {name!r} has no statistics, which {quantizer.id} needs: {why} ({recipe.title})")


def as_statistics(statistics: Statistics | str | Path | None) -> Statistics | None:
    """Statistics from any of the forms that the API takes."""
    return load_statistics(statistics) if isinstance(statistics, str | Path) else statistics
