"""What training changes of a weight: all of it, or, once it is quantized, factors of its rows and columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from generator.quantizers import Quantized
from runtime_stub.split import Array

RATE = 2e-3  # of a weight's size, by which its elements change at most in an update
KEPT_RATE = 2e-3  # the same for what stays float
GAIN_RATE = 2e-3  # by which a factor changes at most
LEAST = 1e-3  # size of a weight's elements, of which the rate is a share, where they are smaller
GUESS = 0.02  # standard deviation of factors as training leaves them, about
FINENESS = 64  # steps of a factor in one; `runtime_stub.dequantize.grid_gains` has the same


class Trained(ABC):
    """A weight in training.

    Attributes:
        parameters: what changes.
        rate: by how much at most in an update.
    """

    parameters: list[Tensor]
    rate: float

    @abstractmethod
    def value(self) -> Tensor:
        """The weight now."""

    @abstractmethod
    def take(self, gradient: Tensor | None) -> None:
        """Give the parameters their gradients, by that of the weight."""


class Whole(Trained):
    """All elements are free."""

    def __init__(self, value: Tensor, rate: float):
        """Train a tensor, which changes in place, by a rate that is a share of its size."""
        self.parameters = [value]
        self.rate = rate * max(LEAST, float(value.double().square().mean().sqrt()))

    def value(self) -> Tensor:
        return self.parameters[0]

    def take(self, gradient: Tensor | None) -> None:
        self.parameters[0].grad = gradient


class Gains(Trained):
    """Factors of what was quantized, near one: one for each element of the arrays that multiply the symbols."""

    def __init__(self, quantized: Quantized, value: Tensor):
        """Begin with ones.

        Args:
            quantized: of a kind that `gains_of` knows.
            value: its tensor in float32, on the model's device.
        """
        self._quantized, self._value = quantized, value
        self.parameters = [torch.ones(array.shape, device=value.device) for array in quantized.arrays[1:]]
        self.rate = GAIN_RATE

    def value(self) -> Tensor:
        return self._product(range(len(self.parameters)), self._value)

    def take(self, gradient: Tensor | None) -> None:
        for number, factors in enumerate(self.parameters):
            if gradient is None:
                factors.grad = None
            else:
                others = (other for other in range(len(self.parameters)) if other != number)
                factors.grad = self._product(others, gradient * self._value).sum_to_size(factors.shape)

    def _product(self, numbers: Iterable[int], value: Tensor) -> Tensor:
        for number in numbers:
            value = value * self.parameters[number]
        return value

    def quantized(self) -> Quantized:
        """The tensor as it is stored with the factors that it has now."""
        return self._stored(self._quantized, [one.detach().cpu().numpy() for one in self.parameters])

    @classmethod
    def guessed(cls, quantized: Quantized) -> Quantized:
        """About what a tensor becomes by training its factors, as far as its size goes."""
        generator = np.random.default_rng(0)
        return cls._stored(quantized, [generator.normal(np.ones(array.shape), GUESS) for array in quantized.arrays[1:]])

    @classmethod
    @abstractmethod
    def _stored(cls, quantized: Quantized, factors: Sequence[Array]) -> Quantized:
        """A quantized tensor times factors."""


class ScaleGains(Gains):
    """Of scales, into which they go: they take no bytes."""

    @classmethod
    def _stored(cls, quantized: Quantized, factors: Sequence[Array]) -> Quantized:
        symbols, scales = quantized.arrays
        with np.errstate(over="ignore"):
            scaled = (scales * factors[0]).astype(scales.dtype)
        return replace(quantized, arrays=(symbols, np.where(np.isfinite(scaled), scaled, scales)))


class GridGains(Gains):
    """Of rows and columns whose steps are powers of two: rounded and stored beside these."""

    @classmethod
    def _stored(cls, quantized: Quantized, factors: Sequence[Array]) -> Quantized:
        gains = tuple(np.rint((one - 1) * FINENESS).clip(-128, 127).astype("i1") for one in factors)
        if not any(map(np.any, gains)):
            return quantized
        return replace(quantized, dequantizer="grid_gains", arrays=quantized.arrays + gains)


KINDS: dict[str, type[Gains]] = {"grid": GridGains, "scale": ScaleGains}  # by dequantizer


def gains_of(quantized: Quantized) -> type[Gains] | None:
    """What trains factors of a quantized tensor; None where there is nothing to multiply."""
    return KINDS.get(quantized.dequantizer) if quantized.arrays[0].size else None
