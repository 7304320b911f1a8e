"""Help for plain language models: their loss, and sequences sampled from the model itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from generator.calibration.pacing import in_time
from generator.calibration.processes import batch_seed, place
from generator.deadline import Deadline
from generator.errors import InputError
from generator.progress import Listener, Stage

Logits = Callable[[nn.Module, Tensor], Tensor]


def plain_logits(model: nn.Module, tokens: Tensor) -> Tensor:
    """Logits (sequences, positions, vocabulary) of a model that returns them, alone or first in a tuple."""
    result = model(tokens)
    if isinstance(result, tuple | list):
        result = result[0]
    result = getattr(result, "logits", result)
    if not isinstance(result, Tensor) or result.ndim != 3:
        raise InputError(
            "the model doesn't return logits (sequences, positions, vocabulary); give calibration a logits function"
        )
    return result


def language_model_loss(logits: Logits = plain_logits, labels: str = "sampled") -> Callable[[nn.Module, Any], Tensor]:
    """A loss for calibration: cross-entropy in nats, summed over tokens.

    Args:
        logits: `logits(model, tokens)`, for models that don't simply return them.
        labels: "sampled": drawn from the model's own distribution, which makes g the diagonal of the Fisher information;
            "data": the next tokens (the empirical Fisher).

    Returns:
        `loss(model, batch)`; a batch is tokens (sequences, positions + 1), or inputs and targets.
    """
    if labels not in ("sampled", "data"):
        raise InputError(f"unknown labels {labels!r}; known: sampled, data")

    def loss(model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = (batch[:, :-1], batch[:, 1:]) if isinstance(batch, Tensor) else batch
        device = next(model.parameters()).device
        predictions = logits(model, inputs.to(device)).flatten(0, -2).float()
        if labels == "sampled":
            with torch.no_grad():
                chosen = draw(predictions.softmax(-1)).flatten()
        else:
            chosen = targets.flatten().to(device)
        return functional.cross_entropy(predictions, chosen, reduction="sum")

    return loss


def draw(probabilities: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One token of each distribution; the same on a GPU as on the CPU, whose generator is the one that is asked.

    Args:
        probabilities: (n, vocabulary), on any device; they need not add up to 1.
        generator: on the CPU; None for torch's own.

    Returns:
        tokens (n, 1), int64, on that device.
    """
    cumulated = probabilities.double().cumsum(-1)
    uniform = torch.rand(len(probabilities), 1, generator=generator, dtype=torch.float64).to(cumulated.device)
    drawn = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    return drawn.clamp(max=probabilities.shape[-1] - 1)  # beyond are those of NaN


@torch.no_grad()
def generate(
    model: nn.Module,
    count: int,
    length: int,
    *,
    logits: Logits = plain_logits,
    temperature: float = 1.0,
    top_k: int | None = None,
    batch: int = 16,
    start: int | None = None,
    seed: int = 0,
    deadline: Deadline | None = None,
    progress: Listener | None = None,
) -> list[Tensor]:
    """Sequences sampled from a model: calibration data for those who have none.

    Asks nothing of the model but logits, so every token costs a forward pass over its prefix.

    Args:
        model: in eval mode.
        count: sequences; under torch.distributed, of all processes together.
        length: tokens per sequence after the first.
        logits: `logits(model, tokens)`.
        temperature: of the sampling; 1 is the model's own distribution.
        top_k: sample among so many likeliest tokens.
        batch: sequences per batch.
        start: first token of each sequence; None draws it uniformly from the vocabulary.
        seed: of the sampling, together with each batch's number.
        deadline: when to end, after one batch at least.
        progress: told of tokens, as stage "sample".

    Returns:
        batches of tokens (sequences, length + 1): of `world` processes, process r samples batches r, r + world, ... of all.
    """
    rank, world = place()
    device = next(model.parameters()).device
    generator = torch.Generator()
    vocabulary = logits(model, torch.zeros(1, 1, dtype=torch.long, device=device)).shape[-1]
    sizes = [min(batch, count - first) for first in range(0, count, batch)]
    numbered = list(enumerate(sizes))[rank::world]
    batches = []
    with Stage("sample", progress, sum(size for _, size in numbered) * length) as stage:
        for number, size in in_time(numbered, deadline or Deadline()):
            generator.manual_seed(batch_seed(seed, number))
            shape = (size, 1)
            if start is None:
                tokens = torch.randint(vocabulary, shape, generator=generator).to(device)
            else:
                tokens = torch.full(shape, start, device=device)
            for _ in range(length):
                scores = logits(model, tokens)[:, -1].float() / temperature
                if top_k is not None:
                    least = scores.topk(min(top_k, vocabulary)).values[:, -1:]
                    scores = scores.masked_fill(scores < least, -torch.inf)
                tokens = torch.cat((tokens, draw(scores.softmax(-1), generator)), 1)
                stage.step(count=size)
            batches.append(tokens)
    return batches
