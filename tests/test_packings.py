"""Packings, rearrangements, optional codecs, and the choice among them."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import torch
from arrays import coded_size, fields

import generator
from generator import codecs
from generator.audit.inspection import TensorShare
from generator.codecs.auto import Auto
from generator.codecs.chain import Chain
from generator.codecs.deflate import Zlib
from generator.codecs.lzma_raw import Lzma
from generator.codecs.ternary import Base3, Bitmask
from generator.codecs.zstd import Zstd
from generator.errors import InputError
from generator.fields import Field
from generator.filters.shuffle import Shuffle
from generator.filters.sort import row_order
from generator.recipes.coding import chain_of
from generator.weights import plan


def chain(*filters: object) -> Chain:
    found = chain_of({"id": "lzma", "filters": list(filters)})
    assert isinstance(found, Chain)
    return found


def inspect_bytes(payload: bytes) -> list[TensorShare]:
    with tempfile.NamedTemporaryFile(suffix=".gpk") as file:
        file.write(payload)
        file.flush()
        return generator.inspect(file.name).tensors


def ternary(size: int, zeros: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.choice([-1, 1], size) * (rng.random(size) >= zeros)).astype(np.int8)


def test_base3_takes_a_byte_for_five_symbols() -> None:
    assert coded_size(Base3(), ternary(1001, 0.3)) == 201


def test_bitmask_takes_a_bit_and_a_sign() -> None:
    array = ternary(1000, 0.9)
    assert coded_size(Bitmask(), array) == 125 + -(-np.count_nonzero(array) // 8)


@pytest.mark.parametrize("codec", ["base3", "bitmask"])
def test_packings_are_for_ternary_symbols_and_auto_finds_something_for_the_rest(codec: str) -> None:
    weights = {"w": torch.from_numpy(ternary(2400, 0.5).reshape(40, 60)).float(), "x": torch.arange(64.0).reshape(8, 8)}
    rules = [{"pattern": "w", "quantizer": "ternary"}, {"pattern": "x", "quantizer": "int8"}]
    payload = generator.encode_state_dict(weights, {"codec": codec, "rule": rules})
    inspection = inspect_bytes(payload)
    w, x = inspection
    assert w.codecs[0] == codec
    assert codec not in {*w.codecs[1:], *x.codecs}


def test_transposition_helps_where_columns_are_alike() -> None:
    array = np.random.default_rng(0).integers(-100, 100, (1, 64)).repeat(200, 0).astype(np.int8)
    array[:, ::2] += np.random.default_rng(1).integers(-1, 2, (200, 32)).astype(np.int8)
    assert coded_size(chain("transpose"), array) < coded_size(Lzma(), array)


def test_shuffling_helps_floats() -> None:
    array = np.random.default_rng(0).normal(size=4000).astype("<f4")
    assert coded_size(Chain(Zlib(), (Shuffle(),)), array) < coded_size(Zlib(), array)


def test_row_orders_are_permutations_that_bring_like_rows_together() -> None:
    matrix = np.array([[0, 0], [9, 9], [0, 1], [9, 8]], np.int8)
    assert row_order(matrix, "similarity").tolist() == [0, 2, 3, 1]
    assert row_order(matrix, "norm").tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("codec", ["zstd", "brotli"])
def test_optional_codecs_say_what_they_need(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = codecs.REGISTRY[codec].requires[0]
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=f"needs the module {module}; install"):
        codecs.REGISTRY[codec]().encode(fields(np.zeros(3, np.int8)))


@pytest.mark.parametrize("codec", ["zstd", "brotli"])
def test_inspection_names_the_modules_that_an_artifact_needs(codec: str, tmp_path) -> None:
    recipe = {"codec": codec, "rule": [{"pattern": "*", "quantizer": "int4"}]}
    inspection = generator.encode({"w": torch.randn(64, 64)}, tmp_path / "w.gpk", recipe=recipe)
    assert set(inspection.requires) == {codecs.REGISTRY[codec].requires[0], "numpy", "torch"}


def chosen(arrays: list[np.ndarray | Field], auto: Auto | None = None) -> list[str]:
    given = [one if isinstance(one, Field) else fields(one)[0] for one in arrays]
    plans = plan.plan(given, [auto or Auto()] * len(given), frozenset({"keep"}))
    return [str(chain) for chain in plans[0].chains]


def test_auto_takes_classes_for_weights_and_a_general_compressor_for_repetition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "loader_bytes", lambda decoders, dequantizers: 0)
    rng = np.random.default_rng(0)
    weights = np.rint(rng.normal(size=(200, 300)) * 8).astype(np.int8)
    text = np.frombuffer(b"the same words again and again, " * 500, "u1")
    assert chosen([weights, text])[0] == "rans"
    assert chosen([weights, text])[1] in {"lzma", "zlib"}


def test_auto_counts_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.rint(np.random.default_rng(0).normal(size=(20, 30)) * 8).astype(np.int8)
    monkeypatch.setattr(plan, "loader_bytes", lambda decoders, dequantizers: 900 if "rans" in decoders else 10)
    assert "rans" not in chosen([weights])[0]


def test_auto_knows_what_it_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits of floating numbers are taken apart, and integers of the same size are not."""
    monkeypatch.setattr(plan, "loader_bytes", lambda decoders, dequantizers: 0)
    values = torch.randn(200, 300, generator=torch.Generator().manual_seed(0)).bfloat16().view(torch.int16).numpy()
    assert chosen([Field(values, "raw", "w", "all", "bfloat16")]) == ["rans, planes"]
    assert chosen([Field(values, "raw", "w", "all", "int16")]) != ["rans, planes"]
    assert chosen([Field(values, "symbols", "w", "all")]) != ["rans, planes"]


