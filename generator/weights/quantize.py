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
from generator.progress import Listener, logger, track
from generator.quantizers import Quantized, Quantizer
from generator.recipes.coding import Coding
from generator.recipes.recipe import Recipe
from generator.statistics import Statistics, TensorStatistics, load_statistics
from generator.weights.checkpoint import Checkpoint

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


def quantize_checkpoint(
    checkpoint: Checkpoint,
    recipe: Recipe,
    statistics: Statistics | None = None,
    cache: Cache | None = None,
    progress: Listener | None = None,
) -> tuple[dict[str, Quantized], dict[str, Coding]]:
    """What each tensor becomes, and how it is coded; what the cache knows is not computed again.

    Args:
        checkpoint: the tensors.
        recipe: which quantizer and codec each gets.
        statistics: of calibration.
        cache: of earlier calls with the same checkpoint and statistics.
        progress: told of each tensor that is quantized, as stage "quantize".

    Raises:
        InputError: a tensor, the recipe or the statistics are unusable.
    """
    cache = cache or Cache()
    if statistics is not None:
        statistics.check_against(checkpoint.tensors, checkpoint.names)
    choices = recipe.choose(checkpoint.tensors, checkpoint.names)
    known = {name: _known(name, checkpoint, choices[name].quantizer, recipe, statistics) for name in checkpoint.tensors}
    counts = Counter(choice.quantizer.id for choice in choices.values())
    log.info("by %s: %s", recipe.title, ", ".join(f"{count} × {id}" for id, count in sorted(counts.items())))
    outdated = [
        name for name, choice in choices.items() if name not in cache.quantized or cache.quantized[name][0] != choice.quantizer
    ]
    for name in track(outdated, "quantize", progress):
        quantizer = choices[name].quantizer
        try:
            cache.quantized[name] = quantizer, _quantize(name, checkpoint.tensors[name], quantizer, known[name])
        except InputError as error:
            raise InputError(f"{error} ({recipe.title})") from error
    quantized = {name: cache.quantized[name][1] for name in checkpoint.tensors}
    return quantized, {name: choice.codec for name, choice in choices.items()}


def _quantize(name: str, tensor: Tensor, quantizer: Quantizer, statistics: TensorStatistics | None) -> Quantized:
    started = time.perf_counter()
    result = quantizer.quantize(name, tensor, statistics)
    arrays = " + ".join(f"{array.dtype}{list(array.shape)}" for array in result.arrays)
    seconds = time.perf_counter() - started
    log.debug("%s %s by %r: %s %s in %.2f s", name, list(tensor.shape), quantizer, result.dequantizer, arrays, seconds)
    return result


def _known(
    name: str, checkpoint: Checkpoint, quantizer: Quantizer, recipe: Recipe, statistics: Statistics | None
) -> TensorStatistics | None:
    """The statistics of a tensor; whether they are there is known before anything is computed."""
    names = checkpoint.names[name]
    known = statistics.find(names) if statistics is not None else None
    if known is None and quantizer.needs_statistics:
        why = "give --statistics" if statistics is None else statistics.why_missing(names)
        raise InputError(f"tensor {name!r} has no statistics, which {quantizer.id} needs: {why} ({recipe.title})")
    return known


def as_statistics(statistics: Statistics | str | Path | None) -> Statistics | None:
    """Statistics from any of the forms that the API takes."""
    return load_statistics(statistics) if isinstance(statistics, str | Path) else statistics
