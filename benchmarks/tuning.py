"""What tuning brings: payload bytes at equal divergence from the float model, without tuning and with more and more of it.

    cd records_examples/stdlib_gpt && CHECKPOINT=runs/11M/checkpoint.safetensors python ../../benchmarks/tuning.py \
        runs/11M/checkpoint.safetensors --statistics runs/11M/statistics.safetensors -o benchmarks/results/tuning_11M.md
    CHECKPOINT=… python benchmarks/tuning.py … --module looped_gpt -o …

The model, the batches that it is tuned on and the logits come from the module's calibration, as for `golfpack fit --tune`; the
divergence is taken on validation text. Points of an interrupted run are kept in OUTPUT's .json and not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from quality import RATES, Reference, calibration_of, cell, shares, validation_of, write_report

from generator.recipes.recipe import make_recipe
from generator.statistics import load_statistics
from generator.tuning import TuneOptions
from generator.tuning.tuner import Tuner
from generator.weights.checkpoint import load_checkpoint
from generator.weights.encode import code
from generator.weights.quantize import quantize_checkpoint

PLAIN = "without tuning"


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes of tuned models at equal divergence.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument("--module", default="train_gpt", help="of the model: train_gpt, looped_gpt")
    parser.add_argument("--tokens", type=int, default=60_000, help="of validation text")
    parser.add_argument("--sequences", type=int, default=1024, help="that are tuned on")
    parser.add_argument("--alphas", type=float, nargs="+", required=True)
    parser.add_argument("--tuned-alphas", type=float, nargs="+", help="of the tuned points; as --alphas without")
    parser.add_argument("--updates", type=int, nargs="+", default=[100, 400])
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    module = import_module(options.module)
    checkpoint, statistics = load_checkpoint(options.checkpoint), load_statistics(options.statistics)
    tokens, _ = validation_of(module, options.checkpoint)
    against = Reference(module, module.model_for(checkpoint.tensors), tokens, options.tokens)
    known = sorted(name for names in statistics.names.values() for name in names)
    weights = sum(checkpoint.tensors[name].numel() for name in known if name in checkpoint.tensors)
    kept = options.output.with_suffix(".json")
    points: dict[str, dict[str, Any]] = json.loads(kept.read_text()) if kept.exists() else {}

    def measure(alpha: float, updates: int) -> dict[str, Any]:
        name = f"{alpha:g} {updates}"
        if name not in points:
            rules = [
                {"pattern": known, "quantizer": {"id": "waterfill", "alpha": alpha, "trellis": 8}},
                {"pattern": "*", "quantizer": "fp16"},
            ]
            recipe = make_recipe({"rule": rules}, name, strict=False)
            start = time.process_time()
            quantized = quantize_checkpoint(checkpoint, recipe, statistics)
            middle = time.process_time()
            held_out: tuple[float, ...] = ()
            if updates:
                tuner = Tuner.of(calibration_of(module, options.checkpoint, options.sequences), TuneOptions(updates=updates))
                tuned = tuner.tune(checkpoint, recipe, quantized, statistics)
                quantized, held_out = tuned.quantized, (tuned.before, tuned.after)
            end = time.process_time()
            size = len(code(quantized).data)
            bpb, divergence = against.compare(module.model_for(quantized.state_dict()))
            points[name] = {
                "alpha": alpha,
                "bytes": size,
                "bits": 8 * size / weights,
                "divergence": divergence,
                "increase": bpb - against.bpb,
                "held out": held_out,
                "quantizing": middle - start,
                "tuning": end - middle,
            }
            print(name, points[name], flush=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(points, indent=1) + "\n")
        return points[name]

    curves = {PLAIN: [measure(alpha, 0) for alpha in options.alphas]}
    for updates in options.updates:
        curves[f"{updates} updates"] = [measure(alpha, updates) for alpha in options.tuned_alphas or options.alphas]
    text = (
        "Bytes of the payload over those without tuning, at the divergences that it has at so many bits per weight"
        f" ({options.tokens:,} tokens of validation text); CPU seconds of tuning over those of quantizing."
    )
    lines = [
        *table(curves),
        "",
        "| point | bytes | KL, bits per token | KL held out, nats per token | bits per token more |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, curve in curves.items():
        for point in curve:
            held = " → ".join(f"{value:.5f}" for value in point["held out"])
            cells = [f"α = {point['alpha']:g}, {name}", f"{point['bytes']:,}", f"{point['divergence']:.5f}", held]
            lines.append(f"| {' | '.join(cells)} | {point['increase']:+.5f} |")
    write_report(options.output, f"Tuning, {weights:,} weights", text, lines)


def table(curves: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Every curve's bytes over those without tuning, as lines of Markdown."""
    at, found = shares(curves, PLAIN)
    lines = [
        f"| | {' | '.join(f'{rate} bits' for rate in RATES)} | tuning |",
        f"| --- |{' ---: |' * (len(RATES) + 1)}",
        f"| divergence without tuning | {' | '.join(f'{one:.5f}' for one in at.values())} | |",
    ]
    for name, curve in curves.items():
        time_share = sum(point["tuning"] for point in curve) / sum(point["quantizing"] for point in curve)
        lines.append(f"| {name} | {' | '.join([*map(cell, found[name].values()), f'{time_share:.1f}'])} |")
    return lines


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
