"""Carriers by name. A new one is a file here, a template, and a line in REGISTRY."""

from __future__ import annotations

from generator.carriers.base import DAMAGED, Carried, Carrier, Parts, Written
from generator.carriers.base85 import Base85
from generator.carriers.latin1 import Latin1
from generator.carriers.sidecar import Sidecar
from generator.carriers.zip_archive import ZipArchive

__all__ = ["AUTO", "DAMAGED", "DEFAULT_ALLOW", "DEFAULT_CARRIER", "REGISTRY", "Carried", "Carrier", "Parts", "Written"]

REGISTRY: dict[str, Carrier] = {
    "base85": Base85(),
    "latin1": Latin1(),
    "sidecar": Sidecar(),
    "zip": ZipArchive(),
}
AUTO = "auto"  # the smallest that is allowed
DEFAULT_CARRIER = "base85"
DEFAULT_ALLOW = ("base85", "latin1", "zip")
