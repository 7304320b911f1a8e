"""Quantize a checkpoint's matrices the way the challenge's records do, for comparisons of codecs.

    python benchmarks/quantize_sd.py CHECKPOINT.safetensors SYMBOLS.npz
    golfpack bench SYMBOLS.npz

Matrices of at least 4,096 elements: int6, one step of 12.85 σ / 31 per row (σ: the row's standard deviation), clipped to ±31;
embeddings int8 with 20 σ / 127. The steps are left out: what is compared is the coding of the integers.
"""

import sys

import numpy as np
from safetensors.numpy import load_file


def quantize(weights: np.ndarray, deviations: float, largest: int) -> np.ndarray:
    """Symbols of one matrix: rounded to multiples of deviations · σ / largest, row by row."""
    steps = np.maximum(deviations * weights.std(1, keepdims=True) / largest, 1e-12)
    return np.clip(np.round(weights / steps), -largest, largest).astype(np.int8)


def main(checkpoint: str, output: str) -> None:
    matrices = {name: w for name, w in load_file(checkpoint).items() if w.ndim == 2 and w.size >= 4096}
    symbols = {name: quantize(w, *((20, 127) if "embed" in name else (12.85, 31))) for name, w in matrices.items()}
    np.savez(output, **symbols)


if __name__ == "__main__":
    main(*sys.argv[1:])
