"""`codec = "auto"`: which codec is smallest for which arrays, the code that decodes it included."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from generator.codecs.base import Codec, Encoded
from generator.codecs.brotli_raw import Brotli
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.rans import Rans
from generator.codecs.rans_rows import RansRows
from generator.codecs.store import Store
from generator.codecs.ternary import Base3, Bitmask
from generator.codecs.zstd import Zstd
from runtime_stub.split import Array

WORK = 1 << 19  # bytes of each group that are tried with each codec; a limit on work, not on time: builds must repeat
STREAM_BYTES = 12  # what one more stream costs in the manifest, about


@dataclass(frozen=True)
class Plan:
    """A codec for each array, and the bytes that it is expected to take: streams, manifest and loader."""

    codecs: tuple[Codec, ...]
    expected: float


class Auto(Codec):
    """The smallest mix of codecs.

    allow: modules beyond the standard library, numpy and torch that the artifact may need at run time.
    """

    id: ClassVar[str] = "auto"
    allow: tuple[Literal["brotli", "zstandard"], ...] = Field((), strict=False)  # a list in TOML

    def needed_to_build(self) -> tuple[str, ...]:
        return self.allow

    def candidates(self) -> list[tuple[Codec, Codec]]:
        """The codecs to choose from, each with the one that stands for it in trials (without its own search)."""
        pairs: list[tuple[Codec, Codec]] = [
            (codec, codec) for codec in (Rans(), RansRows(), Zlib(), Store(), Base3(), Bitmask())
        ]
        pairs.append((Lzma(), Lzma(lc=0, lp=0, pb=0)))
        optional = [codec for codec in (Brotli(), Zstd()) if set(codec.requires) <= set(self.allow)]
        return [*pairs, *((codec, codec) for codec in optional)]

    def encode(self, arrays: Sequence[Array]) -> Encoded:
        """Not a codec of streams itself: `plans` says which are."""
        raise TypeError("auto chooses codecs; it does not code")

    def plans(self, arrays: Sequence[Array], loader_bytes: Callable[[frozenset[str]], int], count: int) -> list[Plan]:
        """The choices that promise most, best first.

        Args:
            arrays: what is to be coded.
            loader_bytes: what the decoders of a set of codec ids cost in the artifact; slow, so it is asked only where the
                answer can matter.
            count: how many plans to return, at most.
        """
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for number, array in enumerate(arrays):
            groups.setdefault((array.dtype.str, array.shape), []).append(number)
        candidates = [codec for codec, _ in self.candidates()]
        sizes = [
            [expected_bytes(trial, [arrays[n] for n in numbers]) for _, trial in self.candidates()]
            for numbers in groups.values()
        ]
        overheads = [codec.stream_bytes(arrays) + STREAM_BYTES for codec in candidates]
        mixes = []
        for size in range(1, min(len(candidates), len(groups)) + 1):
            for subset in itertools.combinations(range(len(candidates)), size):
                chosen = [min(subset, key=row.__getitem__) for row in sizes]
                if set(chosen) == set(subset):  # else a smaller subset makes the same choice
                    streams = sum(row[c] for row, c in zip(sizes, chosen, strict=True)) + sum(overheads[c] for c in subset)
                    mixes.append((streams, subset, chosen))
        least_loader = loader_bytes(frozenset())
        plans: list[Plan] = []
        for streams, subset, chosen in sorted(mixes):
            if len(plans) == count and streams + least_loader >= plans[-1].expected:
                break
            shares = [
                [(row[c], numbers) for row, d, numbers in zip(sizes, chosen, groups.values(), strict=True) if d == c]
                for c in subset
            ]
            if any(_refused(candidates[c], arrays, share) for c, share in zip(subset, shares, strict=True)):
                continue
            codecs = {n: candidates[c] for c, numbers in zip(chosen, groups.values(), strict=True) for n in numbers}
            expected = streams + loader_bytes(frozenset(candidates[c].id for c in subset))
            plans.append(Plan(tuple(codecs[number] for number in range(len(arrays))), expected))
            plans = sorted(plans, key=lambda plan: plan.expected)[:count]
        return plans


def _refused(codec: Codec, arrays: Sequence[Array], share: list[tuple[float, list[int]]]) -> bool:
    """Whether a reader would not take one stream of these groups of arrays, each given with its expected bytes."""
    members = [arrays[number] for _, numbers in share for number in numbers]
    return bool(codec.refuses(members, int(sum(size for size, _ in share)) + codec.stream_bytes(members)))


def expected_bytes(codec: Codec, arrays: Sequence[Array]) -> float:
    """What a codec makes of arrays of one shape, extrapolated from the first ones when they are many."""
    total = sum(array.nbytes for array in arrays)
    sample: list[Array] = []
    taken = 0
    for array in arrays:
        if sample and taken + array.nbytes > WORK:
            break
        part = array if array.nbytes <= 2 * WORK or not array.shape else array[: max(1, len(array) * WORK // array.nbytes)]
        sample.append(part)
        taken += part.nbytes
    encoded = codec.encode(sample)
    # JSON compresses about three to one in the manifest.
    coded = len(encoded.data) + len(json.dumps(encoded.options)) / 3 - codec.stream_bytes(sample)
    return coded * (total / taken if taken else 1)
