"""Passthrough: the tensor in its own dtype, or in a shorter floating one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, Quantizer, dtype_name, relative_error
from generator.statistics import TensorStatistics

UNDERFLOW = 2.0**-7  # relative error beyond which values are lost, not rounded: twice bfloat16's largest

# Elements travel as integers of their size; the loader reinterprets them.
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def passthrough(name: str, tensor: Tensor, dtype: torch.dtype) -> Quantized:
    """Store the tensor's bits as they are, to be converted to `dtype` when loaded."""
    if tensor.dtype.itemsize == 16:  # complex128: two float64 per element
        raise InputError(f"tensor {name!r} is complex128; convert it to complex64")
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
        return passthrough(name, _masked(tensor, mask), tensor.dtype)


class Cast(Quantizer):
    """Rounding to a floating dtype. A tensor that is floating and no wider than that already keeps every bit."""

    target: ClassVar[torch.dtype]
    wide_range: ClassVar[
        tuple[torch.dtype, ...]
    ] = ()  # other dtypes of the same width, for values beyond the target's small end

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        tensor = _masked(tensor, mask)
        if not tensor.is_floating_point() or tensor.dtype.itemsize <= self.target.itemsize:
            return passthrough(name, tensor, tensor.dtype)
        values = self._rounded(name, tensor)
        if torch.isinf(values).logical_and(torch.isfinite(tensor)).any():
            wider = "bf16 or fp32" if self.target == torch.float16 else "keep"
            raise InputError(f"tensor {name!r} holds values beyond the range of {self.id}; use {wider}")
        return passthrough(name, values, tensor.dtype)

    def _rounded(self, name: str, tensor: Tensor) -> Tensor:
        """The tensor in the target's dtype, or in another of its width that is nearer where values are too small for it.

        Raises:
            InputError: most of the tensor would be lost.
        """
        values = tensor.to(self.target)
        size = tensor.abs()
        if not ((size > 0) & (size < torch.finfo(self.target).smallest_normal)).any():
            return values
        error = relative_error(tensor, values)
        for dtype in self.wide_range:
            other = tensor.to(dtype)
            if (other_error := relative_error(tensor, other)) < error:
                values, error = other, other_error
        if error > UNDERFLOW:
            wider = "keep" if self.target == torch.float32 else "fp32 or keep"
            raise InputError(f"tensor {name!r} holds values too small for {self.id}; use {wider}")
        return values


class Float16(Cast):
    """IEEE binary16; tensors so small that most of their bits would fall off its end are stored as bfloat16."""

    id: ClassVar[str] = "fp16"
    target: ClassVar[torch.dtype] = torch.float16
    wide_range: ClassVar[tuple[torch.dtype, ...]] = (torch.bfloat16,)


class BFloat16(Cast):
    """The upper half of binary32."""

    id: ClassVar[str] = "bf16"
    target: ClassVar[torch.dtype] = torch.bfloat16


class Float32(Cast):
    """IEEE binary32."""

    id: ClassVar[str] = "fp32"
    target: ClassVar[torch.dtype] = torch.float32
