"""verify: what it compares with a checkpoint, and what a program under test can reach and leave behind."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import generator

SCRIPT = "from runtime_stub import load_state_dict\nload_state_dict()\n"


def pack(folder: Path, weights: dict[str, torch.Tensor], quantizer: object) -> Path:
    (folder / "s.py").write_text(SCRIPT)
    recipe = {"rule": [{"pattern": "*", "quantizer": quantizer}]}
    generator.build(folder / "s.py", weights, folder / "out.py", recipe=recipe)
    return folder / "out.py"


def against(path: Path, weights: dict[str, torch.Tensor]) -> str:
    """The outcome of the comparison: "" where it passed."""
    save_file({name: tensor.clone() for name, tensor in weights.items()}, path.with_name("other.safetensors"))
    check = generator.verify(path, against=path.with_name("other.safetensors")).checks[-1]
    assert check.name == "against"
    return "" if check.passed else check.detail


KINDS = {
    "keep": ("keep", torch.float32),
    "fp16": ("fp16", torch.float32),
    "bf16 of bf16": ("bf16", torch.bfloat16),
    "fp16 of float64": ("fp16", torch.float64),
    "pruned": ({"id": "prune", "fraction": 0.5, "then": "fp16"}, torch.float32),
}


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_that_were_kept_must_be_the_checkpoints(tmp_path: Path, kind: str) -> None:
    """Within the tolerance of quantized ones is not enough: a slightly later checkpoint differs, too."""
    quantizer, dtype = KINDS[kind]
    weights = {"w": torch.randn(40, 30, generator=torch.Generator().manual_seed(0)).to(dtype), "b": torch.tensor([-0.0, 1, 2])}
    path = pack(tmp_path, weights, quantizer)
    assert against(path, weights) == ""
    moved = {**weights, "w": weights["w"] * 1.01}
    assert "'w' was stored as" in against(path, moved)
    assert "and differs from the checkpoint" in against(path, moved)
    one = weights["w"].clone()
    one[weights["w"].abs() == weights["w"].abs().max()] *= -1
    assert "'w'" in against(path, {**weights, "w": one})


def test_quantized_tensors_have_a_tolerance(tmp_path: Path) -> None:
    weights = {"w": torch.randn(40, 30, generator=torch.Generator().manual_seed(0))}
    path = pack(tmp_path, weights, "int5")
    assert against(path, weights) == against(path, {"w": weights["w"] * 1.01}) == ""
    assert "above the tolerance" in against(path, {"w": -weights["w"]})


def test_secrets_stay_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [
        "HF_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "db_password",
        "GOLFPACK_PAYLOAD",
        "PYTHONPATH",
        "OPENAI_API_KEY",
        "DATA_PATH",
    ]
    for name in names:
        monkeypatch.setenv(name, "here")
    (tmp_path / "s.py").write_text(f"import os\nprint([name for name in {names} if name in os.environ])\n")
    generator.wrap(tmp_path / "s.py", tmp_path / "out.py")
    verification = generator.verify(tmp_path / "out.py", run=True)
    assert (verification.passed, verification.output) == (True, "['DATA_PATH']\n")


def test_nothing_of_a_run_is_left(tmp_path: Path) -> None:
    """Neither processes that the program started, nor more output than can be kept."""
    (tmp_path / "s.py").write_text(
        "import subprocess, sys\nchild = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        "print(child.pid)\nfor _ in range(40):\n    print('x' * 2**20)\n"
    )
    generator.wrap(tmp_path / "s.py", tmp_path / "out.py")
    verification = generator.verify(tmp_path / "out.py", run=True)
    assert verification.passed
    assert "bytes left out" in verification.output
    assert len(verification.output) < 2**25
    child = int(verification.output.split()[0])
    for _ in range(100):
        if not is_running(child):
            break
        time.sleep(0.1)
    assert not is_running(child)


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
