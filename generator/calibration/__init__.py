"""Calibration: second moments of a model's weights, for the quantizers that spend bytes where they matter.

A calibration function, named on the command line as MODULE:FUNCTION, takes no argument and returns (model, batches, loss), or
(model, batches, loss, logits):

    def calibration():
        model = ...                                        # in eval mode
        batches = [tokens[i : i + 8] for i in range(0, 128, 8)]
        return model, batches, language_model_loss()
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

from torch import Tensor, nn

from generator.calibration.collectors import Loss
from generator.calibration.language_model import Logits, generate, language_model_loss, plain_logits
from generator.calibration.passes import check_weights, collect_statistics
from generator.calibration.processes import process_group
from generator.deadline import Deadline
from generator.errors import InputError
from generator.progress import Listener
from generator.statistics import Statistics
from generator.user_code import call, load_function

__all__ = [
    "Calibration",
    "as_calibration",
    "calibrate",
    "collect_statistics",
    "generate",
    "language_model_loss",
    "load_function",
    "plain_logits",
    "process_group",
    "sample",
]


SAMPLING_SHARE = 0.5  # of the time, where sequences are sampled


class Calibration(NamedTuple):
    """What a calibration function returns."""

    model: nn.Module
    batches: Any
    loss: Loss
    logits: Logits = plain_logits


def calibrate(
    calibration: Any,
    *,
    kind: str = "sequence",
    self_generate: int = 0,
    length: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    batch: int = 16,
    start: int | None = None,
    seed: int = 0,
    shared: bool = False,
    deadline: Deadline | None = None,
    progress: Listener | None = None,
) -> Statistics:
    """Collect statistics as `golfpack calibrate` does.

    Args:
        calibration: (model, batches, loss) or (model, batches, loss, logits).
        kind: "token" or "sequence".
        self_generate: sequences to sample from the model in place of the batches; labels are sampled too.
        length: tokens of each; None takes that of the first batch.
        temperature, top_k, batch, start: as for `generate`.
        seed: of all sampling.
        shared: whether the batches are the same list on every process, each of which takes its share; see `collect_statistics`.
            Sampled sequences are shared out anyhow.
        deadline: when to end; sampling may take SAMPLING_SHARE of the time.
        progress: told of each token that is sampled for all sequences of a batch, as stage "sample", and of each batch, as
            stage "calibrate".

    Raises:
        InputError: what the function returned is unusable.
    """
    given = as_calibration(calibration)
    batches, loss = given.batches, given.loss
    if self_generate:
        options: dict[str, Any] = {"temperature": temperature, "top_k": top_k, "batch": batch, "start": start, "seed": seed}
        within = (deadline or Deadline()).within(SAMPLING_SHARE)
        batches = sample(given, self_generate, length, deadline=within, progress=progress, **options)
        loss, shared = language_model_loss(given.logits), False
    return collect_statistics(
        given.model, batches, loss, kind=kind, seed=seed, shared=shared, deadline=deadline, progress=progress
    )


def as_calibration(calibration: Any) -> Calibration:
    """What a calibration function returned, checked.

    Raises:
        InputError: it is not (model, batches, loss) or (model, batches, loss, logits), or the model is in training
            mode or holds NaN or Inf.
    """
    if not isinstance(calibration, tuple | list) or len(calibration) not in (3, 4):
        raise InputError("a calibration function must return (model, batches, loss) or (model, batches, loss, logits)")
    given = Calibration(*calibration)
    if not isinstance(given.model, nn.Module) or not callable(given.loss):
        raise InputError("a calibration function must return an nn.Module first and a loss function third")
    if given.model.training:
        raise InputError("the calibration's model is in training mode; call model.eval()")
    check_weights(given.model)
    return given


def sample(given: Calibration, count: int, length: int | None = None, **options: Any) -> list[Tensor]:
    """Sequences that a calibration's model writes, in place of its batches.

    Args:
        given: the calibration.
        count: sequences.
        length: tokens of each; None takes that of the first batch.
        options: of `generate`.

    Raises:
        InputError: there is no batch to take the length from, or sampling fails.
    """
    if length is None:
        length = _length(call("the calibration's batches can't be made", lambda: next(iter(given.batches), None)))
    work = partial(generate, given.model, count, length, logits=given.logits, **options)
    found: list[Tensor] = call("sampling from the calibration's model fails", work)
    return found


def _length(batch: Any) -> int:
    while isinstance(batch, tuple | list) and batch:
        batch = batch[0]
    if getattr(batch, "ndim", 0) < 2:
        raise InputError("there is no batch to take the length of sampled sequences from; give --length")
    return int(batch.shape[1])
