"""What a check of a submission finds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

# Each kind of finding, and whether it is wrong; what is not wrong is worth knowing, and leaves the check passed.
KINDS = {
    "missing": True,  # a file that the challenge asks for is not there, or empty
    "misnamed": True,  # it is there under another name
    "syntax": True,  # the script does not compile
    "newer-syntax": False,  # nor an f-string of it, which Python 3.12 and later may take
    "json": True,  # not readable, or a value of the wrong type
    "field": True,  # JSON does not tell author, GitHub ID or score
    "over-cap": True,  # by the files, or by the sizes that JSON or log tell
    "over-cap-as-counted": False,  # the model with the script as it lies there, where the log counts it compressed
    "total": True,  # JSON's total is in no log, or not what the files have
    "code": True,  # JSON's code size is not the script's
    "log-code": False,  # the log's is not: it is of another version
    "sum": True,  # code and model do not add up to the total
    "code-beside": False,  # other Python files that the script uses
    "score": True,  # JSON's score is in no log
    "seed-score": True,  # a seed's result is not in its log
    "mean": True,  # the score is not the mean of the seeds' results
    "before-coding": True,  # the score is of the model before it was coded
    "seed": False,  # a seed without a log, or a log whose name tells another
    "requirement": False,  # an import that no text of the folder mentions
    "artifact": True,  # damaged
    "run": True,  # the script fails
    "run-score": True,  # it prints another score than JSON tells
}


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    Attributes:
        kind: one of `KINDS`.
        message: a sentence with the figures.
        wrong: whether the submission does not pass with it.
    """

    kind: str
    message: str
    wrong: bool


def finding(kind: str, message: str) -> Finding:
    """A finding of a kind of `KINDS`."""
    return Finding(kind, message, KINDS[kind])


@dataclass(frozen=True)
class SubmissionCheck:
    """The outcome of a check.

    Attributes:
        folder: what was checked.
        findings: all of them.
        read: what was read: files by their role, each with what it told, for people.
        output: what the script printed, if it was run.
    """

    folder: str
    findings: list[Finding]
    read: dict[str, str] = field(default_factory=dict)
    output: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not any(one.wrong for one in self.findings)

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "passed": self.passed}


def unique(findings: Iterable[Finding]) -> list[Finding]:
    """Each finding once, in order."""
    return list(dict.fromkeys(findings))
