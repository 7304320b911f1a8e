"""Quality against bytes: every quantizer on one trained example model, payloads coded by the default codec.

    python benchmarks/quality.py runs/11M/checkpoint.safetensors --statistics runs/11M/statistics.safetensors \
        --self-statistics runs/11M/self.safetensors -o benchmarks/results/quality_11M

With `--nncodec PYTHON` there are points of NNCodec, too; `benchmarks/nncodec_points.py` tells how its environment is made.

An interrupted run goes on where it stopped: points of the same model and number of tokens that OUTPUT.json has are kept.
Writes OUTPUT.json (all points and what follows from them), OUTPUT.md (the table) and OUTPUT.png (the curves). The statistics
come from

    cd records_examples/stdlib_gpt
    CHECKPOINT=… golfpack calibrate calibration.py:calibration -o statistics.safetensors
    CHECKPOINT=… golfpack calibrate calibration.py:calibration --self-generate 128 --length 128 -o self.safetensors
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from generator.payload import check_decodes_to
from generator.recipes.recipe import make_recipe
from generator.statistics import load_statistics
from generator.tuning import TuneOptions
from generator.tuning.tuner import Tuner
from generator.weights.checkpoint import load_checkpoint
from generator.weights.encode import code
from generator.weights.quantize import quantize_checkpoint

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "records_examples" / "stdlib_gpt"))
EMBEDDING = {"id": "rtn", "bits": 8, "scale": "sdclip", "k": 20.0}
RECORDS = "gptq row (records)"
LATER = "gptq + lqer (records)"
# Points of the records' recipes that waterfill is compared with.
REFERENCES = {"the records": "gptq row k=12.85", "the later records": "gptq k=11.5/13/14, lqer"}
TUNED = "waterfill tuned"
STATES = {"waterfill": 8, "waterfill uniform": 1, TUNED: 64}  # of the trellis; 8 is what golfpack takes without a recipe
WATERFILL = (*STATES, "waterfill one-sided")
SELF = "waterfill self-generated"
NNCODEC = "NNCodec"
MEASURES = {"increase": "bpb", "divergence": "KL"}
RATES = (2, 3, 4)  # bits per weight at which methods are compared


def methods(alphas: dict[str, list[float]], ks: list[float]) -> list[tuple[str, str, Any, Any]]:
    """(family, label, quantizer of matrices, quantizer of the embedding) of every point; `alphas` by families of waterfill."""
    points: list[tuple[str, str, Any, Any]] = [("rtn", f"rtn int{b}", f"int{b}", f"int{max(b, 6)}") for b in (8, 6, 5, 4)]
    for k in ks:
        for per in ("row", "tensor"):
            spec = {"id": "gptq", "bits": 6, "scale": "sdclip", "k": k, "per": per}
            records = per == "row" and k == 12.85
            # The records' embedding has int8 with k = 20; at lower rates it gets its share of the loss, too.
            embedding = EMBEDDING if k == 12.85 else {**EMBEDDING, "k": 20.0 * k / 12.85}
            points.append((RECORDS if per == "row" else "gptq tensor", f"gptq {per} k={k:g}", spec, embedding))
            if records:
                points.append(("gptq all", "gptq row k=12.85, embedding too", spec, spec))
    # Since PR #1797 / #1855: other clips, an embedding of 7 bits, the three worst matrices corrected.
    for scale in (1.0, 1.7):
        clip = {"id": "gptq", "scale": "sdclip", "clip": True}
        kinds = {"*.mlp.*": (6, 11.5), "*.attention.*": (6, 13.0), "embedding.weight": (7, 14.0)}
        for corrected in (False, True):
            specs: dict[str, Any] = {name: {**clip, "bits": b, "k": scale * k} for name, (b, k) in kinds.items()}
            if corrected:
                specs = {n: {"id": "lqer", "worst": 3, "weighted": False, "then": spec} for n, spec in specs.items()}
            name = "k=11.5/13/14" + (f" × {scale:g}" if scale != 1 else "")
            embedding = specs.pop("embedding.weight")
            family = LATER if corrected else "gptq by role"
            points.append((family, f"gptq {name}{', lqer' if corrected else ''}", {"by pattern": specs}, embedding))
    for family, values in alphas.items():
        for alpha in values:
            both: dict[str, Any] = {"id": "waterfill", "alpha": alpha, "trellis": STATES.get(family, STATES["waterfill"])}
            if family == "waterfill one-sided":
                both["output"] = "diagonal"
            points.append((family, f"{family} α={alpha:g}", both, both))
    points += [(name, name, name, "int6") for name in ("ternary", "binary")]
    return points


def rules_of(matrices: Any, names: list[str]) -> list[dict[str, Any]]:
    """The recipe's rules for all matrices but the embedding: one quantizer, or one by pattern."""
    if isinstance(matrices, dict) and "by pattern" in matrices:
        return [{"pattern": pattern, "quantizer": spec} for pattern, spec in matrices["by pattern"].items()]
    return [{"pattern": names, "quantizer": matrices}]


