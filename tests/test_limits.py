"""What a payload of a given size may decode to, and what its codecs may be told: for hostile files and for writers alike."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from arrays import coded_size, fields
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_payload import sealed, stream, tensor

import generator
from generator import filters
from generator.codecs import REGISTRY
from generator.codecs.auto import Auto
from generator.codecs.chain import DECODERS, Chain
from generator.codecs.rans import Rans
from generator.codecs.store import Store
from generator.errors import InputError
from generator.filters.center import Center
from generator.limits import PER_BYTE, SMALL_PAYLOAD, decoded_limit
from generator.payload import decode_payload
from generator.payload.manifest import check_writable
from generator.weights.plan import plan
from runtime_stub.sort import undo_sort

CODECS = sorted(REGISTRY)
ROWS = [["|i1", [3, 2]]]
KIND = [0, [1, 1, 1, 64, 1], [1, 1, 1, 64, 1], [63, 31, 50, 64, 1]]
PATHS = [-1, 0, [0, 1, 1, 0], [1, 1, 1, 64, 1], [1, 1, 1, 64, 1], [63, 31, 50, 64, 2]]
MANY_TABLES = [*KIND[:3], [4095, 9, 9, 64, 64]]
# Codec, coded bytes, arrays, options: what an honest writer would never ask of a decoder.
OPTIONS: dict[str, tuple[str, int, list[Any], list[Any]]] = {
    "store: none": ("store", 6, ROWS, []),
    "store: a number": ("store", 6, ROWS, [8]),
    "store: too few widths": ("store", 6, ROWS, [[]]),
    "store: width without minimum": ("store", 6, ROWS, [[[8]]]),
    "store: wider than the elements": ("store", 12, ROWS, [[[16, 0]]]),
    "store: negative width": ("store", 6, ROWS, [[[-8, 0]]]),
    "store: width that is none": ("store", 6, ROWS, [[[True, 0]]]),
    "store: minimum beyond 64 bits": ("store", 6, ROWS, [[[8, 2**63]]]),
    "store: minimum that is none": ("store", 6, ROWS, [[[8, 0.5]]]),
    "store: too few bytes": ("store", 5, ROWS, [[[8, 0]]]),
    "store: too many bytes": ("store", 7, ROWS, [[[8, 0]]]),
    "zlib: level": ("zlib", 6, ROWS, [9]),
    "brotli: quality": ("brotli", 6, ROWS, [11]),
    "zstd: beyond the stream": ("zstd", 6, ROWS, [7]),
    "zstd: negative": ("zstd", 6, ROWS, [-1]),
    "zstd: two": ("zstd", 6, ROWS, [1, 1]),
    "lzma: none": ("lzma", 6, ROWS, []),
    "lzma: lc + lp above 4": ("lzma", 6, ROWS, [4, 1, 0]),
    "lzma: text": ("lzma", 6, ROWS, ["3", 0, 0]),
    "lzma: 300": ("lzma", 6, ROWS, [300, 0, 0]),
    "base3: marks of version 1": ("base3", 2, ROWS, [[1]]),
    "base3: unsigned symbols": ("base3", 2, [["|u1", [3, 2]]], []),
    "base3: too many bytes": ("base3", 3, ROWS, []),
    "bitmask: an option": ("bitmask", 2, ROWS, [None]),
    "bitmask: too many bytes": ("bitmask", 3, ROWS, []),
    "bitmask: too few bytes": ("bitmask", 0, ROWS, []),
    "rans: a lane for millions of symbols": ("rans", 2000, [["|i1", [2000, 2000]]], [1, [KIND], [0]]),
    "rans: millions of columns": ("rans", 2000, [["|i1", [1, 5_000_000]]], [64, [KIND], [0]]),
    "trellis: no options": ("trellis", 2000, ROWS, []),
    "trellis: millions of columns": ("trellis", 2000, [["|i1", [1, 5_000_000]]], [64, [PATHS], [0]]),
    "trellis: more states than there are": ("trellis", 2000, ROWS, [64, [[-1, 0, [0, 2], *PATHS[3:]]], [0]]),
    "trellis: a third dimension": ("trellis", 2000, ROWS, [64, [[-3, *PATHS[1:]]], [0]]),
    "trellis: unsigned symbols": ("trellis", 2000, [["|u1", [3, 2]]], [64, [PATHS], [0]]),
    "trellis: one dimension": ("trellis", 2000, [["|i1", [6]]], [64, [PATHS], [0]]),
    "rans: tables without end": (
        "rans",
        30000,
        [["|i1", [64, 16384]]] * 60,
        [64, [MANY_TABLES] * 60, [*range(60)]],
    ),
}
# Coded bytes, arrays, stages: the same of filters.
FILTERED: dict[str, tuple[int, list[Any], list[Any]]] = {
    "center: an option": (6, ROWS, [["center", 0]]),
    "center: millions of rows": (2000, [["|i1", [700_000, 1]]], [["center"]]),
    "delta: none": (6, ROWS, [["delta"]]),
    "delta: no list": (6, ROWS, [["delta", 0]]),
    "delta: too few": (6, ROWS, [["delta", []]]),
    "delta: a number": (6, ROWS, [["delta", [0]]]),
    "delta: one number": (6, ROWS, [["delta", [[0]]]]),
    "delta: itself": (6, ROWS, [["delta", [[0, 0]]]]),
    "delta: a later stream": (6, ROWS, [["delta", [[1, 0]]]]),
    "delta: from the end": (6, ROWS, [["delta", [[-1, 0]]]]),
    "planes: none": (6, ROWS, [["planes"]]),
    "planes: too few": (6, ROWS, [["planes", []]]),
    "planes: a number": (6, ROWS, [["planes", [8]]]),
    "planes: not the elements' width": (6, ROWS, [["planes", [[1, 5, 10]]]]),
    "planes: nothing": (6, ROWS, [["planes", [[8, 0, 0]]]]),
    "planes: two": (6, ROWS, [["planes", [[4, 4]]]]),
    "planes: text": (6, ROWS, [["planes", [["1", 4, 3]]]]),
    "shuffle: an option": (6, ROWS, [["shuffle", 1]]),
    "sort: an option": (6, ROWS, [["sort", "norm"]]),
    "sort: rows of an empty array": (6, [["|i1", [2**25, 0]]], [["sort"]]),
    "transpose: an option": (6, ROWS, [["transpose", 1]]),
}


def manifest_of(codec: str, size: int, specs: list[Any], options: list[Any]) -> list[Any]:
    tensors = [tensor((f"w{n}",), "keep", "int8", "int8", 0) for n in range(len(specs))]
    return [[stream(codec, size, specs, *options)], tensors]


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_checked_before_anything_is_allocated(name: str) -> None:
    codec, size, specs, options = OPTIONS[name]
    with pytest.raises(InputError, match=f"manifest is malformed: an? {codec} stream"):
        decode_payload(sealed(manifest_of(codec, size, specs, options), bytes(size)))


@pytest.mark.parametrize("name", FILTERED)
def test_options_of_filters_are_checked_too(name: str) -> None:
    size, specs, filters_ = FILTERED[name]
    manifest = [[[size, specs, *filters_, ["zlib"]]], [tensor()]]
    with pytest.raises(InputError, match=f"manifest is malformed: a {name.split(':')[0]}(e?d)? stream"):
        decode_payload(sealed(manifest, bytes(size)))


def test_the_cases_are_of_every_codec_and_filter() -> None:
    assert {name.split(":")[0] for name in OPTIONS} == REGISTRY.keys()
    assert {name.split(":")[0] for name in FILTERED} == filters.REGISTRY.keys()


JSON = st.recursive(
    st.integers(-3, 9) | st.sampled_from([2**16, 2**31, 2**47, 2**63, 1.5, None, True, "zlib", "lzma"]),
    lambda values: st.lists(values, max_size=4),
    max_leaves=12,
)
FILTERS = st.lists(st.lists(st.sampled_from([*filters.REGISTRY, "zlib"]) | JSON, min_size=1, max_size=3), max_size=3)
STORED = {"|i1": "int8", "|u1": "uint8", "<i2": "int16", "<i4": "int32", "<u8": "uint64", "<f2": "float16", "<f4": "float32"}
LENGTHS = st.lists(st.sampled_from([0, 1, 2, 3, 64, 1000, 2**20, 2**33, 2**47]), max_size=5)
ARRAYS = st.lists(st.tuples(st.sampled_from(sorted(STORED)), LENGTHS), max_size=3)


@pytest.mark.parametrize("codec", CODECS)
@given(options=st.lists(JSON, max_size=4), before=FILTERS, arrays=ARRAYS, data=st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_arbitrary_manifests_give_clean_errors(
    codec: str, options: list[Any], before: list[Any], arrays: list[Any], data: bytes
) -> None:
    tensors = [[[f"w{n}"], "keep", STORED[dtype], STORED[dtype], 0] for n, (dtype, _) in enumerate(arrays)]
    specs = [[dtype, shape] for dtype, shape in arrays]
    payload = sealed([[[len(data), specs, *before, [codec, *options]]], tensors], data)
    with contextlib.suppress(InputError):
        assert [list(value.shape) for value in decode_payload(payload).values()] == [shape for _, shape in arrays]


def test_the_bound_follows_the_payloads_size() -> None:
    assert decoded_limit(0) == decoded_limit(SMALL_PAYLOAD // PER_BYTE) == SMALL_PAYLOAD
    assert decoded_limit(16_000_000) == PER_BYTE * 16_000_000
    fits = [[stream("store", 0, [["|i1", [SMALL_PAYLOAD]]], [[0, 5]])], [tensor()]]
    assert int(decode_payload(sealed(fits))["w"][-1]) == 5
    for shape in ([SMALL_PAYLOAD + 1], [2**37], [0, 2**47], [2**47, 0]):
        with pytest.raises(InputError, match="most of them for tensor 'w', is above the limit of 67,108,864"):
            decode_payload(sealed([[stream("store", 0, [["|i1", shape]], [[0, 0]])], [tensor()]]))


def test_every_name_of_a_tensor_counts() -> None:
    names = tuple(f"w{number}" for number in range(1000))
    with pytest.raises(InputError, match="decodes to 100,000,000, most of them for tensor 'w0'"):
        decode_payload(sealed([[stream("store", 0, [["|i1", [100_000]]], [[0, 0]])], [tensor(names)]]))


def test_what_is_built_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.limits.SMALL_PAYLOAD", 2**20)
    decoded = decode_payload(generator.encode_state_dict({"w": torch.zeros(512, 512)}, rule("store")))
    assert decoded["w"].shape == (512, 512)
    with pytest.raises(InputError, match="payload of [0-9,]+ bytes that decodes to .* most of them for tensor 'zeros'"):
        generator.encode_state_dict({"w": torch.randn(20, 20), "zeros": torch.zeros(513, 512)}, rule("store"))


def test_what_no_payload_can_hold_is_found_before_coding(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.ones(3, "i1")
    with pytest.raises(InputError, match="tensor 'deep' has 33 dimensions; a payload holds at most 32"):
        check_writable({"w": [array], "deep": [SimpleNamespace(ndim=33)]}, {"w": ["w"], "deep": ["deep"]})  # type: ignore[list-item]
    with pytest.raises(InputError, match="surrogate"):
        check_writable({"w": [array]}, {"w": ["w", "\ud800"]})
    monkeypatch.setattr("generator.payload.manifest.DECODED_LIMIT", 5)
    with pytest.raises(InputError, match="take 6 bytes, .* the largest is 'w'"):
        check_writable({"v": [array[:2]], "w": [array, array[:1]]}, {"v": ["v"], "w": ["w"]})
    monkeypatch.setattr(Store, "encode", lambda *arguments: pytest.fail("coded"))
    with pytest.raises(InputError, match="the largest is 'w'"):
        generator.encode_state_dict({"w": torch.ones(9)}, rule("store", "fp16"))


def rule(codec: Any, quantizer: str = "int4") -> dict[str, Any]:
    return {"codec": codec, "rule": [{"pattern": "*", "quantizer": quantizer}]}


@pytest.mark.parametrize("codec", ["rans", {"id": "rans", "filters": ["center"]}], ids=["rans", "center"])
def test_rans_limits_are_found_before_coding(monkeypatch: pytest.MonkeyPatch, codec: Any) -> None:
    monkeypatch.setattr("generator.codecs.rans_check.MAX_STREAM", 10_000)
    weights = {"small": torch.randn(10, 10), "large": torch.randn(128, 128)}
    assert decode_payload(generator.encode_state_dict(weights, rule("auto"))).keys() == weights.keys()
    monkeypatch.setattr(Rans, "encode", lambda *arguments: pytest.fail("coded"))
    with pytest.raises(InputError, match="codec rans can't code tensor 'large': .* another codec"):
        generator.encode_state_dict(weights, rule(codec))


def test_auto_leaves_out_what_no_reader_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("generator.weights.plan.loader_bytes", lambda decoders, dequantizers: 0)
    weights = fields(np.rint(np.random.default_rng(0).normal(size=(128, 128)) * 6).astype("i1"))
    assert plan(weights, [Auto()], frozenset({"scale"}))[0].chains[0].codec == Rans()
    monkeypatch.setattr("generator.codecs.rans_check.MAX_STREAM", 10_000)
    assert "rans" not in plan(weights, [Auto()], frozenset({"scale"}))[0].ids


@pytest.mark.parametrize("chain", [Chain(Rans()), Chain(Rans(), (Center(),))], ids=["rans", "center"])
@pytest.mark.parametrize("tables", [80, 95], ids=["before", "after"])  # three for each of 31 shapes are 93
def test_more_shapes_than_tables_share_them(monkeypatch: pytest.MonkeyPatch, chain: Chain, tables: int) -> None:
    for module in ("rans", "rans_check"):
        monkeypatch.setattr(f"generator.codecs.{module}.MAX_TABLES", tables)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-40, 40, (5, columns)).astype("i1") for columns in range(1, 31)]
    arrays.append((4.0 ** np.arange(5)[:, None] * rng.normal(size=(5, 60)) / 8).clip(-127, 127).astype("i1"))
    assert coded_size(chain, *arrays) > 0


def test_rows_that_a_damaged_order_leaves_out_are_zeros() -> None:
    rows = np.arange(1, 5, dtype="i1").reshape(2, 2)
    [restored] = undo_sort(lambda specs: [rows, np.array([1, 1], "<u4")], [("|i1", [2, 2])], [])
    assert restored.tolist() == [[0, 0], [3, 4]]
    with pytest.raises(IndexError):
        undo_sort(lambda specs: [rows, np.array([1, 2], "<u4")], [("|i1", [2, 2])], [])


def test_lack_of_memory_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def exhausted(*arguments: Any) -> Any:
        raise MemoryError

    path = tmp_path / "w.gpk"
    generator.encode({"w": torch.ones(3)}, path, recipe=rule("store"))
    monkeypatch.setitem(DECODERS, "store", exhausted)
    for command in (generator.inspect, generator.unpack, generator.verify):
        with pytest.raises(InputError, match="there is not enough memory"):
            command(path)


def noise(size: int) -> bytes:
    return np.random.default_rng(0).bytes(size)


def columns() -> bytes:
    encoded = Rans().encode(fields(np.full(2**22 - 1, 3, "i1")))
    return sealed(manifest_of("rans", len(encoded.data), [["|i1", [2**22 - 1]]], encoded.options), encoded.data)


def many_arrays() -> bytes:
    count = 4000
    specs = [["|i1", [0]]] * count
    return sealed(
        [[stream("rans", 64, specs, 16, [KIND], [0] * count)], [tensor((f"{n}",)) for n in range(count)]], b"\xff" * 64
    )


FORGED: dict[str, Callable[[], bytes]] = {
    "store": lambda: sealed([[stream("store", 0, [["|i1", [SMALL_PAYLOAD]]], [[0, 0]])], [tensor()]]),
    "products": lambda: sealed(
        [
            [stream("store", 0, [["|i1", [2**24]], ["|i1", [2**24]], ["|i1", [2**24]]], [[0, 3], [0, 2], [0, 1]])],
            [tensor(("w",), "grid", "float32", "float32", 0, 0, 0)],
        ]
    ),
    "groups": lambda: sealed(
        [
            [stream("store", 0, [["|i1", [2**24]], ["<f2", [1, 2**24]]], [[0, 3], [0, 2]])],
            [tensor(("w",), "groups", "float32", "float32", 0, 0)],
        ]
    ),
    "columns": columns,
    "tables": lambda: sealed(
        [
            [stream("rans", 2**15, [["|i1", [64, 16]]] * 60, 64, [MANY_TABLES] * 60, [*range(60)])],
            [tensor((f"{n}",)) for n in range(60)],
        ],
        noise(2**15),
    ),
    "text": lambda: sealed([[], [[[f"{n:x}" for n in range(2**17)], "keep", "int8", "int8"]]]),
    "arrays": many_arrays,
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_forged_payloads_stay_within_bounds(tmp_path: Path) -> None:
    """Peak memory over all of them, in a fresh process: what is refused and what is small enough to be decoded."""
    paths = []
    for name, make in FORGED.items():
        paths.append(tmp_path / f"{name}.gpk")
        paths[-1].write_bytes(make())
    program = (
        "import sys, generator\n"
        "generator.inspect, generator.unpack  # imported before anything is measured, and torch with them\n"
        "def peak(): return int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])\n"
        "base = peak()\n"
        "for path in sys.argv[1:]:\n"
        "    for command in (generator.inspect, generator.unpack):\n"
        "        try: command(path)\n"
        "        except generator.InputError: pass\n"
        "    print(path, (peak() - base) // 1024, file=sys.stderr)\n"
        "print(peak() - base)\n"
    )
    command = [sys.executable, "-c", program, *map(str, paths)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    completed = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert completed.returncode == 0, completed.stderr
    assert int(completed.stdout) * 1024 < 500e6, completed.stderr
