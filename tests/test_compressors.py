"""Compressors of the program: round trips, what the bootstrap would do, and data that is none of theirs."""

from __future__ import annotations

import lzma
import zlib
from typing import Any

import pytest

from generator.compressors import AUTO, PROGRAM_LIMIT, REGISTRY, compress
from generator.errors import InputError

TEXT = b"".join(b"def f%d(x):return x+%d\n" % (i, i) for i in range(150))


def executed(name: str, data: bytes) -> Any:
    """What the bootstrap's own expression gives, and how often it called exec before."""
    compressor, calls = REGISTRY[name], []
    scope: dict[str, Any] = {module: __import__(module) for module in {*compressor.modules, "zlib"}}
    scope |= {"Y": data, "exec": lambda text: (calls.append(text), exec(text, scope))}
    names = {"program": "Y", "scratch": "X"}
    exec(compressor.setup.format(**names), scope)
    return eval(compressor.expression.format(**names), scope), len(calls)


@pytest.mark.parametrize("name", REGISTRY)
def test_round_trip_here_and_in_the_bootstrap(name: str) -> None:
    data = REGISTRY[name].compress(TEXT)
    assert len(data) < len(TEXT)
    assert REGISTRY[name].decompress(data) == TEXT
    assert executed(name, data) == (TEXT, REGISTRY[name].executions)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_bootstrap_tells_which_one_wrote_it(name: str) -> None:
    compressor = REGISTRY[name]
    names = {"program": "Y", "scratch": "X"}
    bootstrap = f"{compressor.setup.format(**names)}\nexec({compressor.expression.format(**names)})\n".encode()
    assert [one.id for one in REGISTRY.values() if one.wrote(bootstrap)] == [name]


@pytest.mark.parametrize("name", REGISTRY)
def test_damaged_programs_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="can't be decompressed|truncated|decoder that is not"):
        REGISTRY[name].decompress(b"none of its output")


@pytest.mark.parametrize("name", ["lzma", "zlib", "brotli"])  # the mix has no end: bits that are missing are zeros
def test_truncated_programs_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="can't be decompressed|truncated"):
        REGISTRY[name].decompress(REGISTRY[name].compress(TEXT)[:-8])


def test_programs_beyond_the_limit_are_refused() -> None:
    bomb = bytes(PROGRAM_LIMIT + 1)
    for name, data in (
        ("lzma", lzma.compress(bomb, lzma.FORMAT_ALONE, preset=0)),
        ("zlib", zlib.compress(bomb, 1)),
        ("brotli", __import__("brotli").compress(bomb, quality=1)),
    ):
        with pytest.raises(InputError, match="more than"):
            REGISTRY[name].decompress(data)


def test_auto_takes_the_smallest_of_those_that_need_nothing() -> None:
    assert compress(b"pass\n", AUTO) == ("zlib", REGISTRY["zlib"].compress(b"pass\n"))
    assert compress(TEXT, AUTO)[0] == "lzma"
    assert not any(one.requires for one in REGISTRY.values() if one.automatic)
    assert compress(TEXT, "mix") == ("mix", REGISTRY["mix"].compress(TEXT))
