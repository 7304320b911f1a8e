"""What NNCodec, the reference software of ISO/IEC 15938-17, makes of a checkpoint: bytes, and the weights that it decodes.

    python3.11 -m venv nncodec
    nncodec/bin/pip install "numpy<2" pybind11 setuptools wheel torch safetensors
    nncodec/bin/pip install --no-deps --no-build-isolation nncodec==2.1.3
    nncodec/bin/python benchmarks/nncodec_points.py CHECKPOINT FOLDER QP…

It needs an older numpy than golfpack, so it has an environment of its own; `benchmarks/quality.py --nncodec PYTHON` calls it.
For each quantization parameter the folder gets QP.safetensors, and a line of JSON is printed. Dependent quantization with the
rate in it, row skipping and the optimized parameters of the arithmetic coder are on; what needs training data (`lsa`, `ioq`) is
not. Tensors of one dimension have NNCodec's usual quantization parameter, -75.
"""

from __future__ import annotations

import argparse
import importlib.abc
import importlib.machinery
import json
import sys
import time
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
from safetensors.numpy import load_file, save_file

VECTORS = -75
# Packages that NNCodec imports for its example applications; its coder needs none of them.
UNUSED = {
    "cv2",
    "flwr",
    "h5py",
    "pandas",
    "ptflops",
    "sentencepiece",
    "sklearn",
    "torchmetrics",
    "torchvision",
    "tqdm",
    "wandb",
}


class _StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives empty modules in place of those."""

    def find_spec(self, name, path=None, target=None):  # type: ignore[no-untyped-def]
        if name.partition(".")[0] in UNUSED:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec):  # type: ignore[no-untyped-def]
        return MagicMock(__spec__=spec, __path__=[])

    def exec_module(self, module):  # type: ignore[no-untyped-def]
        pass


sys.meta_path.insert(0, _StandIns())
from nncodec import nnc  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description="Bytes and decoded weights of NNCodec.")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lambda-scale", type=float, default=1.0, help="price of bits in its trellis; 0 for none")
    parser.add_argument("qp", type=int, nargs="+", help="the step is (1 + qp mod 4 / 4) times 2^floor(qp / 4)")
    options = parser.parse_args()
    tensors = {name: array.astype(np.float32) for name, array in load_file(options.checkpoint).items()}
    options.folder.mkdir(parents=True, exist_ok=True)
    for qp in options.qp:
        start = time.monotonic()
        stream = nnc.compress(
            tensors,
            qp=qp,
            nonweight_qp=VECTORS,
            use_dq=True,
            lambda_scale=options.lambda_scale,
            row_skipping=True,
            param_opt=True,
            return_bitstream=True,
            bitstream_path=str(options.folder / "stream.nnc"),
            verbose=False,
        )
        seconds = time.monotonic() - start
        decoded = nnc.decompress(stream, verbose=False)
        result = options.folder / f"{qp}.safetensors"
        save_file({name: np.ascontiguousarray(array, np.float32) for name, array in decoded.items()}, result)
        print(json.dumps({"qp": qp, "bytes": len(stream), "weights": str(result), "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
