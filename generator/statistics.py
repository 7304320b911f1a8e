"""Calibration statistics: the file that `golfpack calibrate` writes, and what a quantizer gets of it.

A safetensors file of float32. Per weight `name`, a stack of `count` matrices (1 unless the parameter has leading dimensions);
symmetric matrices n × n are packed upper triangles of n (n + 1) / 2 elements (`triangles.py`):

    name:H  (count, packed in)   second moment of the inputs per token; all uses of the weight combined
    name:g  (count, out)         diagonal second moment of the output gradients, so that row i's quadratic form is g_i H
    name:A  (count, packed in)   the same per sequence (`--statistics sequence`)
    name:B  (count, packed out)  output side of A; of weights with many outputs only its diagonal, (count, out)

The metadata's JSON says kind, tokens, sequences, which weights are stored transposed, all names of tied weights, why weights
are missing, and how many batches were left out for lack of time. In files of version 1 all matrices are whole, (count, n, n);
they are read, too, and statistics in memory may hold such matrices.

A tensor is read, checked and made a matrix when a quantizer asks for it, and not kept.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, overload

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError
from torch import Tensor

from generator.errors import InputError
from generator.inputs import regular_file
from generator.memory import Memory
from generator.specs import explain
from generator.tensor_file import TensorFile, write_tensors
from generator.triangles import pack_rows, packed_diagonal, packed_size, unpack
from generator.visible import first_line

FORMAT = "golfpack statistics 2"
OLD_FORMAT = "golfpack statistics 1"


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


@dataclass(frozen=True)
class TensorStatistics:
    """Of one tensor: a stack of matrices, each per token and, when they were collected, per sequence.

    `transposed` says that the tensor's trailing dimensions are (in, out). `memory` may keep what was computed of the statistics
    (factorizations, above all) for quantizing the same tensor again.
    """

    token: Sequence[MatrixStatistics]
    sequence: Sequence[MatrixStatistics] | None
    transposed: bool
    memory: Memory = field(default_factory=lambda: Memory(0), compare=False)


@dataclass(frozen=True)
class Statistics:
    """What calibration found of a model's weights."""

    kind: str  # "token" or "sequence"
    tokens: int
    sequences: int
    tensors: Mapping[str, Tensor]
    shapes: dict[str, list[int]]
    names: dict[str, list[str]]  # first name → all names of the same memory
    transposed: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)  # weights without statistics, and the reason
    title: str = "the statistics"  # for messages
    left_out: int = 0  # batches for which there was no time

    def find(self, names: Iterable[str]) -> TensorStatistics | None:
        """The statistics of the weight that goes by any of `names`; None if there are none."""
        wanted = set(names)
        first = next((first for first, known in self.names.items() if wanted.intersection(known)), None)
        if first is None:
            return None
        token = _Stack(self, first, "H", "g")
        sequence = _Stack(self, first, "A", "B") if "A" in self._keys(first) else None
        return TensorStatistics(token, sequence, first in self.transposed)

    def moment(self, name: str, key: str) -> Tensor:
        """H, g, A or B of a weight's matrices: packed triangles, diagonals (count, n), or whole ones (count, n, n).

        Args:
            name: the weight's first name.
            key: which one.

        Raises:
            InputError: it isn't there in a shape that fits, or holds what no second moment can.
        """
        found = self.tensors.get(f"{name}:{key}")
        if found is None or tuple(found.shape) not in self._forms(name, key):
            raise InputError(f"{self.title} lacks {name}:{key}, or has it in another shape")
        if found.dtype != torch.float32:
            raise InputError(f"{self.title} holds '{name}:{key}' in another dtype than float32")
        if not torch.isfinite(found).all():
            raise InputError(f"{self.title} holds NaN or Inf in '{name}:{key}'; calibrate again in float32")
        width = self.width(name, key)
        squares = found.diagonal(dim1=1, dim2=2) if found.ndim == 3 else found
        if found.shape[1:] == (packed_size(width),) and key != "g":
            squares = packed_diagonal(found, width)
        if (squares < 0).any():
            raise InputError(f"{self.title} holds negative second moments in '{name}:{key}'; calibrate again")
        return found

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
        for name in self.shapes:
            for key in self._keys(name):
                self.moment(name, key)

    def check_file(self, file: TensorFile) -> None:
        """That all moments are in a file, in shapes that fit; their numbers are checked when they are read.

        Raises:
            InputError: they aren't; the message names the tensor.
        """
        for name in self.shapes:
            for key in self._keys(name):
                full = f"{name}:{key}"
                if file.shapes.get(full) not in self._forms(name, key):
                    raise InputError(f"{self.title} lacks {full}, or has it in another shape")
                if file.dtypes[full] != "F32":
                    raise InputError(f"{self.title} holds {full!r} in another dtype than float32")

    def save(self, path: str | Path) -> None:
        """Write the file, whole or not at all, a tensor at a time."""
        metadata = {
            "kind": self.kind,
            "tokens": self.tokens,
            "sequences": self.sequences,
            "shapes": self.shapes,
            "names": self.names,
            "transposed": self.transposed,
            "missing": self.missing,
            "left_out": self.left_out,
        }
        known = self.tensors.shapes if isinstance(self.tensors, TensorFile) else {n: t.shape for n, t in self.tensors.items()}
        shapes = {}
        for name in self.shapes:
            for key in self._keys(name):
                shape = known[f"{name}:{key}"]
                shapes[f"{name}:{key}"] = (shape[0], packed_size(shape[1])) if len(shape) == 3 else tuple(shape)

        def packed(full: str) -> Tensor:
            tensor = self.tensors[full]
            return torch.stack([pack_rows(matrix) for matrix in tensor]) if tensor.ndim == 3 else tensor

        write_tensors(path, shapes, packed, {FORMAT: json.dumps(metadata)})

    def width(self, name: str, key: str) -> int:
        """Rows of a moment: a weight's inputs for H and A, its outputs for g and B."""
        outputs, inputs = self.shapes[name][-2:]
        if name in self.transposed:
            outputs, inputs = inputs, outputs
        return inputs if key in "HA" else outputs

    def _keys(self, name: str) -> str:
        """The moments that a weight must have."""
        return "HgAB" if self.kind == "sequence" or f"{name}:A" in self.tensors else "Hg"

    def _forms(self, name: str, key: str) -> list[tuple[int, ...]]:
        """The shapes that a moment may have."""
        count, width = math.prod(self.shapes[name][:-2]), self.width(name, key)
        matrices = [(count, packed_size(width)), (count, width, width)]
        return [*(() if key in "HA" else [(count, width)]), *(() if key == "g" else matrices)]


