"""The payload: golden bytes, round trips, and hostile input."""

from __future__ import annotations

import json
import lzma
import struct
import zlib
from typing import Any

import numpy as np
import pytest
import torch
from helpers import without_tiny
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import generator
from generator.codecs.lzma_raw import compress_raw
from generator.errors import CheckError, InputError
from generator.payload import check_decodes_to, decode_payload, read_manifest, same_bits
from generator.recipes.forms import as_recipe
from runtime_stub.payload import MAGIC

# encode_state_dict(GOLDEN_WEIGHTS, GOLDEN_RECIPE) as format version 2 has it. A change here is a new format version.
GOLDEN_WEIGHTS = {
    "a": torch.tensor([[0.5, -1.0], [0.25, 0.125]]),
    "b": torch.tensor([1.5, -2.0]),
    "tied": torch.tensor([1.5, -2.0]),
    "n": torch.tensor(7),
}
GOLDEN_RECIPE = {
    "rule": [
        {"pattern": "a", "quantizer": "int4", "codec": "store"},
        {"pattern": "n", "quantizer": "keep", "codec": "zlib"},
        {"pattern": "*", "quantizer": "fp16", "codec": "lzma"},
    ]
}
GOLDEN = (
    "47504b029b000000002de8c8216385f2378ab711f3d4baa2a7c99c38696fec72048bf9e72e48b68bdbd07d2d8bc73b970ef228a8a4038d"
    "23235dab5b47921af94f7f6fe9d9f6624bad2eea90f6ee2734c5be835076eb7727a20aa78023529d191c8d8d972fa22468bd29695e4d8e"
    "5b3ee3fb55204548bb66a0c1480cd3d7fc63e64e16798b7bff012dd24281b5fcbb53cf8fec1981002c18590d2b5678c3ff46b780000bbe"
    "00080000001103eb455e961ffffad3a0006367800000209f9633"
)


def test_golden_bytes() -> None:
    payload = generator.encode_state_dict(GOLDEN_WEIGHTS, GOLDEN_RECIPE)
    assert payload.hex() == GOLDEN


def test_golden_bytes_decode() -> None:
    decoded = decode_payload(bytes.fromhex(GOLDEN))
    step = float(np.float16(1 / 7))
    assert list(decoded) == ["a", "b", "tied", "n"]
    assert decoded["a"][0].tolist() == pytest.approx([4 * step, -7 * step])
    assert decoded["b"].tolist() == decoded["tied"].tolist() == [1.5, -2.0]
    assert decoded["n"].dtype == torch.int64
    assert decoded["n"].item() == 7


def test_frame_is_as_documented() -> None:
    payload = bytes.fromhex(GOLDEN)
    assert payload[:4] == b"GPK\x02"
    (size,) = struct.unpack_from("<I", payload, 4)
    filters = [{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 24, "lc": 3, "lp": 0, "pb": 0}]
    streams, tensors = json.loads(lzma.decompress(payload[8 : 8 + size], lzma.FORMAT_RAW, filters=filters))
    assert [stream[2][0] for stream in streams] == ["store", "store", "lzma", "zlib"]
    assert tensors[1] == [["b", "tied"], "keep", "float16", "float32", 2]
    assert sum(stream[0] for stream in streams) == len(payload) - 8 - size - 4
    assert struct.unpack_from("<I", payload, len(payload) - 4)[0] == zlib.crc32(payload[:-4])


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8),
        st.one_of(
            hnp.arrays(
                np.float32,
                hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
                elements=st.floats(-9, 9, width=32).map(without_tiny),
            ),
            hnp.arrays(np.int64, hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=4)),
            hnp.arrays(np.bool_, hnp.array_shapes(max_dims=2, max_side=4)),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["int2", "int6", "int8", "fp16", "bf16", "fp32", "keep"]),
    st.sampled_from(["store", "zlib", "lzma"]),
)
@settings(max_examples=60, deadline=None)
def test_round_trip(arrays: dict[str, np.ndarray], quantizer: str, codec: str) -> None:
    state_dict = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    recipe = as_recipe({"codec": codec, "rule": [{"pattern": "*", "quantizer": quantizer}]})
    decoded = decode_payload(generator.encode_state_dict(state_dict, recipe))  # compared with the quantizer's report inside
    assert decoded.keys() == state_dict.keys()
    for name, tensor in state_dict.items():
        assert decoded[name].shape == tensor.shape
        assert decoded[name].dtype == tensor.dtype
        if quantizer == "keep" or not tensor.is_floating_point():
            assert same_bits(decoded[name], tensor)


