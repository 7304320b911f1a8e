"""Calibration by several processes: torchrun's group, and the sums over it. Without a group all of it does nothing."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from generator.calibration.exact import ExactSum
from generator.calibration.sums import Matrix, Sums
from generator.errors import InputError
from generator.user_code import call

Item = TypeVar("Item")


@contextmanager
def process_group() -> Iterator[int]:
    """Join torchrun's process group, when there is one to join, and leave it at the end; gives this process's rank.

    A group that is left to the interpreter's end may abort the process there: its threads still run. So would one that is
    held by the default arguments of `torch.distributed.nn`, which torch's compiler and optimizers import: that comes first.

    Raises:
        InputError: it can't be joined.
    """
    size = os.environ.get("WORLD_SIZE", "1")
    if not size.isdecimal():
        raise InputError(f"the environment's WORLD_SIZE must be a number of processes, not {size!r}")
    joins = int(size) > 1 and dist.is_available() and not dist.is_initialized()
    if joins:
        importlib.import_module("torch.distributed.nn")
        call("the process group can't be joined", dist.init_process_group, "nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        if joins:
            dist.barrier()  # the first process serves the others, so it leaves last
    finally:
        if joins and dist.is_initialized():
            dist.destroy_process_group()


def place() -> tuple[int, int]:
    """This process's rank, and how many processes there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def seed_batch(seed: int, number: int) -> None:
    """Seed torch's generators for a batch, whichever process runs it."""
    torch.manual_seed(batch_seed(seed, number))


def batch_seed(seed: int, number: int) -> int:
    """The seed of all that is sampled for a batch."""
    return (seed * 1_000_003 + number) % (1 << 63)


def gathered(value: Item) -> list[Item]:
    """What each process has, in the order of their ranks."""
    _, world = place()
    values: list[Any] = [value] * world
    if world > 1:
        dist.all_gather_object(values, value)
    return values


@contextmanager
def together() -> Iterator[None]:
    """Work of each process, after which all go on or all fail: those that wait for one that failed would wait for ever.

    Raises:
        InputError: that of this process, or that of the first one that failed.
    """
    own = None
    try:
        yield
    except InputError as error:
        own = error
    messages = gathered(None if own is None else str(own))
    if own is not None:
        raise own
    for rank, message in enumerate(messages):
        if message is not None:
            raise InputError(f"process {rank} failed: {message}")


def add_first_pass(sums: Sums) -> None:
    """Add up the first pass over all processes.

    Raises:
        InputError: there are too many terms, or a weight is not used in the same way everywhere.
    """
    counts = (sums.tokens, sums.sequences, sums.left_out)
    rows = {key: known.rows for key, known in sums.per_token.items()}
    found = gathered((counts, sums.transposed, rows, list(sums.sequence_inputs)))
    sums.tokens, sums.sequences, sums.left_out = (sum(column) for column in zip(*[one[0] for one in found], strict=True))
    for _, transposed, _, _ in found:
        for name, value in transposed.items():
            if sums.transposed.setdefault(name, value) != value:
                raise InputError(f"weight {name!r} is used as stored by one process, and transposed by another")
    for use in {use for _, _, rows, _ in found for use in rows}:
        sums.token_sums(use).rows = sum(rows.get(use, 0) for _, _, rows, _ in found)
    for matrix in {matrix for *_, matrices in found for matrix in matrices}:
        sums.input_sums(matrix)
    _add_up(list(sums.parts()))


def add_second_pass(sums: Sums) -> None:
    """Add up the second pass over all processes.

    Raises:
        InputError: there are too many terms.
    """
    for keys in gathered(list(sums.sequence_outputs)):
        for key in keys:
            sums.output_sums(key)
    _add_up(list(sums.output_parts()))


def inverse_factors(sums: Sums) -> dict[Matrix, Tensor]:
    """L⁻¹ of every A, float32: each computed by one process, which sends it to the others.

    Raises:
        InputError: one can't be inverted.
    """
    rank, world = place()
    keys = sorted(sums.sequence_inputs)
    found: dict[Matrix, Tensor] = {}
    with together():
        for key in keys[rank::world]:
            found[key] = sums.inverse_factor(key)
    if world > 1:
        for number, key in enumerate(keys):
            moment = sums.sequence_inputs[key]
            if key not in found:
                found[key] = torch.empty(moment.width, moment.width, device=moment.device)
            _transfer(found[key], partial(dist.broadcast, src=number % world))
    return found


def _add_up(parts: Sequence[ExactSum]) -> None:
    """All-reduce sums, of which each process has the same ones in the same order."""
    if place()[1] == 1:
        return
    known = gathered([(part.bin, part.terms) for part in parts])
    for part, those in zip(parts, zip(*known, strict=True), strict=True):
        part.raise_to(max(bin_ for bin_, _ in those))
        part.count(sum(terms for _, terms in those) - part.terms)
        for tensor in (part.high, part.low):
            _transfer(tensor, dist.all_reduce)


def _transfer(tensor: Tensor, collective: Callable[[Tensor], Any]) -> None:
    """Run a collective on a tensor in place, where the group's backend can."""
    nccl = dist.get_backend() == "nccl" and tensor.device.type == "cpu"
    there = tensor.to(torch.device("cuda", torch.cuda.current_device())) if nccl else tensor
    collective(there)
    if nccl:
        tensor.copy_(there)
