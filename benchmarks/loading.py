"""Loading an artifact of nearly 16 MB: CPU seconds with a trellis over those without one, the files loaded in turns.

    python benchmarks/loading.py -o benchmarks/results/loading.md

Random matrices are calibrated on random inputs and fitted to the budget, once with a uniform quantizer and once with
a trellis (decoding is the same for any number of states). What is timed is the whole process that runs the file, from the
start of the interpreter to the loaded weights, and one that only imports what all of them import.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from quality import write_report
from torch import nn

import golfpack
from generator.calibration import collect_statistics

STATES = (1, 8)
SCRIPT = "from runtime_stub import load_state_dict\nprint(sum(value.numel() for value in load_state_dict().values()))\n"


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU seconds of loading with a trellis and without.")
    parser.add_argument("--budget", type=int, default=16_000_000)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--width", type=int, default=1536)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    model = nn.ModuleList(nn.Linear(options.width, options.width, bias=False) for _ in range(options.layers)).eval()
    inputs = torch.randn(2, 16, options.width).split(1)
    known = collect_statistics(
        model, inputs, lambda model, batch: sum(one(batch).square().sum() for one in model), kind="token"
    )
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "train_gpt.py"
        script.write_text(SCRIPT)
        (Path(folder) / "imports.py").write_text("import base64, json, lzma, zlib\nimport numpy\nimport torch\n")
        files = {"imports alone": Path(folder) / "imports.py"}
        for states in STATES:
            output = Path(folder) / f"{states}.py"
            quantizer = {"id": "waterfill", "alpha": "fit", "trellis": states}
            golfpack.fit(
                script,
                model.state_dict(),
                output,
                recipes=[{"rule": [{"pattern": "*", "quantizer": quantizer}]}],
                statistics=known,
                budget=options.budget,
            )
            files[f"{states} states" if states > 1 else "uniform"] = output
            print(states, output.stat().st_size, flush=True)
        seconds: dict[str, list[float]] = {name: [] for name in files}
        for _ in range(options.runs):
            for name, path in files.items():
                before = _children()
                subprocess.run([sys.executable, path], check=True, capture_output=True)
                seconds[name].append(_children() - before)
        sizes = {name: path.stat().st_size for name, path in files.items()}
    median = {name: statistics.median(values) for name, values in seconds.items()}
    weights = options.layers * options.width**2
    text = f"Medians of {options.runs} runs of each file in turns, CPU seconds of the process over those of the uniform one."
    lines = [
        "| | file, bytes | CPU seconds over uniform |",
        "| --- | ---: | ---: |",
        *(f"| {name} | {sizes[name]:,} | {value / median['uniform']:.2f} |" for name, value in median.items()),
    ]
    write_report(options.output, f"Loading {weights:,} weights", text, lines)


def _children() -> float:
    """CPU seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
