"""`codec = "auto"`: which codec is smallest for which arrays, the code that decodes it included."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

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
    allow: tuple[Literal["brotli", "zstandard"], ...] = ()

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

    def plans(self, arrays: Sequence[Array], loader_bytes: Callable[[frozenset[str]], int]) -> list[Plan]:
        """Every sensible choice, the one that promises most first.

        Args:
            arrays: what is to be coded.
            loader_bytes: what the decoders of a set of codec ids cost in the artifact.
        """
        groups: dict[tuple[str, tuple[int, ...]], list[int]] = {}
        for number, array in enumerate(arrays):
            groups.setdefault((array.dtype.str, array.shape), []).append(number)
        candidates = [codec for codec, _ in self.candidates()]
        sizes = {
            key: [expected_bytes(trial, [arrays[n] for n in numbers]) for _, trial in self.candidates()]
            for key, numbers in groups.items()
        }
        loaders: dict[frozenset[str], int] = {}
        plans: dict[tuple[Codec, ...], Plan] = {}
        for count in range(1, len(candidates) + 1):
            for subset in itertools.combinations(range(len(candidates)), count):
                chosen = {key: min(subset, key=row.__getitem__) for key, row in sizes.items()}
                codecs = [candidates[c] for c in subset]
                ids = frozenset(codec.id for codec in codecs)
                if ids not in loaders:
                    loaders[ids] = loader_bytes(ids)
                total = sum(sizes[key][c] for key, c in chosen.items()) + loaders[ids]
                total += sum(codec.stream_bytes(arrays) + STREAM_BYTES for codec in codecs)
                plan = self._assign(len(arrays), groups, {key: candidates[c] for key, c in chosen.items()}, total)
                if plan.codecs not in plans or total < plans[plan.codecs].expected:
                    plans[plan.codecs] = plan
        return sorted(plans.values(), key=lambda plan: plan.expected)

    @staticmethod
    def _assign(
        count: int,
        groups: Mapping[tuple[str, tuple[int, ...]], Sequence[int]],
        chosen: Mapping[tuple[str, tuple[int, ...]], Codec],
        expected: float,
    ) -> Plan:
        codecs: dict[int, Codec] = {number: chosen[key] for key, numbers in groups.items() for number in numbers}
        return Plan(tuple(codecs[number] for number in range(count)), expected)


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
