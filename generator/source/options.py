"""The steps of shrinking, and which of them to do."""

from __future__ import annotations

from dataclasses import dataclass

from generator.errors import InputError

STEPS = {
    "docstrings": "docstrings and other statements without effect go, unless something reads them",
    "annotations": "annotations go, except in classes and where something reads them",
    "branches": "branches that can't be reached go (if False, if 0)",
    "fold": "arithmetic on constants is done; pass, object, None after return and () after raise X go",
    "imports": "adjacent imports are combined",
    "positional": "keyword arguments of calls whose function is certain become positional",
    "locals": "local names are shortened",
    "globals": "global names are shortened",
}
OPTIONAL = {
    "asserts": "assert statements go; they then no longer check",
    "debug": "`if __debug__:` blocks go, as under python -O",
}
# What `--safe` leaves out: the steps that a program could notice by reading itself, but for the names of its local variables.
NOTICEABLE = frozenset({"docstrings", "annotations", "positional", "globals"})


@dataclass(frozen=True)
class Shrinking:
    """What to do to a script.

    Attributes:
        skip: steps to leave out, by name.
        extra: steps of OPTIONAL to do.
        keep_names: global names that stay as they are.
    """

    skip: frozenset[str] = frozenset()
    extra: frozenset[str] = frozenset()
    keep_names: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in sorted(self.skip - STEPS.keys()):
            raise InputError(f"unknown shrinking step {name!r}; steps: {', '.join(STEPS)}")
        for name in sorted(self.extra - OPTIONAL.keys()):
            raise InputError(f"unknown optional shrinking step {name!r}; known: {', '.join(OPTIONAL)}")

    def does(self, step: str) -> bool:
        """Whether a step is done."""
        return step in self.extra if step in OPTIONAL else step not in self.skip
