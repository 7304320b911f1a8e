"""Which parameter, and which part of it, a tensor that arrives at an operator shares its memory with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Block:
    """A rectangle of one matrix of a parameter, as an operator y = W x uses it.

    A parameter of shape (..., rows, columns) is a stack of matrices. When it is used transposed (stored as (in, out), like
    GPT-2's Conv1D), "row" below still means an output: the statistics are those of the transpose.
    """

    name: str
    matrix: int
    transposed: bool
    outputs: tuple[int, int]  # first and last + 1, within the matrix
    inputs: tuple[int, int]


class Parameters:
    """The named matrices of a model, found again by memory address."""

    def __init__(self, tensors: Mapping[str, Tensor]):
        self.tensors: dict[str, Tensor] = {}
        self.names: dict[str, list[str]] = {}  # first name → all names of the same memory
        self.skipped: dict[str, str] = {}
        self._by_storage: dict[int, list[str]] = {}
        self._copies: dict[int, tuple[str, int, Tensor]] = {}
        places: dict[tuple[int, int], str] = {}
        for name, tensor in tensors.items():
            if tensor.ndim < 2 or not tensor.is_floating_point() or not tensor.numel():
                continue
            first = places.setdefault((tensor.data_ptr(), tensor.numel()), name)
            if first != name:
                self.names[first].append(name)
                continue
            self.tensors[name] = tensor
            self.names[name] = [name]
            if tensor.is_contiguous():
                self._by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)
            else:
                self.skipped[name] = "its memory is not contiguous"

    def find(self, tensor: Tensor) -> tuple[str, int] | None:
        """The parameter that `tensor` is a view or a tracked copy of, and the element of it at which the view begins."""
        pointer = tensor.untyped_storage().data_ptr()
        if pointer in self._copies:
            name, shift, _ = self._copies[pointer]
            return name, shift + int(tensor.storage_offset())
        for name in self._by_storage.get(pointer, ()):
            parameter = self.tensors[name]
            offset = int(tensor.storage_offset()) - int(parameter.storage_offset())
            if 0 <= offset < parameter.numel():
                return name, offset
        return None

    def track_copy(self, source: Tensor, copy: Tensor) -> bool:
        """Remember that `copy` (a change of dtype or memory) holds the elements of `source`; False if not."""
        found = self.find(source)
        if found is None or copy.untyped_storage().data_ptr() == source.untyped_storage().data_ptr():
            return True
        if copy.stride() != source.stride() or copy.storage_offset():
            return False
        # The copy is kept alive: its address must not be given to another tensor while it is remembered.
        self._copies[copy.untyped_storage().data_ptr()] = (found[0], found[1], copy)
        return True

    def forget_copies(self) -> None:
        """Let go of the copies of one forward pass."""
        self._copies.clear()

    def locate(self, weight: Tensor) -> list[Block]:
        """The blocks that a weight argument of shape (out, in) covers, one per matrix, in the order of its outputs.

        Raises:
            LookupError: it is part of a parameter, but not a rectangle of it; the message says why.
        """
        found = self.find(weight)
        if found is None:
            return []
        name, offset = found
        parameter = self.tensors[name]
        rows, columns = int(parameter.shape[-2]), int(parameter.shape[-1])
        out_stride, in_stride = weight.stride()
        outputs, inputs = weight.shape
        first_row, first_column = divmod(offset, columns)
        straight = (in_stride == 1 or inputs == 1) and (out_stride == columns or outputs == 1)
        across = (out_stride == 1 or outputs == 1) and (in_stride == columns or inputs == 1)
        if straight and first_column + inputs <= columns:
            blocks = []
            row, end = first_row, first_row + outputs
            while row < end:
                matrix, start = divmod(row, rows)
                stop = min(rows, start + end - row)
                blocks.append(Block(name, matrix, False, (start, stop), (first_column, first_column + inputs)))
                row += stop - start
            return blocks
        matrix, start = divmod(first_row, rows)
        if across and first_column + outputs <= columns and start + inputs <= rows:
            return [Block(name, matrix, True, (first_column, first_column + outputs), (start, start + inputs))]
        raise LookupError("a strided view of it is used, which is not a rectangle of its rows and columns")
