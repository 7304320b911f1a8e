"""Recipes in any of the forms that the API takes: a Recipe, its table, a file, or none."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generator.errors import InputError
from generator.recipes.recipe import Recipe, load_recipe, make_recipe, read_recipe_table
from generator.statistics import Statistics


def as_recipe(recipe: Recipe | Mapping[str, Any] | str | Path | None, statistics: Statistics | None = None) -> Recipe:
    """A Recipe from any of the forms that the API takes."""
    if isinstance(recipe, Recipe):
        return recipe
    if recipe is None and statistics is not None:
        return make_recipe(statistics_recipe(statistics), "the recipe of the statistics", strict=False)
    return make_recipe(recipe) if isinstance(recipe, Mapping) else load_recipe(recipe)


def read_table(recipe: Mapping[str, Any] | str | Path | None, statistics: Statistics | None) -> tuple[dict[str, Any], str]:
    """The recipe's table and its name; with statistics and no recipe, `waterfill` for everything they know.

    Raises:
        InputError: there is neither, or the file is unusable.
    """
    if recipe is None:
        if statistics is None:
            raise InputError('golfpack fit needs a recipe that marks its knob (alpha = "fit"), or --statistics')
        return statistics_recipe(statistics, "fit"), "waterfill for all matrices"
    if isinstance(recipe, Mapping):
        return dict(recipe), "the recipe"
    return read_recipe_table(recipe), f"recipe {recipe}"


def statistics_recipe(statistics: Statistics, alpha: float | str | None = None) -> dict[str, Any]:
    """The recipe's table when there are statistics and no recipe: `waterfill` for what they know, fp16 for the rest."""
    options = {} if alpha is None else {"alpha": alpha}
    names = [name for known in statistics.names.values() for name in known]
    return {
        "rule": [
            {"pattern": [glob.escape(name) for name in names], "quantizer": {"id": "waterfill", "trellis": 8, **options}},
            {"pattern": "*", "quantizer": "fp16"},
        ]
    }
