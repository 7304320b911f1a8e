"""The check of a submission's folder, ours or anybody's: files, sizes, scores, artifact, and a run."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path

from generator.audit.execution import execute, permitted_environment
from generator.audit.verification import last_line
from generator.defaults import BUDGET, TIMEOUT
from generator.errors import InputError
from generator.files import MISTAKES
from generator.handing_in.claims import REQUIRED, Claims
from generator.handing_in.contents import Contents, read_contents
from generator.handing_in.findings import Finding, SubmissionCheck, finding, unique
from generator.handing_in.logs import read_log
from generator.handing_in.requirements import unmentioned
from generator.handing_in.scores import check_scores
from generator.handing_in.sizes import check_sizes
from generator.progress import Listener, Stage

RUN_TOLERANCE = Decimal("0.001")  # bits per byte; another device rounds otherwise


def check_submission(
    folder: str | Path,
    *,
    run: bool = False,
    arguments: Sequence[str] = (),
    budget: int = BUDGET,
    timeout: float = TIMEOUT,
    progress: Listener | None = None,
) -> SubmissionCheck:
    """Check a folder that is to be handed in to the Parameter Golf challenge, or was.

    Without `run` nothing of it is executed.

    Args:
        folder: the folder, with train_gpt.py, README.md, submission.json and logs.
        run: also run train_gpt.py in a copy of the folder, without the environment's variables whose names speak of secrets,
            and compare the scores that it prints with those of submission.json.
        arguments: command line for it.
        budget: bytes that code and model may have together.
        timeout: seconds that the run may take.
        progress: told of the stages "submission" and "run".

    Returns:
        The findings; a finding does not raise.

    Raises:
        InputError: there is no such folder, or it can't be read.
    """
    with Stage("submission", progress) as stage:
        contents = read_contents(Path(folder))
        findings = [*contents.findings, *_check_fields(contents), *check_sizes(contents, budget), *check_scores(contents)]
        findings += _check_requirements(contents)
        stage.log.info("%d files, %d logs, %d findings", len(contents.files), len(contents.logs), len(findings))
    output = ""
    if run and contents.script is not None:
        with Stage("run", progress):
            output, ran = _run(contents, arguments, timeout)
        findings += ran
    return SubmissionCheck(str(folder), unique(findings), _read(contents), output)


def _check_fields(contents: Contents) -> Iterator[Finding]:
    claims = contents.claims
    if claims is None:
        return
    for name, kind in claims.wrong.items():
        yield finding("json", f"{contents.metadata}: {name} is not {kind}")
    missing = [name for name in REQUIRED if name not in claims.texts and name not in claims.scores and name not in claims.wrong]
    if missing:
        yield finding("field", f"{contents.metadata} does not tell {', '.join(missing)}")


def _check_requirements(contents: Contents) -> Iterator[Finding]:
    if contents.script is None:
        return
    needed = [name for name, needs in contents.script.modules.items() if needs]
    missing = unmentioned(needed, contents.texts)
    if missing:
        yield finding(
            "requirement", f"{contents.script.name} imports {', '.join(missing)}, which no text of the folder mentions"
        )


def _run(contents: Contents, arguments: Sequence[str], timeout: float) -> tuple[str, list[Finding]]:
    """Run the script in a copy of the folder; what it prints, and findings."""
    assert contents.script is not None
    name = contents.script.name
    with tempfile.TemporaryDirectory(prefix="golfpack-run-") as place:
        try:
            copy = shutil.copytree(contents.folder, Path(place, contents.folder.resolve().name))
        except (*MISTAKES, shutil.Error) as error:
            raise InputError(f"folder {contents.folder} cannot be copied: {error}") from error
        command: list[str | Path] = [sys.executable, copy / name, *arguments]
        completed = execute(command, folder=copy, environment=permitted_environment(), timeout=timeout)
    output = completed.stdout.decode(errors="replace")
    if completed.timed_out:
        return output, [finding("run", f"{name} has not finished after {timeout:g} seconds (--timeout)")]
    if completed.status:
        return output, [finding("run", f"{name} exits with {completed.status}: {last_line(completed.stderr)}")]
    return output, list(_check_printed(name, completed.stdout, contents.claims, contents.metadata))


def _check_printed(name: str, output: bytes, claims: Claims | None, metadata: str) -> Iterator[Finding]:
    """Whether the last score that was printed is the one of JSON, or of one of its seeds."""
    last = read_log("", output).evaluation()
    if last is None or claims is None:
        return
    told = [claims.scores.get("val_bpb"), *(claim.val_bpb for claim in claims.seed_results)]
    scores = [score for score in told if score is not None]
    if scores and min(abs(score - last.val_bpb) for score in scores) > RUN_TOLERANCE:
        yield finding("run-score", f"{name} prints val_bpb {last.val_bpb}; {metadata} tells {', '.join(map(str, scores))}")


def _read(contents: Contents) -> dict[str, str]:
    """What was read, for people."""
    read = {}
    if contents.script is not None:
        kind = (
            "packed by golfpack, intact"
            if contents.script.packed
            else "self-extracting"
            if contents.script.artifact
            else "plain"
        )
        read[contents.script.name] = f"{contents.script.size:,} bytes, {kind}"
    if contents.claims is not None:
        scores = ", ".join(f"{name} {value}" for name, value in contents.claims.scores.items())
        total = f"{contents.claims.bytes_total:,} bytes" if contents.claims.bytes_total is not None else ""
        read[contents.metadata] = ", ".join(text for text in (scores, total) if text)
    for log in contents.logs:
        last = log.evaluation()
        seed = " or ".join(map(str, sorted(log.seeds)))
        parts = [f"seed {seed}" if seed else "", f"val_bpb {last.val_bpb}" if last else ""]
        parts += [f"{log.total.bytes:,} bytes" if log.total else ""]
        read[log.name] = ", ".join(text for text in parts if text)
    return read
