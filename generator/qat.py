"""Training with the export in mind: fake quantization, an average of the weights, and a price on their entropy.

    quantizer = Ternary()                                     # the one that the recipe will name, with the same options
    weight = fake_quantize(self.weight, quantizer)            # in forward
    loss = loss + 1e-9 * sum(laplace_bits(p, step=0.01) for p in matrices)
    ema.update()                                              # after optimizer.step()

The forward pass then sees, bit for bit, the weights that `golfpack build` packs from the same latent weights.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from generator.errors import InputError
from generator.quantizers import Quantizer
from generator.quantizers.rtn import Rtn
from generator.quantizers.scales import spread
from generator.quantizers.ternary import Binary, Ternary
from generator.statistics import TensorStatistics


def fake_quantize(weight: Tensor, quantizer: Quantizer, statistics: TensorStatistics | None = None) -> Tensor:
    """The weight as it will be exported; gradients pass as if it were the weight itself (straight-through estimator).

    Args:
        weight: latent weight, of the shape in which it will be saved (at least two dimensions for ternary and binary).
        quantizer: `Rtn`, `Ternary` and `Binary` without statistics are fast, and stay on the device. Others, those with
            error feedback and a trellis among them, quantize on the CPU as the export does, and take as long.
        statistics: of this weight, as `Statistics.find` gives them, for quantizers that use them.

    Returns:
        Exactly `quantizer.quantize(name, weight, statistics).tensor()`, on the weight's device.

    Raises:
        InputError: a weight that is not of a real floating dtype, has too few dimensions, or lacks statistics.
    """
    if not weight.is_floating_point():
        raise InputError(f"a weight of {weight.dtype} can't be quantized; it must be floating")
    with torch.no_grad():
        latent = weight.detach()
        if statistics is None and isinstance(quantizer, Rtn | Ternary | Binary):
            exported = _rounded(latent.float(), quantizer).reshape(weight.shape).to(weight.dtype)
        else:
            exported = quantizer.quantize("weight", latent.cpu().contiguous(), statistics).tensor().to(weight.device)
    # weight + (exported − weight).detach() would be off by a rounding; a function with a gradient of its own is exact.
    result: Tensor = _StraightThrough.apply(weight, exported)  # type: ignore[no-untyped-call]
    return result


def _rounded(latent: Tensor, quantizer: Rtn | Ternary | Binary) -> Tensor:
    """A float32 weight quantized without statistics, as a matrix."""
    if isinstance(quantizer, Rtn):
        symbols, scales = quantizer.round("weight", latent)
    else:
        if latent.ndim < 2:
            raise InputError(f"a weight of {latent.ndim} dimensions is no matrix; {quantizer.id} needs one")
        symbols, scales, _ = quantizer.round("weight", latent)
    # Adding zero makes -0 a 0, as it is in the integers that are stored.
    return (symbols + 0.0) * spread(scales, symbols.shape[1])


class _StraightThrough(torch.autograd.Function):
    """The second argument's values with the first argument's gradient."""

    @staticmethod
    def forward(context: object, weight: Tensor, exported: Tensor) -> Tensor:
        return exported.clone()

    @staticmethod
    def backward(context: object, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


def laplace_bits(weight: Tensor, step: float | Tensor) -> Tensor:
    """Bits that a weight matrix takes when it is rounded to multiples of `step` and entropy coded; differentiable.

    Each row counts as a Laplace distribution of its own mean size b. With θ = exp(−step / b), a symbol is zero with
    probability 1 − √θ, its sign costs one bit, and its size is geometric with ratio θ: h(√θ) + √θ (1 + h(θ) / (1 − θ)) bits,
    h the binary entropy.

    Args:
        weight: (…, in); rows are all but the last dimension.
        step: positive; a number, or one per row (…, 1).

    Returns:
        scalar, the bits of all weights together.

    Raises:
        InputError: a number for `step` that is not positive.
    """
    if isinstance(step, int | float) and not 0 < step < math.inf:
        raise InputError(f"the step of a quantizer must be a number above 0, not {step}")
    size = weight.abs().mean(-1, keepdim=True).clamp(min=1e-12)
    exponent = (step / size).clamp(1e-6, 60.0)
    theta, root = torch.exp(-exponent), torch.exp(-exponent / 2)
    bits = _binary_entropy(root) + root * (1 + _binary_entropy(theta) / -torch.expm1(-exponent))
    return (bits * weight.shape[-1]).sum()


def _binary_entropy(probability: Tensor) -> Tensor:
    inside = probability.clamp(1e-30, 1 - 1e-7)
    return -(inside * inside.log() + (1 - inside) * torch.log1p(-inside)) / math.log(2)


_Tensors = tuple[Tensor, ...] | list[Tensor]


class Ema:
    """Exponential moving average of a model's parameters: smoother weights, which quantize better.

    It is torch's `AveragedModel` with a decay that grows while there is little to average: min(decay, (1 + n) / (10 + n)) at
    the n-th update. Buffers stay the model's own. The model must be one that `copy.deepcopy` copies.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise InputError(f"the decay of a moving average must be in [0, 1), not {decay}")
        self.model = model
        self.decay = decay
        self.averaged = AveragedModel(model, multi_avg_fn=self._average)
        self.averaged.update_parameters(model)  # the first call copies

    @property
    def updates(self) -> int:
        """How many updates were taken in."""
        return int(self.averaged.n_averaged) - 1

    @property
    def average(self) -> dict[str, Tensor]:
        """The averaged parameters by their names."""
        return {name: parameter.detach() for name, parameter in self.averaged.module.named_parameters()}

    def _average(self, averages: _Tensors, parameters: _Tensors, number: Tensor | int) -> None:
        """One update of all parameters of one device and dtype."""
        count = self.updates + 1  # which is `number`, but that would have to be fetched from the device
        get_ema_multi_avg_fn(min(self.decay, (1 + count) / (10 + count)))(averages, parameters, number)  # type: ignore[no-untyped-call]

    def update(self) -> None:
        """Take in the parameters as they are now."""
        self.averaged.update_parameters(self.model)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model with the averaged parameters, for evaluation or saving; as it was afterwards."""
        saved = {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}
        self._load(self.average)
        try:
            yield
        finally:
            self._load(saved)

    @torch.no_grad()
    def _load(self, values: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.copy_(values[name])
