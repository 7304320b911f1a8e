"""Filters by the name that a recipe calls them. A new one is a file here, its inverse in runtime_stub, a line in REGISTRY."""

from __future__ import annotations

from generator.filters.base import Filter
from generator.filters.center import Center
from generator.filters.delta import Delta
from generator.filters.planes import Planes
from generator.filters.shuffle import Shuffle
from generator.filters.sort import Sort
from generator.filters.transpose import Transpose

__all__ = ["REGISTRY", "Filter"]

REGISTRY: dict[str, type[Filter]] = {
    "center": Center,
    "delta": Delta,
    "planes": Planes,
    "shuffle": Shuffle,
    "sort": Sort,
    "transpose": Transpose,
}
