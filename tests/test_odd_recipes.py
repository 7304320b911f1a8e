"""Recipes of any content: an object, or one sentence; never another exception, and nothing that is only found later."""

from __future__ import annotations

import re
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import generator
from generator import codecs, quantizers
from generator.errors import InputError
from generator.marks import find_knob, find_searched, with_value, with_values
from generator.recipe import Recipe, make_recipe
from generator.statistics import Statistics

SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.sampled_from([10**30, 2**63, float("nan"), float("inf"), -float("inf"), 1e300, 1e-300, "", "fit", "\x1b[2J"])
    | st.floats()
    | st.text(max_size=4)
    | st.dates()
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
STATISTICS = Statistics(
    "sequence",
    8,
    2,
    {f"w:{key}": torch.eye(size)[None] for key, size in (("H", 7), ("A", 7), ("B", 5))} | {"w:g": torch.ones(1, 5)},
    {"w": [5, 7]},
    {"w": ["w"]},
)
MARKS = st.fixed_dictionaries(
    {},
    optional={
        "search": VALUES | st.lists(st.floats() | st.integers(-9, 9), min_size=2, max_size=2),
        "choices": VALUES | st.lists(SCALARS, max_size=3),
        "fit": VALUES | st.lists(st.floats() | st.integers(-9, 9), min_size=2, max_size=2),
        "log": VALUES,
        "name": VALUES,
    },
)
OPTIONS = sorted(
    {
        key
        for registry in (quantizers.REGISTRY, codecs.REGISTRY)
        for factory in registry.values()
        for key in getattr(factory, "func", factory).model_fields
    }
)


def spec(ids: list[str]) -> st.SearchStrategy[Any]:
    names = st.sampled_from(ids)
    table = st.dictionaries(st.sampled_from(OPTIONS), VALUES | MARKS, max_size=2)
    return names | table | st.builds(lambda name, options: {"id": name, **options}, names | VALUES, table) | VALUES


RULES = st.fixed_dictionaries(
    {"pattern": st.just("*") | VALUES, "quantizer": spec(sorted(quantizers.REGISTRY))},
    optional={"codec": spec(sorted(codecs.REGISTRY)), "min_ndim": VALUES, "min_elements": VALUES, "extra": VALUES},
)
TABLES = (
    st.fixed_dictionaries({"rule": st.lists(RULES, max_size=2) | VALUES}, optional={"codec": spec(sorted(codecs.REGISTRY))})
    | VALUES
)


def check_sentence(error: InputError, pattern: str = "") -> None:
    assert str(error).isprintable()
    assert re.search(pattern, str(error))


@given(TABLES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_is_a_recipe_or_one_sentence(table: Any) -> None:
    try:
        recipe = make_recipe(table)
    except InputError as error:
        check_sentence(error)
        return
    assert isinstance(recipe, Recipe)
    assert hash(recipe.rules) == hash(make_recipe(table).rules)


@given(TABLES.filter(lambda table: isinstance(table, dict)))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_marks_are_found_and_replaced_or_refused(table: dict) -> None:
    try:
        searched = find_searched(table, "the recipe")
        find_knob(table, "the recipe")
    except InputError as error:
        check_sentence(error)
        return
    filled = with_value(with_values(table, {mark.name: 3 for mark in searched}), 0.5)
    assert not find_searched(filled, "the recipe")


WORDS = st.sampled_from(
    ["row", "tensor", "group", "absmax", "sdclip", "mse", "diagonal", "token", "magnitude", "int6", "lzma", "norm"]
)


def options_of(registry: dict[str, Any]) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    """An id of a registry with some of its own options."""

    def options(name: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        fields = sorted(getattr(registry[name], "func", registry[name]).model_fields)
        known = st.dictionaries(st.sampled_from(fields), SCALARS | WORDS, max_size=3) if fields else st.just({})
        return known.map(lambda chosen: (name, chosen))

    return st.sampled_from(sorted(registry)).flatmap(options)


WEIGHTS = torch.linspace(-1, 1, 35).reshape(5, 7)


@given(options_of(quantizers.REGISTRY), options_of(codecs.REGISTRY))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_options_that_a_recipe_takes_do_not_fail_later(
    quantizer: tuple[str, dict[str, Any]], codec: tuple[str, dict[str, Any]]
) -> None:
    rule = {"pattern": "*", "quantizer": {"id": quantizer[0], **quantizer[1]}, "codec": {"id": codec[0], **codec[1]}}
    try:
        recipe = make_recipe({"rule": [rule]})
    except InputError:
        return
    statistics = STATISTICS if recipe.rules[0].quantizer.needs_statistics else None
    try:
        payload = generator.encode_state_dict({"w": WEIGHTS}, recipe, statistics)
    except InputError as error:
        check_sentence(error, "'w'|train a dictionary")  # a matter of these weights: symbols beyond 32 bits, for instance
        return
    assert torch.isfinite(generator.decode_payload(payload)["w"]).all()
