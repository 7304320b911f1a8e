"""Knobs: the options of quantizers that `golfpack fit` can search."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Knob:
    """An option that sets the rate: more of it means fewer bytes.

    Attributes:
        name: of the option.
        low, high: ends of its range.
        usual: where a search begins.
        logarithmic: whether it is searched on a logarithmic scale.
    """

    name: str
    low: float
    high: float
    usual: float
    logarithmic: bool = True
