"""Second moments of inputs and output gradients, accumulated use by use.

Per token (as in GPTQ, arXiv:2210.17323, and OBD): H = Σ x xᵀ / tokens and g_i = mean (∂L/∂y_i)².

Per sequence (a Kronecker factorization of the Fisher information as in K-FAC, arXiv:1503.05671, of the gradient of the whole
sequence; compare YAQA, arXiv:2505.22988): with G_s = Σ_t (∂L/∂y_t) x_tᵀ the gradient that sequence s gives the matrix, the
first pass collects A = Σ_s G_sᵀ G_s / tokens, the second B = Σ_s G_s A⁻¹ G_sᵀ / (in · tokens). Errors in a weight add up
coherently over the positions of a sequence; statistics per token miss that. All uses of a weight (tied embeddings, looped
layers) enter G_s together.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from generator.calibration.aliases import Block, Parameters
from generator.calibration.watch import Use
from generator.linear_algebra import damped_inverse_factor

FULL_OUTPUT_LIMIT = 4096  # outputs up to which the whole output-side moment is kept, not only its diagonal


@dataclass
class PerToken:
    """Sums over the tokens of all uses of one kind of one block."""

    inputs: Tensor  # (in, in), over the whole matrix
    outputs: Tensor  # (out,), likewise
    rows: int = 0


@dataclass
class Sums:
    """The sums of one process; `generator.calibration.processes` adds up those of all."""

    parameters: Parameters
    tokens: int = 0
    sequences: int = 0
    per_token: dict[tuple[Block, str], PerToken] = field(default_factory=dict)
    sequence_inputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # A
    sequence_outputs: dict[tuple[str, int], Tensor] = field(default_factory=dict)  # B, or its diagonal
    transposed: dict[str, bool] = field(default_factory=dict)

    def size(self, block: Block) -> tuple[int, int]:
        """Outputs and inputs of the matrix that a block is part of."""
        rows, columns = self.parameters.tensors[block.name].shape[-2:]
        return (columns, rows) if block.transposed else (rows, columns)

    def add_tokens(self, use: Use) -> None:
        """Add one use to H and g."""
        outputs, inputs = self.size(use.block)
        device = use.inputs.device
        sums = self.per_token.get((use.block, use.kind))
        if sums is None:
            sums = PerToken(torch.zeros(inputs, inputs, device=device), torch.zeros(outputs, device=device))
            self.per_token[use.block, use.kind] = sums
        (first_in, last_in), (first_out, last_out) = use.block.inputs, use.block.outputs
        sums.inputs[first_in:last_in, first_in:last_in].addmm_(use.inputs.T, use.inputs)
        if use.kind == "embedding":
            sums.outputs[first_out:last_out] += torch.bincount(use.outputs, minlength=last_out - first_out)
        else:
            sums.outputs[first_out:last_out] += use.outputs.square().sum(0)
        sums.rows += len(use.inputs)

    def add_sequences(self, uses: list[Use], sequences: int) -> None:
        """Add the first pass's A for all uses of one matrix in one batch."""
        key = (uses[0].block.name, uses[0].block.matrix)
        _, inputs = self.size(uses[0].block)
        moment = self.sequence_inputs.setdefault(key, torch.zeros(inputs, inputs, device=uses[0].inputs.device))
        for x, d in self._factors(uses, sequences):
            (length, ins), outs = x.shape, d.shape[1]
            if outs * (length * ins + ins**2) < length * (length * (outs + ins) + ins**2):
                gradient = d.T @ x
                moment.addmm_(gradient.T, gradient)
            else:
                moment.addmm_(x.T, d @ d.T @ x)

    def add_output_side(self, uses: list[Use], sequences: int, inverse_factors: dict[tuple[str, int], Tensor]) -> None:
        """Add the second pass's B; `inverse_factors` has L⁻¹ of the first pass's A, in float32."""
        key = (uses[0].block.name, uses[0].block.matrix)
        outputs, inputs = self.size(uses[0].block)
        full = outputs <= FULL_OUTPUT_LIMIT
        shape = (outputs, outputs) if full else (outputs,)
        moment = self.sequence_outputs.setdefault(key, torch.zeros(shape, device=uses[0].inputs.device))
        for x, d in self._factors(uses, sequences):
            whitened = x @ inverse_factors[key].T
            if full and inputs < len(x):
                gradient = d.T @ whitened
                moment.addmm_(gradient, gradient.T)
                continue
            weighted = whitened @ whitened.T @ d
            if full:
                moment.addmm_(d.T, weighted)
            else:
                moment += (d * weighted).sum(0)

    def _factors(self, uses: list[Use], sequences: int) -> Iterable[tuple[Tensor, Tensor]]:
        """Per sequence X (tokens, in) and D (tokens, out) with G_s = Dᵀ X over all uses together."""
        outputs, inputs = self.size(uses[0].block)
        for sequence in range(sequences):
            left, right = [], []
            for use in uses:
                length = len(use.inputs) // sequences
                span = slice(sequence * length, (sequence + 1) * length)
                left.append(_widened(use.inputs[span], use.block.inputs, inputs))
                if use.kind == "embedding":
                    one_hot = torch.zeros(length, outputs, device=use.inputs.device)
                    one_hot[torch.arange(length), use.outputs[span] + use.block.outputs[0]] = 1
                    right.append(one_hot)
                else:
                    right.append(_widened(use.outputs[span], use.block.outputs, outputs))
            yield torch.cat(left), torch.cat(right)

    def inverse_factors(self) -> dict[tuple[str, int], Tensor]:
        """L⁻¹ of every A (per token), for the second pass."""
        return {key: damped_inverse_factor(sums / self.tokens).float() for key, sums in self.sequence_inputs.items()}


def _widened(part: Tensor, columns: tuple[int, int], width: int) -> Tensor:
    """`part` with zeros around it, for a block that is narrower than its matrix."""
    if columns == (0, width):
        return part
    return torch.nn.functional.pad(part, (columns[0], width - columns[1]))


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
