"""A built wheel works by itself: templates and runtime_stub are inside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from helpers import ROOT, make_venv, run_python, site_packages
from safetensors.torch import save_file


def test_wheel_packs_a_script(tmp_path: Path, script: Path) -> None:
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(wheels), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = wheels.glob("golfpack-*.whl")

    # A clean environment: the wheel in its own site-packages, its dependencies (not golfpack itself: the .pth file of an
    # editable install is read in site folders only) from this interpreter's.
    python = make_venv(tmp_path / "venv")
    target = site_packages(python)
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)]
    subprocess.run(install, check=True)
    (target / "dependencies.pth").write_text(str(site_packages(Path(sys.executable))) + "\n")

    probe = "import generator, runtime_stub; print(generator.__file__, runtime_stub.__file__)"
    where = run_python(python, "-c", probe, cwd=tmp_path)
    assert all(path.startswith(str(target)) for path in where.split())

    save_file({"w": torch.randn(80, 80)}, tmp_path / "weights.safetensors")
    command = ["build", script, "-w", tmp_path / "weights.safetensors", "-o", tmp_path / "out" / "train_gpt.py"]
    run_python(python, "-c", "from generator.cli import main; main()", *command, cwd=tmp_path)
    assert run_python(sys.executable, tmp_path / "out" / "train_gpt.py", cwd=Path("/")).startswith("w float32 [80, 80] ")
