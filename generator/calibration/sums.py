"""Second moments of inputs and output gradients, accumulated use by use.

Per token (as in GPTQ, arXiv:2210.17323, and OBD): H = Σ x xᵀ / tokens and g_i = mean (∂L/∂y_i)².

Per sequence (a Kronecker factorization of the Fisher information as in K-FAC, arXiv:1503.05671, of the gradient of the whole
sequence; compare YAQA, arXiv:2505.22988): with G_s = Σ_t (∂L/∂y_t) x_tᵀ the gradient that sequence s gives the matrix, the
first pass collects A = Σ_s G_sᵀ G_s / tokens, the second B = Σ_s G_s A⁻¹ G_sᵀ / (in · tokens). Errors in a weight add up
coherently over the positions of a sequence; statistics per token miss that. All uses of a weight (tied embeddings, looped
layers) enter G_s together.

What one use, or one batch, gives is computed in float32; these are added up exactly (`exact.py`), so that the sums are the same
however batches are shared out over processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from generator.calibration.aliases import Block, Parameters
from generator.calibration.exact import ExactSum
from generator.calibration.factors import Factors, add_rows, factors, widened
from generator.calibration.moments import Diagonal, Moment, multiply_lower
from generator.calibration.watch import Use
from generator.errors import InputError
from generator.linear_algebra import damped_inverse_factor

FULL_OUTPUT_LIMIT = 4096  # outputs up to which the whole output-side moment is kept, not only its diagonal

Matrix = tuple[str, int]  # a parameter's name, and which of its matrices


@dataclass
class PerToken:
    """Sums over the tokens of all uses of one kind of one block."""

    inputs: Moment  # over the whole matrix
    outputs: Diagonal  # likewise
    rows: int = 0


@dataclass
class Sums:
    """The sums of one process; `generator.calibration.processes` adds up those of all."""

    parameters: Parameters
    tokens: int = 0
    sequences: int = 0
    left_out: int = 0  # batches that there was no time for
    per_token: dict[tuple[Block, str], PerToken] = field(default_factory=dict)
    sequence_inputs: dict[Matrix, Moment] = field(default_factory=dict)  # A
    sequence_outputs: dict[Matrix, Moment | Diagonal] = field(default_factory=dict)  # B, or its diagonal
    transposed: dict[str, bool] = field(default_factory=dict)

    def size(self, name: str) -> tuple[int, int]:
        """Outputs and inputs of the matrices of a parameter."""
        rows, columns = self.parameters.tensors[name].shape[-2:]
        return (columns, rows) if self.transposed[name] else (rows, columns)

    def count(self, name: str) -> int:
        """How many matrices a parameter has."""
        return self.parameters.tensors[name].shape[:-2].numel()

    def token_sums(self, key: tuple[Block, str]) -> PerToken:
        """H and g of one kind of use of a block; zeros, if there are none yet."""
        name = key[0].name
        if key not in self.per_token:
            outputs, inputs = self.size(name)
            self.per_token[key] = PerToken(Moment(inputs, self._device(name)), Diagonal(outputs, self._device(name)))
        return self.per_token[key]

    def input_sums(self, key: Matrix) -> Moment:
        """A, likewise."""
        if key not in self.sequence_inputs:
            self.sequence_inputs[key] = Moment(self.size(key[0])[1], self._device(key[0]))
        return self.sequence_inputs[key]

    def output_sums(self, key: Matrix) -> Moment | Diagonal:
        """B, likewise."""
        if key not in self.sequence_outputs:
            outputs = self.size(key[0])[0]
            kind = Moment if outputs <= FULL_OUTPUT_LIMIT else Diagonal
            self.sequence_outputs[key] = kind(outputs, self._device(key[0]))
        return self.sequence_outputs[key]

    def add_tokens(self, use: Use) -> None:
        """Add one use to H and g."""
        outputs, inputs = self.size(use.block.name)
        sums = self.token_sums((use.block, use.kind))
        x = widened(use.inputs, use.block.inputs, inputs)
        sums.inputs.add(x, x)
        if use.kind == "embedding":
            first, last = use.block.outputs
            squares = torch.bincount(use.outputs, minlength=last - first).float()
        else:
            squares = use.outputs.square().sum(0)
        sums.outputs.add(widened(squares, use.block.outputs, outputs))
        sums.rows += len(use.inputs)

    def add_sequences(self, uses: list[Use], sequences: int) -> None:
        """Add the first pass's A for all uses of one matrix in one batch."""
        name, matrix = uses[0].block.name, uses[0].block.matrix
        moment = self.input_sums((name, matrix))
        for part in factors(uses, sequences, *self.size(name)):
            if part.all_looked_up:
                gradients, _ = part.gradients_of_rows()
                moment.add(gradients, gradients)
            elif _through_gradients(part.length, part.outputs, part.inputs):
                gradients = part.gradients().flatten(0, 1)
                moment.add(gradients, gradients)
            else:
                x = part.all_inputs()
                moment.add(x.flatten(0, 1), (part.output_products() @ x).flatten(0, 1))

    def add_output_side(self, uses: list[Use], sequences: int, inverse_factors: dict[Matrix, Tensor]) -> None:
        """Add the second pass's B.

        Args:
            uses: all uses of one matrix in one batch.
            sequences: of the batch.
            inverse_factors: L⁻¹ of the first pass's A, float32.

        Raises:
            InputError: the first pass did not see the matrix.
        """
        name, matrix = uses[0].block.name, uses[0].block.matrix
        if (name, matrix) not in inverse_factors:
            raise InputError(
                f"weight {name!r} is used in the second pass over the batches, and was not in the first: the model must do "
                "the same each time"
            )
        moment = self.output_sums((name, matrix))
        for part in factors(uses, sequences, *self.size(name)):
            x = part.all_inputs()
            whitened = multiply_lower(x.flatten(0, 1), inverse_factors[name, matrix]).view_as(x)
            if isinstance(moment, Moment):
                _add_full(moment, part.with_inputs(whitened))
            else:
                moment.add(_squares(part.with_inputs(whitened)))

    def inverse_factor(self, key: Matrix) -> Tensor:
        """L⁻¹ of A (per token), for the second pass, float32."""
        factor = damped_inverse_factor(self.sequence_inputs[key].matrix() / self.tokens)
        return factor.float().contiguous()  # LAPACK's are stored column by column, and processes send memory

    def parts(self) -> Iterator[ExactSum]:
        """All sums of the first pass, in an order that is the same for every process that has the same keys."""
        for token_key in sorted(self.per_token, key=repr):
            sums = self.per_token[token_key]
            yield from (*sums.inputs.parts, *sums.outputs.parts)
        for key in sorted(self.sequence_inputs):
            yield from self.sequence_inputs[key].parts

    def output_parts(self) -> Iterator[ExactSum]:
        """All sums of the second pass, likewise."""
        for key in sorted(self.sequence_outputs):
            yield from self.sequence_outputs[key].parts

    def _device(self, name: str) -> torch.device:
        return self.parameters.tensors[name].device


