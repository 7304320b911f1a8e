"""Who works on tensors: this process alone, or the ranks of a training run together (`generator.in_the_run`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from generator.memory import Memory
from generator.parallel import spread
from generator.progress import Listener, Stage
from generator.statistics import Statistics, TensorStatistics
from generator.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Source:
    """What is worked on.

    Attributes:
        checkpoint: the tensors.
        statistics: of calibration, if there are any.
        memory: for what follows from weights and statistics alone, so that it is there when the same is asked for again.
    """

    checkpoint: Checkpoint
    statistics: Statistics | None = None
    memory: Memory = field(default_factory=lambda: Memory(0), compare=False)

    def tensor(self, name: str) -> Tensor:
        """The tensor of a first name."""
        return self.checkpoint.tensors[name]

    def known(self, name: str) -> TensorStatistics | None:
        """Its statistics."""
        found = self.statistics.find(self.checkpoint.names[name]) if self.statistics is not None else None
        return None if found is None else replace(found, memory=self.memory)


Work = Callable[..., Any]  # (source, tensor's first name, *more) → result; a function of a module, with results for pickle
Jobs = Sequence[tuple[Any, ...]]  # for each the tensor's first name, and more arguments


class Workers(ABC):
    """Has work done, tensor by tensor."""

    @abstractmethod
    def map(self, work: Work, jobs: Jobs, stage: str, progress: Listener | None) -> list[Any]:
        """The results, in the order of the jobs.

        Args:
            work: what is to be done for each.
            jobs: its arguments after the source.
            stage: what progress calls it.
            progress: told of each tensor that this process works on.
        """


class Alone(Workers):
    """This process, tensors spread over its threads."""

    def __init__(self, source: Source):
        self.source = source

    def map(self, work: Work, jobs: Jobs, stage: str, progress: Listener | None) -> list[Any]:
        # Large ones first, so that no thread is left with one in the end.
        sizes = [self.source.checkpoint.tensors[job[0]].numel() for job in jobs]
        order = sorted(range(len(jobs)), key=lambda number: -sizes[number])
        names = [*(str(jobs[number][0]) for number in order), ""]
        with Stage(stage, progress, len(jobs), names[0]) as steps:
            results = spread(lambda number: work(self.source, *jobs[number]), order, lambda done: steps.step(names[done]))
        found = dict(zip(order, results, strict=True))
        return [found[number] for number in range(len(jobs))]
