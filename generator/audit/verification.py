"""The check that CI runs on an artifact: intact, within budget, loads what it should, runs."""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generator.audit.artifact import Artifact, read_artifact
from generator.audit.execution import Execution, execute, permitted_environment
from generator.defaults import TIMEOUT, TOLERANCE
from generator.dequantizers import TORCH_DTYPES
from generator.errors import CheckError, InputError
from generator.payload import StoredTensor, decode_payload, same_bits
from generator.progress import Listener, Stage, logger, track
from generator.weights.checkpoint import load_checkpoint, tensor_bytes
from generator.weights.encode import quantization_error

# Runs in an isolated interpreter: the loader as it is inlined, and nothing else of golfpack.
_LOADER_PROGRAM = """
import hashlib, json, sys
scope = {sys.argv[3]: open(sys.argv[1], "rb").read()}
exec(open(sys.argv[2], encoding="utf-8").read(), scope)
loaded = scope[sys.argv[4]]()
import torch
digests = {
    name: [str(t.dtype), list(t.shape), hashlib.sha256(t.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
           if t.numel() else b"").hexdigest()]
    for name, t in loaded.items()
}
print(json.dumps(digests))
"""


@dataclass(frozen=True)
class Check:
    """One thing that was checked."""

    name: str
    passed: bool
    detail: str


@dataclass
class Verification:
    """The checks in order, and what the script printed when it was run."""

    file: str
    size: int
    checks: list[Check] = field(default_factory=list)
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "passed": self.passed}


def verify(
    path: str | Path,
    *,
    budget: int | None = None,
    run: bool = False,
    against: str | Path | None = None,
    key: str | None = None,
    tolerance: float = TOLERANCE,
    arguments: Sequence[str] = (),
    timeout: float = TIMEOUT,
    progress: Listener | None = None,
) -> Verification:
    """Check an artifact.

    Args:
        path: the artifact.
        budget: bytes that it may have.
        run: execute the loader and then the whole file, each in a fresh process away from the checkout, without the
            environment's variables whose names speak of secrets; what it starts ends with it.
        against: a checkpoint that the weights should come from: names, shapes and dtypes must agree, tensors that were not
            quantized must be equal, quantized ones within `tolerance`.
        key: where in a nested checkpoint the state dict is.
        tolerance: greatest relative error ‖w − ŵ‖ / ‖w‖ of a quantized tensor.
        arguments: command line for the script.
        timeout: seconds that the run may take.
        progress: told of the decoding, as stage "decode", and of each check, as stage "verify".

    Returns:
        Every check with its outcome; a failed check does not raise.

    Raises:
        InputError: the file is missing, not golfpack's, or damaged; or the checkpoint is unusable.
    """
    artifact = read_artifact(path)
    if artifact.foreign is not None:
        raise InputError(f"{path} was made by another tool, so nothing says whether it is intact; inspect and unpack read it")
    with Stage("decode", progress):
        state_dict = decode_payload(artifact.cargo.payload) if artifact.cargo.payload is not None else {}
    result = Verification(str(path), artifact.size)
    checks: dict[str, Callable[[], str]] = {"intact": lambda: f"checksums match; {len(state_dict)} tensors decode"}
    if budget is not None:
        checks["budget"] = lambda: _within(artifact.size, budget)
    if against is not None:
        checkpoint = load_checkpoint(against, key)
        original = {name: checkpoint.tensors[first] for first, all_names in checkpoint.names.items() for name in all_names}
        stored = {name: tensor for tensor in (artifact.manifest.tensors if artifact.manifest else ()) for name in tensor.names}
        checks["against"] = lambda: _compare(state_dict, stored, original, tolerance)
    if run and artifact.loader:
        checks["loader"] = lambda: _run_loader(artifact, state_dict, timeout)
    if run:
        checks["run"] = lambda: _run_file(artifact, arguments, timeout, result)
    for name in track(checks, "verify", progress):
        result.checks.append(_check(name, checks[name]))
        logger("verify").info("%s: %s", name, result.checks[-1].detail)
    return result


def _check(name: str, action: Callable[[], str]) -> Check:
    try:
        return Check(name, True, action())
    except CheckError as error:
        return Check(name, False, str(error))


def _within(size: int, budget: int) -> str:
    if size > budget:
        raise CheckError(f"{size:,} bytes, {size - budget:,} over the budget of {budget:,}")
    return f"{size:,} bytes, {budget - size:,} below the budget of {budget:,}"


