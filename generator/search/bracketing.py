"""The largest size within a budget, by few evaluations of a size that falls as a knob grows: a zero of one function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

from generator.quantizers.knob import Knob
from generator.search.results import Point

EVALUATIONS = 12
CLOSE = 0.001  # share of the budget that may stay unused


def is_close(point: Point, budget: int) -> bool:
    """Whether a point is within the budget, and leaves next to nothing of it unused."""
    return (1 - CLOSE) * budget <= point.bytes <= budget


def search(knob: Knob, budget: int, measure: Callable[[float], Point], start: float | None = None) -> Point | None:
    """The largest point within the budget, by at most EVALUATIONS calls; stops CLOSE below the budget.

    It begins at `start`, or where such searches usually end.

    `measure` must shrink as the knob grows, but for small irregularities.
    """
    probe = _Probe(knob, budget, measure)
    bracket = _bracket(probe, knob.usual if start is None else start, 1 / 16 if start is None else 1 / 256)
    if bracket is not None:
        _close_in(probe, *bracket)
    return probe.best


class _Sample(NamedTuple):
    """A place on the knob's axis, and the logarithm of the size there over the target; 0 where it is close enough."""

    x: float
    excess: float


class _Probe:
    """Takes samples, and keeps the best point.

    Attributes:
        low, high: the ends of the axis, which is logarithmic where the knob is.
        best: the largest point within the budget, so far.
        left: how many samples may still be taken.
    """

    def __init__(self, knob: Knob, budget: int, measure: Callable[[float], Point]):
        self.knob = knob
        self.budget = budget
        self.measure = measure
        self.low, self.high = self.place(knob.low), self.place(knob.high)
        self.best: Point | None = None
        self.left = EVALUATIONS

    def place(self, value: float) -> float:
        """Where a value lies on the axis."""
        return math.log2(value) if self.knob.logarithmic else float(value)

    def sample(self, x: float) -> _Sample:
        """Measure at a place."""
        value = 2.0**x if self.knob.logarithmic else x
        point = self.measure(min(max(value, self.knob.low), self.knob.high))
        self.left -= 1
        if point.beats(self.best, self.budget):
            self.best = point
        if is_close(point, self.budget):
            return _Sample(x, 0.0)
        return _Sample(x, math.log(point.bytes) - math.log(self.budget * (1 - CLOSE / 2)))


def _bracket(probe: _Probe, start: float, share: float) -> tuple[_Sample, _Sample] | None:
    """Outwards from the start, in strides that double, until the target lies between the last two samples.

    Args:
        probe: takes the samples.
        start: value to begin at, if it is within the knob's range.
        share: of the axis, for the first stride.

    Returns:
        The last two samples, the newest first; None if one is close enough, the axis ends, or no sample is left.
    """
    usual = probe.place(start)
    newest = probe.sample(usual if probe.low < usual < probe.high else (probe.low + probe.high) / 2)
    stride = share * (probe.high - probe.low)
    while probe.left and newest.excess:
        x = min(probe.high, newest.x + stride) if newest.excess > 0 else max(probe.low, newest.x - stride)
        if x == newest.x:
            return None
        before, newest = newest, probe.sample(x)
        if before.excess * newest.excess < 0:
            return newest, before
        stride *= 2
    return None


def _close_in(probe: _Probe, newest: _Sample, other: _Sample) -> None:
    """Close a bracket in on the target, until a sample is close enough or none is left.

    T. R. Chandrupatla, "A new hybrid quadratic/bisection algorithm for finding the zero of a nonlinear function without
    using derivatives", Advances in Engineering Software 28 (1997).
    """
    share = 0.5  # of the way from the newest sample to the one across
    while probe.left:
        sample = probe.sample(newest.x + share * (other.x - newest.x))
        if not sample.excess:
            return
        if sample.excess * newest.excess > 0:
            newest, outside = sample, newest
        else:
            newest, other, outside = sample, newest, other
        share = min(max(_share(newest, other, outside), 0.01), 0.99)


def _share(a: _Sample, b: _Sample, c: _Sample) -> float:
    """How far from a to b the zero between them is: inverse quadratic interpolation where that is safe, bisection elsewhere.

    Args:
        a, b: the bracket, the newest sample first.
        c: the sample that was left behind last.
    """
    xi, phi = (a.x - b.x) / (c.x - b.x), (a.excess - b.excess) / (c.excess - b.excess)
    if not (phi**2 < xi and (1 - phi) ** 2 < 1 - xi):
        return 0.5
    from_b = a.excess / (b.excess - a.excess) * c.excess / (b.excess - c.excess)
    from_c = (c.x - a.x) / (b.x - a.x) * a.excess / (c.excess - a.excess) * b.excess / (c.excess - b.excess)
    return from_b + from_c
