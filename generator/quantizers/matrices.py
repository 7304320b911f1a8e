"""Tensors as stacks of matrices y = W x, in the orientation of their statistics, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.errors import InputError
from generator.memory import Memory
from generator.quantizers.base import finite_float32
from generator.quantizers.feedback import Factor, ordered_factor
from generator.statistics import MatrixStatistics, TensorStatistics


def split(name: str, tensor: Tensor, transposed: bool = False) -> Tensor:
    """The tensor as (count, out, in).

    Raises:
        InputError: it has fewer than two dimensions.
    """
    if tensor.ndim < 2:
        raise InputError(f"tensor {name!r} has {tensor.ndim} dimensions, which is no matrix; use rtn or fp16")
    stack = tensor.reshape(math.prod(tensor.shape[:-2]), *tensor.shape[-2:])
    return stack.mT if transposed else stack


def join(stack: Sequence[Tensor], shape: Sequence[int], transposed: bool = False) -> Tensor:
    """The inverse of `split`; also of (out, 1) and (1, in) factors, which keep their dimensions of one."""
    if not len(stack):
        return torch.zeros(*shape)
    joined = torch.stack(list(stack))
    joined = joined.mT if transposed else joined
    return joined.reshape(*shape[:-2], *joined.shape[-2:]).contiguous()


@dataclass(frozen=True)
class Calibrated:
    """One matrix y = W x with what calibration knows of it.

    Attributes:
        weights: (out, in) float32.
        statistics: of the kind asked for.
        tokens: those per token.
        mask: boolean (out, in), or None; False asks for a zero.
        key: of the matrix in `memory`: name of the tensor, and number in its stack.
        memory: for what follows from weights and statistics alone.
    """

    weights: Tensor
    statistics: MatrixStatistics
    tokens: MatrixStatistics
    mask: Tensor | None
    key: tuple[str, int]
    memory: Memory

    @property
    def unused(self) -> bool:
        """Whether its inputs or its gradients were always zero."""
        return not self.statistics.inputs.diagonal().any() or not self.statistics.outputs.any()

    def factor(self, kind: str | None, damping: float, natural: bool = False) -> Factor:
        """The moment of the inputs that `statistics` hold, damped and factored.

        Args:
            kind: which statistics these are.
            damping: share of the mean diagonal that is added to the diagonal.
            natural: take the columns in the order that they have; see `ordered_factor`.
        """
        return self.memory.recall(
            (self.key, "factor", kind, damping, natural),
            lambda: ordered_factor(self.statistics.inputs, damping, natural),
        )


def calibrated(
    name: str, tensor: Tensor, statistics: TensorStatistics | None, mask: Tensor | None, quantizer: str, kind: str | None
) -> tuple[list[Calibrated], bool]:
    """The matrices of a tensor, for a quantizer that needs statistics, and whether they are stored as (in, out).

    Raises:
        InputError: as `finite_float32`, `split` and `matched`, or there are no statistics.
    """
    if statistics is None:
        raise InputError(f"tensor {name!r} has no statistics, which {quantizer} needs")
    weights = finite_float32(name, tensor, quantizer)
    stack = split(name, weights, statistics.transposed)
    masks = [None] * len(stack) if mask is None else list(split(name, mask, statistics.transposed))
    chosen, tokens = (matched(name, tensor, statistics, which) for which in (kind, "token"))
    matrices = enumerate(zip(stack, chosen, tokens, masks, strict=True))
    found = [Calibrated(*matrix, (name, number), statistics.memory) for number, matrix in matrices]
    return found, statistics.transposed


def matched(name: str, tensor: Tensor, statistics: TensorStatistics, kind: str | None = None) -> list[MatrixStatistics]:
    """The statistics of each matrix: per sequence if there are any, unless `kind` says otherwise.

    Raises:
        InputError: the statistics are of another shape, hold NaN or Inf, or lack that kind.
    """
    if kind == "sequence" and statistics.sequence is None:
        raise InputError(f"tensor {name!r}: the statistics are per token only; calibrate with --statistics sequence")
    chosen = list(statistics.token if kind == "token" or statistics.sequence is None else statistics.sequence)
    outputs, inputs = tensor.shape[-2:][::-1] if statistics.transposed else tensor.shape[-2:]
    stack = split(name, tensor)
    for matrix in chosen:
        if len(chosen) != len(stack) or matrix.inputs.shape != (inputs, inputs) or matrix.outputs.shape != (outputs,):
            raise InputError(
                f"tensor {name!r} is {'×'.join(map(str, tensor.shape))}, and its statistics are of {len(chosen)} matrices "
                f"with {len(matrix.outputs)} outputs and {len(matrix.inputs)} inputs; calibrate the model of this checkpoint"
            )
        for moment in (matrix.inputs, matrix.outputs, matrix.output_moment):
            if moment is not None and not torch.isfinite(moment).all():
                raise InputError(f"the statistics of tensor {name!r} hold NaN or Inf; calibrate again in float32")
    return chosen
