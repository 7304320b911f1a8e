"""What is collected of each batch in each pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from generator.calibration.sums import Matrix, Sums
from generator.calibration.watch import Use, Watch
from generator.errors import InputError
from generator.user_code import call

Loss = Callable[[nn.Module, Any], Tensor]


class Collector:
    """Runs batches, and gathers the uses of each matrix in one batch until the last has come.

    Attributes:
        per_sequence: whether uses are gathered at all; sums per token need only one at a time.
    """

    def __init__(self, sums: Sums, per_sequence: bool = True):
        self.sums = sums
        self.per_sequence = per_sequence
        self.watch = Watch(sums.parameters, self._take)
        self.sequences = 0  # of the batch
        self.uses: dict[Matrix, list[Use]] = {}

    def begin(self, use: Use) -> None:
        """Add what one use gives by itself."""

    def finish(self, uses: list[Use]) -> None:
        """Add what all uses of a matrix in one batch give together."""

    def take_batch(self, model: nn.Module, batch: Any, loss: Loss, number: int) -> None:
        """Run the model forwards and backwards, and add up what is seen.

        Args:
            model: the model.
            batch: its input.
            loss: its loss.
            number: of the batch, from 0.

        Raises:
            InputError: the batch or the loss is unusable.
        """
        self.sequences = _sequences(batch)
        self.watch.begin_batch(number)
        with torch.enable_grad(), self.watch:
            value = call(f"the calibration's loss fails on batch {number + 1}", loss, model, batch)
        _check_loss(value, number + 1)
        call(f"the backward pass fails on batch {number + 1}", value.backward)
        with torch.no_grad():
            for key in list(self.uses):
                self.finish(self.uses.pop(key))
        self.sums.parameters.forget_copies()

    def _take(self, use: Use) -> None:
        name, matrix = use.block.name, use.block.matrix
        if self.sums.transposed.setdefault(name, use.block.transposed) != use.block.transposed:
            self.watch.note(name, "it is used both as stored and transposed; only the first way is followed")
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


class FirstPass(Collector):
    """H and g, and A if statistics per sequence are wanted."""

    def begin(self, use: Use) -> None:
        self.sums.add_tokens(use)

    def finish(self, uses: list[Use]) -> None:
        self.sums.add_sequences(uses, self.sequences)

    def take_batch(self, model: nn.Module, batch: Any, loss: Loss, number: int) -> None:
        super().take_batch(model, batch, loss, number)
        self.sums.tokens += self.watch.largest_rows
        self.sums.sequences += self.sequences


class SecondPass(Collector):
    """B, with L⁻¹ of the first pass's A."""

    def __init__(self, sums: Sums, inverse_factors: dict[Matrix, Tensor]):
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
