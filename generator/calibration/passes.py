"""The two passes over the calibration batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from generator.calibration.aliases import Parameters
from generator.calibration.collectors import Collector, FirstPass, Loss, SecondPass
from generator.calibration.pacing import in_time
from generator.calibration.processes import (
    add_first_pass,
    add_second_pass,
    gathered,
    inverse_factors,
    place,
    seed_batch,
    together,
)
from generator.calibration.results import input_moments, output_moments, token_moments, why_missing
from generator.calibration.sums import Sums
from generator.deadline import Deadline
from generator.errors import InputError
from generator.progress import Listener, Stage
from generator.statistics import Statistics
from generator.user_code import call

FIRST_SHARE = 0.4  # of the time for two passes; the second costs more


def collect_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    kind: str = "sequence",
    seed: int = 0,
    shared: bool = False,
    deadline: Deadline | None = None,
    progress: Listener | None = None,
) -> Statistics:
    """Run a model over batches and collect statistics of every weight that can be attributed.

    Under torch.distributed every process gets the statistics of the batches of all. They are the same bit for bit however
    batches are shared out, as long as each is computed in the same way wherever it runs: by the same kind of device, with the
    same number of threads.

    Args:
        model: in eval mode; its parameters must be ordinary ones (not a compiled graph's).
        batches: each a tensor, or a tuple, list or dict that holds tensors; the first tensor's first dimension is the
            number of sequences, and so is that of the model's activations.
        loss: `loss(model, batch)`, the loss summed over the batch's tokens, in nats.
        kind: "token" (one pass: H, g) or "sequence" (two passes: also A, B).
        seed: of torch's generators at the start of each batch, together with the batch's number, for losses that sample labels.
        shared: whether the batches are the same list on each of `world` processes, of which process r takes r, r + world, ...;
            otherwise each brings its own, which are numbered in that way.
        deadline: when to end; of two passes, the first may take FIRST_SHARE of the time, and the second runs the same batches.
            Each process runs at least one batch, if it has any.
        progress: told of each batch of each pass, as stage "calibrate".

    Raises:
        InputError: no batch, a loss that is not a finite scalar, or no weight that could be followed. Where one process fails,
            all do.
    """
    rank, world = place()
    with together():
        made: list[Any] = call("the calibration's batches can't be made", list, batches)
        check_weights(model)
        if kind not in ("token", "sequence"):
            raise InputError(f"unknown kind of statistics {kind!r}; known: token, sequence")
    counts = gathered(len(made))
    if not any(counts):
        raise InputError("calibration has no batches")
    if shared:
        if len(set(counts)) > 1:
            raise InputError(f"shared batches must be the same for all processes, and their numbers are {counts}")
        made = made[rank::world]
    numbered = [(rank + world * position, batch) for position, batch in enumerate(made)]
    per_sequence = kind == "sequence"
    named = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    sums = Sums(Parameters(named))
    deadline = deadline or Deadline()
    with Stage("calibrate", progress, (1 + per_sequence) * len(made)) as stage, _without_gradients(model):

        def run(collector: Collector, batches: Iterable[tuple[int, Any]]) -> int:
            done = 0
            for number, batch in batches:
                seed_batch(seed, number)
                collector.take_batch(model, batch, loss, number)
                stage.step()
                done += 1
            return done

        first = FirstPass(sums, per_sequence)
        with together():
            done = run(first, in_time(numbered, deadline.within(FIRST_SHARE) if per_sequence else deadline))
        stage.total = (1 + per_sequence) * done
        sums.left_out = len(made) - done
        add_first_pass(sums)
        missing = why_missing(sums, gathered(first.watch.reasons), gathered(first.watch.begun))
        tensors = token_moments(sums, missing)
        if per_sequence:
            factors = inverse_factors(sums)
            tensors |= input_moments(sums)
            with together():
                run(SecondPass(sums, factors), numbered[:done])
            factors.clear()
            add_second_pass(sums)
            tensors |= output_moments(sums)
    shapes = {name: list(value.shape) for name, value in sums.parameters.tensors.items() if f"{name}:H" in tensors}
    statistics = Statistics(
        kind,
        sums.tokens,
        sums.sequences,
        tensors,
        shapes,
        names={name: sums.parameters.names[name] for name in shapes},
        transposed=[name for name in shapes if sums.transposed[name]],
        missing=missing,
        left_out=sums.left_out,
    )
    statistics.check()
    stage.log.info("%d weights, %d without statistics; %d tokens", len(shapes), len(statistics.missing), statistics.tokens)
    if statistics.left_out:
        stage.log.info("%d batches left out, for which there was no time", statistics.left_out)
    return statistics


@contextmanager
def _without_gradients(model: nn.Module) -> Iterator[None]:
    """No gradients of parameters, which would be computed for nothing; afterwards as before."""
    required = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in required:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in required:
            parameter.requires_grad_(True)


def check_weights(model: nn.Module) -> None:
    """That a model's weights are numbers.

    Raises:
        InputError: one holds NaN or Inf, which every loss and moment would then be.
    """
    for name, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise InputError(f"weight {name!r} of the calibration's model is not initialized")
        if not torch.isfinite(parameter).all():
            raise InputError(f"weight {name!r} of the calibration's model holds NaN or Inf; repair it first")
