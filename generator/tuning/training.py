"""Training of some of a model's weights, towards the predictions of the float model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from generator.calibration.language_model import Logits
from generator.deadline import Deadline
from generator.tuning.objective import Sequences, divergence, predict
from generator.tuning.parameters import ModelWeights
from generator.tuning.trained import Trained

BETAS = (0.9, 0.95)
WARM_UP = 5  # updates


@dataclass(frozen=True)
class Teacher:
    """A model that is tuned, and what it is tuned towards: its own predictions with its float weights.

    Attributes:
        model: whose weights change; in eval mode.
        weights: of it.
        logits: `logits(model, tokens)`.
        sequences: to train on, and held out.
    """

    model: nn.Module
    weights: ModelWeights
    logits: Logits
    sequences: Sequences

    def known(self, tokens: Tensor, values: Mapping[str, Tensor]) -> Tensor:
        """What the float model predicts; afterwards the model has `values`."""
        self.weights.restore()
        with torch.no_grad():
            known = predict(self.model, self.logits, tokens)
        self.weights.show(values)
        return known

    def held_out(self, values: Mapping[str, Tensor], parts: int | None = None) -> float:
        """The divergence of the model with these values on what is held out, or so many parts of it, in nats per token."""
        total, tokens = 0.0, 0
        for part in self.sequences.held_out[:parts]:
            known = self.known(part, values)
            with torch.no_grad():
                total += float(divergence(known, predict(self.model, self.logits, part))) * part.numel()
            tokens += part.numel()
        return total / tokens


class Training:
    """Adam on some weights.

    Attributes:
        values: of all weights, by first names; those that are trained change.
    """

    def __init__(self, teacher: Teacher, values: dict[str, Tensor], trained: Mapping[str, Trained]):
        self.values = values
        self._teacher, self._trained = teacher, trained
        self._rates = [one.rate for one in trained.values()]
        groups = [{"params": one.parameters, "lr": one.rate} for one in trained.values()]
        self._optimizer = torch.optim.Adam(groups, betas=BETAS) if groups else None

    def run(self, parts: Iterator[Tensor], updates: int | None, deadline: Deadline) -> Iterator[float]:
        """Update until so many updates are done or the time is over; the rate falls to zero by then.

        Yields:
            The divergence before each update, in nats per token.
        """
        if self._optimizer is None:
            return
        started = time.monotonic()
        limit = deadline.left
        for done, part in enumerate(parts):
            passed = time.monotonic() - started
            left = 1.0 if updates is None else 1 - done / updates
            if deadline:
                left = min(left, 1 - passed * (1 + 1 / max(done, 1)) / limit if limit else 0.0)
            if left <= 0:
                return
            yield self._update(part, left * min(1.0, (done + 1) / WARM_UP))

    def _update(self, tokens: Tensor, share: float) -> float:
        teacher, optimizer = self._teacher, self._optimizer
        assert optimizer is not None
        parameters = list({id(place): place for name in self._trained for place in teacher.weights.places[name]}.values())
        with _half(teacher.model):
            known = teacher.known(tokens, self.values)
            for parameter in parameters:
                parameter.requires_grad_(True)
            with torch.enable_grad():
                loss = divergence(known, predict(teacher.model, teacher.logits, tokens))
            # backward() would call hooks that a training left there: they may step its optimizer, or wait for other processes.
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        for name, one in self._trained.items():
            one.take(teacher.weights.gradient(name))
        for parameter in parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        optimizer.step()
        optimizer.zero_grad()
        self.values.update((name, one.value()) for name, one in self._trained.items())
        return float(loss.detach())


def _half(model: nn.Module) -> torch.autocast:
    """Training in bfloat16 where that is fast: GPUs, and CPUs with AVX-512."""
    device = next(model.parameters()).device
    fast = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.backends.cpu.get_cpu_capability() == "AVX512"
    return torch.autocast(device.type, torch.bfloat16, enabled=fast)
