"""What training for the budget brings: bits per byte against bytes of the artifact, at equal training time.

    python benchmarks/training.py --layers 4 --width 128 --steps 1600 --folder runs/training_a -o benchmarks/results/training_a

One model is trained plainly. Branches (BRANCHES says what they do) leave it for the last part of training, each for the
CPU seconds that plain training has for that part. Every model that comes out is calibrated and packed by `waterfill` at
several α, those that were trained with fake quantization by their own quantizer, too. An interrupted run goes on where
it stopped: the folder keeps models, OUTPUT.json the points. Writes OUTPUT.json, OUTPUT.md (tables) and OUTPUT.png
(curves).
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from branches import (
    ROOT,
    Branch,
    Settings,
    Trainer,
    calibration_batches,
    time_ratio,
    train,
    train_gpt,
)
from quality import Reference, interpolated
from safetensors.torch import load_file, save_file

from generator.calibration import calibrate, language_model_loss
from generator.job import open_job
from generator.payload import check_decodes_to
from generator.recipes.recipe import make_recipe
from generator.weights.checkpoint import from_state_dict
from generator.weights.encode import code
from generator.weights.quantize import quantize_checkpoint

PLAIN = "plain"
RATES = (2.0, 2.5, 3.0, 3.5)  # bits per weight of plain training at which branches are compared
SHARES = (0.4, 0.2, 0.1)  # of training, which branches are the last part of
WATERFILL = "waterfill"
ALPHAS = (1.5e-4, 2.5e-4, 4e-4, 6.5e-4, 1.1e-3)

BRANCHES = [
    Branch(PLAIN, share=min(SHARES)),
    Branch("weight decay × 2.5", weight_decay=2.5),
    Branch("weight decay × 0.5", weight_decay=0.5),
    Branch("price 1e-7", price=1e-7, alpha=5e-4),
    Branch("price 2e-8", price=2e-8, alpha=5e-4),
    Branch("price 2e-8, weight decay × 0.5", price=2e-8, alpha=5e-4, weight_decay=0.5),
    Branch("price 1e-7, last 10 %", share=0.1, price=1e-7, alpha=5e-4),
    Branch("price 5e-8, last 20 %", share=0.2, price=5e-8, alpha=5e-4),
    Branch("price 2e-8, step 0.01", price=2e-8, step=0.01),
    Branch("pull 0.2", pull=0.2, alpha=5e-4),
    Branch("pull 0.1, weight decay × 0.5", pull=0.1, alpha=5e-4, weight_decay=0.5),
    Branch("noise, last 20 %", share=0.2, noise=True, alpha=5e-4),
    Branch("int4", quantizer="int4", embedding="int6"),
    Branch("int4, last 10 %", share=0.1, quantizer="int4", embedding="int6"),
    Branch("ternary", quantizer="ternary", embedding="int6"),
    Branch("int6, last 20 %", share=0.2, quantizer="int6", embedding="int6"),
    Branch("plain, other batches", order=1),
]


class Bench:
    """Trains, packs and measures, and keeps what is done.

    Attributes:
        document: all that OUTPUT.json holds.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
        self.tokens, self.held_out = train_gpt.load_tokens("train"), train_gpt.load_tokens("val")
        options.folder.mkdir(parents=True, exist_ok=True)
        script = ROOT / "records_examples/stdlib_gpt/train_gpt.py"
        self.job = open_job(script, {"carrier": "latin1"}, [options.folder / "train_gpt.py"])
        self.document = self._opened()

    def _opened(self) -> dict[str, Any]:
        path = self.options.output.with_suffix(".json")
        settings = {**asdict(self.settings), "val_tokens": self.options.val_tokens, "calibration": self.options.calibration}
        earlier = json.loads(path.read_text()) if path.exists() else {}
        kept = earlier if earlier.get("settings") == settings else {}
        return {
            "command": " ".join(["python", "benchmarks/training.py", *sys.argv[1:]]),
            "hardware": f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
            "settings": settings,
            "ratios": kept.get("ratios", {}),
            "branches": kept.get("branches", {}),
            "points": kept.get("points", []),
        }

    def states(self, share: float) -> dict[str, Any]:
        """Plain training at the beginning of its last `share`; trained up to there, if it wasn't."""
        path = self._file(f"plain until {1 - share:.2f}", "pt")
        if not path.exists():
            earlier = min((one for one in SHARES if one > share), default=None)
            trainer = Trainer(self.settings, self.tokens)
            begin = 0.0
            if earlier is not None:
                trainer.restore(self.states(earlier))
                begin = 1 - earlier
            print(f"plain training until {1 - share:.2f}", flush=True)
            train(trainer, begin, self._steps(1 - share) - self._steps(begin), 1 - share)
            torch.save(trainer.state(), path)
        state: dict[str, Any] = torch.load(path)
        return state

    def _steps(self, progress: float) -> int:
        return round(self.settings.steps * progress)

    def _file(self, label: str, suffix: str) -> Path:
        folder: Path = self.options.folder
        return folder / f"{re.sub('[^a-z0-9.]+', '_', label.lower())}.{suffix}"

    def model(self, branch: Branch) -> dict[str, torch.Tensor]:
        """What a branch's training ends with; trained, if it wasn't."""
        path = self._file(branch.label, "safetensors")
        if path.exists() and branch.label in self.document["branches"]:
            return load_file(path)
        state = self.states(branch.share)
        ratios = self.document["ratios"]
        if branch.kind not in ratios or (branch.calibrates and ratios[branch.kind][1] == 0):
            ratios[branch.kind] = (1.0, 0.0) if branch.kind == PLAIN else time_ratio(self.settings, self.tokens, state, branch)
        ratio, beginning = ratios[branch.kind]
        available = self.settings.steps - self._steps(1 - branch.share)
        steps = max(1, round((available - (beginning if branch.calibrates else 0)) / ratio))
        trainer = Trainer(self.settings, self.tokens, branch)
        trainer.restore(state)
        print(f"{branch.label}: {steps} steps for {available}, each {ratio:.3f} times as long", flush=True)
        seconds = train(trainer, 1 - branch.share, steps)
        weights = trainer.latent()
        save_file(weights, path)
        self.document["branches"][branch.label] = {
            "steps": self.settings.steps - available + steps,
            "ratio": ratio,
            "seconds": round(seconds, 1),
        }
        self.write()
        return weights

    def measure(self, branch: Branch, alphas: list[float]) -> None:
        """All points of a branch that are not there yet."""
        recipes: dict[str, Any] = {f"{WATERFILL} α={alpha:g}": {"alpha": alpha} for alpha in alphas}
        if branch.quantizer is not None:
            recipes["own"] = {"matrices": branch.quantizer, "embedding": branch.embedding}
        if branch.label == PLAIN:
            grids = [one for one in BRANCHES if one.quantizer is not None]
            recipes |= {f"as {one.quantizer}": {"matrices": one.quantizer, "embedding": one.embedding} for one in grids}
        weights = self.model(branch)
        done = {point["recipe"] for point in self.document["points"] if point["branch"] == branch.label}
        if recipes.keys() <= done:
            return
        model = train_gpt.model_for(weights).eval()
        against = Reference(train_gpt, model, self.held_out, self.options.val_tokens)
        self.document["branches"][branch.label]["bpb"] = against.bpb
        batches = calibration_batches(self.tokens, self.options.calibration)
        statistics = calibrate((model, batches, language_model_loss()))
        checkpoint = from_state_dict(weights)
        matrices = sorted(set(statistics.names) - {"embedding.weight"})
        for name, spec in recipes.items():
            if name in done:
                continue
            if "alpha" in spec:
                both = {"id": "waterfill", "trellis": 8, "alpha": spec["alpha"]}
                spec = {"matrices": both, "embedding": both}
            rules = [
                {"pattern": "embedding.weight", "quantizer": spec["embedding"]},
                {"pattern": matrices, "quantizer": spec["matrices"]},
                {"pattern": "*", "quantizer": "fp16"},
            ]
            start = time.process_time()
            quantized = quantize_checkpoint(checkpoint, make_recipe({"rule": rules}, name), statistics)
            payload = code(quantized)
            state = quantized.state_dict()
            check_decodes_to(payload.data, state)
            size = self.job.emit(payload, None).written.size
            bpb, divergence = against.compare(train_gpt.model_for(state))
            point = {
                "branch": branch.label,
                "recipe": name,
                "bytes": size,
                "payload": len(payload.data),
                "bits_per_weight": 8 * len(payload.data) / checkpoint.elements,
                "bpb": bpb,
                "divergence": divergence,
            }
            self.document["points"].append(point)
            print(
                f"{branch.label:32s} {name:24s} {size:>9,} B  {point['bits_per_weight']:.3f} bits  {bpb:.5f} bpb "
                f"(float {against.bpb:.5f})  KL {divergence:.5f}  {time.process_time() - start:.1f} s",
                flush=True,
            )
            self.write()

    def write(self) -> None:
        """All three files."""
        output: Path = self.options.output
        output.parent.mkdir(parents=True, exist_ok=True)
        output.with_suffix(".json").write_text(json.dumps(self.document, indent=1, ensure_ascii=False) + "\n")
        output.with_suffix(".md").write_text(markdown(self.document))
        plot(self.document, output.with_suffix(".png"))


