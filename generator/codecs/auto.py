"""`codec = "auto"`: leave it to golfpack. Which codec that is decides `generator.weights.plan`."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, field_validator

from generator import codecs, filters
from generator.codecs.base import Codec
from generator.codecs.chain import Chain


class Auto(BaseModel):
    """The smallest mix of chains.

    allow: modules beyond the standard library, numpy and torch that the artifact may need at run time.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: ClassVar[str] = "auto"
    allow: tuple[str, ...] = Field(default=(), strict=False)  # a list in TOML

    @field_validator("allow")
    @classmethod
    def _check_allow(cls, allow: tuple[str, ...]) -> tuple[str, ...]:
        known = sorted({module for codec in codecs.REGISTRY.values() for module in codec.requires})
        unknown = [module for module in allow if module not in known]
        if unknown:
            raise ValueError(f"no codec needs the module {unknown[0]!r}; known: {', '.join(known)}")
        return allow

    @property
    def requires(self) -> tuple[str, ...]:
        """Modules that coding may need."""
        return self.allow

    def candidates(self) -> list[Chain]:
        """What there is to choose from: codecs, and filters with the codecs that they name."""
        allowed = [one for one in codecs.REGISTRY.values() if one.automatic and set(one.requires) <= set(self.allow)]
        known: dict[str, Codec] = {one.id: one() for one in allowed}
        filtered = [
            Chain(known[name], (kind(),)) for kind in filters.REGISTRY.values() for name in kind.automatic if name in known
        ]
        return [*map(Chain, known.values()), *filtered]
