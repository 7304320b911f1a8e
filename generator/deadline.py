"""Time limits: when work that can be cut short is to end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from generator.errors import InputError


@dataclass(frozen=True)
class Deadline:
    """A moment of this process's monotonic clock, in seconds; infinity where there is no limit.

    >>> Deadline().left
    inf
    >>> Deadline.after(0).passed
    True
    """

    moment: float = math.inf

    @classmethod
    def after(cls, seconds: float | None) -> Deadline:
        """So many seconds from now; None for no limit.

        Raises:
            InputError: it is no number of seconds.
        """
        if seconds is None:
            return cls()
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
            raise InputError(f"the time limit must be a number of seconds from 0, not {seconds!r}")
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then; 0 once it has passed."""
        return max(0.0, self.moment - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return self.left <= 0

    def within(self, share: float) -> Deadline:
        """An earlier one, at this share of what is left."""
        return Deadline(time.monotonic() + share * self.left)

    def __bool__(self) -> bool:
        """Whether there is a limit."""
        return not math.isinf(self.moment)
