"""Calls of torch's functions, read: which tensors are multiplied, looked up, or copied."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

_EMBEDDING = {functional.embedding, torch.embedding}
_MATMUL = {torch.matmul, torch.mm, Tensor.matmul, Tensor.mm, Tensor.__matmul__}
_ADDMM = {torch.addmm, Tensor.addmm}
_COPIES = {
    Tensor.to,
    Tensor.float,
    Tensor.double,
    Tensor.half,
    Tensor.bfloat16,
    Tensor.type,
    Tensor.type_as,
    Tensor.contiguous,
    Tensor.clone,
    torch.clone,
}


@dataclass(frozen=True)
class Linear:
    """inputs · weightᵀ."""

    inputs: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Product:
    """left · right, either of which may be a weight."""

    left: Tensor
    right: Tensor


@dataclass(frozen=True)
class LookUp:
    """Rows of a weight by their indices."""

    indices: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Copy:
    """The same elements in another dtype or memory."""

    original: Tensor


def read_call(func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Linear | Product | LookUp | Copy | None:
    """What a call computes; None if it is none of these."""
    if func is functional.linear:
        return Linear(_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight"))
    if func in _EMBEDDING:
        # torch.embedding takes the weight first, functional.embedding the indices.
        first, second = _argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "weight")
        return LookUp(second, first) if first.is_floating_point() else LookUp(first, second)
    if func in _MATMUL:
        return Product(_argument(args, kwargs, 0, "input"), _argument(args, kwargs, 1, "other", "mat2"))
    if func in _ADDMM:
        return Product(_argument(args, kwargs, 1, "mat1"), _argument(args, kwargs, 2, "mat2"))
    if func is Tensor.__rmatmul__:
        return Product(args[1], args[0])
    if func is Tensor.__getitem__ and isinstance(args[1], Tensor) and args[1].dtype in (torch.int32, torch.int64):
        return LookUp(args[1], args[0])
    if func in _COPIES and args and isinstance(args[0], Tensor):
        return Copy(args[0])
    return None


def _argument(args: Sequence[Any], kwargs: dict[str, Any], position: int, *names: str) -> Tensor:
    """An argument by its position, or by that of its names which is given."""
    value: Tensor = args[position] if len(args) > position else next(kwargs[name] for name in names if name in kwargs)
    return value
