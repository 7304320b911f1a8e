"""What a payload of a given size may decode to, and what its codecs may be told: for hostile files and for writers alike."""

from __future__ import annotations

import contextlib
import json
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
from helpers import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from test_payload import sealed, tensor, zlib_of

import generator
from generator.codecs import CHECKS, REGISTRY
from generator.codecs.auto import Auto
from generator.codecs.base import specs_of
from generator.codecs.rans import Rans
from generator.codecs.rans_rows import RansRows
from generator.codecs.store import Store
from generator.errors import InputError
from generator.limits import PER_BYTE, SMALL_PAYLOAD, decoded_limit
from generator.manifest import check_writable
from generator.payload import decode_payload
from runtime_stub.arranged import decode_arranged
from runtime_stub.registry import DECODERS

CODECS = sorted(REGISTRY.keys() - {"auto"})
ROWS = [["|i1", [3, 2]]]
KIND = [0, [1, 1, 1, 64, 1], [1, 1, 1, 64, 1], [63, 31, 50, 64, 1]]
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
    "base3: none": ("base3", 2, ROWS, []),
    "base3: too few marks": ("base3", 2, ROWS, [[]]),
    "base3: a mark of 2": ("base3", 2, ROWS, [[2]]),
    "base3: unsigned symbols": ("base3", 2, [["|u1", [3, 2]]], [[1]]),
    "base3: too many bytes": ("base3", 3, ROWS, [[1]]),
    "bitmask: a mark that is none": ("bitmask", 2, ROWS, [[None]]),
    "bitmask: too many bytes": ("bitmask", 3, ROWS, [[1]]),
    "bitmask: too few bytes": ("bitmask", 0, ROWS, [[1]]),
    "arranged: none": ("arranged", 6, ROWS, []),
    "arranged: another inner codec": ("arranged", 6, ROWS, ["zstd", [0, 1, 2], 0]),
    "arranged: an unhashable inner codec": ("arranged", 6, ROWS, [[], [0, 1, 2], 0]),
    "arranged: an axis twice": ("arranged", 6, ROWS, ["zlib", [0, 1, 1], 0]),
    "arranged: two axes": ("arranged", 6, ROWS, ["zlib", [0, 1], 0]),
    "arranged: an axis that is none": ("arranged", 6, ROWS, ["zlib", [0, 1, "2"], 0]),
    "arranged: ordered twice": ("arranged", 6, ROWS, ["zlib", [0, 1, 2], 2]),
    "arranged: options of the other": ("arranged", 6, ROWS, ["zlib", [0, 1, 2], 0, 3, 0, 0]),
    "arranged: rows of an empty array": ("arranged", 6, [["|i1", [2**25, 0]]], ["zlib", [0, 1, 2], 1]),
    "rans: a lane for millions of symbols": ("rans", 2000, [["|i1", [2000, 2000]]], [1, [KIND], [0]]),
    "rans: millions of columns": ("rans", 2000, [["|i1", [1, 5_000_000]]], [64, [KIND], [0]]),
    "rans: tables without end": (
        "rans",
        30000,
        [["|i1", [64, 16384]]] * 60,
        [64, [MANY_TABLES] * 60, [*range(60)]],
    ),
    "rans_rows: millions of rows": ("rans_rows", 2000, [["|i1", [700_000, 1]]], [64, [KIND], [0, 0]]),
}


def manifest_of(codec: str, size: int, specs: list[Any], options: list[Any]) -> list[Any]:
    tensors = [tensor((f"w{n}",), "keep", "int8", "int8", 0) for n in range(len(specs))]
    return [[[codec, size, specs, *options]], tensors]


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_checked_before_anything_is_allocated(name: str) -> None:
    codec, size, specs, options = OPTIONS[name]
    with pytest.raises(InputError, match=f"manifest is malformed: an? ({codec.removesuffix('_rows')}|zlib) stream"):
        decode_payload(sealed(manifest_of(codec, size, specs, options), bytes(size)))


def test_every_decoder_has_a_check() -> None:
    assert CHECKS.keys() == DECODERS.keys()


