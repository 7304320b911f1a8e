"""The one module that makes torch tensors."""

from __future__ import annotations

from collections.abc import Iterable

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