def curves(document: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Each branch's points by `waterfill`."""
    found: dict[str, list[dict[str, Any]]] = {}
    for point in document["points"]:
        if point["recipe"].startswith(WATERFILL):
            found.setdefault(point["branch"], []).append(point)
    return found


def markdown(document: dict[str, Any]) -> str:
    """The tables."""
    settings = document["settings"]
    lines = [
        f"# Training for the budget: {settings['layers']} layers, width {settings['width']}, {settings['steps']} steps",
        "",
        f"`{document['command']}`",
        "",
        f"{document['hardware']}; batches of {settings['batch_size']}, weight decay {settings['weight_decay']}, learning rate"
        f" × {settings['learning_rate']}, seed {settings['seed']}; {settings['val_tokens']:,} tokens of validation text."
        " Sizes are those of whole artifacts, in carrier latin1.",
        "",
    ]
    known = curves(document)
    if PLAIN in known:
        lines += [*compared(document, known), *own_grids(document, known[PLAIN])]
    lines += [
        "",
        "| training | packed | bytes | bits per weight | bpb | KL from float |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [f"{cells(point)} {point['divergence']:.5f} |" for point in document["points"]]
    return "\n".join(lines) + "\n"


def cells(point: dict[str, Any]) -> str:
    """Of a point, the beginning of a table's line."""
    return (
        f"| {point['branch']} | {point['recipe']} | {point['bytes']:,} | {point['bits_per_weight']:.3f} | {point['bpb']:.5f} |"
    )


def compared(document: dict[str, Any], known: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Each branch's curve against that of plain training, as lines of Markdown."""
    plain = known[PLAIN]
    at = {}
    for rate in RATES:
        size, bpb = (interpolated(plain, "bits_per_weight", what, rate) for what in ("bytes", "bpb"))
        if size and bpb:
            at[rate] = size, bpb
    heads = [f"{what}, {rate:g} bits" for what in ("bytes", "bpb") for rate in at]
    values = [f"{size:,.0f}" for size, _ in at.values()] + [f"{bpb:.4f}" for _, bpb in at.values()]
    one = document["branches"][PLAIN]
    lines = [
        "Where plain training and `waterfill` take so many bits per weight: bytes at that bpb, over those; and bpb at those"
        " bytes, less that bpb.",
        "",
        f"| training | steps | s per step | float bpb | {' | '.join(heads)} |",
        f"| --- |{' ---: |' * (3 + len(heads))}",
        f"| {PLAIN} | {one['steps']} | 1 | {one['bpb']:.4f} | {' | '.join(values)} |",
    ]
    for label, curve in known.items():
        one = document["branches"][label]
        if label == PLAIN:
            continue
        sizes = [(interpolated(curve, "bpb", "bytes", bpb), size) for size, bpb in at.values()]
        bpbs = [(interpolated(curve, "bytes", "bpb", size), bpb) for size, bpb in at.values()]
        values = [f"{found / size:.3f}" if found else "–" for found, size in sizes]
        values += [f"{found - bpb:+.4f}" if found else "–" for found, bpb in bpbs]
        lines.append(f"| {label} | {one['steps']} | {one['ratio']:.3f} | {one['bpb']:.4f} | {' | '.join(values)} |")
    return lines


def own_grids(document: dict[str, Any], plain: list[dict[str, Any]]) -> list[str]:
    """What was packed by another quantizer than `waterfill`, as lines of Markdown."""
    points = [point for point in document["points"] if not point["recipe"].startswith(WATERFILL)]
    if not points:
        return []
    lines = [
        "",
        "Grids that training knew, and the same without training for them. Last, their bytes over those of plain training and"
        " `waterfill` at that bpb.",
        "",
        "| training | packed | bytes | bits per weight | bpb | over plain |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for point in points:
        size = interpolated(plain, "bpb", "bytes", point["bpb"])
        lines.append(f"{cells(point)} {round(point['bytes'] / size, 3) if size else '–'} |")
    return lines


def plot(document: dict[str, Any], path: Path) -> None:
    """Bits per byte against bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(10, 6), layout="constrained")
    known = curves(document)
    for number, (label, curve) in enumerate(known.items()):
        line = sorted((point["bytes"], point["bpb"]) for point in curve)
        style = {"color": "black", "linewidth": 2.5} if label == PLAIN else {"linestyle": ("-", "--", ":")[number // 10 % 3]}
        axes.plot(*zip(*line, strict=True), marker=".", label=label, **style)
    for point in document["points"]:
        if point["recipe"] == "own":
            axes.plot(point["bytes"], point["bpb"], marker="*", linestyle="none", label=f"{point['branch']}, own grid")
    if known:
        axes.set_ylim(top=max(min(p["bpb"] for p in curve) for curve in known.values()) + 0.25)
        axes.legend(fontsize=7)
    axes.set(xscale="log", xlabel="artifact, bytes", ylabel="bits per byte")
    axes.grid(which="both", alpha=0.3)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description="Training with the rate in mind against plain training, at equal time.")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--width", type=int, default=128, help="a multiple of 64")
    parser.add_argument("--steps", type=int, default=1600, help="of plain training")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--weight-decay", type=float, default=0.2)
    parser.add_argument("--learning-rate", type=float, default=1.0, help="over the example's")
    parser.add_argument("--sequences", type=int, default=32, help="of calibrations within training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--calibration", type=int, default=128, help="sequences of the calibration before packing")
    parser.add_argument("--val-tokens", type=int, default=65536)
    parser.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    parser.add_argument(
        "--branches", nargs="+", default=[branch.label for branch in BRANCHES], choices=[branch.label for branch in BRANCHES]
    )
    parser.add_argument("--folder", type=Path, required=True, help="for models")
    parser.add_argument("-o", "--output", type=Path, required=True, help="path without suffix")
    options = parser.parse_args()
    bench = Bench(options)
    known = {branch.label: branch for branch in BRANCHES}
    for label in options.branches:
        bench.measure(known[label], options.alphas)
    bench.write()


if __name__ == "__main__":
    main()
