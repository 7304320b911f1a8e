"""In which order the matrices are quantized while the others are still trained."""

from __future__ import annotations

import re
from collections.abc import Sequence

from generator.weights.checkpoint import Checkpoint

ROUNDS = 5  # at most
_NUMBERS = re.compile(r"\d+")


def rounds_of(checkpoint: Checkpoint, names: Sequence[str]) -> list[list[str]]:
    """Tensors in the rounds in which they are quantized: those of one role, in all layers, together.

    A role is the name with its numbers left out. The roles with most elements come first: most of the error is
    theirs, and all the others make up for it. Where there are more roles than rounds, the smallest share one.

    >>> import torch
    >>> tensors = {"wte": torch.ones(9, 2), "0.up": torch.ones(8, 8), "1.up": torch.ones(8, 8), "0.q": torch.ones(2, 2)}
    >>> rounds_of(Checkpoint(tensors, {}), list(tensors))
    [['0.up', '1.up'], ['wte'], ['0.q']]
    """
    roles: dict[str, list[str]] = {}
    for name in names:
        roles.setdefault(_NUMBERS.sub("#", name), []).append(name)

    def size(group: list[str]) -> int:
        return sum(checkpoint.tensors[name].numel() for name in group)

    groups = sorted(roles.values(), key=size)
    while len(groups) > ROUNDS:
        groups = sorted([groups[0] + groups[1], *groups[2:]], key=size)
    return groups[::-1]
