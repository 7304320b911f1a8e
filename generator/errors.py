"""Errors that users see: one sentence each, with the exit status that the command line returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from generator.audit.inspection import Inspection


class GolfpackError(Exception):
    """Base of all errors raised for users; `exit_status` is what the command line returns."""

    exit_status = 2


class InputError(GolfpackError):
    """The input is unusable: a missing file, a broken checkpoint, a recipe with an unknown key."""


class CheckError(GolfpackError):
    """The artifact is over budget, fails to run, or differs from what it should hold."""

    exit_status = 1


def brief(error: BaseException) -> str:
    """An exception's text on one line; it may hold values of the file."""
    return " ".join(str(error)[:200].split())


class BudgetError(CheckError):
    """The artifact would exceed its budget; `inspection` tells what costs most."""

    def __init__(self, message: str, inspection: Inspection):
        super().__init__(message)
        self.inspection = inspection
