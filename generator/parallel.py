"""Work spread over threads: independent items, each computed by one thread, so that no result depends on their number.

Matrix products of torch use one thread each meanwhile. That keeps sums in one order whatever `torch.set_num_threads` says, and
is faster than products that share all threads wherever there are several items.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")

_outermost = threading.Lock()  # the number of torch's threads is the process's
_pool: ThreadPoolExecutor | None = None
_here = threading.local()  # `busy`: this thread computes an item


def spread(
    function: Callable[[Item], Result], items: Sequence[Item], done: Callable[[int], None] | None = None
) -> list[Result]:
    """The function of each item, computed on as many threads as torch may use.

    The function may itself spread its work: threads that are idle then help.

    Args:
        function: must not depend on what else is being computed.
        items: what to compute it of; those that take longest should come first.
        done: called in this thread after each item, with the number of finished ones.

    Returns:
        Results, in the order of the items.

    Raises:
        Exception: what the function raises for the first item, in their order, for which it does; later ones are not begun.
    """
    job = _Job(function, items)
    if getattr(_here, "busy", False):
        pool = _pool
        if pool is not None:
            for _ in items[1:]:
                pool.submit(job.work)
        job.work(done)
        job.wait(None)
        return job.results()
    with _outermost, _one_thread_each() as threads:
        if threads == 1 or not items:
            with _busy():
                job.work(done)
            return job.results()
        with _workers(threads) as pool:
            for _ in range(threads):
                pool.submit(job.work)
            try:
                job.wait(done)
            finally:  # whatever is raised here, an interruption too: workers begin nothing more
                job.stop()
    return job.results()


class _Job(Generic[Item, Result]):
    """Items that any number of threads may take from, first come, first served."""

    def __init__(self, function: Callable[[Item], Result], items: Sequence[Item]):
        self._function = function
        self._items = items
        self._results: dict[int, Result] = {}
        self._errors: dict[int, BaseException] = {}
        self._next = 0
        self._end = len(items)
        self._changed = threading.Condition()

    def work(self, done: Callable[[int], None] | None = None) -> None:
        """Compute items until none is left to begin."""
        while True:
            with self._changed:
                if self._next >= self._end:
                    return
                number = self._next
                self._next += 1
            try:
                result = self._function(self._items[number])
            except BaseException as error:  # raised by `results`, in the thread that asked
                with self._changed:
                    self._errors[number] = error
                    self._end = self._next
                    self._changed.notify_all()
                return
            with self._changed:
                self._results[number] = result
                self._changed.notify_all()
            if done is not None:
                done(len(self._results))

    def wait(self, done: Callable[[int], None] | None) -> None:
        """Until every item that was begun is finished."""
        told = 0
        while not self._finished_after(told):
            told += 1
            if done is not None:
                done(told)

    def stop(self) -> None:
        """Begin no more items."""
        with self._changed:
            self._end = self._next

    def results(self) -> list[Result]:
        """Those of all items, or the error of the first that failed."""
        if self._errors:
            raise self._errors[min(self._errors)]
        return [self._results[number] for number in range(len(self._items))]

    def _finished_after(self, told: int) -> bool:
        """Wait until there are more results than so many, or all is finished; whether there won't be more."""
        with self._changed:
            while len(self._results) <= told:
                if self._next >= self._end and len(self._results) + len(self._errors) == self._next:
                    return True
                self._changed.wait()
        return False


@contextmanager
def _one_thread_each() -> Iterator[int]:
    """Give torch one thread; yields how many it had."""
    threads = torch.get_num_threads()
    if threads == 1:
        yield 1
        return
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)


@contextmanager
def _busy() -> Iterator[None]:
    """This thread computes items, and what those spread is part of them."""
    _here.busy = True
    try:
        yield
    finally:
        _here.busy = False


@contextmanager
def _workers(threads: int) -> Iterator[ThreadPoolExecutor]:
    global _pool

    def enter() -> None:
        _here.busy = True

    with ThreadPoolExecutor(threads, "golfpack", enter) as pool:
        _pool = pool
        try:
            yield pool
        finally:
            _pool = None
