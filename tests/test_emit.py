"""The emitter: what it does once, and that it makes no difference."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch

from generator import encode_state_dict
from generator.carriers import DEFAULT_ALLOW, REGISTRY
from generator.emit import Emitted, Emitter
from generator.errors import InputError
from generator.packing import Options
from generator.payload import Payload
from generator.source import program, shrink
from generator.source.collecting import Bundle, Module
from generator.source.script import Script

TEXT = "import helper\nfrom runtime_stub import load_state_dict\nprint(helper.half(load_state_dict()))\n"
HELPER = Module(
    b"def half(tensors):\n    return {name: tensor / 2 for name, tensor in tensors.items()}\n", False, Path("helper.py")
)


def script() -> Script:
    return Script(Path("script.py"), ast.parse(TEXT), len(TEXT), True)


def options(carrier: str = "auto") -> Options:
    return Options(carrier=carrier, bundle=Bundle({"helper": HELPER}))


def payload(size: int, codec: str = "store") -> Payload:
    return Payload.read(
        encode_state_dict({"w": torch.arange(float(size))}, {"codec": codec, "rule": [{"pattern": "*", "quantizer": "keep"}]})
    )


def emitted_anew(one: Payload, carrier: str = "auto") -> Emitted:
    return Emitter(script(), options(carrier)).emit(one)


@pytest.fixture
def shrunk(monkeypatch: pytest.MonkeyPatch) -> list[ast.Module]:
    """The trees that are minified in every way of naming."""
    trees: list[ast.Module] = []

    def counting(tree: ast.Module, *arguments: object, **named: object) -> shrink.Shrunk:
        trees.append(tree)
        return shrink.shrink(tree, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(program, "shrink", counting)
    return trees


def test_payloads_that_differ_in_size_are_minified_once(shrunk: list[ast.Module]) -> None:
    emitter = Emitter(script(), options("base85"))
    sizes = [emitter.emit(payload(size)) for size in (3, 30, 300)]
    assert len(shrunk) == 1
    assert sizes == [emitted_anew(payload(size), "base85") for size in (3, 30, 300)]
    emitter.emit(payload(3, "zlib"))  # needs another loader
    assert len(shrunk) == 5


def test_auto_gives_the_smallest_carriers_bytes(shrunk: list[ast.Module]) -> None:
    emitter = Emitter(script(), options())
    chosen = emitter.emit(payload(2000))
    assert len(shrunk) == len(DEFAULT_ALLOW)  # each finds the payload in another way
    alone = [emitted_anew(payload(2000), carrier) for carrier in DEFAULT_ALLOW]
    assert chosen == min(alone, key=lambda one: one.written.size)
    assert emitter.emit(payload(2000)) == chosen


def test_auto_neither_reads_the_payload_nor_the_script_again(monkeypatch: pytest.MonkeyPatch) -> None:
    one, emitter = payload(5), Emitter(script(), options())

    def refuse(*arguments: object) -> None:
        raise AssertionError("read again")

    for name in ("readings_of", "add_bundle", "shrinking_notes", "reads_own_text", "wants_source"):
        monkeypatch.setattr(f"generator.emit.{name}", refuse)
    for name in ("read_manifest", "read_payload", "decode_payload"):
        monkeypatch.setattr(f"generator.payload.container.{name}", refuse)
    assert emitter.emit(one).carrier in DEFAULT_ALLOW


def test_the_script_is_left_as_it_is() -> None:
    one = script()
    before = ast.dump(one.tree)
    Emitter(one, options()).emit(payload(3))
    assert ast.dump(one.tree) == before


def test_carriers_that_auto_may_take_are_those_that_say_so() -> None:
    assert DEFAULT_ALLOW == ("base85", "latin1", "zip") == tuple(name for name in REGISTRY if REGISTRY[name].automatic)
    assert all(name == carrier.id for name, carrier in REGISTRY.items())
    alone = Script(Path("script.py"), ast.parse("print(1)"), 8, False)
    with pytest.raises(InputError, match="^carrier sidecar needs weights; a script alone goes into base85, latin1 or zip$"):
        Emitter(alone, Options(carrier="sidecar")).emit(None)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(InputError, match="^unknown compressor 'rar'; known: lzma, zlib, brotli, mix, auto$"):
        Options(compressor="rar")
    with pytest.raises(InputError, match="unknown carrier 'tar'; known: base85, latin1, sidecar, zip, auto"):
        Options(carrier="tar")
