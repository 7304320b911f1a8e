"""The artifact's size as a function of the knob, told from a sample of rows of each matrix.

What the knob changes is quantized for some rows only, and coded by the ideal tables of its codec's model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from generator.codecs.chain import Chain
from generator.fields import Field
from generator.payload import Payload
from generator.progress import Listener, Stage
from generator.quantizers import Quantized, Quantizer
from generator.quantizers.knob import Knob
from generator.recipes.marks import with_value
from generator.recipes.recipe import Choice, make_recipe
from generator.search.results import Point
from generator.weights.checkpoint import Checkpoint
from generator.weights.plan import plan
from generator.weights.quantize import QuantizedCheckpoint
from generator.weights.workers import Source, Workers

LEAST = 1 << 20  # weights that the knob changes, from which on a sample pays
SAMPLE = 1 << 18  # weights that it has, about, …
SHARE = 1 / 8  # … or this share of them, if that is more
LEAST_SLOPE = -0.01  # where a sample says that bytes hardly fall
NEAR = 0.02  # relative error of a guess that is moved only once more, …
HURRIED = 0.1  # and where time is limited
GUESSES = 8
GROWS = ("all", "rows", "groups")  # what arrays run along that are as much shorter as there are fewer rows
CODE = 6000  # bytes of script and loader, about


class Prediction:
    """Predicts where a size is met.

    Attributes:
        elements: how many weights the knob changes.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        table: Mapping[str, Any],
        title: str,
        knob: Knob,
        workers: Workers,
        progress: Listener | None = None,
    ):
        self._checkpoint, self._table, self._title, self._knob = checkpoint, table, title, knob
        self._workers, self._progress = workers, progress
        low, high = self._choices(knob.low), self._choices(knob.high)
        self._names = [name for name in low if low[name].quantizer != high[name].quantizer]
        self.elements = sum(checkpoint.tensors[name].numel() for name in self._names)
        self._share = min(1.0, max(SHARE, SAMPLE / max(self.elements, 1)))
        self._sampled: dict[float, float] = {}  # value → bytes of all rows, by the sample
        self._chains: list[Chain] = []  # of its arrays, …
        self._dtypes: list[str] = []  # … which had these dtypes

    @property
    def pays(self) -> bool:
        """Whether there is enough to sample."""
        return self.elements >= LEAST

    def first(self, target: float, start: float | None = None, near: float = NEAR) -> float | None:
        """The value of the knob at which the artifact takes `target` bytes, as far as samples alone tell.

        Args:
            target: bytes.
            start: a value that is known to be near.
            near: relative error of a guess that is moved only once more.

        Returns:
            The value; None if the knob's range ends before.
        """
        value: float | None = self._knob.usual if start is None else start
        with Stage("predict", self._progress):
            for _ in range(GUESSES):
                if value is None:
                    return None
                excess = math.log(self._bytes(value) / target)
                value = self._moved(value, excess, self._slope(value, excess))
                if abs(excess) < near:
                    break
        return value

    def next(self, target: float, measured: Sequence[Point], rest: float) -> float | None:
        """The same, of what was measured: between the points next to the target, or from the nearest on as samples say.

        Args:
            target: bytes.
            measured: points, at least one.
            rest: bytes that do not depend on the knob.
        """
        above = min((one for one in measured if one.bytes > target), key=lambda one: one.bytes, default=None)
        below = max((one for one in measured if one.bytes <= target), key=lambda one: one.bytes, default=None)
        if above is not None and below is not None:
            part = math.log(target / below.bytes) / math.log(above.bytes / below.bytes)
            place = self._place(below.value) + part * (self._place(above.value) - self._place(below.value))
            return self._value(place)
        near = above or below
        assert near is not None
        with Stage("predict", self._progress):
            excess = math.log(near.bytes / target)
            return self._moved(near.value, excess, self._slope(near.value, excess) * (1 - rest / near.bytes))

    def rest(self, point: Point, payload: Payload, quantized: QuantizedCheckpoint) -> float:
        """About the bytes that do not depend on the knob.

        Args:
            point: a measured point.
            payload: what was packed there.
            quantized: what it was coded of.
        """
        others = sum(_entropy(one) for one in quantized.fields() if one.tensor not in self._names or one.along not in GROWS)
        growth = (point.bytes - CODE) / len(payload.data)  # of a payload's bytes in the carrier
        return min(CODE + growth * others, point.bytes / 2)

    def _bytes(self, value: float) -> float:
        if value not in self._sampled:
            self._sampled[value] = self._sample(value)
        return self._sampled[value]

    def _slope(self, value: float, excess: float) -> float:
        """How the logarithm of the bytes falls along the knob's axis, from a value in the direction of the target."""
        ahead = self._value(self._place(value) + math.copysign(self._stride, excess))
        if ahead is None:
            return -1.0
        rise = math.log(self._bytes(ahead) / self._bytes(value))
        return min(rise / (self._place(ahead) - self._place(value)), LEAST_SLOPE)

    def _moved(self, value: float, excess: float, slope: float) -> float | None:
        """A value from which on so much more is gone, a few strides at most."""
        step = max(-12 * self._stride, min(12 * self._stride, -excess / slope))
        return self._value(self._place(value) + step)

    @property
    def _stride(self) -> float:
        """On the knob's axis: far enough for sizes to differ by more than their irregularities."""
        return 0.25 if self._knob.logarithmic else 0.02 * (self._knob.high - self._knob.low)

    def _value(self, place: float) -> float | None:
        """What lies at a place of the axis; None beyond its ends."""
        value = math.exp(place) if self._knob.logarithmic else place
        return value if self._knob.low < value < self._knob.high else None

    def _place(self, value: float) -> float:
        return math.log(value) if self._knob.logarithmic else value

    def _choices(self, value: float) -> dict[str, Choice]:
        recipe = make_recipe(with_value(self._table, value), self._title, strict=False)
        return recipe.choose(self._checkpoint.tensors, self._checkpoint.names)

    def _sample(self, value: float) -> float:
        """Bytes of the arrays of all rows at a value, if all are like the sampled ones."""
        choices = self._choices(value)
        jobs = [(name, choices[name].quantizer, self._share) for name in self._names]
        found = self._workers.map(sample_tensor, jobs, "sample", self._progress)
        fields = [
            one
            for name, result in zip(self._names, found, strict=True)
            for one in result.fields(name)
            if one.along in GROWS and one.array.size
        ]
        # What is best depends on the widths above all; to plan anew each time would take longer than to quantize.
        dtypes = [one.array.dtype.str for one in fields]
        if dtypes != self._dtypes or any(c.fitting(f) is None for c, f in zip(self._chains, fields, strict=True)):
            self._dtypes = dtypes
            codings = [choices[one.tensor].codec.of(one) for one in fields]
            self._chains = list(plan(fields, codings, frozenset(result.dequantizer for result in found))[0].chains)
        sampled = sum(one.array.size for one in fields if one.along == "all") / self.elements
        streams: dict[tuple[Chain, str], list[Field]] = {}
        for chain, one in zip(self._chains, fields, strict=True):
            streams.setdefault((chain, "" if chain.codec.mixes_dtypes else one.array.dtype.str), []).append(one)
        earlier: list[list[Field]] = []
        total = 0.0
        for (chain, _), members in sorted(streams.items(), key=lambda item: item[0][0].reads_earlier):
            total += chain.rate(members, earlier)
            earlier.append(members)
        return float(max(total, 1.0) / sampled)


def sample_tensor(source: Source, name: str, quantizer: Quantizer, share: float) -> Quantized:
    """What a share of one tensor's rows becomes; errors as for `Quantizer.sample`."""
    return quantizer.sample(name, source.tensor(name), source.known(name), share)


def _entropy(field: Field) -> float:
    """About the bytes that an array takes."""
    _, counts = np.unique(field.array, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum() / 8) if field.array.size else 0.0
