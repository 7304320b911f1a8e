"""Carriers by name. A new one is a file here, a template, and a line in REGISTRY."""

from __future__ import annotations

from generator.carriers.base import Carrier, Parts
from generator.carriers.base85 import Base85

__all__ = ["REGISTRY", "Carrier", "Parts"]

REGISTRY: dict[str, Carrier] = {
    "base85": Base85(),
}
