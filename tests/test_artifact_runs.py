"""The emitted file where users run it: bare environments, other folders, other Pythons and numpys."""

from __future__ import annotations

import sys
from pathlib import Path

import interpreters
import numpy as np
import pytest
import torch
from arrays import path_symbols
from helpers import EXAMPLE, run_python
from interpreters import ENVIRONMENTS, PYTHONS, numpy_python

import generator
from generator import codecs, filters
from generator.audit.artifact import read_artifact
from generator.weights.checkpoint import tensor_bytes

# Stands in for torch where there is no build of it: enough for the loader, in numpy.
TORCH_DOUBLE = """
import numpy


class Tensor:
    def __init__(self, array):
        self.array = array

    def view(self, dtype):
        return Tensor(self.array.view(dtype))

    def to(self, dtype):
        return Tensor(self.array.astype(dtype))

    def clone(self):
        return Tensor(self.array.copy())

    def numpy(self):
        return self.array


def as_tensor(array):
    return Tensor(numpy.asarray(array))


float32, float16, int64, int8, uint8, bool = map(numpy.dtype, ("f4", "f2", "i8", "i1", "u1", "?"))
"""

CODECS = sorted(name for name, codec in codecs.REGISTRY.items() if not codec.requires)
FILTERED = {name: {"id": "store", "filters": [name]} for name in filters.REGISTRY if name != "delta"}
FILTERED["delta"] = {"id": "rans", "filters": [{"id": "delta", "replace": "delta", "by": "sort"}]}


@pytest.fixture
def artifact(tmp_path: Path, script: Path, state_dict: dict[str, torch.Tensor]) -> Path:
    """A file that uses every codec that needs no further module at run time."""
    coded = {
        f"coded.{codec}": torch.randn(96, 64, generator=torch.Generator().manual_seed(n)) for n, codec in enumerate(CODECS)
    }
    coded |= {f"coded.{name}": coded["coded.rans"] * number for number, name in enumerate(FILTERED, 2)}
    paths = np.random.default_rng(0).normal(size=(96, 64)) * 3
    coded["coded.trellis"] = torch.from_numpy(path_symbols(np.rint(paths).astype("i8"), 8).astype("i1"))
    ternary = {"base3", "bitmask"}
    recipe = {
        "rule": [
            *({"pattern": f"coded.{c}", "quantizer": "int2" if c in ternary else "int6", "codec": c} for c in CODECS),
            {"pattern": "coded.planes", "quantizer": "fp16", "codec": FILTERED["planes"]},
            *({"pattern": f"coded.{name}", "quantizer": "int8", "codec": codec} for name, codec in FILTERED.items()),
            {"pattern": "blocks.0.weight", "quantizer": "int5", "codec": "store"},
            {"pattern": "blocks.0.gain", "quantizer": "fp16", "codec": "zlib"},
            {"pattern": ["steps", "mask"], "quantizer": "keep", "codec": "store"},
            {"pattern": "*", "quantizer": "int6", "codec": "lzma"},
        ]
    }
    path = tmp_path / "dist" / "train_gpt.py"
    generator.build(script, {**state_dict, **coded}, path, recipe=recipe)
    manifest = read_artifact(path).manifest
    assert manifest is not None
    assert {name for stream in manifest.streams for name in stream.ids} == {*CODECS, *FILTERED}
    return path


def expected_output(artifact: Path) -> str:
    """What the digest script prints for the weights that `unpack` gives."""
    import hashlib

    lines = []
    for name, tensor in sorted(generator.unpack(artifact).state_dict.items()):
        dtype = str(tensor.numpy().dtype)
        lines.append(f"{name} {dtype} {list(tensor.shape)} {hashlib.sha256(tensor_bytes(tensor)).hexdigest()}\n")
    return "".join(lines)


def test_runs_from_another_folder_without_golfpack(artifact: Path, bare_python: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    probe = "import importlib.util as u; print([u.find_spec(name) for name in ('generator', 'runtime_stub', 'rich')])"
    assert run_python(bare_python, "-c", probe, cwd=elsewhere) == "[None, None, None]\n"
    assert run_python(bare_python, artifact, cwd=elsewhere) == expected_output(artifact)


@pytest.mark.parametrize(("version", "numpy"), ENVIRONMENTS, ids=lambda value: value)
def test_runs_on_other_pythons_and_numpys(artifact: Path, tmp_path: Path, version: str, numpy: str) -> None:
    double = tmp_path / "double"
    double.mkdir()
    (double / "torch.py").write_text(TORCH_DOUBLE)
    output = run_python(numpy_python(version, numpy), artifact, cwd=Path("/"), environment={"PYTHONPATH": str(double)})
    assert output == expected_output(artifact)


def test_this_interpreter_is_among_those_tested() -> None:
    assert f"3.{sys.version_info[1]}" in PYTHONS


def test_an_environment_that_was_not_prepared_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interpreters, "CACHE", tmp_path)
    with pytest.raises(AssertionError, match=r"environment with numpy<2 is not prepared; run make environments"):
        numpy_python("3.12", "numpy<2")
    assert not list(tmp_path.iterdir())


def test_example_prints_the_same_packed_and_unpacked(tmp_path: Path, bare_python: Path) -> None:
    """The example with a tiny random model: same tokens, same dtype, same val_bpb."""
    sys.path.insert(0, str(EXAMPLE))
    try:
        import train_gpt as example
    finally:
        sys.path.remove(str(EXAMPLE))
    torch.manual_seed(0)
    weights = example.GPT(1, 64).state_dict()
    packed = tmp_path / "packed" / "train_gpt.py"
    inspection = generator.build(EXAMPLE / "train_gpt.py", weights, packed, recipe=EXAMPLE / "recipe.toml")
    assert inspection.wrapper_bytes < 6000
    unpacked = generator.unpack(packed, tmp_path / "unpacked")
    arguments = ["--val-tokens", 2048]
    from_packed = run_python(bare_python, packed, *arguments, cwd=Path("/"))
    payload = {"GOLFPACK_PAYLOAD": str(tmp_path / "unpacked" / "payload.gpk")}
    from_script = run_python(sys.executable, EXAMPLE / "train_gpt.py", *arguments, cwd=tmp_path, environment=payload)
    from_source = run_python(sys.executable, tmp_path / "unpacked" / "source.py", *arguments, cwd=tmp_path, environment=payload)
    assert from_packed == from_script == from_source
    model = example.model_for(unpacked.state_dict)
    loss, bpb = example.evaluate(model, example.load_tokens("val"), 2048)
    assert from_packed == f"val_loss:{loss:.6f} val_bpb:{bpb:.6f}\n"


def test_example_trains(tmp_path: Path) -> None:
    """A few seconds of training write a checkpoint of the promised shape and a log."""
    checkpoint = tmp_path / "runs" / "checkpoint.safetensors"
    arguments = [
        "--train",
        "--minutes",
        "0.05",
        "--size",
        "1.5M",
        "--batch-size",
        "2",
        "--val-tokens",
        "512",
        "--log-every",
        "1",
    ]
    run_python(sys.executable, EXAMPLE / "train_gpt.py", *arguments, "--checkpoint", checkpoint, cwd=tmp_path)
    log = checkpoint.with_suffix(".log").read_text()
    assert "step:1 " in log
    assert "val_bpb:" in log
    inspection = generator.encode(checkpoint, tmp_path / "model.gpk", recipe=EXAMPLE / "recipe.toml")
    assert any("blocks.7.mlp.down.weight" in tensor.names for tensor in inspection.tensors)
