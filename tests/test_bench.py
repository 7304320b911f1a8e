"""golfpack bench and golfpack analyze."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import generator
from generator import codecs
from generator.errors import CheckError, InputError

FAKE_LRZIP = """#!{python}
import sys, zlib
arguments = sys.argv[1:]
output, source = arguments[arguments.index("-o") + 1], arguments[-1]
data = open(source, "rb").read()
data = zlib.decompress(data) if "-d" in arguments else zlib.compress(data)
open(output, "wb").write({damage})
"""


@pytest.fixture
def layers(tmp_path: Path) -> Path:
    """Two layers of one role, a copy of the first, a tied name, and a gain."""
    torch.manual_seed(0)
    first = torch.randn(64, 96) * 2 ** torch.randn(96)
    path = tmp_path / "layers.safetensors"
    save_file({"blocks.0.w": first, "blocks.1.w": torch.randn(64, 96), "other": 2 * first, "gain": torch.ones(9)}, path)
    return path


def test_bench_lists_every_codec_from_small_to_large(golfpack, layers: Path) -> None:
    result = json.loads(golfpack("bench", layers, "--no-external", "--json").out)
    names = [m["codec"] for m in result["measurements"]]
    assert set(names) >= {*codecs.REGISTRY.keys() - {"base3", "bitmask", "trellis"}, "rans (model order0)", "rans, center"}
    assert {"lzma, sort, transpose", "lzma, sort (by similarity), transpose", "lzma, transpose"} <= set(names)
    assert not {"rans, planes", "lzma, shuffle"} & set(names)  # for bytes of integers they do nothing
    sizes = [m["bytes"] for m in result["measurements"]]
    assert sizes == sorted(sizes)
    assert result["elements"] == 3 * 64 * 96
    for m in result["measurements"]:
        assert m["to_bound"] == pytest.approx(m["bytes"] / result["order0_bytes"], rel=1e-3)
        assert m["bits_per_weight"] == pytest.approx(8 * m["bytes"] / result["elements"])
        assert m["peak_bytes"] >= result["raw_bytes"]


def test_bench_prints_a_table(golfpack, layers: Path) -> None:
    out = golfpack("bench", layers, "--no-external").out
    assert "order-0 bound" in out
    assert "lzma, transpose" in out


def test_bench_takes_integers_as_they_are(golfpack, tmp_path: Path) -> None:
    symbols = np.random.default_rng(0).integers(-1, 2, (70, 80)).astype(np.int8)
    np.savez(tmp_path / "symbols.npz", w=symbols)
    result = generator.bench(tmp_path / "symbols.npz", external=False)
    assert result.raw_bytes == result.elements == symbols.size
    assert {"base3", "bitmask"} <= {m.codec for m in result.measurements}


def test_bench_without_integers(tmp_path: Path) -> None:
    save_file({"w": torch.ones(3)}, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="quantizes nothing to integers"):
        generator.bench(tmp_path / "w.safetensors")


@pytest.mark.parametrize(("damage", "intact"), [("data", True), ("data[:-1] + b'!' if '-d' in arguments else data", False)])
def test_bench_runs_programs_on_the_path(
    layers: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, intact: bool
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "lrzip"
    program.write_text(FAKE_LRZIP.format(python=sys.executable, damage=damage))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    assert os.access(program, os.X_OK)
    if not intact:
        with pytest.raises(CheckError, match="does not give back"):
            generator.bench(layers)
        return
    runs = {m.codec: m.bytes for m in generator.bench(layers).measurements if "lrzip" in m.codec}
    assert set(runs) == {"lrzip -z -L 9, grouped", "lrzip -z -L 9, grouped and sorted"}
    assert runs["lrzip -z -L 9, grouped and sorted"] <= runs["lrzip -z -L 9, grouped"]


def test_analyze(golfpack, layers: Path) -> None:
    result = json.loads(golfpack("analyze", layers, "--json").out)
    first, second, other = result["tensors"]
    assert first["name"] == "blocks.0.w"
    assert first["classes"] < 0.98 * first["order0"]  # columns differ
    assert second["classes"] > 0.99 * second["order0"]
    assert first["layer_delta"] is None
    assert second["layer_delta"] > second["order0"]  # unrelated layers
    assert other["duplicate_of"] == "blocks.0.w"  # twice as large: the same symbols
    assert first["rank90"][0] < second["rank90"][0] <= second["rank90"][1] == 64
    assert result["kept"] == 9


def test_analyze_finds_tied_tensors_and_correlation(golfpack, tmp_path: Path) -> None:
    smooth = torch.linspace(-1, 1, 80)[:, None] * torch.ones(70) + 0.01 * torch.randn(80, 70)
    torch.save({"a": smooth, "b": smooth}, tmp_path / "tied.pt")
    result = json.loads(golfpack("analyze", tmp_path / "tied.pt", "--json").out)
    assert result["tied"] == [["a", "b"]]
    printed = golfpack("analyze", tmp_path / "tied.pt").out
    assert "stored once: a = b" in printed
    assert "structure that could save bytes" in printed


ODD: dict[str, dict[str, torch.Tensor]] = {
    "constant": {"w": torch.full((5, 6), 3, dtype=torch.int8)},
    "constant layers": {f"layers.{n}": torch.full((5, 6), n, dtype=torch.int8) for n in range(3)},
    "zeros": {"w": torch.zeros(80, 80)},
    "one element": {"w": torch.tensor(3)},
    "one bit": {"w": torch.tensor([True])},
    "a column": {"w": torch.arange(100, dtype=torch.int16)[:, None]},
    "a row": {"w": torch.arange(100, dtype=torch.int8)[None]},
    "large": {"w": torch.tensor([2**63 + 5, 0, 2**64 - 1], dtype=torch.uint64)},
    "beside others": {
        "w": torch.full((5, 6), 3, dtype=torch.int8),
        "empty": torch.zeros(0, 4, dtype=torch.int8),
        "complex": torch.ones(3, dtype=torch.complex64),
        "float": torch.ones(3),
    },
    "tiny": {"w": torch.randn(80, 80, generator=torch.Generator().manual_seed(0)) * 1e-42},
    "32 dimensions": {"w": torch.ones([1] * 30 + [2, 2], dtype=torch.int8)},
}


@pytest.mark.parametrize("name", ODD)
def test_odd_integers(golfpack, tmp_path: Path, name: str) -> None:
    torch.save(ODD[name], tmp_path / "odd.pt")
    for command in (["bench", "--no-external"], ["analyze"]):
        result = golfpack(*command, tmp_path / "odd.pt", "--json")
        assert result.status == 0, result.err
        document = json.loads(result.out, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
        assert "complex" not in str(document)
        assert golfpack(*command, tmp_path / "odd.pt").status == 0
    if name == "constant":
        bench = generator.bench(tmp_path / "odd.pt", external=False)
        assert bench.order0_bytes == 0
        assert all(m.to_bound is None for m in bench.measurements)


@pytest.mark.parametrize("command", ["bench", "analyze"])
@pytest.mark.parametrize(
    "tensor", [torch.zeros(0, 3, dtype=torch.int8), torch.ones(3), torch.ones(90, 90, dtype=torch.complex64)]
)
def test_nothing_to_measure_is_one_sentence(golfpack, tmp_path: Path, command: str, tensor: torch.Tensor) -> None:
    torch.save({"w": tensor}, tmp_path / "odd.pt")
    result = golfpack(command, tmp_path / "odd.pt")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "holds no integers" in result.err or "'w' is complex64" in result.err
