"""The examples beside the main one, at a tiny size: packed, they print what they printed before."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from helpers import EXAMPLE, ROOT, run_python

import generator

WRAP_ONLY = ROOT / "records_examples" / "wrap_only" / "train_gpt.py"
TERNARY = ROOT / "records_examples" / "ternary"
TINY = ["--minutes", "0.001", "--size", "1.5M", "--batch-size", "1", "--val-tokens", "512", "--log-every", "1"]


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_wrap_only_is_packed_and_prints_the_same(tmp_path: Path, bare_python: Path, golfpack: Callable[..., Any]) -> None:
    packed = tmp_path / "packed" / "train_gpt.py"
    result = golfpack("wrap", WRAP_ONLY, "-o", packed, "--check", "--", "--megabytes", "0.2")
    assert result.status == 0, result.err
    assert packed.stat().st_size < WRAP_ONLY.stat().st_size / 2
    printed = run_python(bare_python, packed, "--megabytes", "0.2", cwd=Path("/"))
    assert printed == run_python(sys.executable, WRAP_ONLY, "--megabytes", "0.2", cwd=tmp_path)
    assert 2.0 < float(printed.split("val_bpb:")[1]) < 5.0


def test_wrap_only_gives_a_distribution() -> None:
    """The probabilities of all bytes after one context are 1 together, whatever was seen."""
    example = load(WRAP_ONLY)
    train = np.frombuffer(b"abracadabra abracadabra" * 3, np.uint8)
    for context in (b"bracada", b"zzzzzzz", b"abrabra"):
        texts = [np.frombuffer(context + bytes([byte]), np.uint8) for byte in range(256)]
        shares = [example.probabilities(train, text)[0] for text in texts]
        assert abs(sum(shares) - 1) < 1e-9
    follows = example.probabilities(train, np.frombuffer(b"abracadabra", np.uint8))
    assert follows.min() > 0.5


def test_ternary_is_packed_as_it_was_trained(tmp_path: Path, bare_python: Path) -> None:
    """Latent weights and recipe give, bit for bit, the weights that the last evaluation of the training computed with."""
    checkpoint = tmp_path / "checkpoint.safetensors"
    run_python(sys.executable, TERNARY / "train.py", *TINY, "--checkpoint", checkpoint, cwd=tmp_path)
    packed = tmp_path / "train_gpt.py"
    inspection = generator.build(EXAMPLE / "train_gpt.py", checkpoint, packed, recipe=TERNARY / "recipe.toml")
    printed = run_python(bare_python, packed, "--val-tokens", "512", cwd=Path("/"))
    trained = re.findall(r"val_loss:[\d.]+ val_bpb:[\d.]+", checkpoint.with_suffix(".log").read_text())[-1]
    assert printed.strip() == trained
    matrices = [share for share in inspection.tensors if share.names[0].startswith("blocks.") and len(share.shape) == 2]
    weights = [share for share in matrices if share.names[0].endswith(".weight")]
    assert sum(len(share.names) for share in weights) == 8 * 6  # after so few steps some are still zero, and stored once
    assert max(share.bits_per_element for share in weights) < 1.8
    for name, weight in generator.unpack(packed).state_dict.items():
        if name.startswith("blocks.") and name.endswith(".weight"):
            assert all(len(group.abs().unique()) <= 2 for row in weight[:4] for group in row.split(128))
        assert torch.isfinite(weight).all()


def test_ternary_needs_no_checkout_of_its_own(tmp_path: Path) -> None:
    """It finds the main example from any folder."""
    completed = subprocess.run([sys.executable, TERNARY / "train.py", "--help"], cwd=tmp_path, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr
    assert "--size" in completed.stdout
