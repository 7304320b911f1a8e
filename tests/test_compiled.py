"""Compiled functions: the same as in Python, where a cache can be kept and where it can't."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import generator

ROOT = Path(generator.__file__).parent.parent
SOURCE = """
import numpy as np
from generator.compiled import compiled

@compiled
def total(values):
    found = 0.0
    for value in values:
        found += value / 3
    return found

print(total(np.arange(5.0)), total(np.arange(3)))
"""


@pytest.mark.parametrize("place", ["beside the source", "in the user's folder", "nowhere"])
def test_a_cache_is_kept_where_it_can_be(tmp_path: Path, place: str) -> None:
    folder, home = tmp_path / "code", tmp_path / "home"
    folder.mkdir()
    (folder / "script.py").write_text(SOURCE)
    if place != "beside the source":
        (folder / "__pycache__").write_text("a file where the folder would be")
    if place == "nowhere":
        home.write_text("likewise")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG", "IPYTHON"))}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "PYTHONPATH": str(ROOT)}
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, folder / "script.py"], env=environment, capture_output=True, text=True, check=False
        )
        assert done.stdout == "3.333333333333333 1.0\n", done.stderr
    kept = {one.parent for one in tmp_path.rglob("*.nbi")}
    if place == "nowhere":
        assert not kept
    elif place == "beside the source":
        assert kept == {folder / "__pycache__"}
    else:
        assert len(kept) == 1
        assert home in kept.pop().parents


def test_a_full_disk_only_costs_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from numba.core import caching

    from generator.compiled import compiled

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(caching.IndexDataCacheFile, "save", full)
    assert compiled(_twice)(21) == 42


def _twice(number: int) -> int:
    return number * 2


def test_importing_costs_no_compiler() -> None:
    code = "import sys, generator.quantizers, generator.cli; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
