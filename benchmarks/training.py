"""What training for the budget brings: bits per byte against bytes of the artifact, at equal training time.

    python benchmarks/training.py --folder runs/training -o benchmarks/results/training_4x128

One model is trained plainly. Branches (BRANCHES says what they do) leave it for the last part of training, each for the
CPU seconds that plain training has for that part, or for as many steps. Every model that comes out is calibrated and
packed by `waterfill` at several α, those that were trained with fake quantization by their own quantizer, too. An
interrupted run goes on where it stopped: the folder keeps models, OUTPUT.json the points. Writes OUTPUT.json, OUTPUT.md
(tables) and OUTPUT.png (curves).

Runs of few steps differ by some 0.01 bits per byte if they see other batches. Those with as many steps as plain training
(`--equal steps`) see the same ones, and differ by a tenth of that; what slower steps cost is then another question.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import shlex
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
from quality import Reference
from safetensors.torch import load_file, save_file
from training_tables import PLAIN, WATERFILL, markdown, plain_label, plot, run_name

from generator.calibration import calibrate, language_model_loss
from generator.job import open_job
from generator.payload import check_decodes_to
from generator.recipes.recipe import make_recipe
from generator.weights.checkpoint import from_state_dict
from generator.weights.encode import code
from generator.weights.quantize import quantize_checkpoint

SHARES = (0.4, 0.2, 0.1)  # of training, which branches are the last part of
ALPHAS = (2e-4, 3.5e-4, 6e-4, 1.1e-3)
RATE = {"alpha": 5e-4}  # of the steps whose bits are counted: 2 to 3 bits per weight

BRANCHES = [
    Branch("weight decay × 2, last 20 %", share=0.2, weight_decay=2.0),
    Branch("weight decay × 2.5, last 40 %", weight_decay=2.5),
    Branch("price 2e-8, last 40 %", price=2e-8, **RATE),
    Branch("price 1e-7, last 40 %", price=1e-7, **RATE),
    Branch("price 2e-8, last 20 %", share=0.2, price=2e-8, **RATE),
    Branch("price 1e-7, last 20 %", share=0.2, price=1e-7, **RATE),
    Branch("price 5e-7, last 20 %", share=0.2, price=5e-7, alpha=2e-3),
    Branch("pull 0.07, weight decay × 0.5, last 20 %", share=0.2, pull=0.07, weight_decay=0.5, **RATE),
    Branch("weight decay × 0.5, last 20 %", share=0.2, weight_decay=0.5),
    Branch("price 1e-7, last 10 %", share=0.1, price=1e-7, **RATE),
    Branch("noise, last 20 %", share=0.2, noise=True, **RATE),
    Branch("int6, last 20 %", share=0.2, quantizer="int6", embedding="int6"),
    Branch("int4, last 40 %", quantizer="int4", embedding="int6"),
    Branch("int4, last 20 %", share=0.2, quantizer="int4", embedding="int6"),
    Branch("ternary, last 40 %", quantizer="ternary", embedding="int6"),
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
        settings |= {"float_tokens": self.options.float_tokens, "equal": self.options.equal}
        earlier = json.loads(path.read_text()) if path.exists() else {}
        kept = earlier if earlier.get("settings") == settings else {}
        return {
            "command": shlex.join(["python", "benchmarks/training.py", *sys.argv[1:]]),
            "hardware": f"{platform.machine()}, {torch.get_num_threads()} thread(s), torch {torch.__version__}",
            "settings": settings,
            "ratios": kept.get("ratios", {}),
            "runs": kept.get("runs", {}),
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

    def model(self, branch: Branch, order: int) -> dict[str, torch.Tensor]:
        """What a branch's training ends with; trained, if it wasn't."""
        run = run_name(branch.label, order)
        path = self._file(run, "safetensors")
        if path.exists() and run in self.document["runs"]:
            return load_file(path)
        state = self.states(branch.share)
        ratios = self.document["ratios"]
        if branch.kind not in ratios:
            ratios[branch.kind] = (1.0, 0.0) if branch.kind == PLAIN else time_ratio(self.settings, self.tokens, state, branch)
        ratio, beginning = ratios[branch.kind]
        available = self.settings.steps - self._steps(1 - branch.share)
        steps = available if self.options.equal == "steps" else max(1, round((available - beginning) / ratio))
        trainer = Trainer(self.settings, self.tokens, branch)
        trainer.restore(state, order, available - steps)
        print(f"{run}: {steps} steps for {available}, each {ratio:.3f} times as long", flush=True)
        seconds = train(trainer, 1 - branch.share, steps)
        weights = trainer.latent()
        save_file(weights, path)
        self.document["runs"][run] = {
            "branch": branch.label,
            "share": branch.share,
            "order": order,
            "steps": self.settings.steps - available + steps,
            "ratio": ratio,
            "seconds": round(seconds, 1),
        }
        self.write()
        return weights

    def measure(self, branch: Branch, order: int) -> None:
        """All points of a run that are not there yet."""
        run = run_name(branch.label, order)
        recipes = self._recipes(branch)
        weights = self.model(branch, order)
        done = {point["recipe"] for point in self.document["points"] if point["run"] == run}
        if recipes.keys() <= done:
            return
        model = train_gpt.model_for(weights).eval()
        # Runs differ by more in bpb than quantizers do, which asks for more text; the increase has less noise.
        reference = self._bpb(weights)
        self.document["runs"][run]["bpb"] = reference
        against = Reference(train_gpt, model, self.held_out, self.options.val_tokens)
        batches = calibration_batches(self.tokens, self.options.calibration)
        statistics = calibrate((model, batches, language_model_loss()))
        checkpoint = from_state_dict(weights)
        matrices = sorted(set(statistics.names) - {"embedding.weight"})
        for name in [name for name in recipes if name not in done]:
            rules = [
                {"pattern": "embedding.weight", "quantizer": recipes[name][1]},
                {"pattern": matrices, "quantizer": recipes[name][0]},
                {"pattern": "*", "quantizer": "fp16"},
            ]
            start = time.process_time()
            # What a training knew is exported as it knew it, without error feedback.
            known = None if branch.quantizer is not None and name == branch.quantizer else statistics
            quantized = quantize_checkpoint(checkpoint, make_recipe({"rule": rules}, name), known)
            payload = code(quantized)
            state = quantized.state_dict()
            check_decodes_to(payload.data, state)
            bpb, divergence = against.compare(train_gpt.model_for(state))
            point = {
                "run": run,
                "recipe": name,
                "bytes": self.job.emit(payload, None).written.size,
                "bits_per_weight": 8 * len(payload.data) / checkpoint.elements,
                "bpb": self._bpb(state) if known is None else reference + bpb - against.bpb,
                "divergence": divergence,
            }
            self.document["points"].append(point)
            print(
                f"{run:40s} {name:20s} {point['bytes']:>9,} B  {point['bits_per_weight']:.3f} bits  {point['bpb']:.5f} bpb "
                f"(float {reference:.5f})  KL {divergence:.5f}  {time.process_time() - start:.1f} s",
                flush=True,
            )
            self.write()

    def _bpb(self, weights: dict[str, torch.Tensor]) -> float:
        return train_gpt.evaluate(train_gpt.model_for(weights), self.held_out, self.options.float_tokens)[1]

    def _recipes(self, branch: Branch) -> dict[str, tuple[Any, Any]]:
        """Quantizers of the matrices and of the embedding, by what the recipe is called."""
        recipes: dict[str, tuple[Any, Any]] = {}
        for alpha in self.options.alphas:
            quantizer = {"id": "waterfill", "trellis": 8, "alpha": alpha}
            recipes[f"{WATERFILL} α={alpha:g}"] = quantizer, quantizer
        known = [one for one in BRANCHES if one.quantizer is not None]
        for one in known if branch.label == PLAIN else [branch] if branch in known else []:
            recipes[one.quantizer] = one.quantizer, one.embedding
        return recipes

    def write(self) -> None:
        """All three files."""
        output: Path = self.options.output
        output.parent.mkdir(parents=True, exist_ok=True)
        output.with_suffix(".json").write_text(json.dumps(self.document, indent=1, ensure_ascii=False) + "\n")
        output.with_suffix(".md").write_text(markdown(self.document))
        plot(self.document, output.with_suffix(".png"))


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
    parser.add_argument("--float-tokens", type=int, default=400_000, help="of validation text, for models before quantization")
    parser.add_argument("--val-tokens", type=int, default=65536, help="likewise, for what quantization adds")
    parser.add_argument(
        "--equal", choices=["seconds", "steps"], default="seconds", help="what branches have as much of as plain training"
    )
    parser.add_argument("--orders", type=int, nargs="+", default=[0], help="of batches: runs with the same ones are compared")
    parser.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    parser.add_argument(
        "--branches", nargs="*", default=[branch.label for branch in BRANCHES], choices=[branch.label for branch in BRANCHES]
    )
    parser.add_argument("--folder", type=Path, required=True, help="for models")
    parser.add_argument("-o", "--output", type=Path, required=True, help="path without suffix")
    options = parser.parse_args()
    bench = Bench(options)
    for order in options.orders:
        chosen = [branch for branch in BRANCHES if branch.label in options.branches]
        shares = {branch.share for branch in chosen} if order else {min(SHARES)}
        for branch in [*(Branch(plain_label(share, order), share) for share in sorted(shares)), *chosen]:
            bench.measure(branch, order)
    bench.write()


if __name__ == "__main__":
    main()
