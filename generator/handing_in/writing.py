"""The folder that the Parameter Golf challenge expects, written from an artifact and the logs of its training."""

from __future__ import annotations

import ast
import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from dataclasses import replace as replaced
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from generator.audit.artifact import FILE_LIMIT, Artifact, read_artifact
from generator.audit.inspection import Inspection, inspect_artifact
from generator.defaults import BUDGET, TRACK
from generator.errors import BudgetError, CheckError, InputError
from generator.files import same_file
from generator.folders import write_folder
from generator.handing_in.checking import check_submission
from generator.handing_in.contents import METADATA, README, REQUIREMENTS, SCRIPT, TEXT_LIMIT
from generator.handing_in.findings import SubmissionCheck
from generator.handing_in.logs import read_log
from generator.handing_in.metadata import Result, metadata_json, read_result
from generator.handing_in.requirements import requirements_text, third_party
from generator.inputs import read_input, read_text
from generator.progress import Listener
from generator.source.script import parse
from generator.templating import render
from generator.version import __version__


@dataclass(frozen=True)
class Submission:
    """What was written.

    Attributes:
        folder: where to.
        files: names of the files, in order.
        result: scores, as submission.json tells them.
        inspection: of the artifact.
        check: what `check_submission` says of the folder.
    """

    folder: Path
    files: list[str]
    result: Result
    inspection: Inspection
    check: SubmissionCheck

    def to_json(self) -> dict[str, Any]:
        """As JSON values; the scores with all their digits, as text."""
        result = json.loads(json.dumps(asdict(self.result), default=str))
        return {
            "folder": str(self.folder),
            "files": self.files,
            "result": result,
            "inspection": self.inspection.to_json(),
            "check": self.check.to_json(),
        }


def submission(
    folder: str | Path,
    *,
    artifact: str | Path,
    logs: Sequence[str | Path] = (),
    author: str,
    github_id: str,
    name: str,
    blurb: str,
    date: str | None = None,
    track: str = TRACK,
    val_loss: str | float | None = None,
    val_bpb: str | float | None = None,
    evaluation: str | None = None,
    commands: Sequence[str] = (),
    readme: str | Path | None = None,
    include: Sequence[str | Path] = (),
    budget: int = BUDGET,
    replace: bool = False,
    progress: Listener | None = None,
) -> Submission:
    """Write the folder that is handed in: train_gpt.py, README.md, submission.json, requirements.txt and the logs.

    The folder is written whole or not at all, and only if `check_submission` finds nothing wrong with it.

    Args:
        folder: the folder; what else is in it stays.
        artifact: what golfpack packed; its main file becomes train_gpt.py, files beside it keep their names.
        logs: of the training, one of each seed; scores and seeds are read from them.
        author, github_id, name, blurb, track: what submission.json and README.md tell.
        date: YYYY-MM-DD; None for today.
        val_loss: in nats per token, in place of the mean of the logs'.
        val_bpb: in bits per byte, in place of the mean of the logs'.
        evaluation: label of the evaluation that counts: "final_int8_zlib_roundtrip_exact"; None for the last one of each log.
        commands: shell lines that trained and packed it, for README.md.
        readme: a file to take as README.md in place of the one made from a template.
        include: further files to put into the folder.
        budget: bytes that code and model may have together.
        replace: replace other files of the same names that are in the folder already.
        progress: told of the stage "submission".

    Returns:
        What was written.

    Raises:
        InputError: an input is unusable, or the folder can't be written, or holds other files of these names.
        BudgetError: the artifact is over budget; nothing is written.
        CheckError: something is wrong with the folder: a score that no log tells; nothing is written.
    """
    opened = _open(artifact)
    inspection = inspect_artifact(opened)
    if opened.size > budget:
        raise BudgetError(
            f"{artifact} has {opened.size:,} bytes, {opened.size - budget:,} over the budget of {budget:,}", inspection
        )
    texts = {"author": author, "github_id": github_id, "name": name, "blurb": blurb, "date": _date(date), "track": track}
    for key, text in texts.items():
        if not text.strip() or not text.isprintable():
            raise InputError(f"{key.replace('_', '-')} must be one line of text, not {text!r}")
    files = {SCRIPT: opened.path.read_bytes()}
    files |= {path.name: read_input(path, limit=FILE_LIMIT) for path in opened.beside}
    read = []
    for path in logs:
        data = read_input(path, "log", TEXT_LIMIT)
        _add(files, Path(path), data)
        read.append(read_log(Path(path).name, data))
    result = read_result(read, evaluation, _score("val_loss", val_loss), _score("val_bpb", val_bpb))
    beside = [path.name for path in opened.beside]
    model_bytes = inspection.model_bytes if beside else None
    made = {
        README: read_text(readme, "readme")
        if readme is not None
        else render(
            "submission.md.j2",
            texts=texts,
            result=result,
            inspection=inspection,
            budget=budget,
            beside=beside,
            commands=commands,
            version=__version__,
        ),
        METADATA: metadata_json(texts, result, opened.size, inspection.code_bytes, model_bytes),
        REQUIREMENTS: requirements_text(_modules(opened)),
    }
    files |= {key: text.encode() for key, text in made.items()}
    for path in include:
        _add(files, Path(path), read_input(path, "included file", FILE_LIMIT))
    inputs = [artifact, *opened.beside, *logs, *include, *([readme] if readme is not None else [])]
    _check_inputs(Path(folder), files, [Path(path) for path in inputs])
    checked: list[SubmissionCheck] = []

    def check(stage: Path) -> None:
        checked.append(check_submission(stage, budget=budget, progress=progress))
        wrong = [one.message for one in checked[0].findings if one.wrong]
        if wrong:
            raise CheckError(f"{folder} would not pass its check, and is not written: {'; '.join(wrong)}")

    place = write_folder(folder, files, replace, check)
    return Submission(place, list(files), result, inspection, replaced(checked[0], folder=str(folder)))


