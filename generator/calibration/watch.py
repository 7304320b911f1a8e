"""Watching a model run: every use of a weight matrix, with its inputs and, after the backward pass, its output gradients.

Nothing is asked of the model's classes. A `torch.overrides.TorchFunctionMode` sees each call of
`functional.linear`, `matmul`, `functional.embedding` and their variants, and finds by memory address which parameter, or
which slice of a stacked one, the weight argument is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, resolve_name

from generator.calibration.aliases import Block, Parameters
from generator.calibration.operators import Copy, Linear, LookUp, Product, read_call


@dataclass(frozen=True)
class Use:
    """One use of one block of a weight, complete: y = W x, or the look-up of rows of an embedding.

    The gradient of W is Σ_t outputs_tᵀ inputs_t. For a look-up the roles are exchanged so that this stays true: `inputs` is
    the gradient of the rows that were read, `outputs` the one-hot tokens.

    Attributes:
        block: which part of which parameter.
        kind: "linear" or "embedding".
        inputs: (tokens, in) float32.
        outputs: (tokens, out) float32 gradients; for a look-up, (tokens,) int64 indices of the rows read.
    """

    block: Block
    kind: str
    inputs: Tensor
    outputs: Tensor


class Watch(TorchFunctionMode):
    """Reports each use of a parameter to `on_use` during the backward pass, in which the last of its gradients appears.

    Parameters must not require gradients (their gradients would be computed for nothing); outputs are made to.
    `pending` counts the uses of each parameter whose gradient has not arrived yet.
    """

    def __init__(self, parameters: Parameters, on_use: Callable[[Use], None]):
        super().__init__()
        self.parameters = parameters
        self.on_use = on_use
        self.pending: dict[str, int] = {}
        self.reasons: dict[str, tuple[int, str]] = {}  # parameter → why a use of it was not followed, after the batch's number
        self.begun: set[str] = set()  # parameters whose outputs were hooked
        self.largest_rows = 0
        self._batch = 0
        self._copied: tuple[Tensor, int, Tensor] | None = None

    def begin_batch(self, number: int) -> None:
        """Forget what is counted batch by batch."""
        self.largest_rows = 0
        self.pending.clear()
        self._batch = number
        self._copied = None

    def note(self, name: str, why: str) -> None:
        """Remember why a use of a parameter was not followed."""
        self.reasons.setdefault(name, (self._batch, why))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        match read_call(func, args, kwargs):
            case Linear(inputs, weight):
                return self._linear(inputs, weight, result, func)
            case Product(left, right):
                return self._product(left, right, result, func)
            case LookUp(indices, weight):
                return self._look_up(indices, weight, result)
            case Copy(original):
                if not self.parameters.track_copy(original, result):
                    self._miss(original, func, "which moves its elements")
            case None:
                self._other(func, args, kwargs, result)
        return result

    def _linear(self, inputs: Tensor, weight: Tensor, result: Tensor, func: Callable[..., Any]) -> Tensor:
        if self.parameters.find(weight) is None:
            return result
        if weight.ndim != 2:
            self._miss(weight, func, "with a weight of other than two dimensions")
            return result
        return self._watch(inputs, weight, result)

    def _product(self, left: Tensor, right: Tensor, result: Tensor, func: Callable[..., Any]) -> Tensor:
        if self.parameters.find(right) is not None:
            if right.ndim != 2:
                self._miss(right, func, "with a weight of other than two dimensions")
                return result
            return self._watch(left, right.mT, result)
        if self.parameters.find(left) is not None:
            if left.ndim != 2 or right.ndim != 2:
                self._miss(left, func, "as the left factor of a product that is not two-dimensional")
                return result
            return self._watch(right.mT, left, result, transposed=True)
        return result

    def _watch(self, inputs: Tensor, weight: Tensor, result: Tensor, transposed: bool = False) -> Tensor:
        """Follow y = x Wᵀ; with `transposed`, the result is (out, tokens) instead of (tokens, out)."""
        blocks = self._locate(weight)
        if not blocks:
            return result
        rows = self._rows(inputs)
        self.largest_rows = max(self.largest_rows, len(rows))

        def deliver(gradient: Tensor) -> None:
            flat = gradient.mT if transposed else gradient
            flat = flat.reshape(-1, flat.shape[-1]).float()
            position = 0
            for block in blocks:
                count = block.outputs[1] - block.outputs[0]
                self.pending[block.name] -= 1
                self.on_use(Use(block, "linear", rows, flat[:, position : position + count]))
                position += count

        return self._hook(result, [block.name for block in blocks], deliver)

    def _rows(self, inputs: Tensor) -> Tensor:
        """A copy of the inputs, which the model may overwrite in place, as (tokens, in) float32; one for all uses in a row."""
        if self._copied is not None and not inputs.is_inference():
            known, version, rows = self._copied
            if inputs is known and inputs._version == version:
                return rows
        rows = inputs.detach().reshape(-1, inputs.shape[-1])
        rows = rows.float() if rows.dtype != torch.float32 else rows.clone()
        self._copied = None if inputs.is_inference() else (inputs, inputs._version, rows)
        return rows

    def _look_up(self, indices: Tensor, weight: Tensor, result: Tensor) -> Tensor:
        if weight.ndim != 2:
            if self.parameters.find(weight) is not None:
                self._note(weight, "rows of a parameter of other than two dimensions are looked up")
            return result
        blocks = self._locate(weight)
        if len(blocks) != 1 or blocks[0].transposed:
            if blocks:
                self._note(weight, "rows are looked up across several of its matrices")
            return result
        block = blocks[0]
        flat = indices.detach().reshape(-1).long() % weight.shape[0]
        self.largest_rows = max(self.largest_rows, len(flat))

        def deliver(gradient: Tensor) -> None:
            self.pending[block.name] -= 1
            self.on_use(Use(block, "embedding", gradient.reshape(-1, gradient.shape[-1]).float(), flat))

        return self._hook(result, [block.name], deliver)

    def _locate(self, weight: Tensor) -> list[Block]:
        """The blocks of a weight; none where they can't be told, and the reason noted."""
        try:
            return self.parameters.locate(weight)
        except LookupError as error:
            self._note(weight, str(error))
            return []

    def _hook(self, result: Tensor, names: list[str], deliver: Callable[[Tensor], None]) -> Tensor:
        if not torch.is_grad_enabled() or torch.is_inference_mode_enabled():
            for name in names:
                self.note(name, "it is used where gradients are switched off")
            return result
        leaf = None
        if not result.requires_grad:
            leaf = result.detach().requires_grad_()
            result = leaf.clone()  # a leaf could not be changed in place
        for name in names:
            self.pending[name] = self.pending.get(name, 0) + 1
            self.begun.add(name)
        (leaf if leaf is not None else result).register_hook(deliver)  # type: ignore[no-untyped-call]
        return result

    def _other(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], result: Tensor) -> None:
        """Remember which other functions took a parameter."""
        for value in [*args, *kwargs.values()]:
            for tensor in value if isinstance(value, list | tuple) else (value,):
                if not isinstance(tensor, Tensor) or tensor.ndim < 2 or not tensor.is_floating_point():
                    continue
                if tensor.untyped_storage().data_ptr() != result.untyped_storage().data_ptr():
                    self._miss(tensor, func, "which is not followed")

    def _miss(self, weight: Tensor, func: Callable[..., Any], why: str) -> None:
        name = resolve_name(func) or getattr(func, "__name__", str(func))
        self._note(weight, f"it is used by {name}, {why}" if why.startswith("which") else f"it is used by {name} {why}")

    def _note(self, weight: Tensor, why: str) -> None:
        found = self.parameters.find(weight)
        if found is not None:
            self.note(found[0], why)
