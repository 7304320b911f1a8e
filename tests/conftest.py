"""Shared fixtures: tiny checkpoints and scripts, the command line in-process, other interpreters, bare environments."""

from __future__ import annotations

import importlib.metadata
import re
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from helpers import make_venv, site_packages
from safetensors.torch import save_file

from generator import cli

# A shell that starts the tests in the background has them ignore interruptions, and what they start as well.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Prints one line per tensor, in a form that depends on every bit.
DIGEST_SCRIPT = '''
"""A script that prints what it loads."""
import hashlib

from runtime_stub import load_state_dict


def main() -> None:
    for name, tensor in sorted(load_state_dict().items()):
        array = tensor.numpy()
        print(name, str(array.dtype), list(array.shape), hashlib.sha256(array.tobytes()).hexdigest())


if __name__ == "__main__":
    main()
'''


@dataclass(frozen=True)
class CommandResult:
    """What a run of the command line gave."""

    status: int
    out: str
    err: str


@pytest.fixture
def golfpack(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """Run the command line in this process."""

    def run(*arguments: object) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["golfpack", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            status = 0
        except SystemExit as exit_:
            status = exit_.code if isinstance(exit_.code, int) else int(exit_.code is not None)
        captured = capsys.readouterr()
        return CommandResult(status, captured.out, captured.err)

    return run


@pytest.fixture
def state_dict() -> dict[str, torch.Tensor]:
    """Tensors of the kinds that checkpoints hold."""
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(128, 64, generator=generator)
    return {
        "embed.weight": embedding,
        "blocks.0.weight": torch.randn(96, 64, generator=generator) * 0.1,
        "blocks.1.weight": torch.randn(96, 64, generator=generator),
        "blocks.0.gain": torch.randn(64, generator=generator),
        "steps": torch.tensor(12345678901, dtype=torch.int64),
        "mask": torch.tensor([True, False, True]),
        "lm_head.weight": embedding,
    }


@pytest.fixture
def checkpoint(tmp_path: Path, state_dict: dict[str, torch.Tensor]) -> Path:
    """The state dict as a safetensors file."""
    path = tmp_path / "checkpoint.safetensors"
    save_file({name: tensor.clone() for name, tensor in state_dict.items()}, path)
    return path


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """A script that prints digests of the tensors it loads."""
    path = tmp_path / "script.py"
    path.write_text(DIGEST_SCRIPT)
    return path


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has torch, numpy and what torch itself needs, and nothing else: no golfpack."""
    python = make_venv(tmp_path_factory.mktemp("bare") / "venv")
    target = site_packages(python)
    queue, seen = ["torch", "numpy"], set()
    while queue:
        name = queue.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional or platform-specific requirement
        for top in {file.parts[0] for file in distribution.files or [] if ".." not in file.parts}:
            source = Path(str(distribution.locate_file(top)))
            if source.exists() and not (target / top).exists() and top != "__pycache__":
                (target / top).symlink_to(source)
        for requirement in distribution.requires or []:
            if "extra ==" not in requirement:
                queue.append(re.split(r"[^A-Za-z0-9_.-]", requirement, maxsplit=1)[0])
    return python
