"""Recipes: choice of the first matching rule, and one sentence for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from generator.errors import InputError
from generator.quantizers.cast import Float16, Keep
from generator.quantizers.rtn import Rtn
from generator.recipes.recipe import load_recipe, make_recipe

TENSORS = {
    "tok_embed.weight": torch.zeros(300, 64),
    "blocks.0.weight": torch.zeros(64, 64),
    "blocks.0.small": torch.zeros(8, 8),
    "norm": torch.zeros(64),
    "steps": torch.zeros(3, dtype=torch.int64),
}
NAMES = {name: [name] for name in TENSORS}


def test_default_recipe() -> None:
    chosen = load_recipe().choose(TENSORS, NAMES)
    assert chosen["tok_embed.weight"].quantizer == Rtn(bits=8)
    assert chosen["blocks.0.weight"].quantizer == Rtn(bits=6)
    assert chosen["blocks.0.small"].quantizer == Float16()
    assert chosen["norm"].quantizer == Float16()
    assert chosen["steps"].quantizer == Keep()


def test_first_matching_rule_wins_and_any_alias_counts() -> None:
    recipe = make_recipe(
        {"rule": [{"pattern": "lm_head", "quantizer": {"id": "int", "bits": 4}}, {"pattern": ["*"], "quantizer": "fp32"}]}
    )
    tensors = {"embed": torch.zeros(2, 2), "other": torch.zeros(2, 2)}
    chosen = recipe.choose(tensors, {"embed": ["embed", "lm_head"], "other": ["other"]})
    assert chosen["embed"].quantizer == Rtn(bits=4)
    assert chosen["other"].quantizer.id == "fp32"


def test_codec_of_rule_overrides_the_recipes(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        codec = "zlib"
        [[rule]]
        pattern = "norm"
        quantizer = "fp16"
        codec = { id = "lzma", lc = 0 }
        [[rule]]
        pattern = "*"
        quantizer = "int8"
        """
    )
    chosen = load_recipe(path).choose(TENSORS, NAMES)
    assert str(chosen["norm"].codec.usual) == "lzma (lc 0)"
    assert str(chosen["blocks.0.weight"].codec.usual) == "zlib"


MISTAKES = {
    "unknown key": (
        '[[rule]]\npattern = "*"\nquantiser = "int6"',
        r"rule 1: (unknown key 'quantiser'|key 'quantizer' is missing)",
    ),
    "unknown key beside": (
        '[[rule]]\npattern = "*"\nquantizer = "int6"\nbits = 3',
        r"rule 1: unknown key 'bits' \(known: pattern",
    ),
    "unknown top key": ('codecs = "lzma"\n[[rule]]\npattern = "*"\nquantizer = "int6"', "unknown key 'codecs'"),
    "unknown quantizer": ('[[rule]]\npattern = "*"\nquantizer = "int9"', "rule 1: unknown quantizer 'int9'; known: .*int8"),
    "unknown codec": (
        '[[rule]]\npattern = "*"\nquantizer = "int8"\ncodec = "rar"',
        "rule 1: unknown codec 'rar'; known: .*lzma",
    ),
    "unknown option": (
        '[[rule]]\npattern = "*"\nquantizer = { id = "int", bit = 5 }',
        "rule 1: quantizer 'int': unknown key 'bit'",
    ),
    "option out of range": (
        '[[rule]]\npattern = "*"\nquantizer = { id = "int", bits = 1 }',
        "'int': key 'bits'.*greater than or equal to 2",
    ),
    "table without id": ('[[rule]]\npattern = "*"\nquantizer = { bits = 5 }', "rule 1: quantizer table without an id"),
    "no rules": ("", "key 'rule' is missing"),
    "wrong type": ('[[rule]]\npattern = 5\nquantizer = "int8"', "rule 1: key 'pattern'"),
    "not TOML": ("[[rule\npattern", r"not valid TOML: .*line 1"),
    "glob without a match": (
        '[[rule]]\npattern = "*"\nquantizer = "int8"\n[[rule]]\npattern = ["norm", "nrom"]\nquantizer = "fp16"',
        "rule 2: pattern 'nrom' matches no tensor",
    ),
    "tensor without a rule": (
        '[[rule]]\npattern = "blocks.*"\nquantizer = "int8"',
        "tensor 'tok_embed.weight' matches no rule",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(tmp_path: Path, mistake: str) -> None:
    text, message = MISTAKES[mistake]
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as error:
        load_recipe(path).choose(TENSORS, NAMES)
    assert "recipe.toml" in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.toml does not exist"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"binary\.toml cannot be read"):
        load_recipe(tmp_path / "binary.toml")
