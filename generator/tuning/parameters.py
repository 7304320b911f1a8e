"""The model's weights as a checkpoint names them, shown to the model in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from generator.errors import InputError
from generator.weights.checkpoint import Checkpoint


class ModelWeights:
    """The places in a model's memory that hold the tensors of a checkpoint.

    Tensors that share memory in the model, or are one tensor in the checkpoint, are one weight. Values are copied into the
    model, so that whatever shares that memory or looks at a part of it sees them.

    Attributes:
        places: first name → the model's tensors of that weight.
        trained: first names of those that training may change: parameters that require gradients, not buffers.
    """

    def __init__(self, model: nn.Module, checkpoint: Checkpoint):
        """Find them.

        Raises:
            InputError: the checkpoint is not that of the model; the message names a tensor.
        """
        found = {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}
        self.places: dict[str, list[Tensor]] = {}
        self._float = {}
        for first, names in checkpoint.names.items():
            original = checkpoint.tensors[first]
            self.places[first] = []
            for name in names:
                value = found.get(name)
                if value is None or value.shape != original.shape:
                    raise InputError(f"tensor {name!r} is not in the model that tunes, or has another shape there")
                if not torch.equal(value.detach().cpu().to(original.dtype), original):
                    raise InputError(
                        f"tensor {name!r} has other values in the model that tunes; tune with the model of the weights"
                    )
                self.places[first].append(value)
            self._float[first] = self.places[first][0].detach().clone()
        self.trained = [
            first
            for first, places in self.places.items()
            if places[0].is_floating_point() and all(isinstance(one, nn.Parameter) and one.requires_grad for one in places)
        ]

    @torch.no_grad()
    def show(self, values: Mapping[str, Tensor]) -> None:
        """Let the model have these values, by first names."""
        for first, value in values.items():
            for place in self.places[first]:
                place.copy_(value)

    def restore(self) -> None:
        """Let the model have its own values again."""
        self.show(self._float)

    def value(self, first: str) -> Tensor:
        """A copy of the model's own value of a weight, in float32 or what is wider, on the model's device."""
        own = self._float[first]
        return own.to(torch.promote_types(own.dtype, torch.float32), copy=True)

    def gradient(self, first: str) -> Tensor | None:
        """The gradient that a backward pass left of a weight, summed over the tensors that it is; None without any."""
        distinct = {id(place): place.grad for place in self.places[first] if place.grad is not None}
        total: Tensor | None = None
        for gradient in distinct.values():
            total = gradient.float() if total is None else total + gradient.float()
        return total

    @contextmanager
    def borrowed(self, model: nn.Module) -> Iterator[None]:
        """Work that changes values and gradients; afterwards all are as before."""
        known = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
        for parameter, _, _ in known:
            parameter.requires_grad_(False)
            parameter.grad = None
        try:
            yield
        finally:
            self.restore()
            for parameter, required, gradient in known:
                parameter.requires_grad_(required)
                parameter.grad = gradient