def test_auto_needs_nothing_beyond_torch_and_numpy_unless_it_may() -> None:
    assert all(not chain.codec.requires for chain in Auto().candidates())
    modules = ("brotli", "zstandard")
    assert {r for chain in Auto(allow=modules).candidates() for r in chain.codec.requires} == set(modules)
    with pytest.raises(InputError, match="no codec needs the module 'numpy'; known: brotli, zstandard"):
        chain_of({"id": "auto", "allow": ["numpy"]})


def test_auto_is_deterministic_and_never_larger_than_its_candidates() -> None:
    torch.manual_seed(0)
    weights = {"a": torch.randn(100, 200), "b": torch.randn(200, 100) * torch.randn(100), "c": torch.zeros(64)}
    recipe = {"codec": "auto", "rule": [{"pattern": "*", "quantizer": "int6"}]}
    payload = generator.encode_state_dict(weights, recipe)
    assert payload == generator.encode_state_dict(weights, recipe)
    for codec in ("lzma", "zlib", "store"):
        assert len(payload) < len(generator.encode_state_dict(weights, {**recipe, "codec": codec}))


def test_stages_that_do_not_fit_together_are_named() -> None:
    recipe = {"rule": [{"pattern": "*", "quantizer": "fp16", "codec": {"id": "lzma", "filters": ["shuffle", "planes"]}}]}
    with pytest.raises(InputError, match="filter planes can't code what filter shuffle makes of tensor 'w'"):
        generator.encode_state_dict({"w": torch.ones(9)}, recipe)
    recipe = {"rule": [{"pattern": "*", "quantizer": "ternary", "codec": {"id": "base3", "filters": ["sort"]}}]}
    with pytest.raises(InputError, match="codec base3 can't code what filter sort makes of tensor 'w'"):
        generator.encode_state_dict({"w": torch.randn(9, 9)}, recipe)


def test_the_default_recipe_chooses() -> None:
    assert all(rule.codec.usual == Auto() for rule in generator.load_recipe().rules)


def test_zstd_with_a_trained_dictionary() -> None:
    rng = np.random.default_rng(0)
    phrases = rng.integers(0, 256, (40, 24)).astype("u1")
    arrays = [phrases[rng.integers(0, 40, 12)].reshape(-1) for _ in range(300)]
    codec = Zstd(dictionary=2048)
    assert 0 < codec.encode(fields(*arrays)).options[0] <= 2048
    assert coded_size(codec, *arrays) > 0
    with pytest.raises(InputError, match="can't train a dictionary"):
        codec.encode(fields(np.zeros(3, "u1")))


def test_lzma_searches_the_match_length() -> None:
    data = np.frombuffer(b"a phrase that comes again and again, " * 300, "u1")
    sizes = [len(Lzma(lc=0, lp=0, pb=0, nice_len=length).encode(fields(data)).data) for length in (273, 64, 16)]
    assert len(Lzma(lc=0, lp=0, pb=0).encode(fields(data)).data) == min(sizes)
