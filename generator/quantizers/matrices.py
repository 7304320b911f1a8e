"""Tensors as stacks of matrices y = W x, in the orientation of their statistics, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from generator.errors import InputError
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


def matched(name: str, tensor: Tensor, statistics: TensorStatistics, kind: str | None = None) -> list[MatrixStatistics]:
    """The statistics of each matrix: per sequence if there are any, unless `kind` says otherwise; on the tensor's device.

    Raises:
        InputError: the statistics are of another shape, hold NaN or Inf, or lack that kind.
    """
    if kind == "sequence" and statistics.sequence is None:
        raise InputError(f"tensor {name!r}: the statistics are per token only; calibrate with --statistics sequence")
    chosen = statistics.token if kind == "token" or statistics.sequence is None else statistics.sequence
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
    return [matrix.to(tensor.device) for matrix in chosen]
