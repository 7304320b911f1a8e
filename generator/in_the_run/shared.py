"""Tensors shared out over the ranks: each always goes to the same one, which may keep what it knows of it."""

from __future__ import annotations

from typing import Any

from generator.in_the_run.ranks import Ranks
from generator.progress import Listener, Stage
from generator.weights.checkpoint import Checkpoint
from generator.weights.workers import Alone, Jobs, Source, Work, Workers


class Shared(Workers):
    """All ranks, of which rank 0 asks. Where there is only one, it works alone."""

    def __init__(self, ranks: Ranks, source: Source):
        self.ranks = ranks
        self._alone = Alone(source)
        self._owners = owners(source.checkpoint, ranks.size)

    def map(self, work: Work, jobs: Jobs, stage: str, progress: Listener | None) -> list[Any]:
        if self.ranks.size == 1:
            return self._alone.map(work, jobs, stage, progress)
        with Stage(stage, progress, detail=f"{len(jobs)} tensors by {self.ranks.size} processes"):
            return self.ranks.map(work, [(self._owners[job[0]], job) for job in jobs])


def owners(checkpoint: Checkpoint, size: int) -> dict[str, int]:
    """The rank of each tensor, the work about even: the next largest goes to whoever has least.

    What error feedback costs grows with a matrix's elements times the sum of its sides.
    """
    loads = [0] * size
    found = {}
    costs = {name: tensor.numel() * (1 + sum(tensor.shape[-2:])) for name, tensor in checkpoint.tensors.items()}
    for name in sorted(costs, key=lambda name: -costs[name]):
        found[name] = loads.index(min(loads))
        loads[found[name]] += costs[name]
    return found
