"""Other Pythons and numpys that tests run artifacts on: found, prepared once, and asked for by tests.

    python tests/interpreters.py     # makes the environments that are missing, in .cache; the one step that needs the network

`make test` does that first. Tests take what is prepared and install nothing.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CACHE = Path(__file__).parent.parent / ".cache"


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


PYTHONS = other_pythons()
# Every interpreter with a current numpy, and the oldest numpy that is supported on one that has it.
ENVIRONMENTS = [(version, "numpy") for version in PYTHONS]
ENVIRONMENTS += [(version, "numpy<2") for version in PYTHONS if version in {"3.10", "3.12"}]


def numpy_python(version: str, numpy: str) -> Path:
    """The interpreter of a prepared environment.

    Raises:
        AssertionError: it was not prepared.
    """
    folder = _folder(version, numpy)
    assert (folder / "ready").is_file(), (
        f"Python {version} is installed, but its environment with {numpy} is not prepared; run make environments"
    )
    return folder / "bin" / "python"


def prepare() -> None:
    """Make the environments that are missing; one that is half made is made anew."""
    for version, numpy in ENVIRONMENTS:
        folder = _folder(version, numpy)
        if (folder / "ready").is_file():
            continue
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([PYTHONS[version], "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", numpy], check=True)
        (folder / "ready").touch()


def _folder(version: str, numpy: str) -> Path:
    return CACHE / f"python{version}-{numpy.replace('<', 'below')}"


if __name__ == "__main__":
    prepare()
