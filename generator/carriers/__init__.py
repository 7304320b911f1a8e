"""Carriers by name. A new one is a file here, a template, and a line in REGISTRY."""

from __future__ import annotations

from generator.carriers.base import DAMAGED, Cargo, Carrier, ReadBack, Written
from generator.carriers.base85 import Base85
from generator.carriers.latin1 import Latin1
from generator.carriers.sidecar import Sidecar
from generator.carriers.zip_archive import ZipArchive

__all__ = ["AUTO", "DAMAGED", "DEFAULT_ALLOW", "DEFAULT_CARRIER", "REGISTRY", "Cargo", "Carrier", "ReadBack", "Written"]

REGISTRY: dict[str, Carrier] = {
    carrier.id: carrier
    for carrier in (
        Base85(),
        Latin1(),
        Sidecar(),
        ZipArchive(),
    )
}
AUTO = "auto"  # the smallest that is allowed
DEFAULT_CARRIER = Base85.id
DEFAULT_ALLOW = tuple(name for name, carrier in REGISTRY.items() if carrier.automatic)
