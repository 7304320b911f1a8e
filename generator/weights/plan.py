"""Which chain codes which array: as the recipe says, and what it leaves to `auto` by what is smallest, decoders included."""

from __future__ import annotations

import ast
import itertools
import json
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from generator.codecs.auto import Auto
from generator.codecs.chain import Chain
from generator.compressors import compress_lzma
from generator.fields import Field, specs_of
from generator.source.loader import render_loader
from generator.source.shrink import minify

MOST_PLANS = 2  # that are coded in full; the smallest payload with its loader is kept
WORK = 1 << 19  # bytes of each group that are tried with each chain; a limit on work, not on time: builds must repeat
STREAM_BYTES = 12  # what one more stream costs in the manifest, about


@dataclass(frozen=True)
class Plan:
    """A chain for each array, and the bytes that those of them are expected to take which `auto` chose: streams, manifest and
    loader."""

    chains: tuple[Chain, ...]
    expected: float = 0.0

    @property
    def ids(self) -> frozenset[str]:
        """Of the decoders that the payload will need."""
        return frozenset(name for chain in self.chains for name in chain.ids)


def plan(fields: Sequence[Field], codings: Sequence[Chain | Auto], dequantizers: frozenset[str]) -> list[Plan]:
    """What may be smallest, the most promising first; one plan where nothing is left to `auto`.

    Args:
        fields: all arrays of a payload.
        codings: for each of them what the recipe says.
        dequantizers: ids of those that the payload will need, besides the decoders.
    """
    given = frozenset(name for coding in codings if isinstance(coding, Chain) for name in coding.ids)

    def loader(ids: frozenset[str]) -> int:
        return loader_bytes(given | ids, dequantizers)

    ranked = {
        auto: _rank(auto.candidates(), [f for f, coding in zip(fields, codings, strict=True) if coding == auto], loader)
        for auto in dict.fromkeys(coding for coding in codings if isinstance(coding, Auto))
    }
    plans = []
    for rank in range(min(MOST_PLANS, max(map(len, ranked.values()), default=1))):
        picked = {auto: found[min(rank, len(found) - 1)] for auto, found in ranked.items() if found}
        chains = {auto: iter(one.chains) for auto, one in picked.items()}
        if len(picked) == len(ranked):
            every = tuple(coding if isinstance(coding, Chain) else next(chains[coding]) for coding in codings)
            plans.append(Plan(every, sum(one.expected for one in picked.values())))
    return plans


@lru_cache(maxsize=256)
def loader_bytes(decoders: frozenset[str], dequantizers: frozenset[str]) -> int:
    """About what the loader for these takes in the artifact."""
    loader = render_loader(decoders, dequantizers, "payload")
    return len(compress_lzma(minify(ast.Module([loader], [])).encode(), quick=True))


def _rank(candidates: Sequence[Chain], fields: Sequence[Field], loader: Callable[[frozenset[str]], int]) -> list[Plan]:
    """The mixes of chains that promise most, best first.

    Args:
        candidates: the chains to choose from.
        fields: what is to be coded.
        loader: what the decoders of a set of ids cost in the artifact; slow, so it is asked only where the answer can matter.
    """
    groups: dict[Hashable, list[int]] = {}
    for number, field in enumerate(fields):
        key = field.array.dtype.str, field.array.shape, field.role, field.elements
        groups.setdefault(key, []).append(number)
    members = list(groups.values())
    sizes = [[expected_bytes(chain, [fields[n] for n in numbers]) for chain in candidates] for numbers in members]
    overheads = [chain.codec.stream_bytes(specs_of(fields)) + STREAM_BYTES for chain in candidates]
    mixes = []
    for size in range(1, min(len(candidates), len(groups)) + 1):
        for subset in itertools.combinations(range(len(candidates)), size):
            chosen = [min(subset, key=row.__getitem__) for row in sizes]
            if set(chosen) == set(subset):  # else a smaller subset makes the same choice
                streams = sum(row[c] for row, c in zip(sizes, chosen, strict=True)) + sum(overheads[c] for c in subset)
                mixes.append((streams, subset, chosen))
    least_loader = loader(frozenset())
    plans: list[Plan] = []
    for streams, subset, chosen in sorted(mixes):
        if math.isinf(streams) or (len(plans) == MOST_PLANS and streams + least_loader >= plans[-1].expected):
            break
        shares = [[(row[c], n) for row, d, n in zip(sizes, chosen, members, strict=True) if d == c] for c in subset]
        if any(_refused(candidates[c], fields, share) for c, share in zip(subset, shares, strict=True)):
            continue
        chains = {n: candidates[c] for c, numbers in zip(chosen, members, strict=True) for n in numbers}
        expected = streams + loader(frozenset(name for c in subset for name in candidates[c].ids))
        plans.append(Plan(tuple(chains[number] for number in range(len(fields))), expected))
        plans = sorted(plans, key=lambda one: one.expected)[:MOST_PLANS]
    return plans


def _refused(chain: Chain, fields: Sequence[Field], share: list[tuple[float, list[int]]]) -> bool:
    """Whether a reader would not take one stream of these groups of arrays, each given with its expected bytes."""
    members = [fields[number] for _, numbers in share for number in numbers]
    return bool(chain.refuses(members, int(sum(size for size, _ in share)) + chain.codec.stream_bytes(specs_of(members))))


def expected_bytes(chain: Chain, fields: Sequence[Field]) -> float:
    """What a chain makes of arrays of one shape, extrapolated from the first ones when they are many; infinite where it is not
    meant for one of them."""
    if any(chain.fitting(field) != chain for field in fields):
        return math.inf
    total = sum(field.array.nbytes for field in fields)
    sample: list[Field] = []
    taken = 0
    for field in fields:
        array = field.array
        if sample and taken + array.nbytes > WORK:
            break
        part = array if array.nbytes <= 2 * WORK or not array.shape else array[: max(1, len(array) * WORK // array.nbytes)]
        sample.append(replace(field, array=part))
        taken += part.nbytes
    coded = replace(chain, codec=chain.codec.trial()).encode(sample)
    # JSON compresses about three to one in the manifest.
    size = len(coded.data) + len(json.dumps(coded.stages)) / 3 - chain.codec.stream_bytes(specs_of(sample))
    return size * (total / taken if taken else 1)
