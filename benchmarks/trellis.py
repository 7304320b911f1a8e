"""What a trellis brings: payload bytes at equal divergence from the float model, and the time that it takes.

    python benchmarks/trellis.py runs/11M/checkpoint.safetensors --statistics runs/11M/statistics.safetensors \
        -o benchmarks/results/trellis_11M.md
    python benchmarks/trellis.py runs/looped/checkpoint.safetensors --module looped_gpt --statistics … -o …

Each variant is quantized at several α, coded by `auto`, and compared at the divergences at which a uniform quantizer takes 2, 3
and 4 bits per weight.
"""

from __future__ import annotations

import argparse
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from quality import RATES, Reference, cell, shares, validation_of, write_report

from generator.payload import decode_payload
from generator.recipes.recipe import make_recipe
from generator.statistics import load_statistics
from generator.weights.checkpoint import load_checkpoint
from generator.weights.encode import code
from generator.weights.quantize import quantize_checkpoint

UNIFORM = "uniform"
VARIANTS: dict[str, dict[str, Any]] = {
    UNIFORM: {},
    "8 states": {"trellis": 8},
    "4 states": {"trellis": 4},
    "16 states": {"trellis": 16},
    "32 states": {"trellis": 32},
    "64 states": {"trellis": 64},
    "8 states, price 0": {"trellis": 8, "price": 0.0},
    "8 states, price 0.2": {"trellis": 8, "price": 0.2},
    "uniform, one-sided": {"output": "diagonal"},
    "8 states, one-sided": {"trellis": 8, "output": "diagonal"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes of a trellis at equal divergence.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument("--module", default="train_gpt", help="of the model: train_gpt, looped_gpt")
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--alphas", type=float, nargs="+", help="of the uniform quantizer; found by its bits, if not given")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    module = import_module(options.module)
    checkpoint, statistics = load_checkpoint(options.checkpoint), load_statistics(options.statistics)
    tokens, _ = validation_of(module, options.checkpoint)
    against = Reference(module, module.model_for(checkpoint.tensors), tokens, options.tokens)
    known = sorted(name for names in statistics.names.values() for name in names)
    weights = sum(checkpoint.tensors[name].numel() for name in known if name in checkpoint.tensors)

    def quantize(alpha: float, variant: dict[str, Any]) -> tuple[Any, dict[str, float]]:
        rules = [
            {"pattern": known, "quantizer": {"id": "waterfill", "alpha": alpha, **variant}},
            {"pattern": "*", "quantizer": "fp16"},
        ]
        start = time.process_time()
        quantized = quantize_checkpoint(checkpoint, make_recipe({"rule": rules}, "variant", strict=False), statistics)
        quantizing = time.process_time() - start
        payload = code(quantized)
        start = time.process_time()
        decode_payload(payload.data)
        decoding = time.process_time() - start
        size = len(payload.data)
        return quantized, {"bytes": size, "bits": 8 * size / weights, "quantizing": quantizing, "decoding": decoding}

    def measure(alpha: float, variant: dict[str, Any]) -> dict[str, float]:
        quantized, point = quantize(alpha, variant)
        increase, divergence = against.compare(module.model_for(quantized.state_dict()))
        found = {**point, "alpha": alpha, "divergence": divergence, "increase": increase - against.bpb}
        print(variant, {name: float(f"{value:.5g}") for name, value in found.items()}, flush=True)
        return found

    alphas = options.alphas or _alphas(lambda alpha: quantize(alpha, {})[1]["bits"])
    curves = {name: [measure(alpha, VARIANTS[name]) for alpha in alphas] for name in options.variants}
    text = (
        "Bytes of the payload over those of the uniform quantizer, at the divergences that it has at so many bits per weight"
        f" ({options.tokens:,} tokens of validation text); CPU seconds of quantizing and decoding over its own, at the same α."
    )
    write_report(options.output, f"A trellis, {weights:,} weights", text, table(curves))


def table(curves: dict[str, list[dict[str, float]]]) -> list[str]:
    """Every variant's bytes and times over those of the uniform quantizer, as lines of Markdown."""
    at, found = shares(curves, UNIFORM)
    lines = [
        f"| | {' | '.join(f'{rate} bits' for rate in RATES)} | quantizing | decoding |",
        f"| --- |{' ---: |' * (len(RATES) + 2)}",
        f"| divergence of the uniform one | {' | '.join(f'{one:.5f}' for one in at.values())} | | |",
    ]
    for name, curve in curves.items():
        pairs = list(zip(curve, curves[UNIFORM], strict=True))
        times = [f"{np.median([a[what] / b[what] for a, b in pairs]):.2f}" for what in ("quantizing", "decoding")]
        lines.append(f"| {name} | {' | '.join([*map(cell, found[name].values()), *times])} |")
    return lines


def _alphas(bits: Any) -> list[float]:
    """Values of α from a little above the most of RATES to a little below the least, in equal ratios."""
    low = 1e-5  # a uniform quantizer takes about log2 of 1 / α, and something that depends on the model
    rate = bits(low)
    high = low * 2.0 ** (rate - min(RATES) + 1.3)
    return [float(f"{alpha:.3g}") for alpha in np.geomspace(low * 2.0 ** (rate - max(RATES) - 1.2), high, 6)]


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