def interpolated(curve: list[dict[str, Any]], x: str, y: str, at: float) -> float | None:
    """log of `y` against `x` between the curve's points; None outside them."""
    known = sorted((point[x], point[y]) for point in curve)
    for (x0, y0), (x1, y1) in itertools.pairwise(known):
        if x0 <= at <= x1 and x1 > x0:
            share = (at - x0) / (x1 - x0)
            return math.exp((1 - share) * math.log(y0) + share * math.log(y1)) if min(y0, y1) > 0 else None
    return None


def shares(
    curves: dict[str, list[dict[str, float]]], baseline: str
) -> tuple[dict[float, float], dict[str, dict[float, float]]]:
    """What curves of points need at the divergences at which one of them takes so many bits per weight.

    Args:
        curves: of points that have "bits" (per weight) and "divergence".
        baseline: name of that one.

    Returns:
        For each of RATES the baseline's divergence; for each curve the share of the baseline's bytes that it takes there, NaN
        outside a curve.
    """
    # Between points the logarithm of the divergence is nearly straight over the bits.
    axes = {
        name: list(zip(*sorted((point["bits"], -math.log(point["divergence"])) for point in curve), strict=True))
        for name, curve in curves.items()
    }
    at = {rate: float(np.interp(rate, *axes[baseline], np.nan, np.nan)) for rate in RATES}
    found = {
        name: {rate: float(np.interp(one, *both[::-1], np.nan, np.nan)) / rate for rate, one in at.items()}
        for name, both in axes.items()
    }
    return {rate: math.exp(-one) for rate, one in at.items()}, found


def cell(share: float) -> str:
    """A share of bytes in a table."""
    return "–" if math.isnan(share) else f"{share:.3f}"


def comparisons(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes of waterfill over those of the other methods, at equal bpb and at equal divergence."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        curves.setdefault(point["family"], []).append(point)
    result: dict[str, Any] = {}
    for measure in MEASURES:
        for title, label in REFERENCES.items():
            reference = next((point for point in points if point["label"] == label), None)
            if reference is not None:
                result |= _against_records(curves, title, reference, measure)
        result |= _against_rates(curves, measure)
    return result


def _against_records(
    curves: dict[str, list[dict[str, Any]]], title: str, reference: dict[str, Any], measure: str
) -> dict[str, Any]:
    equal = MEASURES[measure]
    needed = {
        family: interpolated(curves[family], measure, "bytes", reference[measure])
        for family in (*WATERFILL, SELF)
        if family in curves
    }
    result: dict[str, Any] = {
        f"{family}: share of {title}' bytes at equal {equal}": found and round(found / reference["bytes"], 4)
        for family, found in needed.items()
    }
    ours, sampled = needed.get("waterfill"), needed.get(SELF)
    if ours and sampled:
        given_up = (sampled - ours) / (reference["bytes"] - ours)
        result[f"share of the gain over {title} given up by self-generated calibration at equal {equal}"] = round(given_up, 4)
    return result


def _against_rates(curves: dict[str, list[dict[str, Any]]], measure: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for family in (*WATERFILL, SELF):
        if family not in curves:
            continue
        for rate in RATES:
            at = {}
            for other in curves:
                found = None if other.startswith("waterfill") else interpolated(curves[other], "bits_per_weight", measure, rate)
                if found is not None:
                    at[other] = found
            if not at:
                continue
            best = min(at, key=lambda other: at[other])
            bits = interpolated(curves[family], measure, "bits_per_weight", at[best])
            name = f"{family}: share of the bytes of {best} at {rate} bits and equal {MEASURES[measure]}"
            result[name] = bits and round(bits / rate, 4)
    return result


def validation_of(module: Any, checkpoint: Path) -> tuple[torch.Tensor, float]:
    """A module's validation tokens, and the bytes that each stands for."""
    if not hasattr(module, "Text"):
        return module.load_tokens("val"), 1.0
    text = module.Text(checkpoint.with_name("tokenizer.json"))  # of subwords
    return text.load("val"), text.bytes_per_token


def write_report(output: Path, title: str, text: str, lines: list[str]) -> None:
    """Write a Markdown page with the command that made it, and show it."""
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *map(shlex.quote, sys.argv[1:])])
    page = "\n".join([f"# {title}", "", f"`{command}`", "", text, "", *lines]) + "\n"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(page)
    print(page)


