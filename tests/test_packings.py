"""Packings, rearrangements, optional codecs, and the choice among them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import generator
from generator import codecs
from generator.codecs.arranged import Arranged, row_order
from generator.codecs.auto import Auto
from generator.codecs.lzma_raw import Lzma
from generator.codecs.ternary import Base3, Bitmask
from generator.codecs.zstd import Zstd
from generator.errors import InputError
from runtime_stub.registry import DECODERS


def coded_size(codec: codecs.Codec, arrays: list[np.ndarray]) -> int:
    encoded = codec.encode(arrays)
    specs = [(array.dtype.str, list(array.shape)) for array in arrays]
    decoded = DECODERS[codec.id](encoded.data, specs, *encoded.options)
    assert [a.tobytes() for a in decoded] == [a.tobytes() for a in arrays]
    assert [a.shape for a in decoded] == [a.shape for a in arrays]
    return len(encoded.data)


def ternary(size: int, zeros: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (rng.choice([-1, 1], size) * (rng.random(size) >= zeros)).astype(np.int8)


def test_base3_takes_a_byte_for_five_symbols() -> None:
    assert coded_size(Base3(), [ternary(1001, 0.3)]) == 201


def test_bitmask_takes_a_bit_and_a_sign() -> None:
    array = ternary(1000, 0.9)
    assert coded_size(Bitmask(), [array]) == 125 + -(-np.count_nonzero(array) // 8)


@pytest.mark.parametrize("codec", [Base3(), Bitmask()], ids=["base3", "bitmask"])
def test_packings_keep_other_arrays_of_the_tensor(codec: codecs.Codec) -> None:
    scales = np.array([0.5, 0.25], "<f2")
    assert coded_size(codec, [ternary(10, 0.5), scales, ternary(3, 0.5), np.array([2, -1], np.int8)]) >= scales.nbytes + 2


@pytest.mark.parametrize("inner", ["lzma", "zlib"])
@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("order", [None, "norm", "similarity"])
def test_arrangements(inner: str, transpose: bool, shuffle: bool, order: str | None) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(-9, 9, (7, 5)).astype("<i2"),
        rng.normal(size=(3, 4, 2)).astype("<f4"),
        np.arange(6, dtype="u1"),
        np.array(3, "<i4"),
    ]
    codec = Arranged.model_validate({"inner": inner, "transpose": transpose, "shuffle": shuffle, "order": order})
    assert coded_size(codec, arrays) > 0


def test_transposition_helps_where_columns_are_alike() -> None:
    array = np.random.default_rng(0).integers(-100, 100, (1, 64)).repeat(200, 0).astype(np.int8)
    array[:, ::2] += np.random.default_rng(1).integers(-1, 2, (200, 32)).astype(np.int8)
    assert coded_size(Arranged(transpose=True), [array]) < coded_size(Arranged(transpose=False), [array])


def test_shuffling_helps_floats() -> None:
    array = np.random.default_rng(0).normal(size=4000).astype("<f4")
    assert coded_size(Arranged(transpose=False, shuffle=True), [array]) < coded_size(Arranged(transpose=False), [array])


def test_row_orders_are_permutations_that_bring_like_rows_together() -> None:
    matrix = np.array([[0, 0], [9, 9], [0, 1], [9, 8]], np.int8)
    assert row_order(matrix, "similarity").tolist() == [0, 2, 3, 1]
    assert row_order(matrix, "norm").tolist() == [0, 2, 3, 1]


@pytest.mark.parametrize("codec", ["zstd", "brotli"])
def test_optional_codecs_say_what_they_need(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = codecs.REQUIRES[codec][0]
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError, match=f"needs the module {module}; install"):
        codecs.REGISTRY[codec]().encode([np.zeros(3, np.int8)])


@pytest.mark.parametrize("codec", ["zstd", "brotli"])
def test_inspection_names_the_modules_that_an_artifact_needs(codec: str, tmp_path) -> None:
    recipe = {"codec": codec, "rule": [{"pattern": "*", "quantizer": "int4"}]}
    inspection = generator.encode({"w": torch.randn(64, 64)}, tmp_path / "w.gpk", recipe=recipe)
    assert set(inspection.requires) == {codecs.REQUIRES[codec][0], "numpy", "torch"}


def no_loader(ids: frozenset[str]) -> int:
    return 0


def chosen(auto: Auto, arrays: list[np.ndarray], loader=no_loader) -> list[str]:
    return [codec.id for codec in auto.plans(arrays, loader, 2)[0].codecs]


def test_auto_takes_classes_for_weights_and_a_general_compressor_for_repetition() -> None:
    rng = np.random.default_rng(0)
    weights = np.rint(rng.normal(size=(200, 300)) * 8).astype(np.int8)
    text = np.frombuffer(b"the same words again and again, " * 500, "u1")
    assert chosen(Auto(), [weights, text]) == ["rans", "lzma"]


def test_auto_counts_the_loader() -> None:
    weights = np.rint(np.random.default_rng(0).normal(size=(20, 30)) * 8).astype(np.int8)
    dear = {"rans": 900, "rans_rows": 900}
    assert not set(chosen(Auto(), [weights], lambda ids: max((dear.get(i, 10) for i in ids), default=0))) & set(dear)


def test_auto_needs_nothing_beyond_torch_and_numpy_unless_it_may() -> None:
    assert all(not codec.requires for codec, _ in Auto().candidates())
    assert {r for codec, _ in Auto(allow=("brotli", "zstandard")).candidates() for r in codec.requires} == {
        "brotli",
        "zstandard",
    }


def test_auto_is_deterministic_and_never_larger_than_its_candidates() -> None:
    torch.manual_seed(0)
    weights = {"a": torch.randn(100, 200), "b": torch.randn(200, 100) * torch.randn(100), "c": torch.zeros(64)}
    recipe = {"codec": "auto", "rule": [{"pattern": "*", "quantizer": "int6"}]}
    payload = generator.encode_state_dict(weights, recipe)
    assert payload == generator.encode_state_dict(weights, recipe)
    for codec in ("lzma", "zlib", "store"):
        assert len(payload) < len(generator.encode_state_dict(weights, {**recipe, "codec": codec}))


def test_the_default_recipe_chooses() -> None:
    assert all(isinstance(rule.codec, Auto) for rule in generator.load_recipe().rules)


def test_zstd_with_a_trained_dictionary() -> None:
    rng = np.random.default_rng(0)
    phrases = rng.integers(0, 256, (40, 24)).astype("u1")
    arrays = [phrases[rng.integers(0, 40, 12)].reshape(-1) for _ in range(300)]
    codec = Zstd(dictionary=2048)
    encoded = codec.encode(arrays)
    assert 0 < encoded.options[0] <= 2048
    specs = [(array.dtype.str, list(array.shape)) for array in arrays]
    decoded = DECODERS["zstd"](encoded.data, specs, *encoded.options)
    assert all((left == right).all() for left, right in zip(decoded, arrays, strict=True))
    with pytest.raises(InputError, match="can't train a dictionary"):
        codec.encode([np.zeros(3, "u1")])


def test_lzma_searches_the_match_length() -> None:
    data = np.frombuffer(b"a phrase that comes again and again, " * 300, "u1")
    sizes = [len(Lzma(lc=0, lp=0, pb=0, nice_len=length).encode([data]).data) for length in (273, 64, 16)]
    assert len(Lzma(lc=0, lp=0, pb=0).encode([data]).data) == min(sizes)