@pytest.mark.parametrize("codec", CODECS)
def test_checks_take_what_encoders_make(codec: str) -> None:
    rng = np.random.default_rng(0)
    arrays = [
        rng.integers(-1, 2, (7, 5)).astype("i1"),
        rng.normal(size=3).astype("<f4"),
        np.array(3, "<i8"),
        np.zeros((0, 3), "<u2"),
    ]
    encoded = REGISTRY[codec]().encode(arrays)
    CHECKS[codec](len(encoded.data), specs_of(arrays), json.loads(json.dumps(encoded.options)))


JSON = st.recursive(
    st.integers(-3, 9) | st.sampled_from([2**16, 2**31, 2**47, 2**63, 1.5, None, True, "zlib", "lzma"]),
    lambda values: st.lists(values, max_size=4),
    max_leaves=12,
)
STORED = {"|i1": "int8", "|u1": "uint8", "<i2": "int16", "<i4": "int32", "<u8": "uint64", "<f2": "float16", "<f4": "float32"}
LENGTHS = st.lists(st.sampled_from([0, 1, 2, 3, 64, 1000, 2**20, 2**33, 2**47]), max_size=5)
ARRAYS = st.lists(st.tuples(st.sampled_from(sorted(STORED)), LENGTHS), max_size=3)


@pytest.mark.parametrize("codec", CODECS)
@given(options=st.lists(JSON, max_size=4), arrays=ARRAYS, data=st.binary(max_size=80))
@settings(max_examples=60, deadline=None)
def test_arbitrary_manifests_give_clean_errors(codec: str, options: list[Any], arrays: list[Any], data: bytes) -> None:
    tensors = [[[f"w{n}"], "keep", STORED[dtype], STORED[dtype], 0] for n, (dtype, _) in enumerate(arrays)]
    specs = [[dtype, shape] for dtype, shape in arrays]
    payload = sealed([[[codec, len(data), specs, *options]], tensors], data)
    with contextlib.suppress(InputError):
        assert [list(value.shape) for value in decode_payload(payload).values()] == [shape for _, shape in arrays]


