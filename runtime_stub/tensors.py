"""The one module that makes torch tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from runtime_stub.payload import Entry


def make_tensors(entries: Iterable[Entry]) -> dict[str, torch.Tensor]:
    """Turn decoded entries into a state dict.

    Args:
        entries: (names, stored, dtype, array) of each tensor: the array's bytes are elements of torch dtype `stored`, which
            are then converted to torch dtype `dtype`.

    Returns:
        dict of name → tensor. Tensors stored once under several names do not share memory.
    """
    state_dict = {}
    for names, stored, dtype, array in entries:
        # Not from_numpy: arithmetic on arrays without dimensions gives numpy scalars.
        tensor = torch.as_tensor(array).view(getattr(torch, stored)).to(getattr(torch, dtype))
        for name in names:
            state_dict[name] = tensor.clone()
    return state_dict


def broadcast_tensors(load: Callable[[], dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The state dict of `load`, which only rank 0 calls where a process group exists; without one, everyone does.

    Every rank of the group has to take part. Tensors travel one at a time, over the GPU where the group's backend is NCCL.
    """
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        return load()
    leads = group.get_rank() == 0
    state_dict = load() if leads else {}
    described: list[Any] = [[(name, tensor.dtype, tensor.shape) for name, tensor in state_dict.items()]]
    group.broadcast_object_list(described)
    for name, dtype, shape in described[0]:
        tensor = state_dict[name] if leads else torch.empty(shape, dtype=dtype)
        # As bytes: not every backend knows every dtype.
        octets = tensor.reshape(-1).view(torch.uint8)
        moved = octets.cuda() if group.get_backend() == "nccl" else octets
        group.broadcast(moved, 0)
        octets.copy_(moved)
        state_dict[name] = tensor
    return state_dict
