"""From sums to statistics: means of each weight's matrices, stacked, and why weights have none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.calibration.aliases import Block
from generator.calibration.sums import Sums, combine
from generator.errors import InputError
from generator.statistics import Statistics


def statistics_of(sums: Sums, kind: str, why_missing: Mapping[str, str]) -> Statistics:
    """The statistics of all weights that were followed.

    Args:
        sums: of all processes and both passes.
        kind: "token" or "sequence".
        why_missing: why a weight could not be followed, where a reason is known.

    Raises:
        InputError: no weight was followed, or a sum is no number.
    """
    uses: dict[str, dict[int, list[tuple[Block, str]]]] = {}
    for block, use in sums.per_token:
        uses.setdefault(block.name, {}).setdefault(block.matrix, []).append((block, use))
    parameters = sums.parameters
    followed = [name for name in parameters.tensors if name in uses]
    missing = {
        name: parameters.skipped.get(name) or why_missing.get(name, "no matrix product with these batches uses it")
        for name in parameters.tensors
        if name not in uses
    }
    if not followed:
        raise InputError(f"no weight could be followed: {'; '.join(f'{n}: {why}' for n, why in missing.items())}")
    tensors: dict[str, Tensor] = {}
    for name in followed:
        stack = _Stack(sums, name)
        tensors |= stack.per_token(uses[name])
        if kind == "sequence":
            tensors |= stack.per_sequence()
    statistics = Statistics(
        kind,
        sums.tokens,
        sums.sequences,
        tensors,
        shapes={name: list(parameters.tensors[name].shape) for name in followed},
        names={name: parameters.names[name] for name in followed},
        transposed=[name for name in followed if sums.transposed[name]],
        missing=missing,
    )
    statistics.check()
    return statistics


@dataclass(frozen=True)
class _Stack:
    """The matrices of one parameter."""

    sums: Sums
    name: str

    @property
    def size(self) -> tuple[int, int, int]:
        """How many there are, and the outputs and inputs of each."""
        shape = self.sums.parameters.tensors[self.name].shape
        outputs, inputs = shape[-2:][::-1] if self.sums.transposed[self.name] else shape[-2:]
        return shape[:-2].numel(), outputs, inputs

    def per_token(self, uses: Mapping[int, list[tuple[Block, str]]]) -> dict[str, Tensor]:
        """H and g, and what else is told of an embedding.

        Args:
            uses: matrix → the keys of its sums.
        """
        count, outputs, inputs = self.size
        found: dict[str, Tensor] = {}
        stack_h, stack_g = torch.zeros(count, inputs, inputs), torch.zeros(count, outputs)
        for matrix, keys in uses.items():
            pairs = []
            for key in sorted(keys, key=repr):
                known = self.sums.per_token[key]
                h, g = known.inputs / self.sums.tokens, known.outputs / known.rows
                pairs.append((h, g))
                if key[1] == "embedding":
                    found |= {f"{self.name}:frequencies": g.cpu(), f"{self.name}:gradients": h.cpu()}
            stack_h[matrix], stack_g[matrix] = combine(pairs)
        return {**found, f"{self.name}:H": stack_h, f"{self.name}:g": stack_g}

    def per_sequence(self) -> dict[str, Tensor]:
        """A and B."""
        count, _, inputs = self.size
        outputs = {matrix: b for (name, matrix), b in self.sums.sequence_outputs.items() if name == self.name}
        stack_a = torch.zeros(count, inputs, inputs)
        stack_b = torch.zeros(count, *next(iter(outputs.values())).shape)
        for matrix, moment in outputs.items():
            stack_a[matrix] = self.sums.sequence_inputs[self.name, matrix] / self.sums.tokens
            stack_b[matrix] = moment / (inputs * self.sums.tokens)
        return {f"{self.name}:A": stack_a, f"{self.name}:B": stack_b}
