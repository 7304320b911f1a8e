"""The same model calibrated and packed on a CPU and on a GPU: what differs, and how long each takes.

    python benchmarks/devices.py CHECKPOINT [--device cuda] [-o benchmarks/results/devices.md]

CHECKPOINT is one of records_examples/stdlib_gpt/train_gpt.py --train. Needs a GPU; with --device cpu it shows that nothing
differs.
"""

from __future__ import annotations

import argparse
import platform
import shlex
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from quality import Reference

import golfpack
from generator.calibration import collect_statistics, language_model_loss
from generator.recipes.recipe import make_recipe
from generator.statistics import Statistics
from generator.weights.checkpoint import Checkpoint, load_checkpoint
from generator.weights.encode import code
from generator.weights.quantize import QuantizedCheckpoint, quantize_checkpoint

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "records_examples" / "stdlib_gpt"))
SCRIPT = "import torch\nfrom runtime_stub import load_state_dict\nprint(sum(t.numel() for t in load_state_dict().values()))\n"
QUANTIZERS: dict[str, Any] = {
    "waterfill": {"id": "waterfill", "alpha": 4e-5},
    "waterfill one-sided": {"id": "waterfill", "alpha": 4e-5, "output": "diagonal"},
    "gptq": {"id": "gptq", "bits": 6, "scale": "sdclip", "k": 12.85},
    "int6": "int6",
    "ternary": "ternary",
}
BITS_PER_WEIGHT = 3  # that the packed file may have
Result = TypeVar("Result")


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """The result, and seconds."""
    start = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result, time.perf_counter() - start


def distance(one: Statistics, other: Statistics) -> float:
    """The largest distance of any moment from itself, as a share of its Frobenius norm."""
    return max(float((moment - other.tensors[name]).norm() / moment.norm()) for name, moment in one.tensors.items())


def quantize(checkpoint: Checkpoint, quantizer: Any, statistics: Statistics) -> QuantizedCheckpoint:
    """Matrices by the quantizer, all else in half precision."""
    known = sorted(name for names in statistics.names.values() for name in names)
    rules = [{"pattern": known, "quantizer": quantizer}, {"pattern": "*", "quantizer": "fp16"}]
    recipe = make_recipe({"rule": rules}, str(quantizer))
    return quantize_checkpoint(checkpoint, recipe, statistics)


def differing(one: QuantizedCheckpoint, other: QuantizedCheckpoint) -> tuple[int, int]:
    """Of the first array of each tensor, its symbols: how many differ, and how many there are."""
    pairs = [(one.tensors[name].arrays[0], other.tensors[name].arrays[0]) for name in one.tensors]
    return sum(int(np.count_nonzero(a != b)) for a, b in pairs), sum(a.size for a, _ in pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "devices.md")
    options = parser.parse_args()
    import train_gpt

    checkpoint = load_checkpoint(options.checkpoint)
    models = {device: train_gpt.model_for(checkpoint.tensors).to(device).eval() for device in ("cpu", options.device)}
    text = train_gpt.load_tokens("train")
    starts = torch.linspace(0, len(text) - train_gpt.SEQUENCE_LENGTH - 1, options.sequences, dtype=torch.float64).long()
    batches = [train_gpt.windows(text, part) for part in starts.split(8)]
    against = Reference(train_gpt, models["cpu"], train_gpt.load_tokens("val"), 100_000)
    graphics = torch.cuda.get_device_name() if options.device.startswith("cuda") else options.device
    lines = [
        "# A CPU and a GPU",
        "",
        f"`python benchmarks/devices.py {shlex.join(sys.argv[1:])}`, {checkpoint.elements:,} weights, Python",
        f"{platform.python_version()}, numpy {np.__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
        f"{graphics}.",
        "",
    ]

    def calibrate(device: str) -> Statistics:
        return collect_statistics(models[device], batches, language_model_loss())

    calibrate(options.device)  # so that libraries are loaded
    found = {device: timed(lambda device=device: calibrate(device)) for device in models}
    again = calibrate(options.device)
    (slow, slow_seconds), (fast, fast_seconds) = found["cpu"], found[options.device]
    lines += [
        f"Calibration with {options.sequences} sequences: CPU {slow_seconds:.2f} s, GPU {fast_seconds:.2f} s. The moment that "
        "differs most does",
        f"so by {distance(slow, fast):.1e} of its norm; twice on the GPU: {distance(fast, again):.1e}.",
        "",
        "| quantizer | s | statistics of GPU: symbols that differ | bytes: CPU | GPU | KL, bits per token: CPU | GPU |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for label, quantizer in QUANTIZERS.items():
        here, seconds = timed(lambda quantizer=quantizer: quantize(checkpoint, quantizer, slow))
        there = quantize(checkpoint, quantizer, fast)
        sizes = [f"{len(code(one).data):,}" for one in (here, there)]
        losses = [f"{against.compare(train_gpt.model_for(one.state_dict()))[1]:.5f}" for one in (here, there)]
        share = "{:,} of {:,}".format(*differing(here, there))
        lines.append("| " + " | ".join([label, f"{seconds:.2f}", share, *sizes, *losses]) + " |")
        print(lines[-1], flush=True)
    lines += ["", "| `golfpack.pack` | s | bytes | budget | KL, bits per token |", "| --- | ---: | ---: | ---: | ---: |"]
    budget = checkpoint.elements * BITS_PER_WEIGHT // 8
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(SCRIPT)
        for device, model in models.items():
            packed, seconds = timed(
                lambda model=model, device=device: golfpack.pack(
                    model, batches, output=Path(folder, f"{device}.py"), script=script, budget=budget
                )
            )
            loss = against.compare(train_gpt.model_for(packed.state_dict))[1]
            lines.append(f"| {device} | {seconds:.1f} | {packed.inspection.size:,} | {budget:,} | {loss:.5f} |")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
