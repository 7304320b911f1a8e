"""Passthrough: the tensor in its own dtype, or in a shorter floating one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, Quantizer, dtype_name
from generator.statistics import TensorStatistics

# Elements travel as integers of their size; the loader reinterprets them.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def passthrough(tensor: Tensor, dtype: torch.dtype) -> Quantized:
    """Store the tensor's bits as they are, to be converted to `dtype` when loaded."""
    if tensor.dtype.itemsize == 16:  # complex128: two float64 per element
        raise InputError("complex128 tensors are not supported; convert to complex64")
    # Signed bytes stay signed: codecs expect small numbers about zero.
    integers = tensor.dtype if tensor.dtype == torch.int8 else _INTEGERS[tensor.dtype.itemsize]
    bits = tensor.cpu().view(integers).numpy()
    little_endian = bits.astype(bits.dtype.newbyteorder("<"))
    return Quantized("keep", dtype_name(tensor.dtype), dtype_name(dtype), (little_endian,))


def _masked(tensor: Tensor, mask: Tensor | None) -> Tensor:
    return tensor if mask is None else torch.where(mask, tensor, 0)


class Keep(Quantizer):
    """Every bit of the tensor, whatever its dtype."""

    id: ClassVar[str] = "keep"

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        return passthrough(_masked(tensor, mask), tensor.dtype)


class Cast(Quantizer):
    """Rounding to a floating dtype. A tensor that is floating and no wider than that already keeps every bit."""

    target: ClassVar[torch.dtype]

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        tensor = _masked(tensor, mask)
        if not tensor.is_floating_point() or tensor.dtype.itemsize <= self.target.itemsize:
            return passthrough(tensor, tensor.dtype)
        values = tensor.to(self.target)
        if torch.isinf(values).logical_and(torch.isfinite(tensor)).any():
            wider = "bf16 or fp32" if self.target == torch.float16 else "keep"
            raise InputError(f"tensor {name!r} holds values beyond the range of {self.id}; use {wider}")
        return passthrough(values, tensor.dtype)


class Float16(Cast):
    """IEEE binary16."""

    id: ClassVar[str] = "fp16"
    target: ClassVar[torch.dtype] = torch.float16


class BFloat16(Cast):
    """The upper half of binary32."""

    id: ClassVar[str] = "bf16"
    target: ClassVar[torch.dtype] = torch.bfloat16


class Float32(Cast):
    """IEEE binary32."""

    id: ClassVar[str] = "fp32"
    target: ClassVar[torch.dtype] = torch.float32
