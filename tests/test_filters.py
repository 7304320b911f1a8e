"""Every filter, alone and with others, before any codec, gives back every array."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from arrays import coded_size, fields
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import generator
from generator import filters
from generator.codecs.chain import MOST_ARRAYS, Chain, check_stages
from generator.codecs.rans import Rans
from generator.codecs.store import Store
from generator.errors import InputError
from generator.fields import Field
from generator.filters.planes import LAYOUTS, Planes
from generator.payload import decode_payload, read_manifest
from generator.recipes.coding import chain_of

OPTIONS: dict[str, dict[str, Any]] = {"delta": {"replace": "1", "by": "0"}}
NAMES = sorted(filters.REGISTRY)
DTYPES = ["|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4"]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)


def fields_of(dtype: str, shapes: list[tuple[int, ...]], draw: Any) -> list[Field]:
    arrays = [draw(hnp.arrays(np.dtype(dtype), shape)) for shape in shapes]
    roles = st.sampled_from(["symbols", "scales", "exponents", "indices"])
    return [Field(array, draw(roles), f"t{number}") for number, array in enumerate(arrays)]


@given(data=st.data(), names=st.permutations(NAMES), count=st.integers(1, len(NAMES)))
@settings(max_examples=300, deadline=None)
def test_any_filters_in_any_order(data: st.DataObject, names: list[str], count: int) -> None:
    """What the chain takes, it codes and gives back, or says in one sentence which stages do not fit together."""
    codec = data.draw(st.sampled_from(["rans", "store", "zlib"]))
    chain = chain_of({"id": codec, "filters": [{"id": name, **OPTIONS.get(name, {})} for name in names[:count]]})
    shapes = data.draw(st.lists(SHAPES, min_size=1, max_size=3))
    given_fields = fields_of(data.draw(st.sampled_from(DTYPES)), shapes, data.draw)
    assert isinstance(chain, Chain)
    groups: dict[Chain | None, list[Field]] = {}
    for field in given_fields:
        groups.setdefault(chain.fitting(field), []).append(field)
    for fitting, members in groups.items():
        assert fitting is not None
        try:
            coded_size(fitting, *members)
        except InputError as error:
            assert "makes of tensor" in str(error) or "nothing to subtract" in str(error)  # noqa: PT017


@pytest.mark.parametrize("elements", LAYOUTS)
@pytest.mark.parametrize("shape", [(), (0,), (7,), (16, 16), (4, 8, 8), (0, 3)])
def test_planes_of_every_bit_pattern(elements: str, shape: tuple[int, ...]) -> None:
    dtype = getattr(torch, elements)
    rng = np.random.default_rng(0)
    bits = np.frombuffer(rng.bytes(int(np.prod(shape)) * dtype.itemsize), f"<i{dtype.itemsize}").reshape(shape)
    coded_size(Chain(Store(), (Planes(),)), Field(bits, "raw", "w", "all", elements))
    assert not Planes().takes(Field(bits, "raw", "w", "all", "int32"))


def test_planes_are_smaller_for_floating_numbers() -> None:
    for dtype, gain in ((torch.bfloat16, 0.9), (torch.float16, 0.95)):
        values = torch.randn(200, 300, generator=torch.Generator().manual_seed(0)).to(dtype)
        bits = values.view(torch.int16).numpy()
        field = Field(bits, "raw", "w", "all", str(dtype).removeprefix("torch."))
        assert coded_size(Chain(Rans(), (Planes(),)), field) < gain * coded_size(Rans(), field)


def averaged() -> dict[str, torch.Tensor]:
    weights = torch.randn(64, 48, generator=torch.Generator().manual_seed(0))
    nearby = weights + 0.002 * torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
    return {"ema.w": nearby, "w": weights, "ema.gain": torch.ones(48) + 1e-5, "gain": torch.ones(48)}


def recipe(**options: Any) -> dict[str, Any]:
    scale = {"id": "rtn", "bits": 8, "per": "tensor"}
    delta = {"id": "rans", "filters": [{"id": "delta", **options}]}
    rules = [{"pattern": "ema.*", "quantizer": "fp32", "codec": delta}, {"pattern": "*", "quantizer": "fp32", "codec": "rans"}]
    rules[:0] = [
        {"pattern": "ema.*", "min_ndim": 2, "quantizer": scale, "codec": delta},
        {"pattern": "*", "min_ndim": 2, "quantizer": scale, "codec": "rans"},
    ]
    return {"rule": rules}


def test_the_difference_to_another_tensor_of_the_payload() -> None:
    """Whatever the order of the tensors: streams that read others come last."""
    with_delta = generator.encode_state_dict(averaged(), recipe(replace="ema."))
    manifest = read_manifest(with_delta)
    assert [stream.ids for stream in manifest.streams] == [["rans"], ["delta", "rans"]]
    plain = generator.encode_state_dict(averaged(), {"rule": [{**rule, "codec": "rans"} for rule in recipe()["rule"]]})
    assert len(with_delta) < 0.75 * len(plain)
    left, right = decode_payload(with_delta), decode_payload(plain)
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_a_difference_to_nothing_names_what_is_missing() -> None:
    with pytest.raises(InputError, match="nothing to subtract from tensor 'ema.w': no tensor before it is named 'raw.w'"):
        generator.encode_state_dict(averaged(), recipe(replace="ema.", by="raw."))


def test_each_refers_to_the_one_before_it_in_the_same_stream() -> None:
    base = np.random.default_rng(0).integers(-100, 100, (40, 50)).astype("i1")
    chain = chain_of({"id": "zlib", "filters": [{"id": "delta", "replace": "1", "by": "0"}]})
    assert isinstance(chain, Chain)
    given_fields = [Field(base, "symbols", "layer.0"), Field(base + 1, "symbols", "layer.1")]
    coded = chain.encode(given_fields)
    assert coded.stages[0] == ["delta", [[], [0, 0]]]
    assert coded_size(chain, *given_fields) < 0.6 * coded_size(Chain(chain.codec), *given_fields)


def test_filters_do_not_multiply_arrays_without_end() -> None:
    specs = [("|i1", (1,))] * (MOST_ARRAYS // 2)
    check_stages(10**6, specs, [["sort"], ["zlib"]])
    with pytest.raises(ValueError, match="the filters of a stream make 262,146 arrays, above the limit of 262,144"):
        check_stages(10**6, [*specs, specs[0]], [["sort"], ["zlib"]])


def test_roles_choose_codecs() -> None:
    weights = {"w": torch.randn(64, 48, generator=torch.Generator().manual_seed(0)), "gain": torch.ones(48) * 0.3}
    coding = {"symbols": "store", "scales": {"id": "zlib", "filters": ["planes"]}, "raw": "lzma"}
    rules = [{"pattern": "w", "quantizer": "int4"}, {"pattern": "gain", "quantizer": "fp16"}]
    manifest = read_manifest(generator.encode_state_dict(weights, {"codec": coding, "rule": rules}))
    assert [stream.ids for stream in manifest.streams] == [["store"], ["planes", "zlib"], ["lzma"]]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"id": "lzma", "filters": ["rot13"]}, "unknown filter 'rot13'; known: center, delta"),
        ({"id": "lzma", "filters": [{"id": "sort", "by": "name"}]}, "filter 'sort': key 'by'"),
        ({"id": "lzma", "filters": ["delta"]}, "filter 'delta': key 'replace' is missing"),
        ({"id": "lzma", "filters": "sort"}, "key 'filters' must be a list"),
        ({"id": "lzma", "filters": [3]}, "key 'filters' must be a list"),
        ({"id": "lzma", "filters": ["sort", {"id": "sort"}]}, "codec 'lzma' has the same filter twice: sort, sort"),
        ({"id": "auto", "filters": ["sort"]}, "auto' chooses filters by itself"),
        ({"symbols": "rans", "weights": "lzma"}, "unknown role 'weights'; known: symbols, scales"),
        ({"symbols": 3}, "codec must be an id, or a table with one, not 3"),
        ({"symbols": {"scales": "rans"}}, "codec table without an id"),
    ],
)
def test_odd_codings_are_one_sentence(spec: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        generator.encode_state_dict({"w": torch.ones(4, 4)}, {"codec": spec, "rule": [{"pattern": "*", "quantizer": "int4"}]})


def test_what_a_filter_says_of_itself() -> None:
    assert str(chain_of({"id": "lzma", "pb": 1, "filters": ["transpose", {"id": "sort", "by": "similarity"}]})) == (
        "lzma (pb 1), transpose, sort (by similarity)"
    )
    for kind in filters.REGISTRY.values():
        for measured in kind.measured:
            assert isinstance(chain_of(measured), Chain)
        for name in kind.automatic:
            assert isinstance(chain_of({"id": name, "filters": [kind.id]}), Chain)
    assert fields(np.zeros(3))[0].tensor == "t0"