@dataclass(frozen=True)
class _Stack(Sequence[MatrixStatistics]):
    """The matrices of a tensor, which are read and made each time they are gone through."""

    statistics: Statistics
    name: str
    inputs: str
    outputs: str

    def __len__(self) -> int:
        return math.prod(self.statistics.shapes[self.name][:-2])

    def __iter__(self) -> Iterator[MatrixStatistics]:
        known, name = self.statistics, self.name
        inputs, outputs = known.moment(name, self.inputs), known.moment(name, self.outputs)
        in_width, out_width = known.width(name, self.inputs), known.width(name, self.outputs)
        for a, b in zip(inputs, outputs, strict=True):
            if self.outputs == "g" or (b.ndim == 1 and len(b) == out_width > 1):
                yield MatrixStatistics(_whole(a, in_width), b)
            else:
                matrix = _whole(b, out_width)
                yield MatrixStatistics(_whole(a, in_width), matrix.diagonal(), matrix)

    @overload
    def __getitem__(self, index: int) -> MatrixStatistics: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[MatrixStatistics]: ...
    def __getitem__(self, index: int | slice) -> MatrixStatistics | Sequence[MatrixStatistics]:
        return list(self)[index]


def load_statistics(path: str | Path) -> Statistics:
    """Open a statistics file; its moments are read when they are asked for.

    Raises:
        InputError: it is missing, not a statistics file, or incomplete.
    """
    path = regular_file(path, "statistics", "golfpack calibrate")
    try:
        file = TensorFile(path)
        text = file.metadata.get(FORMAT) or file.metadata.get(OLD_FORMAT)
        if text is None:
            raise InputError(f"{path} is not a statistics file of golfpack calibrate")
        header = _Header.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"statistics {path} cannot be read: {explain(error)}") from error
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"statistics {path} cannot be read: {first_line(error)}") from error
    statistics = Statistics(**dict(header), tensors=file, title=f"statistics {path}")
    statistics.check_file(file)
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
    left_out: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _check_names(self) -> _Header:
        if set(self.names) != set(self.shapes) or not set(self.transposed) <= set(self.shapes):
            raise ValueError("its names, shapes and transposed weights are not the same")
        return self


def _whole(matrix: Tensor, width: int) -> Tensor:
    """A symmetric matrix, packed or not."""
    return matrix if matrix.ndim == 2 else unpack(matrix, width)


def _times(shape: Iterable[int]) -> str:
    return "×".join(map(str, shape))
