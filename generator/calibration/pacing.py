"""Keeping a time limit: no item is begun that is expected to end too late."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from generator.deadline import Deadline

Item = TypeVar("Item")


def in_time(items: Iterable[Item], deadline: Deadline) -> Iterator[Item]:
    """The first item, and each further one that will be done in time if it takes as long as those before did on average.

    >>> list(in_time("abc", Deadline.after(0)))
    ['a']
    """
    started = time.monotonic()
    for done, item in enumerate(items):
        if done and (time.monotonic() - started) / done > deadline.left:
            return
        yield item
