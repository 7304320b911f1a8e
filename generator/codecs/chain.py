"""Chains: filters, then a codec. A stream is what a chain makes of the arrays that share it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from generator import codecs, filters
from generator.codecs.base import UNKNOWN_SIZE, Codec, manifest_bytes
from generator.errors import InputError
from generator.fields import Field, specs_of
from generator.filters import Filter
from generator.limits import Specs
from runtime_stub.split import Array

MOST_ARRAYS = 1 << 18  # that filters make of those of a stream; each costs a decoder some microseconds

# What a manifest may name, and the function in runtime_stub that undoes it.
DECODERS: dict[str, Callable[..., list[Array]]] = {
    **{name: codec.decoder for name, codec in codecs.REGISTRY.items()},
    **{name: kind.inverse for name, kind in filters.REGISTRY.items()},
}


@dataclass(frozen=True)
class Coded:
    """A stream's bytes and its stages, id and options of each, as the manifest has them."""

    data: bytes
    stages: list[list[Any]]


@dataclass(frozen=True)
class Chain:
    """Filters in the order in which they are applied, and the codec after them."""

    codec: Codec
    filters: tuple[Filter, ...] = ()

    @property
    def ids(self) -> frozenset[str]:
        """What its streams need of DECODERS."""
        return frozenset([self.codec.id, *(one.id for one in self.filters)])

    @property
    def reads_earlier(self) -> bool:
        """Whether its streams depend on those before them."""
        return any(one.reads_earlier for one in self.filters)

    def fitting(self, field: Field) -> Chain | None:
        """The chain without the filters that do nothing to such an array; None where the codec is not meant for it."""
        if not self.codec.takes(field):
            return None
        return replace(self, filters=tuple(one for one in self.filters if one.takes(field)))

    def rate(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]] = ()) -> float:
        """About the bytes that more of such arrays add to a stream ; arguments, errors as for `encode`."""
        return float(len(self.encode(fields, earlier).data)) if self.filters else self.codec.rate(fields)

    def refuses(self, fields: Sequence[Field], size: int = UNKNOWN_SIZE) -> str:
        """Why a reader would not take one stream of these arrays, of so many bytes; "" when it would, as far as is known
        without applying any filter."""
        specs = specs_of(fields)
        if len(self.filters) > 1:
            return ""
        for one in self.filters:
            try:
                specs = one.check(size, specs, one.foreseen(fields), (0, []))
            except ValueError as error:
                return str(error)
        return self.codec.refuses(specs, size)

    def encode(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]] = ()) -> Coded:
        """Code arrays into one stream.

        Args:
            fields: the arrays.
            earlier: those of the streams before it.

        Raises:
            InputError: they can't be coded this way; the message names a tensor.
        """
        filtered, stages = self._filtered(fields, earlier)
        encoded = self.codec.encode(filtered)
        return Coded(encoded.data, [*stages, [self.codec.id, *encoded.options]])

    def estimate(self, fields: Sequence[Field]) -> float:
        """About the bytes of these arrays in a stream with others, see `Codec.estimate`."""
        filtered, stages = self._filtered(fields, ())
        return self.codec.estimate(filtered) + manifest_bytes([*stages, [self.codec.id]])

    def _filtered(self, fields: Sequence[Field], earlier: Sequence[Sequence[Field]]) -> tuple[Sequence[Field], list[list[Any]]]:
        """What the filters leave to the codec, and their stages."""
        stages = []
        for number, one in enumerate(self.filters):
            self._check_borne(number, f"filter {one.id}", fields, one.bears)
            fields, options = one.apply(fields, earlier)
            stages.append([one.id, *options])
        self._check_borne(len(self.filters), f"codec {self.codec.id}", fields, self.codec.takes)
        return fields, stages

    def _check_borne(self, number: int, what: str, fields: Sequence[Field], borne: Callable[[Field], bool]) -> None:
        """That a stage can do with what the one before it gives."""
        wrong = next((field for field in fields if not borne(field)), None)
        if wrong is not None:
            given = f"what filter {self.filters[number - 1].id} makes of " if number else ""
            raise InputError(f"{what} can't code {given}tensor {wrong.tensor!r}")

    def __str__(self) -> str:
        return ", ".join(map(str, (self.codec, *self.filters)))


def check_stages(size: int, specs: Specs, stages: Sequence[Sequence[Any]], counts: Sequence[int] = ()) -> None:
    """Hold the stages of an untrusted manifest against what their inverses take, before anything is allocated for them.

    Args:
        size: coded bytes of the stream.
        specs: dtype and shape of its arrays.
        stages: id and options of each.
        counts: how many arrays each stream before it has.

    Raises:
        ValueError: an id is unknown, or options are malformed or ask for too much.
    """
    if not stages:
        raise ValueError("a stream has no stages")
    for stage in stages:
        if not isinstance(stage, list) or not stage or not isinstance(stage[0], str):
            raise ValueError("a stream has a malformed stage")
    if len({stage[0] for stage in stages}) < len(stages):
        raise ValueError("a stream has the same stage twice")  # which would multiply what each may ask for
    *before, (codec, *options) = stages
    for name, *its in before:
        if name not in filters.REGISTRY:
            raise ValueError(f"unknown filter {name[:40]!r}")
        specs = filters.REGISTRY[name].check(size, specs, its, (len(counts), counts))
        if len(specs) > MOST_ARRAYS:
            raise ValueError(f"the filters of a stream make {len(specs):,} arrays, above the limit of {MOST_ARRAYS:,}")
    if codec not in codecs.REGISTRY:
        raise ValueError(f"unknown codec {codec[:40]!r}")
    codecs.REGISTRY[codec].check(size, specs, options)
