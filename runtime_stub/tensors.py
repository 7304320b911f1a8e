"""The one module that makes torch tensors."""

from __future__ import annotations

import os
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
    """The state dict of `load`, which only one process of each node calls where a process group exists; without one, all do.

    Every rank of the group has to take part. torchrun tells which ranks share a node, and gives them consecutive numbers; where
    something else started them, rank 0 decodes for all. Tensors travel one at a time.
    """
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        return load()
    size = int(os.environ.get("LOCAL_WORLD_SIZE", 0))
    first = size and group.get_rank() - int(os.environ["LOCAL_RANK"])
    # Over gloo, whatever else the script uses: the tensors are in main memory, and no GPU has to be chosen yet.
    node = group.new_group(
        range(first, first + (size or group.get_world_size())), backend="gloo", use_local_synchronization=True
    )
    state_dict = {} if group.get_rank() - first else load()
    described: list[Any] = [[(name, tensor.dtype, tensor.shape) for name, tensor in state_dict.items()]]
    group.broadcast_object_list(described, first, node)
    for name, dtype, shape in described[0]:
        state_dict.setdefault(name, torch.empty(shape, dtype=dtype))
        # As bytes: gloo does not know every dtype.
        group.broadcast(state_dict[name].reshape(-1).view(torch.uint8), first, node)
    return state_dict