def test_tied_tensors_do_not_share_memory_when_loaded() -> None:
    decoded = decode_payload(bytes.fromhex(GOLDEN))
    decoded["tied"].zero_()
    assert decoded["b"].tolist() == [1.5, -2.0]


def test_a_decoder_that_gives_other_bits_is_caught() -> None:
    with pytest.raises(CheckError, match="tensor 'b' decodes to other bits"):
        check_decodes_to(bytes.fromhex(GOLDEN), {"b": torch.tensor([1.5, 2.0])})
    with pytest.raises(CheckError, match="tensor 'c' is missing"):
        check_decodes_to(bytes.fromhex(GOLDEN), {"b": torch.tensor([1.5, -2.0]), "c": torch.tensor(1.0)})


def sealed(manifest: Any, streams: bytes = b"") -> bytes:
    """A payload with valid frame and checksum around any manifest."""
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    coded = compress_raw(text, 3, 0, 0)
    body = MAGIC + struct.pack("<I", len(coded)) + coded + streams
    return body + struct.pack("<I", zlib.crc32(body))


@given(st.integers(0, len(GOLDEN) // 2 - 1), st.integers(1, 255))
@settings(max_examples=100, deadline=None)
def test_any_changed_byte_is_noticed(position: int, change: int) -> None:
    damaged = bytearray.fromhex(GOLDEN)
    damaged[position] ^= change
    with pytest.raises(InputError):
        decode_payload(bytes(damaged))


@given(st.integers(0, len(GOLDEN) // 2 - 1))
@settings(max_examples=30, deadline=None)
def test_truncation_is_noticed(length: int) -> None:
    with pytest.raises(InputError):
        decode_payload(bytes.fromhex(GOLDEN)[:length])


def tensor(
    names: Any = ("w",), dequantizer: Any = "keep", stored: Any = "int8", dtype: Any = "int8", *sources: Any
) -> list[Any]:
    return [list(names) if isinstance(names, tuple) else names, dequantizer, stored, dtype, *(sources or (0,))]


def zlib_of(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def stream(codec: Any, size: Any, specs: Any, *options: Any) -> list[Any]:
    """A stream without filters, as the manifest has it."""
    return [size, specs, [codec, *options]]


BYTE_STREAM = stream("store", 1, [["|i1", [1]]], [[8, 0]])
HOSTILE = {
    "not JSON": (b"{", b"", "malformed"),
    "not UTF-8": (b"\xff\xff", b"", "malformed"),
    "deeply nested": (b"[" * 200_000, b"", "malformed"),
    "an object": ({"streams": []}, b"", "malformed"),
    "three parts": ([[], [], []], b"", "malformed"),
    "huge number": (b"[[[" + b"9" * 5000 + b"]],[]]", b"", "malformed"),
    "unknown codec": ([[stream("exec", 1, [["|i1", [1]]])], [tensor()]], b"x", "unknown codec 'exec'"),
    "codec of another type": ([[stream({}, 1, [])], []], b"x", "malformed"),
    "negative size": ([[stream("store", -1, [["|i1", [1]]], [[8, 0]])], [tensor()]], b"x", "no valid size"),
    "size beyond the end": ([[stream("zlib", 2, [["|i1", [1]]])], [tensor()]], b"x", "don't fill it exactly"),
    "size short of the end": ([[BYTE_STREAM], [tensor()]], b"xy", "don't fill it exactly"),
    "object dtype": ([[stream("store", 1, [["|O", [1]]], [[8, 0]])], [tensor()]], b"x", "unknown array dtype"),
    "terabytes": (
        [[stream("zlib", 1, [["<i8", [2**40]]])], [tensor(("w",), "keep", "int64", "int64")]],
        b"x",
        "above the limit",
    ),
    "overflowing shape": (
        [[stream("zlib", 1, [["<i8", [2**40] * 9]])], [tensor(("w",), "keep", "int64", "int64")]],
        b"x",
        "above the limit",
    ),
    "negative shape": ([[stream("zlib", 1, [["<i8", [-1]]])], [tensor()]], b"x", "invalid shape"),
    "boolean shape": ([[stream("zlib", 1, [["<i8", [True]]])], [tensor()]], b"x", "invalid shape"),
    "100 dimensions": ([[stream("zlib", 1, [["<i8", [1] * 100]])], [tensor()]], b"x", "invalid shape"),
    "no names": ([[BYTE_STREAM], [tensor(())]], b"x", "no valid names"),
    "numeric name": ([[BYTE_STREAM], [tensor((5,))]], b"x", "no valid names"),
    "name twice": ([[BYTE_STREAM], [tensor(("w", "w"))]], b"x", "names a tensor twice"),
    "unknown dequantizer": ([[BYTE_STREAM], [tensor(("w",), "eval")]], b"x", "unknown dequantizer 'eval'"),
    "attribute that is no dtype": ([[BYTE_STREAM], [tensor(("w",), "keep", "load", "int8")]], b"x", "unknown dtype"),
    "missing stream": ([[BYTE_STREAM], [tensor(("w",), "keep", "int8", "int8", 1)]], b"x", "stream 1, which does not exist"),
    "array used twice": ([[BYTE_STREAM], [tensor(), tensor(("v",))]], b"x", "exactly once"),
    "array unused": ([[BYTE_STREAM], []], b"x", "exactly once"),
    "element size": ([[BYTE_STREAM], [tensor(("w",), "keep", "float32", "float32")]], b"x", "don't fit its dequantizer"),
    "arity": ([[BYTE_STREAM], [tensor(("w",), "scale", "float32", "float32")]], b"x", "don't fit its dequantizer"),
    "broadcast that blows up": (
        [
            [stream("store", 0, [["|i1", [1, 1000000]], ["<f2", [1000000, 1]]], [[0, 0], [0, 0]])],
            [tensor(("w",), "scale", "float32", "float32", 0, 0)],
        ],
        b"",
        "don't fit its dequantizer",
    ),
    "stream shorter than its arrays": ([[stream("zlib", 2, [["|i1", [100]]])], [tensor()]], b"\x03\x00", "can't be decoded"),
    "stream that is no deflate": ([[stream("zlib", 4, [["|i1", [100]]])], [tensor()]], b"\xff\xff\xff\xff", "can't be decoded"),
    "stream that is no LZMA": (
        [[stream("lzma", 4, [["|i1", [100]]], 3, 0, 0)], [tensor()]],
        b"\xff\xff\xff\xff",
        "can't be decoded",
    ),
    "no arrays for a product": ([[], [[["w"], "scale", "float32", "float32"]]], b"", "don't fit its dequantizer"),
    "name that is no text": ([[BYTE_STREAM], [tensor(("\ud800",))]], b"x", "no valid names"),
    "a million lists": (b"[[" + b",".join([b"[]"] * 1_050_000) + b"],[]]", b"", "malformed: .* expand to|lists or"),
    "text from nothing": (b"[[],[]]" + b" " * 1_050_000, b"", "malformed: .* expand to"),
    "no stages": ([[[1, [["|i1", [1]]]]], [tensor()]], b"x", "malformed: a stream has no stages"),
    "a filter twice": ([[[1, [["|i1", [1]]], ["sort"], ["sort"], ["zlib"]]], [tensor()]], b"x", "the same stage twice"),
    "a stage that is none": ([[[1, [["|i1", [1]]], "zlib"]], [tensor()]], b"x", "a malformed stage"),
    "a codec as filter": ([[[1, [["|i1", [1]]], ["zlib"], ["lzma"]]], [tensor()]], b"x", "unknown filter 'zlib'"),
    "a filter as codec": ([[[1, [["|i1", [1]]], ["transpose"]]], [tensor()]], b"x", "unknown codec 'transpose'"),
    "a reference to itself": (
        [[[1, [["|i1", [1]]], ["delta", [[0, 0]]], ["store", [[8, 0]]]]], [tensor()]],
        b"x",
        "refers to an array that does not come before",
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests(name: str) -> None:
    manifest, streams, message = HOSTILE[name]
    with pytest.raises(InputError, match=message):
        decode_payload(sealed(manifest, streams))


def test_the_sealed_frame_itself_is_accepted() -> None:
    assert decode_payload(sealed([[BYTE_STREAM], [tensor()]], b"\x05"))["w"].tolist() == [5]


def test_other_versions_are_named() -> None:
    with pytest.raises(InputError, match="version 3"):
        read_manifest(b"GPK\x03" + bytes(20))
    with pytest.raises(InputError, match="magic"):
        read_manifest(b"PK\x03\x04")