def test_the_bound_follows_the_payloads_size() -> None:
    assert decoded_limit(0) == decoded_limit(SMALL_PAYLOAD // PER_BYTE) == SMALL_PAYLOAD
    assert decoded_limit(16_000_000) == PER_BYTE * 16_000_000
    fits = [[["store", 0, [["|i1", [SMALL_PAYLOAD]]], [[0, 5]]]], [tensor()]]
    assert int(decode_payload(sealed(fits))["w"][-1]) == 5
    for shape in ([SMALL_PAYLOAD + 1], [2**37], [0, 2**47], [2**47, 0]):
        with pytest.raises(InputError, match="most of them for tensor 'w', is above the limit of 67,108,864"):
            decode_payload(sealed([[["store", 0, [["|i1", shape]], [[0, 0]]]], [tensor()]]))


def test_every_name_of_a_tensor_counts() -> None:
    names = tuple(f"w{number}" for number in range(1000))
    with pytest.raises(InputError, match="decodes to 100,000,000, most of them for tensor 'w0'"):
        decode_payload(sealed([[["store", 0, [["|i1", [100_000]]], [[0, 0]]]], [tensor(names)]]))


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
    monkeypatch.setattr("generator.manifest.DECODED_LIMIT", 5)
    with pytest.raises(InputError, match="take 6 bytes, .* the largest is 'w'"):
        check_writable({"v": [array[:2]], "w": [array, array[:1]]}, {"v": ["v"], "w": ["w"]})
    monkeypatch.setattr(Store, "encode", lambda *arguments: pytest.fail("coded"))
    with pytest.raises(InputError, match="the largest is 'w'"):
        generator.encode_state_dict({"w": torch.ones(9)}, rule("store", "fp16"))


def rule(codec: str, quantizer: str = "int4") -> dict[str, Any]:
    return {"codec": codec, "rule": [{"pattern": "*", "quantizer": quantizer}]}


@pytest.mark.parametrize("codec", ["rans", "rans_rows"])
def test_rans_limits_are_found_before_coding(monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    monkeypatch.setattr("generator.codecs.rans_check.MAX_STREAM", 10_000)
    weights = {"small": torch.randn(10, 10), "large": torch.randn(128, 128)}
    assert decode_payload(generator.encode_state_dict(weights, rule("auto"))).keys() == weights.keys()
    monkeypatch.setattr(Rans, "encode", lambda *arguments: pytest.fail("coded"))
    with pytest.raises(InputError, match=f"codec {codec} can't code tensor 'large': .* another codec"):
        generator.encode_state_dict(weights, rule(codec))


def test_auto_leaves_out_what_no_reader_would_take(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.rint(np.random.default_rng(0).normal(size=(128, 128)) * 6).astype("i1")
    assert {codec.id for codec in Auto().plans([weights], lambda ids: 0, 1)[0].codecs} <= {"rans", "rans_rows"}
    monkeypatch.setattr("generator.codecs.rans_check.MAX_STREAM", 10_000)
    assert not {codec.id for codec in Auto().plans([weights], lambda ids: 0, 1)[0].codecs} & {"rans", "rans_rows"}


@pytest.mark.parametrize("codec", [Rans(), RansRows()], ids=["rans", "rans_rows"])
@pytest.mark.parametrize("tables", [80, 95], ids=["before", "after"])  # three for each of 31 shapes are 93
def test_more_shapes_than_tables_share_them(monkeypatch: pytest.MonkeyPatch, codec: Rans, tables: int) -> None:
    for module in ("rans", "rans_check"):
        monkeypatch.setattr(f"generator.codecs.{module}.MAX_TABLES", tables)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-40, 40, (5, columns)).astype("i1") for columns in range(1, 31)]
    arrays.append((4.0 ** np.arange(5)[:, None] * rng.normal(size=(5, 60)) / 8).clip(-127, 127).astype("i1"))
    encoded = codec.encode(arrays)
    CHECKS[codec.id](len(encoded.data), specs_of(arrays), json.loads(json.dumps(encoded.options)))
    decoded = DECODERS[codec.id](encoded.data, specs_of(arrays), *encoded.options)
    assert all((left == right).all() for left, right in zip(decoded, arrays, strict=True))


def test_row_indices_must_be_a_permutation() -> None:
    for indices in ([0, 0], [1, 2], [2**32 - 1, 0]):
        coded = zlib_of(b"abcd" + np.array(indices, "<u4").tobytes())
        with pytest.raises(ValueError, match="no permutation"):
            decode_arranged(coded, [("|i1", [2, 2])], "zlib", [0, 1, 2], 1)


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
    encoded = Rans().encode([np.full(2**22 - 1, 3, "i1")])
    return sealed(manifest_of("rans", len(encoded.data), [["|i1", [2**22 - 1]]], encoded.options), encoded.data)


def many_arrays() -> bytes:
    count = 4000
    specs = [["|i1", [0]]] * count
    return sealed([[["rans", 64, specs, 16, [KIND], [0] * count]], [tensor((f"{n}",)) for n in range(count)]], b"\xff" * 64)


FORGED: dict[str, Callable[[], bytes]] = {
    "store": lambda: sealed([[["store", 0, [["|i1", [SMALL_PAYLOAD]]], [[0, 0]]]], [tensor()]]),
    "products": lambda: sealed(
        [
            [["store", 0, [["|i1", [2**24]], ["|i1", [2**24]], ["|i1", [2**24]]], [[0, 3], [0, 2], [0, 1]]]],
            [tensor(("w",), "grid", "float32", "float32", 0, 0, 0)],
        ]
    ),
    "groups": lambda: sealed(
        [
            [["store", 0, [["|i1", [2**24]], ["<f2", [1, 2**24]]], [[0, 3], [0, 2]]]],
            [tensor(("w",), "groups", "float32", "float32", 0, 0)],
        ]
    ),
    "columns": columns,
    "tables": lambda: sealed(
        [
            [["rans", 2**15, [["|i1", [64, 16]]] * 60, 64, [MANY_TABLES] * 60, [*range(60)]]],
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