def calibration_of(module: Any, checkpoint: Path, sequences: int) -> Any:
    """What a module's calibration function gives, or that of the module beside it; with so many sequences."""
    os.environ.update(CHECKPOINT=str(checkpoint.resolve()), SEQUENCES=str(sequences))
    return (module if hasattr(module, "calibration") else importlib.import_module("calibration")).calibration()


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality against bytes of every quantizer.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--statistics", type=Path, required=True)
    parser.add_argument(
        "--model", default="train_gpt", help="module of model_for, windows, SEQUENCE_LENGTH: train_gpt, looped_gpt"
    )
    parser.add_argument("--self-statistics", type=Path)
    parser.add_argument("--val-tokens", type=int, default=200_000)
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.5e-5, 2.5e-5, 4e-5, 6e-5, 1e-4])
    parser.add_argument("--self-alphas", type=float, nargs="+", help="with --self-statistics; as --alphas without")
    parser.add_argument("--ks", type=float, nargs="+", default=[12.85, 22.0, 36.0])
    parser.add_argument("--uniform-alphas", type=float, nargs="+", default=[], help="also waterfill without a trellis")
    parser.add_argument("--one-sided-alphas", type=float, nargs="+", default=[], help="also without feedback along rows")
    parser.add_argument("--tuned-alphas", type=float, nargs="+", default=[], help="also tuned, with 64 states")
    parser.add_argument("--tune-updates", type=int, default=200)
    parser.add_argument("--tune-sequences", type=int, default=1024)
    parser.add_argument("--nncodec", help="the Python that benchmarks/nncodec_points.py runs in; without it, no such points")
    parser.add_argument("--nncodec-qps", type=int, nargs="+", default=[-24, -20, -18, -16, -14])
    parser.add_argument("-o", "--output", type=Path, required=True, help="path without suffix")
    options = parser.parse_args()
    module = importlib.import_module(options.model)
    checkpoint = load_checkpoint(options.checkpoint)
    weights = checkpoint.elements
    statistics = load_statistics(options.statistics)
    sampled = load_statistics(options.self_statistics) if options.self_statistics else None
    tokens, per_token = validation_of(module, options.checkpoint)
    against = Reference(module, module.model_for(checkpoint.tensors), tokens, options.val_tokens, per_token)
    reference = against.bpb
    print(f"float: {reference:.6f} bpb", flush=True)
    known = {name for names in statistics.names.values() for name in names}
    done = finished_points(options.output.with_suffix(".json"), weights, options.val_tokens)
    points: list[dict[str, Any]] = []
    alphas = {
        "waterfill": options.alphas,
        "waterfill uniform": options.uniform_alphas,
        "waterfill one-sided": options.one_sided_alphas,
        SELF: (options.self_alphas or options.alphas) if sampled is not None else [],
        TUNED: options.tuned_alphas,
    }

    def record(family: str, label: str, size: int, state: dict[str, torch.Tensor], seconds: float) -> None:
        bpb, divergence = against.compare(module.model_for(state))
        point = {
            "family": family,
            "label": label,
            "bytes": size,
            "bits_per_weight": 8 * size / weights,
            "bpb": bpb,
            "increase": bpb - reference,
            "divergence": divergence,
            "quantize_seconds": round(seconds, 1),
        }
        points.append(point)
        print(
            f"{label:36s} {size:>10,} B  {point['bits_per_weight']:.3f} bits  {point['increase']:+.5f} bpb  "
            f"KL {divergence:.5f}  {point['quantize_seconds']} s",
            flush=True,
        )
        write([*points, *done.values()], options, weights, reference)

    for family, label, matrices, embedding in methods(alphas, options.ks):
        if label in done:
            points.append(done.pop(label))
            continue
        start = time.monotonic()
        rules = [
            {"pattern": "embedding.weight", "quantizer": embedding},
            *rules_of(matrices, sorted(known - {"embedding.weight"})),
            {"pattern": "*", "quantizer": "fp16"},
        ]
        recipe = make_recipe({"rule": rules}, label, strict=False)
        quantized = quantize_checkpoint(checkpoint, recipe, sampled if family == SELF else statistics)
        if family == TUNED:
            calibration = calibration_of(module, options.checkpoint, options.tune_sequences)
            tuner = Tuner.of(calibration, TuneOptions(updates=options.tune_updates))
            quantized = tuner.tune(checkpoint, recipe, quantized, statistics).quantized
        middle = time.monotonic()
        payload = code(quantized).data
        state = quantized.state_dict()
        check_decodes_to(payload, state)
        record(family, label, len(payload), state, middle - start)
    if options.nncodec:
        with tempfile.TemporaryDirectory() as folder:
            script = ROOT / "benchmarks" / "nncodec_points.py"
            missing = [str(qp) for qp in options.nncodec_qps if f"NNCodec qp={qp}" not in done]
            points += [done.pop(f"NNCodec qp={qp}") for qp in options.nncodec_qps if str(qp) not in missing]
            python = Path.cwd() / options.nncodec  # not resolved: an environment's Python is a link that must stay one
            command = [python, script, options.checkpoint.resolve(), folder, "--", *missing]
            out = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=folder).stdout if missing else ""
            for one in map(json.loads, out.splitlines()):
                record(NNCODEC, f"NNCodec qp={one['qp']}", one["bytes"], load_file(one["weights"]), one["seconds"])
    for name, value in write(points, options, weights, reference)["comparisons"].items():
        print(f"{name}: {value}")


