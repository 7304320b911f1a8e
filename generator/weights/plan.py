"""Which chain codes which array: as the recipe says, and what it leaves to `auto` by what is smallest, decoders included."""

from __future__ import annotations

import ast
import itertools
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
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


@dataclass(frozen=True)
class _Group:
    """Arrays that are alike, so that one chain is best for all: their places, and the bytes that each candidate takes."""

    numbers: tuple[int, ...]
    sizes: tuple[float, ...]


@dataclass(frozen=True, order=True)
class _Mix:
    """Candidates of which each is best for some group: expected bytes of the streams, and which candidate each group has."""

    streams: float
    chosen: tuple[int, ...]


def _rank(candidates: Sequence[Chain], fields: Sequence[Field], loader: Callable[[frozenset[str]], int]) -> list[Plan]:
    """The mixes of chains that promise most, best first.

    Args:
        candidates: the chains to choose from.
        fields: what is to be coded.
        loader: what the decoders of a set of ids cost in the artifact; slow, so it is asked only where the answer can matter.
    """
    groups = _groups(candidates, fields)
    overheads = [chain.codec.stream_bytes(specs_of(fields)) + STREAM_BYTES for chain in candidates]
    least_loader = loader(frozenset())
    plans: list[Plan] = []
    for mix in sorted(_mixes(groups, overheads)):
        if len(plans) == MOST_PLANS and mix.streams + least_loader >= plans[-1].expected:
            break
        if any(_refused(number, candidates[number], mix, groups, fields) for number in set(mix.chosen)):
            continue
        chains = {n: candidates[c] for c, group in zip(mix.chosen, groups, strict=True) for n in group.numbers}
        expected = mix.streams + loader(frozenset(name for c in mix.chosen for name in candidates[c].ids))
        plans.append(Plan(tuple(chains[number] for number in range(len(fields))), expected))
        plans = sorted(plans, key=lambda one: one.expected)[:MOST_PLANS]
    return plans


def _groups(candidates: Sequence[Chain], fields: Sequence[Field]) -> list[_Group]:
    """Arrays of one dtype, shape and role together."""
    alike: dict[Hashable, list[int]] = {}
    for number, field in enumerate(fields):
        alike.setdefault((field.array.dtype.str, field.array.shape, field.role, field.elements), []).append(number)
    members = [(numbers, [fields[number] for number in numbers]) for numbers in alike.values()]
    return [_Group(tuple(n), tuple(expected_bytes(chain, f) for chain in candidates)) for n, f in members]


def _mixes(groups: Sequence[_Group], overheads: Sequence[int]) -> Iterator[_Mix]:
    """Every set of candidates that serves all groups, and uses each of its own.

    Args:
        groups: what they are to serve.
        overheads: bytes of one stream more of each candidate.
    """
    for size in range(1, min(len(overheads), len(groups)) + 1):
        for subset in itertools.combinations(range(len(overheads)), size):
            chosen = tuple(min(subset, key=group.sizes.__getitem__) for group in groups)
            if set(chosen) == set(subset):  # else a smaller subset makes the same choice
                streams = sum(group.sizes[c] for group, c in zip(groups, chosen, strict=True))
                if not math.isinf(streams):
                    yield _Mix(streams + sum(overheads[c] for c in subset), chosen)


def _refused(number: int, chain: Chain, mix: _Mix, groups: Sequence[_Group], fields: Sequence[Field]) -> bool:
    """Whether a reader would not take the stream that a candidate has in a mix."""
    share = [group for group, c in zip(groups, mix.chosen, strict=True) if c == number]
    members = [fields[n] for group in share for n in group.numbers]
    expected = int(sum(group.sizes[number] for group in share))
    return bool(chain.refuses(members, expected + chain.codec.stream_bytes(specs_of(members))))


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
    return chain.estimate(sample) * (total / taken if taken else 1)
