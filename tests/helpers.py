"""What several tests use: the example, and interpreters to run artifacts in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

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


def without_tiny(value: float) -> float:
    """Zero for what no short format holds, and quantizers therefore refuse (tests/test_small_weights.py)."""
    return value if abs(value) > 1e-30 else 0.0
