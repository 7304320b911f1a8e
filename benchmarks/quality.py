"""Quality against bytes: every quantizer on one trained example model, payloads coded by the default codec.

    python benchmarks/quality.py runs/11M/checkpoint.safetensors --stats runs/11M/statistics.safetensors \
        --self-stats runs/11M/self.safetensors -o benchmarks/results/quality_11M

An interrupted run goes on where it stopped: points of the same model and number of tokens that OUTPUT.json has are kept.
Writes OUTPUT.json (all points and what follows from them), OUTPUT.md (the table) and OUTPUT.png (the curves). The statistics
come from

    cd records_examples/stdlib_gpt
    CHECKPOINT=… golfpack calibrate calibration.py:calibration -o statistics.safetensors
    CHECKPOINT=… golfpack calibrate calibration.py:calibration --self-generate 64 --length 160 -o self.safetensors
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch

from generator.checkpoint import load_checkpoint
from generator.encode import code
from generator.payload import check_decodes_to
from generator.quantize import Cache, quantize_checkpoint
from generator.recipe import make_recipe
from generator.statistics import load_statistics

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "records_examples" / "stdlib_gpt"))
EMBEDDING = {"id": "rtn", "bits": 8, "scale": "sdclip", "k": 20.0}
RECORDS = "gptq row (records)"
WATERFILL = ("waterfill", "waterfill two-sided")
SELF = "waterfill self-generated"
RATES = (2, 3, 4)  # bits per weight at which methods are compared


def methods(alphas: list[float], ks: list[float], with_self: bool, two_sided: bool) -> list[tuple[str, str, Any, Any]]:
    """(family, label, quantizer of matrices, quantizer of the embedding) of every point."""
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
    for alpha in alphas:
        both = {"id": "waterfill", "alpha": alpha}
        points.append(("waterfill", f"waterfill α={alpha:g}", both, both))
        if two_sided:
            full = {**both, "output": "full"}
            points.append(("waterfill two-sided", f"waterfill two-sided α={alpha:g}", full, full))
    if with_self:
        points += [(SELF, f"{SELF} α={a:g}", {"id": "waterfill", "alpha": a}, {"id": "waterfill", "alpha": a}) for a in alphas]
    points += [(name, name, name, "int6") for name in ("ternary", "binary")]
    return points


def interpolated(curve: list[dict[str, Any]], x: str, y: str, at: float) -> float | None:
    """log of `y` against `x` between the curve's points; None outside them."""
    known = sorted((point[x], point[y]) for point in curve)
    for (x0, y0), (x1, y1) in itertools.pairwise(known):
        if x0 <= at <= x1 and x1 > x0:
            share = (at - x0) / (x1 - x0)
            return math.exp((1 - share) * math.log(y0) + share * math.log(y1)) if min(y0, y1) > 0 else None
    return None


def comparisons(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Bytes of waterfill over those of the other methods, at equal bpb."""
    curves: dict[str, list[dict[str, Any]]] = {}
    for point in points:
        curves.setdefault(point["family"], []).append(point)
    others = [family for family in curves if not family.startswith("waterfill")]
    result: dict[str, Any] = {}
    records = next((point for point in points if point["label"] == "gptq row k=12.85"), None)
    if records is None:
        return {}
    for family in (*WATERFILL, SELF):
        if family not in curves:
            continue
        needed = interpolated(curves[family], "increase", "bytes", records["increase"])
        result[f"{family}: bytes at the records' bpb"] = needed and round(needed)
        result[f"{family}: share of the records' bytes"] = needed and round(needed / records["bytes"], 4)
        for rate in RATES:
            at = {}
            for other in others:
                increase = interpolated(curves[other], "bits_per_weight", "increase", rate)
                if increase is not None:
                    at[other] = increase
            if not at:
                continue
            best = min(at, key=lambda other: at[other])
            bits = interpolated(curves[family], "increase", "bits_per_weight", at[best])
            result[f"{family}: share of the bytes of {best} at {rate} bits"] = bits and round(bits / rate, 4)
    own, records_bytes = result.get("waterfill: bytes at the records' bpb"), records["bytes"]
    sampled = result.get(f"{SELF}: bytes at the records' bpb")
    if own and sampled:
        result["share of the gain given up by self-generated calibration"] = round((sampled - own) / (records_bytes - own), 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality against bytes of every quantizer.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--stats", type=Path, required=True)
    parser.add_argument("--self-stats", type=Path)
    parser.add_argument("--val-tokens", type=int, default=200_000)
    parser.add_argument("--alphas", type=float, nargs="+", default=[1.5e-5, 2.5e-5, 4e-5, 6e-5, 1e-4])
    parser.add_argument("--ks", type=float, nargs="+", default=[12.85, 22.0, 36.0])
    parser.add_argument("--two-sided", action="store_true", help="also waterfill with feedback along rows")
    parser.add_argument("-o", "--output", type=Path, required=True, help="path without suffix")
    options = parser.parse_args()
    import train_gpt

    checkpoint = load_checkpoint(options.checkpoint)
    weights = checkpoint.elements
    statistics = load_statistics(options.stats)
    sampled = load_statistics(options.self_stats) if options.self_stats else None
    tokens = train_gpt.load_tokens("val")
    reference = train_gpt.evaluate(train_gpt.model_for(checkpoint.tensors), tokens, options.val_tokens)[1]
    print(f"float: {reference:.6f} bpb", flush=True)
    known = {name for names in statistics.names.values() for name in names}
    done = finished_points(options.output.with_suffix(".json"), weights, options.val_tokens)
    points: list[dict[str, Any]] = []
    for family, label, matrices, embedding in methods(options.alphas, options.ks, sampled is not None, options.two_sided):
        if label in done:
            points.append(done.pop(label))
            continue
        start = time.monotonic()
        rules = [
            {"pattern": "embedding.weight", "quantizer": embedding},
            {"pattern": sorted(known - {"embedding.weight"}), "quantizer": matrices},
            {"pattern": "*", "quantizer": "fp16"},
        ]
        recipe = make_recipe({"rule": rules}, label, strict=False)
        quantized, codecs = quantize_checkpoint(checkpoint, recipe, sampled if family == SELF else statistics)
        middle = time.monotonic()
        payload = code(quantized, codecs, checkpoint.names, Cache())
        state = {name: q.tensor() for name, q in quantized.items()}
        check_decodes_to(payload, state)
        bpb = train_gpt.evaluate(train_gpt.model_for(state), tokens, options.val_tokens)[1]
        point = {
            "family": family,
            "label": label,
            "bytes": len(payload),
            "bits_per_weight": 8 * len(payload) / weights,
            "bpb": bpb,
            "increase": bpb - reference,
            "quantize_seconds": round(middle - start, 1),
        }
        points.append(point)
        print(
            f"{label:36s} {len(payload):>10,} B  {point['bits_per_weight']:.3f} bits  {point['increase']:+.5f} bpb  "
            f"{point['quantize_seconds']} s",
            flush=True,
        )
        write([*points, *done.values()], options, weights, reference)
    for name, value in write(points, options, weights, reference)["comparisons"].items():
        print(f"{name}: {value}")


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
        "| quantizer | payload bytes | bits per weight | bpb increase | quantization, s |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for point in document["points"]:
        lines.append(
            f"| {point['label']} | {point['bytes']:,} | {point['bits_per_weight']:.3f} | {point['increase']:+.5f} | "
            f"{point['quantize_seconds']} |"
        )
    lines += ["", "| at equal bpb | |", "| --- | ---: |"]
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


if __name__ == "__main__":
    main()
