"""lrzip and zpaq in the manner of PR #1855 of the challenge: tensors of one role together, transposed, rows sorted or not."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from generator.codecs.lzma_raw import compress_raw
from generator.errors import CheckError
from generator.filters.sort import row_order
from runtime_stub.rans import rans_matrix
from runtime_stub.split import Array


@dataclass(frozen=True)
class ExternalRun:
    """What a program made of all arrays; the permutations of sorted rows count, coded with LZMA."""

    name: str
    bytes: int
    encode_seconds: float
    decode_seconds: float


@dataclass(frozen=True)
class _Program:
    name: str
    encode: tuple[str, ...]
    decode: tuple[str, ...]


_Cost = tuple[int, float, float]  # bytes, seconds to encode, seconds to decode

PROGRAMS = (
    _Program(
        "lrzip -z -L 9",
        ("lrzip", "-q", "-z", "-L", "9", "-o", "packed.lrz", "raw"),
        ("lrzip", "-q", "-d", "-o", "out", "packed.lrz"),
    ),
    _Program(
        "zpaq -m5", ("zpaq", "a", "packed.zpaq", "raw", "-m5", "-t1"), ("zpaq", "x", "packed.zpaq", "raw", "-to", "out", "-t1")
    ),
)


def external_runs(arrays: Mapping[str, Array]) -> Iterator[tuple[str, Callable[[], ExternalRun]]]:
    """Runs of what is on the PATH, by name: each program without sorting, and sorted where that makes a role smaller."""
    groups: dict[tuple[str, str], list[Array]] = {}
    for name, array in arrays.items():
        groups.setdefault((re.sub(r"\d+", "*", name), array.dtype.str), []).append(array)
    for program in PROGRAMS:
        if shutil.which(program.encode[0]):
            plain = cache(partial(_plain, program, [*groups.values()]))
            yield (name := f"{program.name}, grouped"), partial(_sum, name, plain)
            best = partial(_sorted, program, [*groups.values()], plain)
            yield (name := f"{program.name}, grouped and sorted"), partial(_sum, name, best)


def _plain(program: _Program, groups: list[list[Array]]) -> list[_Cost]:
    return [_compress(program, _grouped(group)) for group in groups]


def _sorted(program: _Program, groups: list[list[Array]], plain: Callable[[], list[_Cost]]) -> list[_Cost]:
    best = []
    for group, unsorted in zip(groups, plain(), strict=True):
        orders = [row_order(rans_matrix(array), "similarity") for array in group]
        indices = [order.astype("<u2" if len(order) <= 2**16 else "<u4") for order in orders]
        permutations = compress_raw(b"".join(order.tobytes() for order in indices), 0, 1, 1)
        size, encode, decode = _compress(program, _grouped(group, orders))
        best.append(min(unsorted, (size + len(permutations), encode, decode)))
    return best


def _grouped(group: list[Array], orders: list[Array] | None = None) -> bytes:
    matrices = [rans_matrix(array) for array in group]
    if orders is not None:
        matrices = [matrix[order] for matrix, order in zip(matrices, orders, strict=True)]
    return b"".join(np.ascontiguousarray(matrix.T).tobytes() for matrix in matrices)


def _compress(program: _Program, data: bytes) -> _Cost:
    with tempfile.TemporaryDirectory(prefix="golfpack-bench-") as folder:
        Path(folder, "raw").write_bytes(data)
        start = time.perf_counter()
        _run(program.encode, folder)
        middle = time.perf_counter()
        _run(program.decode, folder)
        end = time.perf_counter()
        packed = next((path for path in Path(folder).iterdir() if path.name.startswith("packed")), None)
        out = Path(folder, "out")
        out = out / "raw" if out.is_dir() else out
        if packed is None or not out.is_file() or out.read_bytes() != data:
            raise CheckError(f"{program.name} does not give back what went in")
        return packed.stat().st_size, middle - start, end - middle


def _run(command: tuple[str, ...], folder: str) -> None:
    try:
        completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise CheckError(f"{command[0]} can't be run: {error.strerror}") from error
    if completed.returncode:
        lines = (completed.stderr or completed.stdout).strip().splitlines()
        raise CheckError(f"{command[0]} fails: {lines[-1] if lines else completed.returncode}")


def _sum(name: str, costs: Callable[[], list[_Cost]]) -> ExternalRun:
    sizes, encode, decode = zip(*costs(), strict=True)
    return ExternalRun(name, sum(sizes), sum(encode), sum(decode))
