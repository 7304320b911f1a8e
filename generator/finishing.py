"""The end of a build: what is about to be written is read back, compared, rehearsed and put in place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from generator.audit.artifact import Artifact, read_artifact
from generator.audit.checking import RunCheck, check_written
from generator.audit.inspection import Inspection, inspect_artifact
from generator.audit.rehearsal import rehearse
from generator.carriers import Written
from generator.errors import BudgetError
from generator.payload import Payload
from generator.placement import place_artifact
from generator.progress import Listener, Stage


@dataclass(frozen=True)
class Draft:
    """What is about to be written, and what it is when taken apart again."""

    written: Written
    artifact: Artifact
    inspection: Inspection


def read_back(written: Written, output: Path, budget: int | None) -> Draft:
    """Take an artifact or a payload apart again, and hold it against the budget.

    Args:
        written: its bytes.
        output: where they are to lie, links followed.
        budget: bytes that they may have; None for no limit.

    Raises:
        InputError: it can't be read.
        BudgetError: it exceeds the budget.
    """
    artifact = read_artifact(output, written)
    inspection = inspect_artifact(artifact)
    if budget is not None and written.size > budget:
        raise BudgetError(
            f"{output} would have {written.size:,} bytes, {written.size - budget:,} over the budget of {budget:,}", inspection
        )
    return Draft(written, artifact, inspection)


def compare(script: Path, draft: Draft, payload: Payload | None, check: RunCheck, progress: Listener | None) -> list[str]:
    """Run the script and the artifact, as stage "check"; what was compared, in sentences.

    Raises:
        CheckError: they differ.
    """
    with Stage("check", progress):
        compared = check_written(script, draft.written, draft.artifact.path.name, _data(payload), check)
    return compared.sentences()


def write(draft: Draft, payload: Payload | None, progress: Listener | None) -> None:
    """Rehearse an artifact and put it in its place, as stage "write".

    Raises:
        InputError: the place can't be written to.
        CheckError: it would not start.
    """
    artifact = draft.artifact
    with Stage("write", progress) as stage:
        place_artifact(
            artifact.path, draft.written, lambda main: rehearse(artifact, main, _data(payload)) if artifact.program else None
        )
    stage.log.info("%s: %d bytes", artifact.path, draft.written.size)


def _data(payload: Payload | None) -> bytes | None:
    return payload.data if payload is not None else None
