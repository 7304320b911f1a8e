"""What a recipe says of codecs: one, with filters before it if wanted, for all arrays of a tensor or for each role.

codec = "lzma"
codec = { id = "lzma", pb = 1, filters = ["transpose", { id = "sort", by = "similarity" }] }
codec = { symbols = "rans", scales = "zlib" }      # other roles: auto
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from generator import codecs, filters
from generator.codecs.auto import Auto
from generator.codecs.base import Codec
from generator.codecs.chain import Chain
from generator.errors import InputError
from generator.fields import ROLES, Field
from generator.specs import construct
from generator.visible import shown

CODECS: dict[str, Callable[..., Codec | Auto]] = {**codecs.REGISTRY, Auto.id: Auto}


@dataclass(frozen=True)
class Coding:
    """How the arrays of a tensor are coded.

    Attributes:
        usual: what is for all roles that have nothing of their own.
        by_role: role → what is for it, as pairs.
    """

    usual: Chain | Auto
    by_role: tuple[tuple[str, Chain | Auto], ...] = ()

    def of(self, field: Field) -> Chain | Auto:
        """What codes an array. A codec that is not meant for it leaves it to `auto`."""
        chosen = dict(self.by_role).get(field.role, self.usual)
        return chosen if isinstance(chosen, Auto) else chosen.fitting(field) or Auto()


def coding_of(spec: Any) -> Coding:
    """The coding that an id or a table stands for.

    Raises:
        InputError: an unknown id, role or option, or a module that is not installed.
    """
    if isinstance(spec, Mapping) and "id" not in spec and set(spec) & set(ROLES):
        unknown = [key for key in spec if key not in ROLES]
        if unknown:
            raise InputError(f"unknown role {shown(unknown[0])}; known: {', '.join(ROLES)}")
        return Coding(Auto(), tuple((role, chain_of(spec[role])) for role in ROLES if role in spec))
    return Coding(chain_of(spec))


def chain_of(spec: Any) -> Chain | Auto:
    """The codec, and the filters before it, that an id or a table stands for; errors as for `coding_of`."""
    options = dict(spec) if isinstance(spec, Mapping) else {}
    asked = options.pop("filters", [])
    codec = construct("codec", CODECS, options if isinstance(spec, Mapping) else spec)
    for module in codec.requires:
        # Better now than after all the quantizing.
        if importlib.util.find_spec(module) is None:
            raise InputError(f"codec {codec.id!r} needs the module {module}; install golfpack[codecs]")
    if not isinstance(asked, list | tuple) or not all(isinstance(one, str | Mapping) for one in asked):
        raise InputError(f"codec {codec.id!r}: key 'filters' must be a list of names or tables, not {shown(asked)}")
    if isinstance(codec, Auto):
        if asked:
            raise InputError("codec 'auto' chooses filters by itself; name a codec to have some of your own")
        return codec
    chosen = tuple(construct("filter", filters.REGISTRY, one) for one in asked)
    if len({one.id for one in chosen}) < len(chosen):
        raise InputError(f"codec {codec.id!r} has the same filter twice: {', '.join(one.id for one in chosen)}")
    return Chain(codec, chosen)