def _open(path: str | Path) -> Artifact:
    """An artifact that runs: golfpack's own, with a program."""
    opened = read_artifact(path)
    if opened.foreign is not None or not opened.program:
        kind = "a payload without a program" if opened.carrier == "payload" else "not packed by golfpack"
        raise InputError(f"{path} is {kind}; give what golfpack build, fit or wrap wrote")
    return opened


def _modules(opened: Artifact) -> dict[str, bool]:
    """Third-party modules that the artifact imports: script, carried modules, loader and bootstrap."""
    texts = [opened.program.encode(), *(data for name, data in opened.carried.items() if name.endswith(".py"))]
    trees: list[ast.Module] = [parse(text, f"packed in {opened.path}") for text in texts]
    local = {name.removesuffix(".py").split("/")[0] for name in opened.carried}
    return third_party(trees, local) | dict.fromkeys(inspect_artifact(opened).requires, True)


def _add(files: dict[str, bytes], path: Path, data: bytes) -> None:
    if path.name in files or path.name in (README, METADATA, REQUIREMENTS):
        raise InputError(f"{path} would be {path.name} in the folder, and another file is, too; rename it")
    files[path.name] = data


def _check_inputs(folder: Path, files: dict[str, bytes], inputs: Sequence[Path]) -> None:
    """That no input is replaced, not even with `replace`: the same bytes in the same place are fine."""
    for name, data in files.items():
        for path in inputs:
            if same_file(folder / name, path) and path.read_bytes() != data:
                raise InputError(f"output {folder / name} is an input, too ({path}), and would be replaced; move it first")


def _date(text: str | None) -> str:
    if text is None:
        return datetime.date.today().isoformat()
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError as error:
        raise InputError(f"date must be like 2026-04-30, not {text!r}") from error


def _score(name: str, value: str | float | None) -> Decimal | None:
    if value is None:
        return None
    try:
        score = Decimal(str(value))
    except InvalidOperation as error:
        raise InputError(f"{name} must be a number, not {value!r}") from error
    if not score.is_finite() or not 0 < score < 1000:
        raise InputError(f"{name} must be a number above 0, not {value!r}")
    return score
