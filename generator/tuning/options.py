"""What is asked of tuning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from generator.deadline import Deadline
from generator.errors import InputError
from generator.visible import shown

UPDATES = 200  # in all, where neither their number nor a time is asked for


@dataclass(frozen=True)
class TuneOptions:
    """How long a model is tuned.

    Attributes:
        seconds: that tuning may take; None for no limit.
        updates: in all; None for as many as there is time for, or UPDATES where there is no limit. For a given number, and
            without a limit, equal inputs give equal weights.
        self_generate: sequences that the model writes itself, in place of the batches; 0 for none. Writing them does not count
            as tuning.
        seed: of the order of the sequences, and of those that it writes.
    """

    seconds: float | None = None
    updates: int | None = None
    self_generate: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            InputError: one is not a number that it can be.
        """
        given: tuple[tuple[str, Any, Any], ...] = (
            ("number of seconds", self.seconds, (int, float)),
            ("whole number of updates", self.updates, (int,)),
            ("whole number of sequences", self.self_generate or None, (int,)),
        )
        for what, value, kinds in given:
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds) or not float(value) > 0):
                raise InputError(f"tuning must be given a {what} above 0, not {shown(value)}")

    @property
    def most(self) -> int | None:
        """Updates in all; None for as many as there is time for."""
        return UPDATES if self.updates is None and self.seconds is None else self.updates

    def deadline(self) -> Deadline:
        """When tuning that begins now is to end."""
        return Deadline.after(self.seconds)
