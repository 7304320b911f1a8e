"""What each part of the waterfill quantizer brings: bytes at equal divergence from the float model, option by option.

    python benchmarks/waterfill_options.py runs/converged/checkpoint.safetensors \
        --statistics runs/converged/statistics.safetensors -o benchmarks/results/waterfill_options_converged.md

Every variant is quantized at several α, coded by `rans`, and compared at the divergences that the defaults reach. It is
measured on training data between the calibration sequences, so that the validation split stays unseen by whoever chooses
defaults.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from quality import ROOT, Reference, interpolated

from generator.recipes.recipe import make_recipe
from generator.statistics import load_statistics
from generator.weights.checkpoint import load_checkpoint
from generator.weights.encode import code
from generator.weights.quantize import quantize_checkpoint

SPREAD = (0.8, 1.0, 1.25)  # times α, for the curve of a variant around a point of the defaults
VARIANTS: dict[str, dict[str, Any]] = {
    "feedback along columns only (output = diagonal)": {"output": "diagonal"},
    "no guard": {"guard": 1e9},
    "guard 0.03": {"guard": 0.03},
    "guard 0.3": {"guard": 0.3},
    "moments per token (statistics = token)": {"statistics": "token"},
    "damping 0.003": {"damping": 0.003},
    "damping 0.03": {"damping": 0.03},
    "output_damping 0.02": {"output_damping": 0.02},
    "output_damping 0.15": {"output_damping": 0.15},
    "output_shrinkage 0": {"output_shrinkage": 0.0},
    "output_shrinkage 0.5": {"output_shrinkage": 0.5},
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes at equal divergence, option by option.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=32768)
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.6e-4, 4e-4])
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT / "records_examples" / "stdlib_gpt"))
    import train_gpt

    checkpoint, statistics = load_checkpoint(options.checkpoint), load_statistics(options.statistics)
    tokens = train_gpt.load_tokens("train")[1000:-1000]  # so that windows fall between those of calibration
    against = Reference(train_gpt, train_gpt.model_for(checkpoint.tensors), tokens, options.tokens)
    known = sorted(name for names in statistics.names.values() for name in names)

    def measure(alpha: float, variant: dict[str, Any]) -> dict[str, float]:
        quantizer = {"id": "waterfill", "alpha": alpha, **variant}
        rules = [
            {"pattern": known, "quantizer": quantizer, "codec": "rans"},
            {"pattern": "*", "quantizer": "fp16", "codec": "rans"},
        ]
        quantized = quantize_checkpoint(checkpoint, make_recipe({"rule": rules}, "variant", strict=False), statistics)
        divergence = against.compare(train_gpt.model_for(quantized.state_dict()))[1]
        return {"bytes": len(code(quantized).data), "divergence": divergence}

    centers = [measure(alpha, {}) for alpha in options.alphas]
    heads = [f"{c['divergence']:.5f}" for c in centers]
    lines = [
        f"# Options of waterfill, {checkpoint.elements:,} weights",
        "",
        f"`python benchmarks/waterfill_options.py {' '.join(sys.argv[1:])}`",
        "",
        f"Bytes over those of the defaults at equal divergence (bits per byte, {options.tokens:,} tokens of training data).",
        "",
        f"| | {' | '.join(heads)} |",
        f"| --- | {' | '.join('---:' for _ in heads)} |",
        f"| bytes of the defaults | {' | '.join(format(c['bytes'], ',') for c in centers)} |",
    ]
    for name, variant in VARIANTS.items():
        cells = []
        for alpha, center in zip(options.alphas, centers, strict=True):
            # Some options change all steps alike, so the curve is centered where its size is that of the defaults.
            size = measure(alpha, variant)["bytes"]
            middle = alpha * 2 ** (8 * (size - center["bytes"]) / checkpoint.elements)
            curve = [measure(middle * factor, variant) for factor in SPREAD]
            needed = interpolated(curve, "divergence", "bytes", center["divergence"])
            cells.append("beyond the curve" if needed is None else f"{needed / center['bytes']:.3f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
