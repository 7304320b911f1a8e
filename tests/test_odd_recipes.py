"""Recipes of any content: an object, or one sentence; never another exception, and nothing that is only found later."""

from __future__ import annotations

import functools
import importlib.util
import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import generator
from generator import codecs, quantizers
from generator.errors import InputError
from generator.recipes.marks import find_knob, find_searched, with_value, with_values
from generator.recipes.recipe import Recipe, load_recipe, make_recipe
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


MISTAKES: dict[str, tuple[Any, str]] = {
    "lc + lp": ({"codec": {"id": "lzma", "lc": 4, "lp": 1}}, r"rule 1: codec 'lzma': lc \+ lp must be at most 4, not 4 \+ 1"),
    "id of a list": ({"quantizer": {"id": [1]}}, r"rule 1: unknown quantizer \[1\]; known: bf16"),
    "id of a huge number": ({"quantizer": {"id": 10**5000}}, "rule 1: unknown quantizer of type int"),
    "id in 'then'": (
        {"quantizer": {"id": "prune", "fraction": 0.5, "then": {"id": {}}}},
        "'prune': key 'then': unknown quantizer {}",
    ),
    "option in 'then'": (
        {"quantizer": {"id": "prune", "fraction": 0.5, "then": {"id": "int", "bits": 99}}},
        "'prune': key 'then': quantizer 'int': key 'bits': input should be less than or equal to 8",
    ),
    "mark in 'then'": (
        {"quantizer": {"id": "prune", "fraction": 0.5, "then": {"id": "rtn", "k": "fit"}}},
        "'prune': key 'then': quantizer 'rtn': 'k' is to be fitted",
    ),
    "number as text": ({"quantizer": {"id": "int", "bits": "6"}}, "'int': key 'bits': input should be a valid integer"),
    "number as boolean": ({"quantizer": {"id": "rtn", "group": True}}, "'rtn': key 'group': input should be a valid integer"),
    "boolean as text": ({"quantizer": {"id": "rtn", "clip": "yes"}}, "'rtn': key 'clip': input should be a valid boolean"),
    "condition as text": ({"min_ndim": "2"}, "rule 1: key 'min_ndim': input should be a valid integer"),
    "bits twice": ({"quantizer": {"id": "int4", "bits": 5}}, "'int4': key 'bits' contradicts the name"),
    "quantizer of a number": ({"quantizer": 5}, "rule 1: quantizer must be an id, or a table with one, not 5"),
    "codec of a list": ({"codec": ["lzma"]}, r"rule 1: codec must be an id, or a table with one, not \['lzma'\]"),
    "no pattern": ({"pattern": []}, "rule 1: key 'pattern'"),
    "infinite damping": ({"quantizer": {"id": "gptq", "damping": math.inf}}, "'gptq': key 'damping'"),
    "endless steps": ({"quantizer": {"id": "waterfill", "alpha": 1e300}}, "'waterfill': key 'alpha'"),
    "fraction of NaN": ({"quantizer": {"id": "prune", "fraction": math.nan}}, "'prune': key 'fraction'"),
    "key of a number": ({"quantizer": {"id": "int", 5: 6}}, "the recipe has a key 5 that is not a string"),
    "deep": (
        {"quantizer": functools.reduce(lambda inner, _: {"then": inner}, range(5000), "int6")},
        "nested more than 16 levels",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_found_with_the_recipe(name: str) -> None:
    changes, message = MISTAKES[name]
    with pytest.raises(InputError, match=message) as error:
        make_recipe({"rule": [{"pattern": "*", "quantizer": "int6", **changes}]})
    check_sentence(error.value)


@pytest.mark.parametrize("table", [[], "int6", None, 5, {1: 2}], ids=str)
def test_what_is_no_table(table: Any) -> None:
    with pytest.raises(InputError, match="the recipe (must be a table|has a key)"):
        make_recipe(table)


def test_modules_that_are_missing_are_named_before_anything_is_quantized(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("brotli", "zstandard") else find_spec(name))
    for codec, module in (("brotli", "brotli"), ("zstd", "zstandard"), ({"id": "auto", "allow": ["brotli"]}, "brotli")):
        rule = {"pattern": "*", "quantizer": "int6"}
        with pytest.raises(InputError, match=f"the recipe: codec .* needs the module {module}; install golfpack"):
            make_recipe({"codec": codec, "rule": [rule]})
        with pytest.raises(InputError, match=f"the recipe: rule 1: codec .* needs the module {module}; install golfpack"):
            make_recipe({"rule": [{**rule, "codec": codec}]})


FILES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "folder": (Path.mkdir, "is a folder, not a file"),
    "pipe": (os.mkfifo, "is a pipe, not a file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a device, not a file"),
    "large": (
        lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40),
        "has 1,099,511,627,776 bytes, more than the 16,777,216",
    ),
    "deep": (lambda path: path.write_text("x = " + "[" * 9000 + "]" * 9000), "cannot be read: |not valid TOML: "),
    "digits": (lambda path: path.write_text("x = " + "9" * 5000), "cannot be read: |not valid TOML: |unknown key"),
    "not UTF-8": (lambda path: path.write_bytes(b"\xff"), "cannot be read: "),
}


@pytest.mark.parametrize("name", FILES)
def test_files(tmp_path: Path, name: str) -> None:
    make, message = FILES[name]
    make(tmp_path / "recipe.toml")
    with pytest.raises(InputError, match=f"recipe .*recipe.toml.*({message})") as error:
        load_recipe(tmp_path / "recipe.toml")
    assert "\n" not in str(error.value)


def test_names_that_are_no_file_names(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        load_recipe(tmp_path / ("x" * 300))
    with pytest.raises(InputError, match=r"'.*\\x00.toml' is not a possible file name"):
        load_recipe(f"{tmp_path}/\0.toml")


MARKED = {
    "huge": {"fit": [1, 10**400]},
    "NaN": {"fit": [math.nan, 2]},
    "beyond whole numbers": {"search": [1, 10**30]},
    "name of a list": {"search": [1, 2], "name": ["a"]},
}


@pytest.mark.parametrize("name", MARKED)
def test_marks(name: str) -> None:
    table = {"rule": [{"pattern": "*", "quantizer": {"id": "rtn", "k": MARKED[name]}}]}
    find = find_knob if "fit" in MARKED[name] else find_searched
    with pytest.raises(InputError, match="the range of 'k'|the name of a mark must be a string, not "):
        find(table, "the recipe")


def test_an_array_is_no_mark() -> None:
    with pytest.raises(InputError, match="marks no knob"):
        find_knob({"rule": [{"quantizer": {"k": np.zeros(3)}}]}, "the recipe")
