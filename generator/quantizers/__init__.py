"""Quantizers by the name that a recipe calls them. A new one is a file here and a line in REGISTRY."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from generator.quantizers.base import Quantized, Quantizer
from generator.quantizers.cast import BFloat16, Float16, Float32, Keep
from generator.quantizers.gptq import Gptq
from generator.quantizers.knob import Knob
from generator.quantizers.lqer import Lqer
from generator.quantizers.prune import Prune
from generator.quantizers.rtn import Rtn
from generator.quantizers.ternary import Binary, Ternary
from generator.quantizers.waterfill import Waterfill

__all__ = ["REGISTRY", "Knob", "Quantized", "Quantizer", "knobs"]

REGISTRY: dict[str, Callable[..., Quantizer]] = {
    "bf16": BFloat16,
    "binary": Binary,
    "fp16": Float16,
    "fp32": Float32,
    "gptq": Gptq,
    "int": Rtn,
    **{f"int{bits}": partial(Rtn, bits=bits) for bits in range(2, 9)},
    "keep": Keep,
    "lqer": Lqer,
    "prune": Prune,
    "rtn": Rtn,
    "ternary": Ternary,
    "waterfill": Waterfill,
}


def knobs() -> dict[str, Knob]:
    """The options that set the rate, of all quantizers, by their names."""
    kinds = (factory.func if isinstance(factory, partial) else factory for factory in REGISTRY.values())
    return {knob.name: knob for kind in kinds if isinstance(kind, type) and issubclass(kind, Quantizer) for knob in kind.knobs}
