"""Training in branches: one plain run, and others that leave it for its last part, in the same time.

Model, data, optimizers and learning rates are those of records_examples/stdlib_gpt. What a branch does otherwise costs
time in each step, so it takes fewer steps: as many as fit into the CPU seconds that plain training has for its part.
The learning rate ends at zero all the same.
"""

from __future__ import annotations

import copy
import statistics as numbers
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from generator.calibration import calibrate, language_model_loss
from generator.linear_algebra import DAMPING
from generator.qat import fake_quantize, laplace_bits
from generator.quantizers import Quantizer
from generator.quantizers.feedback import ordered_factor
from generator.recipes.recipe import make_recipe

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "records_examples" / "stdlib_gpt"))
import train_gpt  # noqa: E402

FLOOR = 0.05  # of the mean gradient, which is added to each: what `waterfill` has
PERIOD = 8  # steps between those that pull, so many times as strongly
MEASURED = 16  # steps whose time is taken
WARMED = 4  # steps before those


@dataclass(frozen=True)
class Branch:
    """What the last part of training does otherwise than plain training.

    Attributes:
        label: its name.
        share: of all steps.
        weight_decay: of the matrices, over that of plain training.
        price: of a bit in the loss, in nats per token.
        pull: strength of a decay along the gradient of the bits instead, beside the loss as decoupled weight decay is; where
            there are many bits each weight shrinks by about learning rate × pull × its row's mean size. Every PERIOD steps.
        step: of the quantizer whose bits these are; None for `waterfill`'s steps at the branch's beginning, with `alpha`.
        alpha: see there.
        noise: whether the forward pass adds rounding's noise to the weights, uniform over those steps.
        quantizer: of the matrices in the forward pass, and in the artifact.
        embedding: likewise.
    """

    label: str
    share: float = 0.4
    weight_decay: float = 1.0
    price: float = 0.0
    pull: float = 0.0
    step: float | None = None
    alpha: float = 0.0
    noise: bool = False
    quantizer: Any = None
    embedding: Any = None

    @property
    def kind(self) -> str:
        """Branches of one kind take the same time for a step."""
        parts = {"price": self.price, "pull": self.pull, "noise": self.noise, f"{self.quantizer}": self.quantizer}
        return ", ".join(name for name, there in parts.items() if there) or "plain"

    @property
    def calibrates(self) -> bool:
        """Whether it begins with a calibration, whose time counts."""
        return self.noise or (self.step is None and bool(self.price or self.pull))


@dataclass(frozen=True)
class Settings:
    """Of plain training.

    Attributes:
        layers, width: of the model.
        steps: of all of training.
        batch_size: sequences per step.
        weight_decay: of the matrices.
        learning_rate: over the example's.
        sequences: of the calibration within training.
        seed: of the initial weights and the batches.
    """

    layers: int
    width: int
    steps: int
    batch_size: int
    weight_decay: float
    learning_rate: float
    sequences: int
    seed: int