def _through_gradients(length: int, kept: int, summed: int) -> bool:
    """Whether GᵀG, (summed, summed), needs fewer multiplications through G than through products of (length, length)."""
    return kept * summed * (length + summed) < length * (length * (kept + summed) + summed**2)


def _add_full(moment: Moment, part: Factors) -> None:
    """Add Σ_s G_s G_sᵀ."""
    if part.some_looked_up or _through_gradients(part.length, part.inputs, part.outputs):
        gradients = part.gradients().mT.flatten(0, 1)
        moment.add(gradients, gradients)
    else:
        x, d = part.all_inputs(), part.all_outputs()
        moment.add(d.flatten(0, 1), ((x @ x.mT) @ d).flatten(0, 1))


def _squares(part: Factors) -> Tensor:
    """The diagonal of Σ_s G_s G_sᵀ, (out,)."""
    if part.all_looked_up:
        gradients, rows = part.gradients_of_rows()
        squares = gradients.new_zeros(part.outputs, 1)
        add_rows(squares, rows, gradients.square().sum(1, keepdim=True))
        return squares[:, 0]
    if part.some_looked_up or part.outputs * part.inputs < part.length * (part.outputs + part.inputs):
        return part.gradients().square().sum((0, 2))
    x, d = part.all_inputs(), part.all_outputs()
    return (d * ((x @ x.mT) @ d)).sum((0, 1))


def combine(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """One pair (A, g) for a sum Σ_u g_u ⊗ H_u of several uses of a matrix.

    Row i's quadratic form is F_i = Σ_u g_ui H_u. A = Σ_i F_i, and g_i = tr(F_i A⁻¹) / in is its best multiple of A in the
    metric of A: the same rule by which those per sequence are factored. (For one use it gives the pair back, up to
    scale: Σ g = 1.)

    Args:
        pairs: (H, g) of each use, (in, in) and (out,).
    """
    if len(pairs) == 1:
        return pairs[0]
    total = sum((g.sum() * h for h, g in pairs), torch.zeros_like(pairs[0][0]))
    inverse_factor = damped_inverse_factor(total)
    rows = torch.zeros_like(pairs[0][1])
    for h, g in pairs:
        trace = (inverse_factor @ h.double() @ inverse_factor.T).diagonal().sum() / len(h)
        rows += g * trace.to(g.dtype)
    return total, rows
