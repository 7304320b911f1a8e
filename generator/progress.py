"""How long work tells what it is doing: events for a callable, and lines for `logging`.

Every long function takes `progress`, a callable that gets a `Progress` at each step:

>>> said = []
>>> for name in track(["w", "gain"], "quantize", said.append):
...     pass
>>> [(event.stage, event.done, event.total, event.detail) for event in said]
[('quantize', 0, 2, 'w'), ('quantize', 1, 2, 'gain'), ('quantize', 2, 2, '')]

Stages may stand within each other: each point of `fit` quantizes, codes and minifies.

Loggers are named after stages, below "golfpack", and say nothing unless a program asks `logging` for it: INFO tells what each
stage decided and how long it took, DEBUG tells of each tensor.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Progress:
    """Where a stage of long work stands.

    A stage begins with nothing done and has ended once all is done; begun again, it starts anew.

    Attributes:
        stage: what is being done, one word: "quantize".
        done: steps that are finished.
        total: steps in all, as far as is known now.
        detail: what is in hand, for people: a tensor's name; beside a result, what that is.
        result: what a step found, where that is worth telling: a `Point` of stage "fit", a `Trial` of stage "study".
    """

    stage: str
    done: int
    total: int
    detail: str = ""
    result: Any = None


Listener = Callable[[Progress], None]  # what it raises ends the work, as an interruption would


class Stage:
    """One stage, as a context manager: tells of its beginning, its steps and its end, and logs the time that it took.

    One that tells of no step is a single step. Where it ends early without an error, what was done is all there was.

    Args:
        name: of the stage.
        progress: who is told; None for nobody.
        total: steps, at most.
        detail: of the first step.
    """

    def __init__(self, name: str, progress: Listener | None, total: int = 1, detail: str = ""):
        self.name = name
        self.total = total
        self.log = logger(name)
        self._progress = progress
        self._detail = detail
        self._done = 0
        self._started = 0.0

    def __enter__(self) -> Stage:
        self._started = time.perf_counter()
        self._tell(self._detail)
        return self

    def step(self, detail: str = "", result: Any = None, count: int = 1) -> None:
        """So many steps more are done; `detail` and `result` as in `Progress`."""
        self._done += count
        self._tell(detail, result)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None:
            return
        if self._done < self.total:
            self.total = self._done = self._done or self.total  # who tells of no step has done all in one
            self._tell()
        steps = f"{self._done:,} step{'' if self._done == 1 else 's'}"
        self.log.info("%s in %.2f s", steps, time.perf_counter() - self._started)

    def _tell(self, detail: str = "", result: Any = None) -> None:
        if self._progress is not None:
            self._progress(Progress(self.name, self._done, self.total, detail, result))


def track(items: Iterable[Item], stage: str, progress: Listener | None, label: Callable[[Item], str] = str) -> Iterator[Item]:
    """Go through the items, each a step of the stage that ends when the next is asked for.

    Args:
        items: are counted before the first is given.
        stage: its name.
        progress: who is told; None for nobody.
        label: what an item is called, for people.
    """
    counted = list(items)
    names = [*map(label, counted), ""]
    with Stage(stage, progress, len(counted), names[0]) as steps:
        for item, following in zip(counted, names[1:], strict=True):
            yield item
            steps.step(following)


def logger(stage: str) -> logging.Logger:
    """The logger of a stage, below "golfpack"."""
    return logging.getLogger(f"golfpack.{stage}")
