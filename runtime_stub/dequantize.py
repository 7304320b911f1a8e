"""From the arrays that a quantizer emitted back to weights."""

from __future__ import annotations

from runtime_stub.split import Array


def keep(values: Array) -> Array:
    """Values that were stored as they are."""
    return values


def scale(symbols: Array, scales: Array) -> Array:
    """Uniform quantization: symbols (any integer dtype) times scales (float16, broadcast against them), in float32.

    One multiplication per weight, rounded once by IEEE 754: the same bits on every machine.
    """
    weights: Array = symbols.astype("f4") * scales.astype("f4")
    return weights