class Trainer:
    """A model in training, at some step of it."""

    def __init__(self, settings: Settings, tokens: Tensor, branch: Branch | None = None):
        torch.manual_seed(settings.seed)
        self.settings, self.tokens, self.branch = settings, tokens, branch or Branch("plain")
        self.model = train_gpt.GPT(settings.layers, settings.width)
        self.batches = torch.Generator().manual_seed(settings.seed)
        self.noise = torch.Generator().manual_seed(settings.seed)
        matrices = [p for p in self.model.blocks.parameters() if p.ndim == 2 and p.size(0) > 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in self.model.parameters() if id(p) not in chosen]
        decay = settings.weight_decay * self.branch.weight_decay
        self.optimizers = [
            train_gpt.Muon(matrices, lr=0.02 * settings.learning_rate, weight_decay=decay),
            torch.optim.AdamW(others, lr=0.004 * settings.learning_rate, betas=(0.9, 0.95), weight_decay=0.0),
        ]
        self.rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self.optimizers]
        self.weights = {  # all matrices, those of gains left out
            f"{name}.weight": module.weight
            for name, module in self.model.named_modules()
            if isinstance(module, nn.Linear | nn.Embedding)
        }
        self.steps: dict[str, tuple[Tensor, Tensor]] = {}
        self.done = 0

    def state(self) -> dict[str, Any]:
        """What another trainer needs to go on from here."""
        return {
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict()["state"] for optimizer in self.optimizers],
            "batches": self.batches.get_state(),
        }

    def restore(self, state: dict[str, Any], order: int = 0, skip: int = 0) -> None:
        """Go on from there, in this trainer's way; its calibration, where it has one, is done now.

        Args:
            state: of another trainer.
            order: of the batches; 0 for those that would have come.
            skip: batches to leave out, so that runs of fewer steps end with the same ones.
        """
        self.model.load_state_dict(state["model"])
        for optimizer, known in zip(self.optimizers, state["optimizers"], strict=True):
            # A copy, since optimizers take tensors over as they are.
            optimizer.load_state_dict({**optimizer.state_dict(), "state": copy.deepcopy(known)})
        self.batches.set_state(state["batches"])
        if order:
            self.batches.manual_seed(self.settings.seed + 1000 * order)
        for _ in range(skip):
            self._starts()
        if self.branch.calibrates:
            self.steps = waterfill_steps(self.model, self.tokens, self.settings.sequences, self.branch.alpha)
        elif self.branch.step is not None:
            flat = torch.tensor(self.branch.step)
            self.steps = {name: (torch.ones(()), flat) for name in self.weights}
        self._parametrize()

    def _parametrize(self) -> None:
        """What the forward pass sees of the weights."""
        branch = self.branch
        if branch.quantizer is None and not branch.noise:
            return
        for name, module in list(self.model.named_modules()):
            if not isinstance(module, nn.Linear | nn.Embedding):
                continue
            seen: nn.Module
            if branch.quantizer is None:
                columns, rows = self.steps[f"{name}.weight"]
                seen = Noisy(rows * columns, self.noise)
            else:
                seen = Rounded(quantizer_of(branch.embedding if name == "embedding" else branch.quantizer))
            parametrize.register_parametrization(module, "weight", seen)

    def latent(self) -> dict[str, Tensor]:
        """The weights behind, under the names of an ordinary checkpoint."""
        return {
            name.replace("parametrizations.weight.original", "weight"): tensor.detach().clone()
            for name, tensor in self.model.state_dict().items()
        }

    def step(self, progress: float) -> float:
        """One update at some point of training, 0 to 1; gives the CPU seconds that it took."""
        start = time.process_time()
        factor = train_gpt.learning_rate_factor(progress)
        for optimizer, rates in zip(self.optimizers, self.rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * factor
        inputs, targets = train_gpt.windows(self.tokens, self._starts())
        self.model.train()
        with train_gpt.autocast(torch.device("cpu")), parametrize.cached():
            logits = self.model(inputs)
        loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        if self.branch.price:
            loss = loss + self.branch.price * self._bits()
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.done += 1
        if self.branch.pull and not self.done % PERIOD:
            self._pull()
        return time.process_time() - start

    def _starts(self) -> Tensor:
        """Where the next batch's sequences begin."""
        last = len(self.tokens) - train_gpt.SEQUENCE_LENGTH
        return torch.randint(last, (self.settings.batch_size,), generator=self.batches)

    def _bits(self) -> Tensor:
        """Of all matrices, rounded to their steps."""
        steps = self.steps
        return torch.stack([laplace_bits(w / steps[name][0], steps[name][1]) for name, w in self.weights.items()]).sum()

    def _pull(self) -> None:
        """A step of decay along the gradient of the bits, relative to the size of each row, in units of the columns' steps."""
        rates = {id(p): group["lr"] for one in self.optimizers for group in one.param_groups for p in group["params"]}
        with torch.enable_grad():
            gradients = torch.autograd.grad(self._bits(), list(self.weights.values()))
        with torch.no_grad():
            for (name, weight), gradient in zip(self.weights.items(), gradients, strict=True):
                columns = self.steps[name][0]
                size = (weight / columns).abs().mean(-1, keepdim=True) * columns
                weight.sub_(size.square() * gradient, alpha=rates[id(weight)] * self.branch.pull * PERIOD)


class Rounded(nn.Module):
    """A weight as it will be packed."""

    def __init__(self, quantizer: Quantizer):
        super().__init__()
        self.quantizer = quantizer

    def forward(self, weight: Tensor) -> Tensor:
        return fake_quantize(weight, self.quantizer)


class Noisy(nn.Module):
    """A weight with noise that is uniform over a step."""

    def __init__(self, steps: Tensor, generator: torch.Generator):
        super().__init__()
        self.steps, self.generator = steps, generator

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.steps * (torch.rand(weight.shape, generator=self.generator) - 0.5)


def quantizer_of(spec: Any) -> Quantizer:
    """The quantizer that a recipe would give with this."""
    recipe = make_recipe({"rule": [{"pattern": "*", "quantizer": spec}]}, "branch")
    return recipe.choose({"w": torch.ones(2, 2)}, {"w": ["w"]})["w"].quantizer


def calibration_batches(tokens: Tensor, sequences: int) -> list[tuple[Tensor, Tensor]]:
    """Windows spread evenly over training text, eight at a time."""
    last = len(tokens) - train_gpt.SEQUENCE_LENGTH - 1
    starts = torch.linspace(0, last, sequences, dtype=torch.float64).long()
    return [train_gpt.windows(tokens, part) for part in starts.split(8)]


def waterfill_steps(model: nn.Module, tokens: Tensor, sequences: int, alpha: float) -> dict[str, tuple[Tensor, Tensor]]:
    """About the steps that `waterfill` would take now, from statistics per token.

    Returns:
        for each matrix the columns' steps (1, in), and the rows' (out, 1), whose product is the step.
    """
    model.eval()
    found = calibrate((model, calibration_batches(tokens, sequences), language_model_loss()), kind="token")
    steps = {}
    for name in found.names:
        known = found.find([name])
        assert known is not None
        matrix = known.token[0]
        gradients = matrix.outputs.double()
        rows = (gradients + FLOOR * gradients.mean()).rsqrt()
        columns = ordered_factor(matrix.inputs.double(), DAMPING, natural=True).steps
        steps[name] = columns[None].float(), (alpha * rows)[:, None].float()
    return steps


def time_ratio(settings: Settings, tokens: Tensor, state: dict[str, Any], branch: Branch) -> tuple[float, float]:
    """CPU seconds of a branch's step over those of plain training's, taken in turns; and its calibration's, in plain steps."""
    plain = Trainer(settings, tokens)
    plain.restore(state)
    other = Trainer(settings, tokens, branch)
    start = time.process_time()
    other.restore(state)
    beginning = time.process_time() - start if branch.calibrates else 0.0
    for trainer in (plain, other):
        for _ in range(WARMED):
            trainer.step(0.99)
    pairs = [(plain.step(0.99), other.step(0.99)) for _ in range(MEASURED)]
    seconds = numbers.mean(one for one, _ in pairs)
    return numbers.mean(two for _, two in pairs) / seconds, beginning / seconds


def train(trainer: Trainer, begin: float, steps: int, end: float = 1.0) -> float:
    """So many steps from one point of training to another; gives their CPU seconds."""
    seconds = 0.0
    for number in range(steps):
        seconds += trainer.step(begin + (end - begin) * number / steps)
        if not (number + 1) % 200:
            print(f"  step {number + 1} of {steps}, {seconds:.0f} CPU s", flush=True)
    return seconds
