"""Errors that users see: one sentence each, with the exit status that the command line returns."""


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