class Reference:
    """The float model's log-probabilities on the validation tokens, (batch, positions, vocabulary) for each batch.

    The increase of the loss has the sampling noise of the tokens in it; the Kullback-Leibler divergence from the float model
    to the quantized one, in bits per byte, comes close to it and has far less noise.
    """

    def __init__(self, module: Any, model: torch.nn.Module, tokens: torch.Tensor, count: int, bytes_per_token: float = 1.0):
        length = module.SEQUENCE_LENGTH
        number = max(1, min(count, len(tokens) - 1) // length)
        starts = torch.linspace(0, len(tokens) - length - 1, number, dtype=torch.float64).long()
        self.batches = [module.windows(tokens, part) for part in starts.split(32)]
        self.bits = number * length * bytes_per_token * math.log(2)
        self.known: list[torch.Tensor] = []
        self.bpb = self._walk(model)[0]

    def compare(self, model: torch.nn.Module) -> tuple[float, float]:
        """Bits per byte of a quantized model, and its divergence."""
        return self._walk(model)

    @torch.no_grad()
    def _walk(self, model: torch.nn.Module) -> tuple[float, float]:
        model.eval()
        first, loss, divergence = not self.known, 0.0, 0.0
        for number, (inputs, targets) in enumerate(self.batches):
            found = model(inputs).log_softmax(-1)
            loss += torch.nn.functional.nll_loss(found.flatten(0, 1), targets.flatten(), reduction="sum").item()
            if first:
                self.known.append(found)
            known = self.known[number]
            divergence += (known.exp() * (known - found)).sum().item()
        return loss / self.bits, divergence / self.bits


def finished_points(path: Path, weights: int, val_tokens: int) -> dict[str, dict[str, Any]]:
    """Points of an earlier, interrupted run, by label."""
    if not path.exists():
        return {}
    earlier = json.loads(path.read_text())
    if (earlier["weights"], earlier["val_tokens"]) != (weights, val_tokens):
        return {}
    return {point["label"]: point for point in earlier["points"]}


def write(points: list[dict[str, Any]], options: argparse.Namespace, weights: int, reference: float) -> dict[str, Any]:
    """All three files, after every point: a run that is interrupted goes on where it stopped."""
    document = {
        "command": " ".join(["python", "benchmarks/quality.py", *sys.argv[1:]]),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
        "seed": 0,
        "weights": weights,
        "val_tokens": options.val_tokens,
        "float_bpb": reference,
        "points": points,
        "comparisons": comparisons(points),
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    options.output.with_suffix(".md").write_text(markdown(document))
    plot(document, options.output.with_suffix(".png"))
    return document


def markdown(document: dict[str, Any]) -> str:
    """The table."""
    lines = [
        f"# {document['weights']:,} weights, {document['val_tokens']:,} validation tokens",
        "",
        f"`{document['command']}`",
        "",
        f"{document['hardware']}; seed {document['seed']}; float model {document['float_bpb']:.6f} bpb.",
        "",
        "| quantizer | payload bytes | bits per weight | bpb increase | KL from float, bits per byte | quantization, s |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for point in document["points"]:
        lines.append(
            f"| {point['label']} | {point['bytes']:,} | {point['bits_per_weight']:.3f} | {point['increase']:+.5f} | "
            f"{point['divergence']:.5f} | {point['quantize_seconds']} |"
        )
    lines += ["", "| waterfill against the others | |", "| --- | ---: |"]
    lines += [
        f"| {name} | {value if value is not None else 'outside the curve'} |" for name, value in document["comparisons"].items()
    ]
    return "\n".join(lines) + "\n"


def plot(document: dict[str, Any], path: Path) -> None:
    """Increase of bpb against bytes, both logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    families = dict.fromkeys(point["family"] for point in document["points"])
    for family in families:
        curve = sorted((p["bytes"], p["increase"]) for p in document["points"] if p["family"] == family and p["increase"] > 0)
        if curve:
            axes.plot(*zip(*curve, strict=True), marker="o", label=family)
    axes.set(xscale="log", yscale="log", xlabel="payload, bytes", ylabel="increase of bits per byte")
    axes.set_title(f"{document['weights']:,} weights, {document['val_tokens']:,} validation tokens")
    axes.grid(which="both", alpha=0.3)
    if axes.lines:
        axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
