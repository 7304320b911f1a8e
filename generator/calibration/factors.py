"""Gradients of a matrix, sequence by sequence, as products of two thin factors: G_s = D_sᵀ X_s.

X_s are the inputs of all uses of the matrix in sequence s, D_s their output gradients, (tokens, in) and (tokens, out). The D of
an embedding's look-up has a single one in each row, and is kept as the tokens looked up. Each moment of G can be had from G, or
from the products D Dᵀ or X Xᵀ without G; which way is cheaper depends on the shapes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from generator.calibration.watch import Use

SCRATCH = 1 << 24  # elements that one step may need beside the factors; more sequences are taken one step after the other


@dataclass(frozen=True)
class Factors:
    """The factors of some sequences of a batch.

    Attributes:
        outputs: rows of the matrix.
        inputs: columns of the matrix.
        left: D of each use, (sequences, tokens, out), or the tokens looked up, (sequences, tokens).
        right: X of each use, (sequences, tokens, in).
    """

    outputs: int
    inputs: int
    left: list[Tensor]
    right: list[Tensor]

    @property
    def length(self) -> int:
        """Tokens of each sequence, over all uses."""
        return sum(x.shape[1] for x in self.right)

    @property
    def some_looked_up(self) -> bool:
        """Whether there are look-ups."""
        return any(_is_look_up(d) for d in self.left)

    @property
    def all_looked_up(self) -> bool:
        """Whether there is nothing else."""
        return all(_is_look_up(d) for d in self.left)

    def all_inputs(self) -> Tensor:
        """X over all uses, (sequences, length, in)."""
        return _joined(self.right)

    def all_outputs(self) -> Tensor:
        """D over all uses, none of which is a look-up, (sequences, length, out)."""
        return _joined(self.left)

    def with_inputs(self, inputs: Tensor) -> Factors:
        """The same with another X over all uses, (sequences, length, in)."""
        return Factors(self.outputs, self.inputs, self.left, list(torch.split(inputs, [x.shape[1] for x in self.right], 1)))

    def gradients(self) -> Tensor:
        """G, (sequences, out, in)."""
        if not self.some_looked_up:
            return self.all_outputs().mT @ self.all_inputs()
        total = self.right[0].new_zeros(len(self.right[0]), self.outputs, self.inputs)
        for d, x in zip(self.left, self.right, strict=True):
            if _is_look_up(d):
                add_rows(total.view(-1, self.inputs), self._rows(d), x.flatten(0, 1))
            else:
                total.baddbmm_(d.mT, x)
        return total

    def gradients_of_rows(self) -> tuple[Tensor, Tensor]:
        """Of look-ups only: the rows of G that are not zero, (rows, in), of all sequences, and the number of each, (rows,)."""
        rows, place = torch.unique(self._rows(torch.cat(self.left, 1)), return_inverse=True)
        total = self.right[0].new_zeros(len(rows), self.inputs)
        add_rows(total, place, self.all_inputs().flatten(0, 1))
        return total, rows % self.outputs

    def output_products(self) -> Tensor:
        """D Dᵀ, (sequences, length, length)."""
        if not self.some_looked_up:
            joined = self.all_outputs()
            return joined @ joined.mT
        return torch.cat([torch.cat([_product(one, other) for other in self.left], 2) for one in self.left], 1)

    def _rows(self, tokens: Tensor) -> Tensor:
        """Where the rows of G that tokens (sequences, n) look up are, among those of all sequences, (sequences · n,)."""
        first = torch.arange(len(tokens), device=tokens.device)[:, None] * self.outputs
        return (tokens + first).flatten()


def factors(uses: Sequence[Use], sequences: int, outputs: int, inputs: int) -> Iterator[Factors]:
    """The factors of all uses of one matrix in a batch, so many sequences at a time that no step needs too much memory.

    Args:
        uses: of one matrix.
        sequences: of the batch; rows of a use are those of the first sequence, then those of the second, ...
        outputs: rows of the matrix.
        inputs: columns of the matrix.
    """
    left, right = [], []
    for use in uses:
        shape = (sequences, len(use.inputs) // sequences)
        right.append(widened(use.inputs, use.block.inputs, inputs).reshape(*shape, inputs))
        if use.kind == "embedding":
            left.append((use.outputs + use.block.outputs[0]).reshape(shape))
        else:
            left.append(widened(use.outputs, use.block.outputs, outputs).reshape(*shape, outputs))
    length = sum(x.shape[1] for x in right)
    # G itself is only taken where it is smaller than this, or where tokens are looked up.
    scratch = max(1, length * (length + inputs + outputs), outputs * inputs if any(map(_is_look_up, left)) else 0)
    step = max(1, SCRATCH // scratch)
    for first in range(0, sequences, step):
        span = slice(first, first + step)
        yield Factors(outputs, inputs, [d[span] for d in left], [x[span] for x in right])


def widened(part: Tensor, columns: tuple[int, int], width: int) -> Tensor:
    """`part` with zeros around it, for a block that is narrower than its matrix."""
    if columns == (0, width):
        return part
    return functional.pad(part, (columns[0], width - columns[1]))


def _is_look_up(left: Tensor) -> bool:
    return not left.is_floating_point()


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """D Dᵀ of two uses, (sequences, tokens of one, tokens of the other)."""
    if not _is_look_up(one) and not _is_look_up(other):
        return one @ other.mT
    if _is_look_up(one) and _is_look_up(other):
        return (one[:, :, None] == other[:, None, :]).float()
    if _is_look_up(one):
        return _product(other, one).mT
    return one.gather(2, other[:, None, :].expand(-1, one.shape[1], -1))


def add_rows(target: Tensor, places: Tensor, rows: Tensor) -> None:
    """Add each row to that row of the target whose number is its place, in an order that is always the same."""
    if target.device.type == "cpu":
        target.index_add_(0, places, rows)
    else:  # where index_add_ adds in any order
        target.index_put_((places,), rows, accumulate=True)
