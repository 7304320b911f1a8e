"""Who works on tensors: this process alone, or the ranks of a training run together (`generator.in_the_run`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from generator.progress import Listener, track
from generator.statistics import Statistics, TensorStatistics
from generator.weights.checkpoint import Checkpoint


@dataclass(frozen=True)
class Source:
    """What is worked on.

    Attributes:
        checkpoint: the tensors.
        statistics: of calibration, if there are any.
        device: where tensors are computed with.
    """

    checkpoint: Checkpoint
    statistics: Statistics | None = None
    device: str = "cpu"

    def tensor(self, name: str) -> Tensor:
        """The tensor of a first name, on the device."""
        return self.checkpoint.tensors[name].to(self.device)

    def known(self, name: str) -> TensorStatistics | None:
        """Its statistics."""
        return self.statistics.find(self.checkpoint.names[name]) if self.statistics is not None else None


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
    """This process."""

    def __init__(self, source: Source):
        self.source = source

    def map(self, work: Work, jobs: Jobs, stage: str, progress: Listener | None) -> list[Any]:
        return [work(self.source, *job) for job in track(jobs, stage, progress, lambda job: str(job[0]))]
