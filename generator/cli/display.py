"""What a long command shows on standard error while it works: bars for people at a terminal, log lines for who asks."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated

import typer
from rich.console import Console

from generator.cli.tables import say
from generator.progress import Listener, Progress
from generator.visible import visible

QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress; results, notes and errors alone.")]
VerboseOption = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, metavar="", show_default=False, help="Log what is decided; -vv: each tensor, too."
    ),
]
LEVELS = (logging.INFO, logging.DEBUG)  # of -v and -vv


@contextmanager
def shown(console: Console, quiet: bool, verbose: int, results: bool = False) -> Iterator[Listener]:
    """A listener for `progress=`.

    Args:
        console: of standard error. Bars are shown where that is a terminal; they vanish when the work ends, however it does.
        quiet: show neither bars nor results.
        verbose: 1 for log lines of stages, more for those of each step.
        results: print a line for each result of a step as it comes, to a terminal or not; log lines tell of them, too.
    """
    listeners: list[Listener] = []
    with ExitStack() as stack:
        if not quiet and sys.stderr.isatty():
            listeners.append(stack.enter_context(_bars(console)))
        if results and not quiet and not verbose:
            listeners.append(lambda event: say(console, event.detail) if event.result is not None else None)
        if verbose:
            stack.callback(_log_to(console, LEVELS[min(verbose, len(LEVELS)) - 1]))

        def tell(event: Progress) -> None:
            for listener in listeners:
                listener(event)

        yield tell


@contextmanager
def _bars(console: Console) -> Iterator[Listener]:
    """A bar for each stage, in the order in which they first begin; it starts anew when its stage does."""
    from rich import progress as bars
    from rich.table import Column

    detail = bars.TextColumn("{task.fields[detail]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis"))
    columns = ("{task.description}", bars.BarColumn(), bars.MofNCompleteColumn(), bars.TimeRemainingColumn(), detail)
    with bars.Progress(*columns, console=console, transient=True) as shown:
        tasks: dict[str, bars.TaskID] = {}

        def tell(event: Progress) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = shown.add_task(event.stage, total=event.total, detail="")
            elif not event.done:
                shown.reset(tasks[event.stage])
            shown.update(tasks[event.stage], completed=event.done, total=event.total, detail=visible(event.detail))

        yield tell


class _Lines(logging.Formatter):
    """One line for each record, with its stage; names in it are shown, never acted on."""

    def format(self, record: logging.LogRecord) -> str:
        record.stage = record.name.removeprefix("golfpack.")
        return visible(super().format(record))


def _log_to(console: Console, level: int) -> Callable[[], None]:
    """Show golfpack's log lines from this level on; gives what ends it."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        handler = RichHandler(console=console, show_path=False, highlighter=NullHighlighter(), log_time_format="[%X]")
        handler.setFormatter(_Lines("%(stage)s: %(message)s"))
    else:  # which nothing wraps
        handler = logging.StreamHandler()
        handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(stage)s: %(message)s"))
    log = logging.getLogger("golfpack")
    before = log.level
    log.addHandler(handler)
    log.setLevel(level)

    def end() -> None:
        log.removeHandler(handler)
        log.setLevel(before)

    return end
