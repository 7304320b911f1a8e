"""A slice of the sweep in benchmarks/hostile.py: what is damaged or forged ends with one sentence, or loads as packed."""

from __future__ import annotations

import subprocess
import sys

import pytest
from helpers import ROOT

from generator.carriers import REGISTRY


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_slice_of_the_sweep() -> None:
    codecs = ["store", "zlib", "bitmask"]  # those that code and decode fastest
    command = [sys.executable, "benchmarks/hostile.py", "--mutants", "25", "--forged", "25", "--seed", "1", "--codecs", *codecs]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert completed.returncode == 0, completed.stderr[-3000:]
    rows = [line for line in completed.stdout.splitlines() if line.startswith(tuple(f"| {carrier} |" for carrier in REGISTRY))]
    assert len(rows) == len(codecs) * len(REGISTRY)
    assert all("| 25 | 25 | 0 |" in row for row in rows), completed.stdout
