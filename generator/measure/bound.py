"""How far quantized weights are from the rate–distortion bound of Gaussian weights.

The expected loss of an error E is ½ tr(B E A Eᵀ), A the moment of the inputs and B that of the output gradients. To entries
that are Gaussian, independent, and of a variance s_i t_j, that is the squared error of a Gaussian vector whose covariance has
the eigenvalues λ_k μ_l, those of D_s B D_s and of D_t A D_t with D_s = diag(√s). No code of any kind takes fewer than
R(D) = Σ max(0, ½ log2(λ_k μ_l / θ)) bits, where Σ min(θ, λ_k μ_l) = D (Cover and Thomas, section 10.3.3).

A uniform quantizer with ideal entropy coding takes 0.254 bits per weight more where D is small; a trellis regains most of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.codecs.chain import Chain
from generator.codecs.rans import Rans
from generator.codecs.trellis import Trellis
from generator.errors import InputError
from generator.linear_algebra import DAMPING
from generator.quantizers import Quantized
from generator.quantizers.matrices import matched, split
from generator.statistics import MatrixStatistics, Statistics

OUTPUT_DAMPING, OUTPUT_SHRINKAGE = 0.05, 0.2  # of B, as `waterfill` has them
BISECTIONS = 60


@dataclass(frozen=True)
class RoleRate:
    """The tensors of one role.

    Attributes:
        role: their name, numbers replaced by *.
        weights: how many there are.
        zero_rows: rows of outputs that hold nothing but zeros, and how many rows there are.
        refined_rows: rows that were given smaller steps to protect them, as `waterfill`'s guard does.
        loss: expected increase of the loss, by the statistics, in their unit.
        bits: per weight, symbols and row classes by ideal tables.
        bound: bits per weight that the Gaussian bound asks for at this loss.
    """

    role: str
    weights: int
    zero_rows: tuple[int, int]
    refined_rows: int
    loss: float
    bits: float
    bound: float


def role_rates(tensors: Mapping[str, Tensor], quantized: Mapping[str, Quantized], statistics: Statistics) -> list[RoleRate]:
    """Of every role whose tensors have statistics and are quantized to integers.

    Args:
        tensors: the weights, by first name.
        quantized: what became of them.
        statistics: of their model.

    Raises:
        InputError: there is no such tensor.
    """
    roles: dict[str, list[str]] = {}
    for name, result in quantized.items():
        known = statistics.find([name])
        if known is not None and result.dequantizer != "keep" and tensors[name].ndim > 1 and tensors[name].numel():
            roles.setdefault(re.sub(r"\d+", "*", name), []).append(name)
    if not roles:
        raise InputError("the recipe quantizes no tensor to integers that the statistics tell of")
    return [_role(role, names, tensors, quantized, statistics) for role, names in roles.items()]


def _role(
    role: str, names: list[str], tensors: Mapping[str, Tensor], quantized: Mapping[str, Quantized], statistics: Statistics
) -> RoleRate:
    fields = [quantized[name].fields(name)[0] for name in names]
    codec = Trellis() if all(map(Trellis().takes, fields)) else Rans()
    weights = sum(tensors[name].numel() for name in names)
    zeros = rows = 0
    loss = bound = 0.0
    for name in names:
        known = statistics.find([name])
        assert known is not None
        original, rounded = (
            split(name, one.float(), known.transposed).double() for one in (tensors[name], quantized[name].tensor())
        )
        for matrix, result, one in zip(original, rounded, matched(name, tensors[name], known), strict=True):
            found = _matrix(matrix, result - matrix, one)
            loss, bound = loss + found[0], bound + found[1]
            zeros, rows = zeros + int((~result.any(1)).sum()), rows + len(result)
    refined = sum(quantized[name].refined for name in names)
    return RoleRate(role, weights, (zeros, rows), refined, loss, 8 * Chain(codec).rate(fields) / weights, bound / weights)


def _matrix(weights: Tensor, errors: Tensor, known: MatrixStatistics) -> tuple[float, float]:
    """The expected loss of errors (out, in), float64, and the bits that the bound asks for."""
    inputs = _damped(known.inputs.double(), DAMPING)
    if known.output_moment is None:
        outputs = known.outputs.double().diag()
    else:
        outputs = known.output_moment.double() * (1 - OUTPUT_SHRINKAGE)
        outputs.diagonal().copy_(known.outputs.double())
    outputs = _damped(outputs, OUTPUT_DAMPING)
    distortion = float((outputs @ errors @ inputs * errors).sum())
    rows, columns = weights.square().mean(1), weights.square().mean(0)
    columns = columns / rows.mean().clamp(min=1e-300)
    eigenvalues = [
        torch.linalg.eigvalsh(moment * scale.sqrt()[:, None] * scale.sqrt()).clamp(min=0)
        for moment, scale in ((outputs, rows), (inputs, columns))
    ]
    return distortion / 2, gaussian_bits(torch.outer(*eigenvalues).flatten(), distortion)


def _damped(moment: Tensor, damping: float) -> Tensor:
    return moment + damping * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype)


def gaussian_bits(variances: Tensor, distortion: float) -> float:
    """The fewest bits in which independent Gaussian numbers of such variances (n,) can be told with that sum of squared errors.

    >>> gaussian_bits(torch.tensor([4.0, 4.0], dtype=torch.float64), 2.0)
    2.0
    """
    low, high = 0.0, float(variances.max()) if len(variances) else 0.0
    if distortion >= float(variances.sum()):
        return 0.0
    if distortion <= 0:
        return float("inf")
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if float(variances.clamp(max=middle).sum()) < distortion else (low, middle)
    return float((variances / high).clamp(min=1).log2().sum()) / 2
