"""The mix code compression: round trips, exact tables, and a decoder in the artifact that is the module's."""

from __future__ import annotations

import ast
import math
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.compressors import REGISTRY
from generator.compressors.mixing import encode_mix
from generator.errors import InputError
from generator.source.loader import gather_function
from generator.source.shrink import Shrinking, minify
from generator.templating import render
from runtime_stub.mixing import decode_mix

TEXT = b"for name in names:\n    print(name, len(name))\n" * 6


@settings(max_examples=15, deadline=None)
@given(st.binary(max_size=40))
def test_round_trip(data: bytes) -> None:
    assert decode_mix(encode_mix(data)) == data


def test_the_decoder_in_the_artifact_decodes() -> None:
    scope: dict[str, object] = {}
    exec(render("mix_decoder.py.j2"), scope)
    decoder = scope["M"]
    assert callable(decoder)
    for text in (TEXT, b"", bytes(100), bytes(range(256))):
        assert decoder(encode_mix(text)) == text


def test_the_decoder_in_the_artifact_is_the_module() -> None:
    function = gather_function("runtime_stub.mixing", "decode_mix", "M")
    minified = minify(ast.Module([function], []), Shrinking(keep_names=frozenset({"M"})))
    assert ast.dump(ast.parse(minified)) == ast.dump(ast.parse(render("mix_decoder.py.j2")))


def test_tables_do_not_depend_on_the_last_bit_of_a_logarithm() -> None:
    stretch = [256 * math.log((i + 0.5) / (4095.5 - i)) for i in range(4096)]
    squash = [65534 / (1 + math.exp(12 - i / 256)) for i in range(6144)]
    for value in stretch + squash:
        # One value is exact: exp(0) = 1 gives half of 65534 on every machine.
        assert abs(value - round(value)) > 1e-9 or value == 32767


def test_golden_bytes() -> None:
    assert zlib.crc32(encode_mix(TEXT)) == GOLDEN


GOLDEN = 1346482776


def test_smaller_than_lzma_where_it_counts() -> None:
    text = b"".join(b"def f%d(x):\n    return x * %d + g%d(x)\n" % (i, i * i, i // 3) for i in range(60))
    assert len(encode_mix(text)) < len(REGISTRY["lzma"].compress(text))


def test_another_decoder_is_not_believed() -> None:
    """What runs is the decoder in the file: if it is another, what it would give is unknown."""
    good = REGISTRY["mix"].compress(TEXT)
    assert REGISTRY["mix"].decompress(good) == TEXT
    coded = zlib.decompressobj()
    coded.decompress(good)
    forged = zlib.compress(b"def M(d):return b'import os'") + coded.unused_data
    with pytest.raises(InputError, match="decoder that is not the one known"):
        REGISTRY["mix"].decompress(forged)


def test_claimed_lengths_are_bounded() -> None:
    good = REGISTRY["mix"].compress(b"x")
    with pytest.raises(InputError, match="claims more than"):
        REGISTRY["mix"].decompress(good[: good.index(b"\0\0\1")] + b"\xff\xff\xff" + bytes(9))
    with pytest.raises(InputError, match="too many for mix"):
        REGISTRY["mix"].compress(bytes(2**20))
