"""The main job: checkpoint → quantize → code → payload → render → minify → carrier → file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from generator.artifact import read_artifact
from generator.checkpoint import Checkpoint, from_state_dict, load_checkpoint
from generator.emit import emit
from generator.encode import as_recipe, encode_checkpoint
from generator.errors import CheckError
from generator.files import check_writable, write_atomically
from generator.inspection import Inspection, inspect_artifact
from generator.recipe import Recipe
from generator.source.script import read_script

BUDGET = 16_000_000  # bytes; the cap of the Parameter Golf challenge, code and weights together


class BudgetError(CheckError):
    """The artifact would exceed its budget; `inspection` tells what costs most."""

    def __init__(self, message: str, inspection: Inspection):
        super().__init__(message)
        self.inspection = inspection


def build(
    script: str | Path,
    weights: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
    carrier: str = "base85",
    budget: int | None = BUDGET,
    header: bool = True,
) -> Inspection:
    """Pack a script and its weights into one self-extracting file.

    Args:
        script: Python source that calls `runtime_stub.load_state_dict()`.
        weights: a checkpoint file, or a state dict in memory.
        output: the file to write; replaced only when everything has worked.
        recipe: a Recipe, its table, or the path of a TOML file; None for the default recipe.
        key: where in a nested checkpoint the state dict is.
        carrier: name in `generator.carriers.REGISTRY`.
        budget: bytes that the file may have; None for no limit.
        header: whether the file begins with a comment that says what it is.

    Returns:
        What the written file holds.

    Raises:
        InputError: the script, the checkpoint or the recipe is unusable, or the output can't be written.
        BudgetError: the file would exceed the budget; nothing is written.
    """
    check_writable(output)
    parsed = read_script(script)
    checkpoint = _checkpoint(weights, key)
    payload = encode_checkpoint(checkpoint, as_recipe(recipe))
    return _finish(emit(parsed, payload, carrier, header), Path(output), budget)


def wrap(
    script: str | Path,
    output: str | Path,
    *,
    carrier: str = "base85",
    budget: int | None = BUDGET,
    header: bool = True,
) -> Inspection:
    """Pack a script that carries no weights; arguments, result and errors as for `build`."""
    check_writable(output)
    return _finish(emit(read_script(script), None, carrier, header), Path(output), budget)


def encode(
    weights: str | Path | Mapping[str, Any],
    output: str | Path,
    *,
    recipe: Recipe | Mapping[str, Any] | str | Path | None = None,
    key: str | None = None,
) -> Inspection:
    """Write the payload alone, for running the unpacked script with GOLFPACK_PAYLOAD; arguments as for `build`."""
    check_writable(output)
    payload = encode_checkpoint(_checkpoint(weights, key), as_recipe(recipe))
    return _finish(payload, Path(output), None)


def _checkpoint(weights: str | Path | Mapping[str, Any], key: str | None) -> Checkpoint:
    return from_state_dict(weights) if isinstance(weights, Mapping) else load_checkpoint(weights, key)


def _finish(data: bytes, output: Path, budget: int | None) -> Inspection:
    """Read back what is about to be written, hold it against the budget, and write it."""
    inspection = inspect_artifact(read_artifact(output, data))
    if budget is not None and len(data) > budget:
        raise BudgetError(
            f"{output} would have {len(data):,} bytes, {len(data) - budget:,} over the budget of {budget:,}", inspection
        )
    write_atomically(output, data)
    return inspection
