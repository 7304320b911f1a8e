"""The interface of quantizers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from generator import dequantizers
from generator.errors import InputError
from generator.fields import Field
from generator.quantizers.knob import Knob
from generator.quantizers.sampling import cut_rows
from generator.statistics import TensorStatistics
from runtime_stub.split import Array


@dataclass(frozen=True)
class Quantized:
    """What a quantizer made of one tensor.

    Attributes:
        dequantizer: id in `generator.dequantizers.REGISTRY`; it takes `arrays` and gives the elements.
        stored: torch dtype of those elements, without "torch.".
        dtype: torch dtype of the tensor as it is loaded.
        arrays: what the codecs store, in the order in which the dequantizer takes them.
        refined: rows that were given smaller steps than the rate asks for, to protect them; not stored.
    """

    dequantizer: str
    stored: str
    dtype: str
    arrays: tuple[Array, ...]
    refined: int = 0

    def fields(self, name: str) -> list[Field]:
        """The arrays of the tensor of this name, with what is known of each."""
        return dequantizers.REGISTRY[self.dequantizer].fields(name, self.stored, self.arrays)

    def tensor(self) -> Tensor:
        """The weights as the artifact will load them, bit for bit."""
        elements = torch.as_tensor(dequantizers.REGISTRY[self.dequantizer].function(*(array.copy() for array in self.arrays)))
        result: Tensor = elements.view(getattr(torch, self.stored)).to(getattr(torch, self.dtype))
        return result


ROUNDING = 2.0**-20  # relative error of a tensor that is due to rounding in float32 alone, and more


class Quantizer(BaseModel, ABC):
    """A quantizer is its configuration; subclasses add options as fields and implement `quantize`.

    Attributes:
        id: what recipes call it.
        knobs: those of its options that set the rate; an option of the same name is the same knob in every quantizer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
    id: ClassVar[str]
    knobs: ClassVar[tuple[Knob, ...]] = ()

    @property
    def needs_statistics(self) -> bool:
        """Whether `quantize` can't do without statistics."""
        return False

    @abstractmethod
    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        """Quantize one tensor.

        Args:
            name: for messages.
            tensor: contiguous, of any shape, on the CPU.
            statistics: of this tensor, if there are any.
            mask: boolean, of the tensor's shape; False asks for a zero (pruning).

        Raises:
            InputError: the tensor can't be quantized this way; the message names it.
        """

    def sample(self, name: str, tensor: Tensor, statistics: TensorStatistics | None, share: float) -> Quantized:
        """What about that share of each matrix's rows becomes, for predicting sizes; of a tensor that is no matrix, all.

        Errors as for `quantize`.
        """
        return self.quantize(name, *cut_rows(tensor, statistics, share))


def integers(name: str, values: Tensor) -> Array:
    """Whole numbers as a little-endian array of the narrowest signed dtype that holds them all.

    Raises:
        InputError: they don't fit 32 bits, or are not numbers; the message names the tensor.
    """
    largest = float(values.abs().max()) if values.numel() else 0.0
    if math.isnan(largest):
        raise InputError(f"tensor {name!r} can't be quantized with these options: its symbols are not numbers")
    if largest > 2**31 - 1:
        raise InputError(
            f"tensor {name!r} has symbols of up to {largest:.3g}, which don't fit 32 bits; use larger steps, or fp32"
        )
    dtype = torch.int8 if largest <= 127 else torch.int16 if largest <= 32767 else torch.int32
    array = values.to(dtype).cpu().numpy()
    return array.astype(array.dtype.newbyteorder("<"))


def dtype_name(dtype: torch.dtype) -> str:
    """The dtype's name without "torch."."""
    return str(dtype).removeprefix("torch.")


def finite_float32(name: str, tensor: Tensor, quantizer: str) -> Tensor:
    """The tensor in float32, for quantizers that do arithmetic.

    Raises:
        InputError: it is not of a real floating dtype, or holds NaN, Inf, or values that float32 can't hold.
    """
    if not tensor.is_floating_point():
        raise InputError(f"tensor {name!r} is {dtype_name(tensor.dtype)}, which {quantizer} does not quantize; use keep")
    values = tensor.float()
    if not torch.isfinite(values).all():
        if tensor.dtype == torch.float64 and torch.isfinite(tensor).all():
            raise InputError(f"tensor {name!r} holds values beyond float32, in which {quantizer} computes; use keep")
        kind = "NaN" if torch.isnan(values).any() else "Inf"
        raise InputError(f"tensor {name!r} holds {kind}, which {quantizer} can't quantize; repair it or use keep")
    if tensor.dtype == torch.float64 and relative_error(tensor, values) > ROUNDING:
        raise InputError(f"tensor {name!r} holds values too small for float32, in which {quantizer} computes; use keep")
    return values


def relative_error(tensor: Tensor, rounded: Tensor) -> float:
    """‖w − ŵ‖ / ‖w‖ over the finite elements, in float64 and for values of any size; 0 for zeros."""
    finite = torch.isfinite(tensor)
    exact = tensor[finite].double()
    peak = exact.abs().max() if exact.numel() else exact.new_zeros(())
    if not peak:
        return 0.0
    # Over the peak, since squares of small values vanish. In two steps, since 1 / peak may be infinite.
    _, exponent = torch.frexp(peak)
    exact, other = (shifted(values, -int(exponent)) for values in (exact, rounded[finite].double()))
    return float((exact - other).norm() / exact.norm())


def shifted(values: Tensor, octaves: int) -> Tensor:
    """Floating values times 2^octaves; in three steps, since the factor itself may be out of range."""
    for step in (octaves // 3, octaves // 3, octaves - 2 * (octaves // 3)):
        values = values * 2.0**step
    return values
