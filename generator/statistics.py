"""Calibration statistics: the file that `golfpack calibrate` writes, and what a quantizer gets of it.

A safetensors file. Per weight `name`, a stack of `count` matrices (1 unless the parameter has leading dimensions):

    name:H  (count, in, in)    second moment of the inputs per token; all uses of the weight combined
    name:g  (count, out)       diagonal second moment of the output gradients, so that row i's quadratic form is g_i H
    name:A  (count, in, in)    the same per sequence (`--statistics sequence`)
    name:B  (count, out, out)  or (count, out): output side of A
    name:frequencies, name:gradients  of an embedding: share of each token, and the second moment of its rows' gradients

The metadata's JSON says kind, tokens, sequences, which weights are stored transposed, all names of tied weights, and why
weights are missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from generator.errors import InputError
from generator.files import write_atomically
from generator.inputs import regular_file
from generator.memory import Memory
from generator.specs import explain
from generator.visible import first_line

FORMAT = "golfpack statistics 1"


@dataclass(frozen=True)
class MatrixStatistics:
    """Of one matrix y = W x, W of shape (out, in). The expected loss increase of an error E in W is ½ tr(B E A Eᵀ).

    Attributes:
        inputs: H or A, (in, in).
        outputs: diagonal of B, (out,).
        output_moment: B, (out, out); None when only its diagonal is known.
    """

    inputs: Tensor
    outputs: Tensor
    output_moment: Tensor | None = None

    def to(self, device: torch.device) -> MatrixStatistics:
        """The same on a device."""
        if self.inputs.device == device:
            return self
        moment = self.output_moment
        return MatrixStatistics(
            self.inputs.to(device), self.outputs.to(device), moment.to(device) if moment is not None else None
        )


@dataclass(frozen=True)
class TensorStatistics:
    """Of one tensor: a stack of matrices, each per token and, when they were collected, per sequence.

    `transposed` says that the tensor's trailing dimensions are (in, out). `memory` may keep what was computed of the statistics
    (factorizations, above all) for quantizing the same tensor again.
    """

    token: list[MatrixStatistics]
    sequence: list[MatrixStatistics] | None
    transposed: bool
    memory: Memory = field(default_factory=lambda: Memory(0), compare=False)


@dataclass(frozen=True)
class Statistics:
    """What calibration found of a model's weights."""

    kind: str  # "token" or "sequence"
    tokens: int
    sequences: int
    tensors: dict[str, Tensor]
    shapes: dict[str, list[int]]
    names: dict[str, list[str]]  # first name → all names of the same memory
    transposed: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # weights without statistics, and the reason
    title: str = "the statistics"  # for messages

    def find(self, names: Iterable[str]) -> TensorStatistics | None:
        """The statistics of the weight that goes by any of `names`; None if there are none."""
        wanted = set(names)
        first = next((first for first, known in self.names.items() if wanted.intersection(known)), None)
        if first is None:
            return None
        token = _matrices(self.tensors[f"{first}:H"], self.tensors[f"{first}:g"])
        sequence = None
        if f"{first}:A" in self.tensors:
            sequence = _matrices(self.tensors[f"{first}:A"], self.tensors[f"{first}:B"])
        return TensorStatistics(token, sequence, first in self.transposed)

    def why_missing(self, names: Iterable[str]) -> str:
        """Why a weight has no statistics, for messages."""
        return next((self.missing[name] for name in names if name in self.missing), f"{self.title} doesn't know the name")

    def check_against(self, tensors: Mapping[str, Tensor], names: Mapping[str, list[str]]) -> None:
        """That the statistics are of this checkpoint.

        Args:
            tensors: first name → tensor.
            names: first name → all names.

        Raises:
            InputError: a name is not in the checkpoint, or has another shape there; the message lists them.
        """
        by_name = {name: tensors[first] for first, known in names.items() for name in known}
        unknown = [first for first, known in self.names.items() if not any(name in by_name for name in known)]
        differing = []
        for first, known in self.names.items():
            tensor = next((by_name[name] for name in known if name in by_name), None)
            if tensor is not None and list(tensor.shape) != self.shapes[first]:
                differing.append(f"{first} is {_times(tensor.shape)} in the checkpoint, {_times(self.shapes[first])} here")
        if unknown or differing:
            parts = ([f"not in the checkpoint: {', '.join(unknown)}"] if unknown else []) + differing
            raise InputError(f"{self.title} doesn't match the checkpoint: {'; '.join(parts)}")

    def check(self) -> None:
        """That all moments are there, in shapes that fit, and are numbers that second moments can be.

        Raises:
            InputError: they aren't; the message names the tensor.
        """
        _check(self)

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all."""
        # One entry: safetensors writes several in no fixed order.
        metadata = {
            "kind": self.kind,
            "tokens": self.tokens,
            "sequences": self.sequences,
            "shapes": self.shapes,
            "names": self.names,
            "transposed": self.transposed,
            "missing": self.missing,
        }
        contiguous = {name: tensor.cpu().contiguous() for name, tensor in self.tensors.items()}
        write_atomically(path, save(contiguous, {FORMAT: json.dumps(metadata)}))


def load_statistics(path: str | Path) -> Statistics:
    """Read a statistics file.

    Raises:
        InputError: it is missing, not a statistics file, incomplete, or holds NaN or Inf.
    """
    path = regular_file(path, "statistics", "golfpack calibrate")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if FORMAT not in metadata:
                raise InputError(f"{path} is not a statistics file of golfpack calibrate")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = _Header.model_validate_json(metadata[FORMAT])
    except ValidationError as error:
        raise InputError(f"statistics {path} cannot be read: {explain(error)}") from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"statistics {path} cannot be read: {first_line(error)}") from error
    statistics = Statistics(**dict(header), tensors=tensors, title=f"statistics {path}")
    statistics.check()
    return statistics


class _Header(BaseModel):
    """The metadata's JSON."""

    model_config = ConfigDict(strict=True)
    kind: Literal["token", "sequence"]
    tokens: int = Field(ge=0)
    sequences: int = Field(ge=0)
    shapes: dict[str, Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=2)]]
    names: dict[str, list[str]]
    transposed: list[str]
    missing: dict[str, str]

    @model_validator(mode="after")
    def _check_names(self) -> _Header:
        if set(self.names) != set(self.shapes) or not set(self.transposed) <= set(self.shapes):
            raise ValueError("its names, shapes and transposed weights are not the same")
        return self


