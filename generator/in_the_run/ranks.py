"""The processes of a training run that work together, as ranks of torch.distributed's group, or the one that there is.

Rank 0 leads. The others wait, and do their share of what it shares out; in the end all have its result, or raise its error.
What passes between them are Python objects over a gloo group of their own, so that no GPU memory is taken.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Any, TypeVar, cast

import torch.distributed as dist

from generator.errors import CheckError

Result = TypeVar("Result")
Share = Callable[..., Any]  # (context, *arguments) → result; a function that pickle finds by its name

PATIENCE = timedelta(days=1)  # with rank 0, which may be asked to tune for hours; torchrun ends all when one dies


@dataclass(frozen=True)
class _Task:
    """Something shared out: a function, and for each job the rank that does it and its arguments."""

    function: Share
    jobs: list[tuple[int, tuple[Any, ...]]]


@dataclass(frozen=True)
class _Done:
    """The leader has finished."""

    result: Any


@dataclass(frozen=True)
class _Failed:
    """The leader, or a share, has failed."""

    error: BaseException


class Ranks:
    """The ranks of the process group, if there is one when this is made; every rank makes it, as a context manager.

    Attributes:
        size: how many there are.
        rank: this one.
    """

    def __init__(self) -> None:
        several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        self.size = dist.get_world_size() if several else 1
        self.rank = dist.get_rank() if several else 0
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE) if several else None
        self._context: Any = None

    def __enter__(self) -> Ranks:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._group is not None:
            dist.destroy_process_group(self._group)

    def lead(self, work: Callable[[], Result], context: Any) -> Result:
        """Have rank 0 work, and the others do what it shares out.

        Args:
            work: what rank 0 does; its result must be one that pickle takes.
            context: this rank's own, for the shares.

        Returns:
            The result, on every rank.

        Raises:
            Exception: what `work` raised, on every rank; of an error that pickle does not take, its text.
        """
        self._context = context
        if self.size == 1:
            return work()
        if self.rank == 0:
            try:
                result = work()
            except BaseException as error:
                self._say(_Failed(_portable(error)))
                raise
            self._say(_Done(result))
            return result
        while True:
            said = self._hear()
            if isinstance(said, _Done):
                return cast(Result, said.result)
            if isinstance(said, _Failed):
                raise said.error
            self._gather(self._work_on(said))

    def map(self, function: Share, jobs: Sequence[tuple[int, tuple[Any, ...]]]) -> list[Any]:
        """Share out jobs; asked by the work that leads.

        Args:
            function: what is to be done; it gets the context of the rank that does it, and the job's arguments.
            jobs: for each the rank, modulo their number, and the arguments.

        Returns:
            The results, in the order of the jobs.

        Raises:
            Exception: what a share raised, that of the lowest rank.
        """
        task = _Task(function, [(rank % self.size, arguments) for rank, arguments in jobs])
        if self.size > 1:
            self._say(task)
        found: dict[int, Any] = {}
        for share in self._gather(self._work_on(task)):
            if isinstance(share, _Failed):
                raise share.error
            found |= share
        return [found[number] for number in range(len(jobs))]

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value, on every rank; not while one leads."""
        if self.size == 1:
            return value
        if self.rank == 0:
            self._say(value)
            return value
        return self._hear()

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank; not while one leads."""
        gathered: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(gathered, value, self._group)
        return gathered

    def _work_on(self, task: _Task) -> dict[int, Any] | _Failed:
        """This rank's share: results by the jobs' numbers, or how it failed."""
        mine = [(number, arguments) for number, (rank, arguments) in enumerate(task.jobs) if rank == self.rank]
        try:
            return {number: task.function(self._context, *arguments) for number, arguments in mine}
        except Exception as error:
            return _Failed(_portable(error))

    def _say(self, value: Any) -> None:
        dist.broadcast_object_list([value], 0, self._group)

    def _hear(self) -> Any:
        heard = [None]
        dist.broadcast_object_list(heard, 0, self._group)
        return heard[0]

    def _gather(self, share: dict[int, Any] | _Failed) -> list[dict[int, Any] | _Failed]:
        """The shares of all ranks, on rank 0."""
        if self.size == 1:
            return [share]
        gathered: list[Any] | None = [None] * self.size if self.rank == 0 else None
        dist.gather_object(share, gathered, 0, self._group)
        return gathered or []


def _portable(error: BaseException) -> BaseException:
    """An error that pickle takes there and back."""
    try:
        return cast(BaseException, pickle.loads(pickle.dumps(error)))
    except Exception:  # whatever an exception's own class does there
        return CheckError(f"{type(error).__name__}: {error}")
