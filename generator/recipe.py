"""Recipes: which quantizer and codec each tensor gets; TOML, first matching rule wins.

    codec = "auto"                                # for rules that name none

    [[rule]]
    pattern = ["*embed*", "lm_head.*"]            # globs over tensor names
    quantizer = "int8"

    [[rule]]
    pattern = "blocks.*"
    min_ndim = 2                                  # only tensors of at least two dimensions …
    min_elements = 4096                           # … and this many elements
    quantizer = { id = "int", bits = 5 }          # options beside the id
    codec = { id = "zlib", level = 9 }

Integer and boolean tensors are kept exactly, whatever rule they match.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from generator import codecs, quantizers
from generator.codecs import Codec
from generator.errors import InputError
from generator.marks import is_fit, is_searched
from generator.quantizers import Quantizer
from generator.quantizers.cast import Keep

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_RECIPE = Path(__file__).with_name("default_recipe.toml")
Made = TypeVar("Made")


@dataclass(frozen=True)
class Rule:
    """One rule; its globs, its conditions and what it prescribes."""

    patterns: tuple[str, ...]
    min_ndim: int
    min_elements: int
    quantizer: Quantizer
    codec: Codec

    def names(self, name: str) -> bool:
        """Whether a glob of this rule matches the name."""
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)

    def applies(self, name: str, tensor: Tensor) -> bool:
        """Whether the rule is for this tensor."""
        return self.names(name) and tensor.ndim >= self.min_ndim and tensor.numel() >= self.min_elements


@dataclass(frozen=True)
class Choice:
    """What a recipe prescribes for one tensor."""

    quantizer: Quantizer
    codec: Codec


@dataclass(frozen=True)
class Recipe:
    """Rules in order, and where they came from (for messages)."""

    rules: tuple[Rule, ...]
    source: str
    strict: bool = True  # a glob that matches nothing is an error

    def choose(self, tensors: Mapping[str, Tensor], names: Mapping[str, list[str]]) -> dict[str, Choice]:
        """The choice for every tensor.

        Args:
            tensors: first name → tensor.
            names: first name → all names; a rule may match any of them.

        Raises:
            InputError: a glob matches no tensor, or a tensor matches no rule.
        """
        if self.strict:
            self._check_globs([name for all_names in names.values() for name in all_names])
        choices = {}
        for first, tensor in tensors.items():
            rule = next((r for r in self.rules if any(r.applies(name, tensor) for name in names[first])), None)
            if rule is None:
                raise InputError(f"tensor {first!r} matches no rule of {self.source}; end it with a rule for '*'")
            real = tensor.is_floating_point() or tensor.is_complex()
            choices[first] = Choice(rule.quantizer if real else Keep(), rule.codec)
        return choices

    def _check_globs(self, all_names: list[str]) -> None:
        for number, rule in enumerate(self.rules, 1):
            for pattern in rule.patterns:
                if not any(fnmatchcase(name, pattern) for name in all_names):
                    raise InputError(f"{self.source}: rule {number}: pattern {pattern!r} matches no tensor")


class _RuleTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    pattern: str | list[str]
    quantizer: str | dict[str, Any]
    codec: str | dict[str, Any] | None = None
    min_ndim: int = Field(0, ge=0)
    min_elements: int = Field(0, ge=0)


class _RecipeTable(BaseModel):
    model_config = ConfigDict(extra="forbid")
    codec: str | dict[str, Any] = "auto"
    rule: list[_RuleTable] = Field(min_length=1)


def load_recipe(path: str | Path | None = None) -> Recipe:
    """Read a recipe file, or the default recipe when there is none.

    Raises:
        InputError: the file is missing or not TOML, or it has an unknown key, quantizer, codec or option.
    """
    path = Path(path) if path is not None else None
    table = read_recipe_table(path or DEFAULT_RECIPE)
    return make_recipe(table, source=f"recipe {path}" if path else "the default recipe", strict=path is not None)


def read_recipe_table(file: str | Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        InputError: the file is missing or not TOML.
    """
    file = Path(file)
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"recipe {file} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {file} is not valid TOML: {error}") from error


def make_recipe(table: Mapping[str, Any], source: str = "the recipe", strict: bool = True) -> Recipe:
    """A recipe from its table, as TOML would give it.

    Raises:
        InputError: an unknown key, quantizer, codec or option.
    """
    try:
        checked = _RecipeTable.model_validate(dict(table))
    except ValidationError as error:
        raise InputError(f"{source}: {_explain(error, _RecipeTable, _RuleTable)}") from error
    rules = []
    for number, rule in enumerate(checked.rule, 1):
        where = f"{source}: rule {number}"
        rules.append(
            Rule(
                (rule.pattern,) if isinstance(rule.pattern, str) else tuple(rule.pattern),
                rule.min_ndim,
                rule.min_elements,
                _make("quantizer", quantizers.REGISTRY, rule.quantizer, where),
                _make("codec", codecs.REGISTRY, checked.codec if rule.codec is None else rule.codec, where),
            )
        )
    return Recipe(tuple(rules), source, strict)


def _make(kind: str, registry: Mapping[str, Callable[..., Made]], spec: str | dict[str, Any], where: str) -> Made:
    """The quantizer or codec that a recipe's string or table calls for."""
    options = {} if isinstance(spec, str) else dict(spec)
    name = spec if isinstance(spec, str) else options.pop("id", None)
    if name not in registry:
        known = ", ".join(sorted(registry))
        missing = f"unknown {kind} {name!r}" if name is not None else f"{kind} table without an id"
        raise InputError(f"{where}: {missing}; known: {known}")
    marked = [key for key, value in options.items() if is_fit(value) or is_searched(value)]
    if marked:
        raise InputError(f"{where}: {kind} {name!r}: {marked[0]!r} is to be fitted; use golfpack fit, or give it a value")
    try:
        return registry[name](**options)
    except ValidationError as error:
        raise InputError(f"{where}: {kind} {name!r}: {_explain(error)}") from error


def _explain(error: ValidationError, *tables: type[BaseModel]) -> str:
    """The first validation error in words: which key, and what is wrong with it."""
    first = error.errors()[0]
    place = list(first["loc"])
    if place[:1] == ["rule"] and len(place) > 1 and isinstance(place[1], int):
        where, key = f"rule {place[1] + 1}: ", place[2:]
        table = tables[1] if tables else None
    else:
        where, key = "", place
        table = tables[0] if tables else None
    name = str(key[0]) if key else "rule"
    if first["type"] == "extra_forbidden":
        known = f" (known: {', '.join(table.model_fields)})" if table else ""
        return f"{where}unknown key {name!r}{known}"
    if first["type"] == "missing":
        return f"{where}key {name!r} is missing"
    return f"{where}key {name!r}: {first['msg'][0].lower()}{first['msg'][1:]}"