def _check(statistics: Statistics) -> None:
    for name, tensor in statistics.tensors.items():
        if tensor.dtype != torch.float32:
            raise InputError(f"{statistics.title} holds {name!r} in another dtype than float32")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{statistics.title} holds NaN or Inf in {name!r}; calibrate again in float32")
    for name, shape in statistics.shapes.items():
        inputs, outputs = shape[-1], shape[-2]
        if name in statistics.transposed:
            inputs, outputs = outputs, inputs
        count = 1
        for size in shape[:-2]:
            count *= size
        expected: dict[str, list[tuple[int, ...]]] = {"H": [(count, inputs, inputs)], "g": [(count, outputs)]}
        if statistics.kind == "sequence" or f"{name}:A" in statistics.tensors:
            expected |= {"A": expected["H"], "B": [(count, outputs), (count, outputs, outputs)]}
        for key, shapes in expected.items():
            found = statistics.tensors.get(f"{name}:{key}")
            if found is None or tuple(found.shape) not in shapes:
                raise InputError(f"{statistics.title} lacks {name}:{key}, or has it in another shape")
            squares = found if found.ndim == 2 else found.diagonal(dim1=1, dim2=2)
            if (squares < 0).any():
                raise InputError(f"{statistics.title} holds negative second moments in '{name}:{key}'; calibrate again")


def _matrices(inputs: Tensor, outputs: Tensor) -> list[MatrixStatistics]:
    if outputs.ndim == 2:
        return [MatrixStatistics(a, b) for a, b in zip(inputs, outputs, strict=True)]
    return [MatrixStatistics(a, b.diagonal(), b) for a, b in zip(inputs, outputs, strict=True)]


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))
