"""Bytes of the past: what was coded, quantized or packed means the same for ever; of version 1, see test_version_1.py.

`tests/golden/` keeps them as text. Decoding them is tested strictly; coding is compared byte for byte where the code is ours,
and not where a library's version decides. Running this file adds what a new codec, dequantizer or carrier needs, and
changes nothing that is there.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from arrays import fields, path_symbols
from helpers import run_python
from test_artifact_runs import TORCH_DOUBLE

import generator
from generator import codecs, dequantizers, filters
from generator.carriers import REGISTRY as CARRIERS
from generator.codecs.chain import DECODERS, Chain, check_stages
from generator.fields import specs_of
from generator.recipes.coding import chain_of
from runtime_stub import registry
from runtime_stub.payload import run_stages
from runtime_stub.registry import DEQUANTIZERS

FOLDER = Path(__file__).parent / "golden"
OURS = {"store", "base3", "bitmask", "rans", "trellis"}  # the others' bytes are their libraries'


def numbers(count: int, seed: int) -> np.ndarray:
    """Integers from 0 to 65535 that are the same everywhere (a linear congruential generator)."""
    values, state = [], seed
    for _ in range(count):
        state = (state * 1103515245 + 12345) % 2**31
        values.append(state >> 15)
    return np.array(values, "<i8")


def bell(rows: int, columns: int, seed: int) -> np.ndarray:
    """Sums of four, from −30 to 30, wider in later columns."""
    values = numbers(4 * rows * columns, seed).reshape(4, rows, columns) % 16
    return (values.sum(0) - 30) * np.arange(1, columns + 1) // columns


MIXED = [
    (numbers(35, 1) % 13 - 6).reshape(5, 7).astype("i1"),
    np.array([0.5, -2, 3, np.inf, -0.0], "<f2"),
    np.zeros(3, "u1"),
    np.array(-(2**40), "<i8"),
    np.zeros((0, 4), "<i2"),
    (numbers(12, 2) - 30000).reshape(2, 3, 2).astype("<i2"),
]
TERNARY = [
    (numbers(41, 3) % 3 - 1).astype("i1"),
    (numbers(30, 4) % 3 - 1).reshape(5, 6).astype("<i4"),
]
SPOILED = bell(60, 50, 5).astype("<i2")
SPOILED[7, 3], SPOILED[59, 49] = 30000, -30000
PATHS = [path_symbols(bell(50, 40, seed), states).astype("<i2") for seed, states in ((5, 8), (6, 8), (7, 4))]
PATHS.append(np.ascontiguousarray(PATHS[0].reshape(5, 10, 40).swapaxes(1, 2)))
PHRASES = [np.tile((numbers(24, seed % 5) % 256).astype("u1"), 12)[seed:] for seed in range(40)]
SIMILAR = (bell(30, 20, 8) // 8 + 20 * (np.arange(20) % 5 - 2)).astype("i1")
FLOATS = [np.array([[0.5, -2, 3e-5], [np.inf, -0.0, np.nan]], dtype) for dtype in ("<f2", "<f4")]
# Name → codec as a recipe has it, arrays.
CODED: dict[str, tuple[Any, list[np.ndarray]]] = {
    "store": ("store", MIXED),
    "zlib": ("zlib", MIXED),
    "lzma": ("lzma", MIXED),
    "lzma with position bits": ({"id": "lzma", "lc": 1, "lp": 2, "pb": 1}, MIXED),
    "zstd": ("zstd", MIXED),
    "zstd with a dictionary": ({"id": "zstd", "dictionary": 512}, PHRASES),
    "brotli": ("brotli", MIXED),
    "base3": ("base3", TERNARY),
    "bitmask": ("bitmask", TERNARY),
    "rans": ("rans", MIXED),
    "rans that adapts": ("rans", [SPOILED, bell(40, 50, 6).astype("i1"), bell(40, 50, 7).astype("i1")]),
    "trellis": ("trellis", PATHS),
    "rans without classes": ({"id": "rans", "model": "order0"}, [SPOILED]),
    "center": ({"id": "rans", "filters": ["center"]}, [SIMILAR, bell(40, 50, 6).astype("<i2")]),
    "delta": ({"id": "store", "filters": [{"id": "delta", "replace": "1", "by": "0"}]}, [MIXED[0], MIXED[0] // 2]),
    "planes": ({"id": "store", "filters": ["planes"]}, FLOATS),
    "shuffle": ({"id": "store", "filters": ["shuffle"]}, [MIXED[1], MIXED[3], MIXED[5]]),
    "sort": ({"id": "store", "filters": ["sort"]}, [MIXED[0], MIXED[5], SIMILAR]),
    "sort by similarity": ({"id": "rans", "filters": [{"id": "sort", "by": "similarity"}]}, [SIMILAR]),
    "transpose": ({"id": "store", "filters": ["transpose"]}, [MIXED[0], MIXED[5]]),
    "sort, transpose, shuffle": ({"id": "rans", "filters": ["sort", "transpose", "shuffle"]}, [MIXED[5]]),
}
SYMBOLS = (numbers(24, 9) % 31 - 15).reshape(4, 6).astype("i1")
FACTORS = [
    (numbers(8, 10) % 4 - 2).reshape(4, 2).astype("i1"),
    np.array([[0.3]], "<f2"),
    (numbers(12, 11) % 16 - 8).reshape(2, 6).astype("i1"),
    np.array([[0.1, 0.7], [3e-5, 1.1]], "<f2"),
]
# Name → dequantizer id, its arrays.
DEQUANTIZED: dict[str, tuple[str, list[np.ndarray]]] = {
    "keep": ("keep", [np.array([1.5, -2], "<f4")]),
    "scale": ("scale", [SYMBOLS, np.array([[0.1], [3e-5], [65504], [-1]], "<f2")]),
    "scale of a number": ("scale", [np.array(7, "i1"), np.array(0.1, "<f2")]),
    "groups": ("groups", [SYMBOLS, np.array([[0.1, 0.2, 0.3, 0.4]] * 4, "<f4")]),
    "grid": ("grid", [SYMBOLS.astype("<i2"), np.array([[-9], [2], [127], [-128]], "i1"), np.arange(-3, 3, dtype="<i2")[None]]),
    "grid_gains": (
        "grid_gains",
        [SYMBOLS, *(np.array(one, "i1") for one in ([[-9], [2], [7], [-8]], [range(-3, 3)], [[-128], [127], [0], [3]], [[1]]))],
    ),
    "scale_low_rank": ("scale_low_rank", [SYMBOLS, np.array([[0.1], [3e-5], [2], [-1]], "<f2"), *FACTORS]),
    "groups_low_rank": ("groups_low_rank", [SYMBOLS, np.array([[0.1, 0.2, 0.3, 0.4]] * 4, "<f4"), *FACTORS]),
    "grid_low_rank": ("grid_low_rank", [SYMBOLS, np.array([[-9], [2], [7], [-8]], "i1"), np.zeros((1, 6), "i1"), *FACTORS]),
}


SCRIPT = "from runtime_stub import load_state_dict\nprint(load_state_dict()['w'].numpy().tolist())\n"
WEIGHTS = [[0.0, 1.0, -2.0], [0.5, 0.25, 4096.0]]


def stored(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return found


def chain(name: str) -> Chain:
    found = chain_of(CODED[name][0])
    assert isinstance(found, Chain)
    return found


def coded(name: str) -> dict[str, Any]:
    result = chain(name).encode(fields(*CODED[name][1]))
    *before, (_, *options) = result.stages
    return {**({"filters": before} if before else {}), "options": options, "data": base64.b85encode(result.data).decode()}


def dequantized(name: str) -> str:
    identifier, arrays = DEQUANTIZED[name]
    result = np.asarray(DEQUANTIZERS[identifier](*(array.copy() for array in arrays)))
    return f"{result.dtype.str} {list(result.shape)} {result.tobytes().hex()}"


def packed(carrier: str) -> dict[str, Any]:
    """A complete artifact, its files by name."""
    with tempfile.TemporaryDirectory() as folder:
        script, path = Path(folder, "script.py"), Path(folder, "train_gpt.py")
        script.write_text(SCRIPT)
        recipe = {"codec": "store", "rule": [{"pattern": "*", "quantizer": "fp16"}]}
        generator.build(script, {"w": torch.tensor(WEIGHTS)}, path, recipe=recipe, carrier=carrier, header=False)
        script.unlink()
        return {file.name: base64.b85encode(file.read_bytes()).decode() for file in sorted(Path(folder).iterdir())}


def test_nothing_is_without_golden_bytes() -> None:
    assert {name for one in CODED for name in chain(one).ids} == DECODERS.keys()
    assert {identifier for identifier, _ in DEQUANTIZED.values()} == DEQUANTIZERS.keys()
    assert stored("carriers").keys() == CARRIERS.keys()
    assert stored("codecs").keys() == CODED.keys()
    assert stored("dequantizers").keys() == DEQUANTIZED.keys()


def test_what_the_stub_finds_is_what_is_registered() -> None:
    assert registry.DECODERS == DECODERS
    assert {name: kind.function for name, kind in dequantizers.REGISTRY.items()} == registry.DEQUANTIZERS
    for known in (codecs.REGISTRY, filters.REGISTRY, dequantizers.REGISTRY):
        assert all(kind.id == name for name, kind in known.items())


@pytest.mark.parametrize("name", CODED)
def test_coded_bytes_decode_to_what_they_were_made_from(name: str) -> None:
    arrays = CODED[name][1]
    old = stored("codecs")[name]
    data = base64.b85decode(old["data"])
    specs = [(dtype, list(shape)) for dtype, shape in specs_of(fields(*arrays))]
    stages = [*old.get("filters", []), [chain(name).codec.id, *old["options"]]]
    check_stages(len(data), specs, stages)
    decoded = run_stages(data, specs, stages, DECODERS, [])
    assert [(a.dtype.str, a.shape, a.tobytes()) for a in decoded] == [(a.dtype.str, a.shape, a.tobytes()) for a in arrays]


@pytest.mark.parametrize("name", [name for name in CODED if chain(name).codec.id in OURS])
def test_our_own_codecs_give_the_same_bytes(name: str) -> None:
    assert json.loads(json.dumps(coded(name))) == stored("codecs")[name]


@pytest.mark.parametrize("name", DEQUANTIZED)
def test_dequantized_bytes(name: str) -> None:
    assert dequantized(name) == stored("dequantizers")[name]


@pytest.mark.parametrize("name", CARRIERS)
def test_artifacts_of_the_past(name: str, tmp_path: Path) -> None:
    """They read, load and are written as they were. An entry whose bootstrap is meant to change is made anew."""
    for file, text in stored("carriers")[name].items():
        (tmp_path / file).write_bytes(base64.b85decode(text))
    path = tmp_path / "train_gpt.py"
    assert generator.verify(path).passed
    assert generator.unpack(path).state_dict["w"].tolist() == WEIGHTS
    read = CARRIERS[name].read(path.read_bytes(), lambda file: (tmp_path / file).read_bytes())
    assert read is not None
    written = CARRIERS[name].write(read.cargo, "train_gpt")
    assert {"train_gpt.py": written.main, **written.beside} == {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    double = tmp_path / "double"
    double.mkdir()
    (double / "torch.py").write_text(TORCH_DOUBLE)
    assert run_python(sys.executable, path, cwd=Path("/"), environment={"PYTHONPATH": str(double)}) == f"{WEIGHTS}\n"


def write() -> None:
    """Add what is missing."""
    FOLDER.mkdir(exist_ok=True)
    for file, names, make in (
        ("codecs", CODED, coded),
        ("dequantizers", DEQUANTIZED, dequantized),
        ("carriers", CARRIERS, packed),
    ):
        old = stored(file)
        new = {name: old.get(name) or make(name) for name in names}
        lines = (f"{json.dumps(name)}: {json.dumps(value)}" for name, value in new.items())
        (FOLDER / f"{file}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    write()
