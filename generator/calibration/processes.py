"""Calibration by several processes: torchrun's group, and the sums over it. Without a group all of it does nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from generator.calibration.sums import PerToken, Sums
from generator.errors import InputError
from generator.user_code import call

Key = TypeVar("Key")


@contextmanager
def process_group() -> Iterator[int]:
    """Join torchrun's process group, when there is one to join, and leave it at the end; gives this process's rank.

    A group that is left to the interpreter's end may abort the process there: its threads still run.

    Raises:
        InputError: it can't be joined.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal():
        raise InputError(f"the environment's WORLD_SIZE must be a number of processes, not {size!r}")
    joins = int(size) > 1 and dist.is_available() and not dist.is_initialized()
    if joins:
        call("the process group can't be joined", dist.init_process_group, "nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        if joins:
            dist.barrier()  # the first process serves the others, so it leaves last
    finally:
        if joins and dist.is_initialized():
            dist.destroy_process_group()


def seed_process(seed: int) -> None:
    """Seed torch's generators, of each process differently."""
    torch.manual_seed(seed + (dist.get_rank() if dist.is_initialized() else 0))


def add_first_pass(sums: Sums) -> None:
    """Add up the first pass over all processes."""
    if not _several():
        return
    counts = torch.tensor([sums.tokens, sums.sequences], dtype=torch.float64, device=_device())
    dist.all_reduce(counts)
    sums.tokens, sums.sequences = int(counts[0]), int(counts[1])
    rows = {key: torch.tensor([float(known.rows)], device=_device()) for key, known in sums.per_token.items()}
    inputs = {key: known.inputs for key, known in sums.per_token.items()}
    outputs = {key: known.outputs for key, known in sums.per_token.items()}
    for group in (rows, inputs, outputs):
        add_up(group)
    add_up(sums.sequence_inputs)
    sums.per_token = {key: PerToken(inputs[key], outputs[key], int(rows[key].item())) for key in inputs}
    for transposed in _gathered(sums.transposed):
        sums.transposed = {**transposed, **sums.transposed}


def add_up(group: dict[Key, Tensor]) -> None:
    """All-reduce tensors by key; a process that lacks one (an expert that saw no token, say) contributes zeros."""
    if not _several():
        return
    shapes = {
        key: shape for known in _gathered({key: tuple(t.shape) for key, t in group.items()}) for key, shape in known.items()
    }
    for key in sorted(shapes, key=repr):
        dist.all_reduce(group.setdefault(key, torch.zeros(shapes[key], device=_device())))


def _several() -> bool:
    return dist.is_initialized() and dist.get_world_size() > 1


def _gathered(value: dict[Key, Any]) -> list[dict[Key, Any]]:
    """What each process has, in the order of their ranks."""
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, value)
    return gathered


def _device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")
