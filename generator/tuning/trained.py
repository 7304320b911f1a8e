"""What training changes of a weight: all of it, or, once it is quantized, factors of its rows and columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
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
    """Factors of what was quantized, near one: of rows and columns where those have exponents, of scales where it has such.

    Factors of rows and columns are rounded when they are stored, and take bytes; those of scales go into the scales.
    """

    def __init__(self, quantized: Quantized, value: Tensor):
        """Begin with ones.

        Args:
            quantized: of a kind that `has_gains`.
            value: its tensor in float32, on the model's device.
        """
        self._quantized, self._value = quantized, value
        shapes = [array.shape for array in quantized.arrays[1:]]
        self.parameters = [torch.ones(shape, device=value.device) for shape in shapes]
        self.rate = GAIN_RATE

    def value(self) -> Tensor:
        value = self._value
        for factors in self.parameters:
            value = value * factors
        return value

    def take(self, gradient: Tensor | None) -> None:
        for number, factors in enumerate(self.parameters):
            if gradient is None:
                factors.grad = None
                continue
            product = gradient * self._value
            for other, others in enumerate(self.parameters):
                product = product if other == number else product * others
            factors.grad = product.sum_to_size(factors.shape)

    def quantized(self) -> Quantized:
        """The tensor as it is stored with the factors that it has now."""
        known = self._quantized
        factors = [one.detach().cpu() for one in self.parameters]
        if known.dequantizer == "scale":
            scales = known.arrays[1]
            with np.errstate(over="ignore"):
                scaled = (scales * factors[0].numpy()).astype(scales.dtype)
            return replace(known, arrays=(known.arrays[0], np.where(np.isfinite(scaled), scaled, scales)))
        gains = tuple(((one - 1) * FINENESS).round().clamp(-128, 127).to(torch.int8).numpy() for one in factors)
        return _with_gains(known, gains) if any(map(np.any, gains)) else known


def guessed(quantized: Quantized) -> Quantized:
    """About what a tensor that `has_gains` becomes by training them, as far as its size goes."""
    if quantized.dequantizer != "grid":
        return quantized
    generator = np.random.default_rng(0)
    deviations = (generator.normal(0, GUESS * FINENESS, array.shape) for array in quantized.arrays[1:])
    return _with_gains(quantized, tuple(np.rint(one).astype("i1") for one in deviations))


def _with_gains(quantized: Quantized, gains: tuple[Array, ...]) -> Quantized:
    return replace(quantized, dequantizer="grid_gains", arrays=quantized.arrays + gains)


def has_gains(quantized: Quantized) -> bool:
    """Whether factors of it can be trained, and stored."""
    return quantized.dequantizer in ("grid", "scale") and quantized.arrays[0].size > 0
