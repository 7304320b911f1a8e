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
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from generator import quantizers
from generator.errors import InputError
from generator.inputs import read_text
from generator.quantizers import Quantizer
from generator.quantizers.cast import Keep
from generator.recipes.coding import Coding, coding_of
from generator.specs import check_table, construct, explain, made_by
from generator.visible import first_line

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_RECIPE = Path(__file__).with_name("default_recipe.toml")


@dataclass(frozen=True)
class Rule:
    """One rule; its globs, its conditions and what it prescribes."""

    patterns: tuple[str, ...]
    min_ndim: int
    min_elements: int
    quantizer: Quantizer
    codec: Coding

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
    codec: Coding


@dataclass(frozen=True)
class Recipe:
    """Rules in order, and where they came from (for messages)."""

    rules: tuple[Rule, ...]
    title: str
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
                raise InputError(f"tensor {first!r} matches no rule of {self.title}; end it with a rule for '*'")
            real = tensor.is_floating_point() or tensor.is_complex()
            choices[first] = Choice(rule.quantizer if real else Keep(), rule.codec)
        return choices

    def _check_globs(self, all_names: list[str]) -> None:
        for number, rule in enumerate(self.rules, 1):
            for pattern in rule.patterns:
                if not any(fnmatchcase(name, pattern) for name in all_names):
                    raise InputError(f"{self.title}: rule {number}: pattern {pattern!r} matches no tensor")


def quantizer_of(spec: Any) -> Quantizer:
    """The quantizer that a recipe means by an id, or a table of an id and options.

    Raises:
        InputError: there is no such quantizer, or it has no such option.
    """
    return construct("quantizer", quantizers.REGISTRY, spec)


class _RuleTable(BaseModel):
    """A rule as TOML has it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    pattern: str | Annotated[list[str], Field(min_length=1)]
    quantizer: Annotated[Quantizer, made_by(quantizer_of)]
    codec: Annotated[Coding, made_by(coding_of)] | None = None
    min_ndim: int = Field(0, ge=0)
    min_elements: int = Field(0, ge=0)

    def rule(self, default: Coding) -> Rule:
        """The rule, with a codec for when it names none."""
        patterns = (self.pattern,) if isinstance(self.pattern, str) else tuple(self.pattern)
        return Rule(patterns, self.min_ndim, self.min_elements, self.quantizer, self.codec or default)


class _RecipeTable(BaseModel):
    """A recipe as TOML has it."""

    model_config = ConfigDict(extra="forbid", strict=True)
    codec: Annotated[Coding, made_by(coding_of)] = Field("auto", validate_default=True)
    rule: list[_RuleTable] = Field(min_length=1)


def load_recipe(path: str | Path | None = None) -> Recipe:
    """Read a recipe file, or the default recipe when there is none.

    Raises:
        InputError: the file is missing or not TOML, or it has an unknown key, quantizer, codec or option.
    """
    path = Path(path) if path is not None else None
    table = read_recipe_table(path or DEFAULT_RECIPE)
    return make_recipe(table, title=f"recipe {path}" if path else "the default recipe", strict=path is not None)


def read_recipe_table(file: str | Path) -> dict[str, Any]:
    """The table of a TOML file.

    Raises:
        InputError: the file is missing, no ordinary file, or not TOML.
    """
    text = read_text(file, "recipe")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"recipe {file} is not valid TOML: {first_line(error)}") from error
    except (RecursionError, ValueError) as error:  # the latter: a number of more digits than Python converts
        raise InputError(f"recipe {file} cannot be read: {first_line(error)}") from error


def make_recipe(table: Mapping[str, Any], title: str = "the recipe", strict: bool = True) -> Recipe:
    """A recipe from its table, as TOML would give it.

    Raises:
        InputError: an unknown key, quantizer, codec or option, or a value that an option can't have.
    """
    check_table(table, title)
    try:
        checked = _RecipeTable.model_validate(dict(table))
    except ValidationError as error:
        raise InputError(f"{title}: {explain(error, _RecipeTable, _RuleTable)}") from error
    return Recipe(tuple(rule.rule(checked.codec) for rule in checked.rule), title, strict)
