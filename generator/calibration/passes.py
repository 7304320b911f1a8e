"""The two passes over the calibration batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import UninitializedParameter

from generator.calibration.aliases import Parameters
from generator.calibration.processes import add_first_pass, add_up, seed_process
from generator.calibration.results import statistics_of
from generator.calibration.sums import Sums
from generator.calibration.watch import Use, Watch
from generator.errors import InputError
from generator.progress import Listener, Stage
from generator.statistics import Statistics
from generator.user_code import call

Loss = Callable[[nn.Module, Any], Tensor]


def collect_statistics(
    model: nn.Module,
    batches: Iterable[Any],
    loss: Loss,
    *,
    kind: str = "sequence",
    seed: int = 0,
    progress: Listener | None = None,
) -> Statistics:
    """Run a model over batches and collect statistics of every weight that can be attributed.

    Args:
        model: in eval mode; its parameters must be ordinary ones (not a compiled graph's).
        batches: each a tensor, or a tuple, list or dict that holds tensors; the first tensor's first dimension is the
            number of sequences, and so is that of the model's activations.
        loss: `loss(model, batch)`, the loss summed over the batch's tokens, in nats.
        kind: "token" (one pass: H, g) or "sequence" (two passes: also A, B).
        seed: of torch's generators at the start of each pass, for losses that sample labels.
        progress: told of each batch of each pass, as stage "calibrate".

    Under torch.distributed each process brings its own batches, and the sums are all-reduced.

    Raises:
        InputError: no batch, a loss that is not a finite scalar, or no weight that could be followed.
    """
    made: list[Any] = call("the calibration's batches can't be made", list, batches)
    check_weights(model)
    if not made:
        raise InputError("calibration has no batches")
    if kind not in ("token", "sequence"):
        raise InputError(f"unknown kind of statistics {kind!r}; known: token, sequence")
    named = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
    sums = Sums(Parameters(named))
    passes = 2 if kind == "sequence" else 1

    def run(collector: _Collector, stage: Stage) -> None:
        seed_process(seed)
        for number, batch in enumerate(made, 1):
            collector.take_batch(model, batch, loss, number)
            stage.step()

    first = _FirstPass(sums, per_sequence=kind == "sequence")
    with Stage("calibrate", progress, passes * len(made)) as stage, _without_gradients(model):
        run(first, stage)
        add_first_pass(sums)
        if kind == "sequence":
            run(_SecondPass(sums, sums.inverse_factors()), stage)
            add_up(sums.sequence_outputs)
    statistics = statistics_of(sums, kind, first.watch.why_missing())
    stage.log.info(
        "%d weights, %d without statistics; %d tokens", len(statistics.shapes), len(statistics.missing), statistics.tokens
    )
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


class _Collector:
    """Runs batches, and gathers the uses of each matrix in one batch until the last has come.

    Attributes:
        per_sequence: whether uses are gathered at all; sums per token need only one at a time.
    """

    def __init__(self, sums: Sums, per_sequence: bool = True):
        self.sums = sums
        self.per_sequence = per_sequence
        self.watch = Watch(sums.parameters, self._take)
        self.sequences = 0  # of the batch
        self.uses: dict[tuple[str, int], list[Use]] = {}

    def begin(self, use: Use) -> None:
        """Add what one use gives by itself."""

    def finish(self, uses: list[Use]) -> None:
        """Add what all uses of a matrix in one batch give together."""

    def take_batch(self, model: nn.Module, batch: Any, loss: Loss, number: int) -> None:
        """Run the model forwards and backwards, and add up what is seen.

        Raises:
            InputError: the batch or the loss is unusable.
        """
        self.sequences = _sequences(batch)
        self.watch.begin_batch()
        with torch.enable_grad(), self.watch:
            value = call(f"the calibration's loss fails on batch {number}", loss, model, batch)
        _check_loss(value, number)
        call(f"the backward pass fails on batch {number}", value.backward)
        with torch.no_grad():
            for key in list(self.uses):
                self.finish(self.uses.pop(key))
        self.sums.parameters.forget_copies()

    def _take(self, use: Use) -> None:
        name, matrix = use.block.name, use.block.matrix
        if self.sums.transposed.setdefault(name, use.block.transposed) != use.block.transposed:
            self.watch.elsewhere[name] = "it is used both as stored and transposed; only the first way is followed"
            return
        with torch.autocast(use.inputs.device.type, enabled=False):
            self.begin(use)
            if not self.per_sequence:
                return
            if len(use.inputs) % self.sequences:
                raise InputError(
                    f"weight {name!r} sees {len(use.inputs)} rows in a batch of {self.sequences} sequences: rows can't be "
                    "told apart by sequence; use --statistics token"
                )
            self.uses.setdefault((name, matrix), []).append(use)
            if not self.watch.pending[name]:
                for key in [key for key in self.uses if key[0] == name]:
                    self.finish(self.uses.pop(key))


class _FirstPass(_Collector):
    """H and g, and A if statistics per sequence are wanted."""

    def begin(self, use: Use) -> None:
        self.sums.add_tokens(use)

    def finish(self, uses: list[Use]) -> None:
        self.sums.add_sequences(uses, self.sequences)

    def take_batch(self, model: nn.Module, batch: Any, loss: Loss, number: int) -> None:
        super().take_batch(model, batch, loss, number)
        self.sums.tokens += self.watch.largest_rows
        self.sums.sequences += self.sequences


class _SecondPass(_Collector):
    """B, with L⁻¹ of the first pass's A."""

    def __init__(self, sums: Sums, inverse_factors: dict[tuple[str, int], Tensor]):
        super().__init__(sums)
        self.inverse_factors = inverse_factors

    def finish(self, uses: list[Use]) -> None:
        self.sums.add_output_side(uses, self.sequences, self.inverse_factors)


def _check_loss(value: Any, number: int) -> None:
    if not isinstance(value, Tensor) or value.numel() != 1:
        raise InputError("the calibration's loss must return a scalar tensor, the loss summed over the batch's tokens")
    if not torch.isfinite(value):
        raise InputError(f"the calibration's loss is {value.item()} on batch {number}")
    if not value.requires_grad:
        raise InputError(
            "no use of a weight could be followed: the model must run uncompiled, with gradients enabled, and the loss must "
            "not detach its result"
        )


def _sequences(batch: Any) -> int:
    """Length of the first dimension of the batch's first tensor."""
    values = list(batch.values()) if isinstance(batch, Mapping) else batch
    while isinstance(values, list | tuple) and values:
        tensors = [value for value in values if isinstance(value, Tensor)]
        values = tensors[0] if tensors else values[0]
    if not isinstance(values, Tensor) or not values.ndim or not len(values):
        raise InputError("a calibration batch must be a tensor, or begin with one, whose first dimension counts sequences")
    return len(values)


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
