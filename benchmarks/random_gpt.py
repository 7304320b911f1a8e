"""GPTs in the shape of the example's, with random weights: what benchmarks of time and memory pack.

    python benchmarks/random_gpt.py 30M checkpoint.safetensors
    CHECKPOINT=checkpoint.safetensors golfpack calibrate benchmarks/random_gpt.py:calibration -o statistics.safetensors

Weights are Gaussian, with log-normal scales of rows and columns as trained ones have.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

EXAMPLE = Path(__file__).parent.parent / "records_examples" / "stdlib_gpt"
SIZES = {"1M": (5, 128), "10M": (6, 384), "30M": (10, 512), "100M": (15, 768)}  # layers, width
SPREAD = 0.4  # standard deviation of the logarithm of a row's or column's scale
BATCHES, SEQUENCES = 4, 2


def random_weights(size: str, seed: int = 0) -> dict[str, Tensor]:
    """The state dict of a model of one of SIZES."""
    from train_gpt import GPT

    generator = torch.Generator().manual_seed(seed)

    def random(template: Tensor) -> Tensor:
        if template.size(0) == 2:  # residual gains
            return 1 + 0.1 * torch.randn(template.shape, generator=generator)
        scales = (torch.randn(shape, generator=generator) for shape in ((template.size(0), 1), (1, template.size(1))))
        row_scale, column_scale = (torch.exp(SPREAD * one) for one in scales)
        return torch.randn(template.shape, generator=generator) * row_scale * column_scale * template.size(1) ** -0.5

    with torch.device("meta"):
        templates = GPT(*SIZES[size]).state_dict()
    return {name: random(template) for name, template in templates.items()}


def calibration() -> tuple[Any, list[Any], Any]:
    """Model, batches of this repository's text, and loss, for `golfpack calibrate`; CHECKPOINT names the weights."""
    from safetensors.torch import load_file
    from train_gpt import SEQUENCE_LENGTH, model_for, windows

    from generator.calibration import language_model_loss

    model = model_for(load_file(os.environ["CHECKPOINT"])).eval()
    text = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    tokens = torch.frombuffer(bytearray(text), dtype=torch.uint8)
    starts = torch.linspace(0, len(tokens) - SEQUENCE_LENGTH - 1, BATCHES * SEQUENCES, dtype=torch.float64).long()
    return model, [windows(tokens, part) for part in starts.split(SEQUENCES)], language_model_loss()


sys.path.insert(0, str(EXAMPLE))

if __name__ == "__main__":
    from safetensors.torch import save_file

    save_file(random_weights(sys.argv[1]), sys.argv[2])
