"""Floating numbers kept as they are: bits per weight of filters and codecs.

    python benchmarks/floats.py [CHECKPOINT] > benchmarks/results/floats.md

Without a checkpoint the weights are Gaussian, with log-normal scales of their rows. Every stream is decoded and compared.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from generator.codecs.chain import DECODERS, Chain
from generator.fields import Field, specs_of
from generator.filters.planes import LAYOUTS
from generator.quantizers.cast import Keep
from generator.recipes.coding import chain_of
from generator.weights.checkpoint import load_checkpoint
from runtime_stub.payload import run_stages

CHAINS = [
    "store",
    "zlib",
    "lzma",
    {"id": "lzma", "filters": ["shuffle"]},
    {"id": "lzma", "filters": ["planes"]},
    {"id": "store", "filters": ["planes"]},
    "rans",
    {"id": "rans", "filters": ["shuffle"]},
    {"id": "rans", "filters": ["planes"]},
    {"id": "rans", "filters": ["planes", "transpose"]},
]
DTYPES = [getattr(torch, name) for name in LAYOUTS]


def gaussian() -> dict[str, torch.Tensor]:
    """Two matrices of a million weights."""
    draw = torch.Generator().manual_seed(0)
    return {
        f"layer.{n}": torch.randn(1024, 1024, generator=draw) * torch.exp(torch.randn(1024, 1, generator=draw))
        for n in range(2)
    }


def bits(chain: Chain, fields: list[Field]) -> float:
    """Bits per element of one stream."""
    coded = chain.encode(fields)
    decoded = run_stages(coded.data, [(d, list(s)) for d, s in specs_of(fields)], coded.stages, DECODERS, [])
    assert all(left.tobytes() == field.array.tobytes() for left, field in zip(decoded, fields, strict=True))
    return 8 * len(coded.data) / sum(field.array.size for field in fields)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", nargs="?")
    checkpoint = parser.parse_args().checkpoint
    weights = load_checkpoint(checkpoint).tensors if checkpoint else gaussian()
    floating = {name: tensor for name, tensor in weights.items() if tensor.is_floating_point() and tensor.ndim > 1}
    chains = [chain for chain in map(chain_of, CHAINS) if isinstance(chain, Chain)]
    what = f"`{checkpoint}`" if checkpoint else "Gaussian rows with log-normal scales"
    print(f"# Floating weights, bits per weight\n\n`python benchmarks/floats.py`: {what}, numpy {np.__version__}.\n")
    print("| filters and codec | " + " | ".join(str(dtype).removeprefix("torch.") for dtype in DTYPES) + " |")
    print("| --- |" + " ---: |" * len(DTYPES))
    for chain in chains:
        row = []
        for dtype in DTYPES:
            kept = {name: Keep().quantize(name, tensor.to(dtype)) for name, tensor in floating.items()}
            fields = [field for name, result in kept.items() for field in result.fields(name)]
            fitting = chain.fitting(fields[0])
            row.append(f"{bits(fitting, fields):.3f}" if fitting is not None else "")
        print(f"| {chain} | " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
