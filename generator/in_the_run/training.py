"""What a training script has at hand: the file that runs, and a model in whatever it is wrapped in."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from generator.errors import InputError
from generator.in_the_run.ranks import Ranks
from generator.weights.checkpoint import Checkpoint, tensor_bytes


def running_script() -> Path:
    """The file that Python runs.

    Raises:
        InputError: it runs none, but an interactive session, say.
    """
    file = getattr(sys.modules["__main__"], "__file__", None)
    if file is None or not Path(file).is_file():
        raise InputError("golfpack can't tell which file is running, so it can't pack it; give script=")
    return Path(file)


def plain_model(model: Any) -> nn.Module:
    """The module itself, without what trains or compiles it.

    Raises:
        InputError: it is no module.
    """
    while isinstance(model, wrappers := _wrappers()):
        model = model.module if isinstance(model, wrappers[:2]) else model._orig_mod
    if not isinstance(model, nn.Module):
        raise InputError(f"the model to be packed must be an nn.Module, not {type(model).__name__}")
    return model


def _wrappers() -> tuple[type[nn.Module], ...]:
    """What trains a module, and what compiles it where anything does: importing torch's compiler takes more than a second."""
    compiler = sys.modules.get("torch._dynamo")
    return DistributedDataParallel, DataParallel, *([compiler.OptimizedModule] if compiler else [])


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode, and torch's generators at liberty; afterwards all are as before."""
    modes = {module: module.training for module in model.modules()}
    devices = {parameter.device for parameter in model.parameters() if parameter.is_cuda}
    model.eval()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        for module, training in modes.items():
            module.training = training


def check_alike(checkpoint: Checkpoint, ranks: Ranks) -> None:
    """That all ranks bring the same weights, as after data-parallel training.

    Raises:
        InputError: they don't; the message names a tensor.
    """
    if ranks.size == 1:
        return
    digests = ranks.gather({name: hashlib.sha256(tensor_bytes(tensor)).digest() for name, tensor in checkpoint.tensors.items()})
    for rank, found in enumerate(digests):
        differing = [name for name in {**digests[0], **found} if digests[0].get(name) != found.get(name)]
        if differing:
            raise InputError(
                f"tensor {differing[0]!r} of rank {rank} differs from that of rank 0; all ranks must bring the same weights: "
                "synchronize them before packing"
            )
