"""Interpreters and environments that tests run artifacts in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from filelock import FileLock

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "records_examples" / "stdlib_gpt"


def run_python(python: Path | str, *arguments: object, cwd: Path, environment: dict[str, str] | None = None) -> str:
    """Run an interpreter with a clean environment; its standard output."""
    base = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GOLFPACK", "COV"))}
    completed = subprocess.run(
        [str(python), *map(str, arguments)],
        cwd=cwd,
        env={**base, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert completed.returncode == 0, completed.stderr[-3000:]
    return completed.stdout


def make_venv(folder: Path, python: Path | str = sys.executable) -> Path:
    """A virtual environment without pip; its interpreter."""
    subprocess.run([str(python), "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


def site_packages(python: Path) -> Path:
    """Where an interpreter's packages live."""
    out = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"],
        check=True,
        capture_output=True,
        text=True,
    )
    return Path(out.stdout.strip())


def other_pythons() -> dict[str, str]:
    """CPython 3.10 to 3.13 as far as they are installed: version → interpreter."""
    found = {}
    for minor in range(10, 14):
        version = f"3.{minor}"
        candidates = [shutil.which(f"python{version}"), *sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))]
        for candidate in filter(None, candidates):
            probe = subprocess.run(
                [candidate, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"],
                capture_output=True,
                text=True,
            )
            if probe.stdout.strip() == version:
                found[version] = str(candidate)
                break
    return found


def numpy_python(version: str, interpreter: str, numpy: str) -> Path:
    """An interpreter with the given numpy installed, kept between runs in .cache."""
    folder = ROOT / ".cache" / f"python{version}-{numpy.replace('=', '').replace('<', 'below')}"
    python = folder / "bin" / "python"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):  # tests run in several processes
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            subprocess.run([interpreter, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", numpy], check=True)
            (folder / "ready").touch()
    return python


def without_tiny(value: float) -> float:
    """Zero for what no short format holds, and quantizers therefore refuse (tests/test_small_weights.py)."""
    return value if abs(value) > 1e-30 else 0.0
