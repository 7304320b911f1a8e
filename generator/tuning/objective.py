"""What tuning brings down: the divergence of a model's predictions from those of the float model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.calibration.language_model import Logits
from generator.errors import InputError
from generator.user_code import call

HELD_OUT = 8  # one part of the sequences in so many is held out
PARTS = 16  # that the batches are cut into, at least, as far as they have as many sequences


class Sequences:
    """The batches' tokens, in parts that are trained on and parts that are held out.

    Attributes:
        training: token tensors (sequences, positions), at least one.
        held_out: likewise.
    """

    def __init__(self, batches: Sequence[Any]):
        """Cut the batches, the largest first, until there are enough parts.

        Args:
            batches: each tokens (sequences, positions + 1), or inputs and targets, as for `language_model_loss`.

        Raises:
            InputError: a batch holds no tokens, or there is only one sequence in all.
        """
        parts = [_inputs(batch, number) for number, batch in enumerate(batches, 1)]
        while len(parts) < PARTS and (largest := max(map(len, parts), default=0)) > 1:
            place = next(number for number, part in enumerate(parts) if len(part) == largest)
            parts[place : place + 1] = [parts[place][: largest // 2], parts[place][largest // 2 :]]
        if len(parts) < 2:
            raise InputError("tuning needs two sequences at least, one to train on and one that is held out")
        self.held_out = parts[HELD_OUT // 2 :: HELD_OUT] or parts[-1:]
        chosen = set(map(id, self.held_out))
        self.training = [part for part in parts if id(part) not in chosen]

    def order(self, seed: int) -> Iterator[Tensor]:
        """Parts to train on, without end: all of them in one random order after another."""
        generator = torch.Generator().manual_seed(seed)
        while True:
            for number in torch.randperm(len(self.training), generator=generator).tolist():
                yield self.training[number]


def _inputs(batch: Any, number: int) -> Tensor:
    tokens = batch[:, :-1] if isinstance(batch, Tensor) and batch.ndim == 2 else batch
    if isinstance(tokens, tuple | list) and tokens:
        tokens = tokens[0]
    if not isinstance(tokens, Tensor) or tokens.ndim != 2 or not tokens.numel():
        raise InputError(
            f"batch {number} can't be tuned on: it must be tokens (sequences, positions + 1), or inputs (sequences, positions) "
            "and targets"
        )
    return tokens


def predict(model: nn.Module, logits: Logits, tokens: Tensor) -> Tensor:
    """Log-probabilities (sequences, positions, vocabulary) in float32, on the model's device.

    Raises:
        InputError: the model fails, or does not give logits.
    """
    device = next(model.parameters()).device
    found = call("the model fails in tuning", logits, model, tokens.to(device))
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[:2] != tokens.shape:
        raise InputError("tuning needs logits (sequences, positions, vocabulary), one for each token of the batch")
    return found.float().log_softmax(-1)


def divergence(known: Tensor, found: Tensor) -> Tensor:
    """Σ p (log p − log q) in nats per token, of log-probabilities (sequences, positions, vocabulary)."""
    total = functional.kl_div(found, known, log_target=True, reduction="sum")
    return total / math.prod(known.shape[:2])