def _compare(loaded: dict[str, Tensor], stored: dict[str, StoredTensor], original: dict[str, Tensor], tolerance: float) -> str:
    if loaded.keys() != original.keys():
        missing, extra = sorted(original.keys() - loaded.keys()), sorted(loaded.keys() - original.keys())
        raise CheckError(f"tensor names differ: {len(missing)} missing {missing[:3]}, {len(extra)} extra {extra[:3]}")
    equal, worst, worst_name = 0, 0.0, ""
    for name, reference in original.items():
        tensor = loaded[name]
        if tensor.shape != reference.shape or tensor.dtype != reference.dtype:
            raise CheckError(
                f"tensor {name!r} is {tensor.dtype} {tuple(tensor.shape)}, in the checkpoint {reference.dtype} "
                f"{tuple(reference.shape)}"
            )
        if same_bits(tensor, reference):
            equal += 1
            continue
        _check_kept(name, tensor, stored[name], reference)
        error = quantization_error(reference, tensor)
        if not error <= tolerance:
            raise CheckError(f"tensor {name!r} is {error:.3f} away from the checkpoint, above the tolerance of {tolerance}")
        if error > worst:
            worst, worst_name = error, name
    return f"{equal} of {len(original)} tensors equal; greatest relative error {worst:.4f}" + (
        f" ({worst_name})" if worst_name else ""
    )


def _check_kept(name: str, tensor: Tensor, stored: StoredTensor, reference: Tensor) -> None:
    """That a tensor which was not quantized, but kept or rounded to a shorter type, is the checkpoint's, pruned zeros apart."""
    if not (reference.is_floating_point() or reference.is_complex()):
        raise CheckError(f"tensor {name!r} ({reference.dtype}) must be kept exactly, and differs")
    if stored.dequantizer != "keep":
        return
    rounded = reference.to(TORCH_DTYPES[stored.stored]).to(reference.dtype)
    if not same_bits(torch.where(tensor == 0, tensor, rounded), tensor):
        raise CheckError(f"tensor {name!r} was stored as {stored.stored} without quantization, and differs from the checkpoint")


def _run_loader(artifact: Artifact, state_dict: dict[str, Tensor], timeout: float) -> str:
    """Execute the inlined loader in an isolated process and compare every bit with what `unpack` gives."""
    with tempfile.TemporaryDirectory(prefix="golfpack-verify-") as folder:
        loader = Path(folder, "loader.py")
        carried = artifact.beside[0] if artifact.beside else artifact.path
        loader.write_text(artifact.loader, encoding="utf-8")
        function = artifact.loader.split("def ", 1)[1].split("(", 1)[0]
        command: list[str | Path] = [
            sys.executable,
            "-I",
            "-c",
            _LOADER_PROGRAM,
            carried.resolve(),
            loader,
            artifact.cargo.payload_name,
            function,
        ]
        completed = _execute(command, folder, timeout)
    if completed.status:
        raise CheckError(f"the loader fails: {last_line(completed.stderr)}")
    digests = json.loads(completed.stdout)
    expected = {
        name: [str(t.dtype), list(t.shape), hashlib.sha256(tensor_bytes(t)).hexdigest()] for name, t in state_dict.items()
    }
    different = sorted(name for name in digests.keys() | expected.keys() if digests.get(name) != expected.get(name))
    if different:
        raise CheckError(f"the loader gives other bits than the payload holds for {', '.join(different[:3])}")
    return f"the inlined loader gives all {len(expected)} tensors, bit for bit"


def _run_file(artifact: Artifact, arguments: Sequence[str], timeout: float, result: Verification) -> str:
    """Execute a copy of the file in an empty folder."""
    with tempfile.TemporaryDirectory(prefix="golfpack-verify-") as folder:
        copy = Path(folder, artifact.path.name)
        copy.write_bytes(artifact.path.read_bytes())
        for path in artifact.beside:
            Path(folder, path.name).write_bytes(path.read_bytes())
        completed = _execute([sys.executable, copy, *arguments], folder, timeout)
    result.output = completed.stdout.decode(errors="replace")
    if completed.status:
        raise CheckError(f"the file exits with {completed.status}: {last_line(completed.stderr)}")
    return f"exit status 0; last line: {last_line(completed.stdout)}"


def _execute(command: Sequence[str | Path], folder: str, timeout: float) -> Execution:
    completed = execute(command, folder=folder, environment=permitted_environment(), timeout=timeout)
    if completed.timed_out:
        raise CheckError(f"not finished after {timeout:g} seconds (--timeout)")
    return completed


def last_line(text: bytes) -> str:
    """The last line of a program's output that is not empty, for messages."""
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "(no output)"
