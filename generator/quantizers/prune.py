"""Pruning: the least important weights become zero, the others go to another quantizer."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, PlainValidator
from torch import Tensor

from generator.errors import InputError
from generator.quantizers.base import Quantized, Quantizer, finite_float32
from generator.quantizers.knob import Knob
from generator.quantizers.matrices import join, matched, split
from generator.specs import construct
from generator.statistics import TensorStatistics


def inner(spec: Any, outer: str) -> Quantizer:
    """The quantizer that a spec within another one means: any but that one.

    Raises:
        InputError: there is no such quantizer, or it has no such option.
    """
    from generator.quantizers import REGISTRY  # which imports this module

    try:
        return construct("quantizer", {name: make for name, make in REGISTRY.items() if name != outer}, spec)
    except InputError as error:
        raise InputError(f"key 'then': {error}") from error


class Prune(Quantizer):
    """Zeros for a fraction of each tensor, and any other quantizer for the rest.

    Attributes:
        fraction: of the tensor's weights that become zero.
        by: "magnitude": the smallest |w|; "sensitivity": the smallest w² g_i H_jj, the expected loss of the zero (Optimal
            Brain Damage), which needs statistics.
        then: the quantizer of what is left, an id or a table as in a rule. With error feedback, it makes up for the zeros as
            for any other rounding error (SparseGPT, arXiv:2301.00774).
    """

    id: ClassVar[str] = "prune"
    knobs: ClassVar[tuple[Knob, ...]] = (Knob("fraction", 0.0, 1.0, usual=0.3, logarithmic=False),)
    fraction: float = Field(ge=0, le=1)
    by: Literal["magnitude", "sensitivity"] = "magnitude"
    then: Annotated[Quantizer, PlainValidator(lambda spec: inner(spec, "prune"))] = Field("int6", validate_default=True)

    @property
    def needs_statistics(self) -> bool:
        return self.by == "sensitivity" or self.then.needs_statistics

    def quantize(
        self, name: str, tensor: Tensor, statistics: TensorStatistics | None = None, mask: Tensor | None = None
    ) -> Quantized:
        weights = finite_float32(name, tensor, self.id)
        importance = weights.abs()
        if self.by == "sensitivity":
            if statistics is None:
                raise InputError(f"tensor {name!r} has no statistics, which prune by sensitivity needs")
            pairs = zip(split(name, weights, statistics.transposed), matched(name, tensor, statistics, "token"), strict=True)
            scores = [matrix.square() * m.outputs[:, None] * m.inputs.diagonal() for matrix, m in pairs]
            importance = join(scores, tensor.shape, statistics.transposed)
        kept = torch.ones(tensor.numel(), dtype=torch.bool)
        kept[importance.reshape(-1).argsort(stable=True)[: round(self.fraction * tensor.numel())]] = False
        kept = kept.reshape(tensor.shape) if mask is None else kept.reshape(tensor.shape) & mask
        return self.then.quantize(name, tensor, statistics, kept)
