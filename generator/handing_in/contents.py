"""A submission's folder, read: which file is what. Nothing is executed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path, PurePath

from generator.errors import InputError
from generator.files import MISTAKES
from generator.handing_in.claims import Claims, read_claims
from generator.handing_in.findings import Finding, finding
from generator.handing_in.logs import TrainingLog, read_log
from generator.handing_in.script import SubmittedScript, read_submitted
from generator.inputs import read_input

SCRIPT, README, METADATA, REQUIREMENTS = "train_gpt.py", "README.md", "submission.json", "requirements.txt"
TEXT_LIMIT = 2**26  # bytes of a log or another text
MOST_FILES = 10_000


@dataclass
class Contents:
    """What is in a folder.

    Attributes:
        folder: its path.
        files: all regular files, relative to the folder, sorted; not those of hidden folders.
        script: None where there is none, or none that can be told from others.
        claims: None where there is no JSON that can be read.
        metadata: the JSON's name; "" without one.
        logs: those files that tell of a training.
        texts: README, requirements and shell scripts together, for what they mention.
        findings: what reading found.
    """

    folder: Path
    files: list[str]
    script: SubmittedScript | None = None
    claims: Claims | None = None
    metadata: str = ""
    logs: list[TrainingLog] = field(default_factory=list)
    texts: str = ""
    findings: list[Finding] = field(default_factory=list)


def read_contents(folder: Path) -> Contents:
    """Read a submission's folder.

    Raises:
        InputError: it is no folder, or one of so many files that it can't be a submission, or a file can't be read.
    """
    contents = Contents(folder, list(_files(folder)))
    contents.findings += _read_metadata(contents)
    contents.findings += _read_script(contents)
    for name in contents.files:
        if fnmatch(name, "*.log") or (fnmatch(name, "*.txt") and PurePath(name).name != REQUIREMENTS):
            log = read_log(name, _read(folder, name))
            if log.tells:
                contents.logs.append(log)
    if not contents.logs and not any(fnmatch(name, "*.log") and (folder / name).stat().st_size for name in contents.files):
        contents.findings.append(finding("missing", "there is no training log"))
    if README not in contents.files:
        contents.findings.append(finding("missing", f"there is no {README}"))
    elif not _read(folder, README).strip():
        contents.findings.append(finding("missing", f"{README} is empty"))
    texts = [name for name in contents.files if name in (README, REQUIREMENTS) or name.endswith(".sh")]
    contents.texts = "\n".join(_read(folder, name).decode(errors="replace") for name in texts)
    return contents


def _read_metadata(contents: Contents) -> Iterator[Finding]:
    name = METADATA
    if name not in contents.files:
        others = [file for file in contents.files if fnmatch(file, "submission*.json")]
        if len(others) != 1:
            yield finding("missing", f"there is no {METADATA}")
            return
        name = others[0]
        yield finding("misnamed", f"there is no {METADATA}; {name} is read in its place")
    contents.metadata = name
    try:
        contents.claims = read_claims(_read(contents.folder, name))
    except InputError as error:
        yield finding("json", f"{name}: {error}")


def _read_script(contents: Contents) -> Iterator[Finding]:
    name = SCRIPT
    if name not in contents.files:
        others = [file for file in contents.files if fnmatch(file, "train*.py") and "/" not in file]
        if len(others) != 1:
            there = f"; there are {', '.join(others)}" if others else ""
            yield finding("missing", f"there is no {SCRIPT}{there}")
            return
        name = others[0]
        yield finding("misnamed", f"there is no {SCRIPT}; {name} is read in its place")
    if not (contents.folder / name).stat().st_size:
        yield finding("missing", f"{name} is empty")
        return
    contents.script = read_submitted(contents.folder, name, contents.files)
    yield from contents.script.findings


def _files(folder: Path) -> Iterator[str]:
    try:
        if not folder.is_dir():
            raise InputError(f"{folder} is no folder" if folder.exists() else f"folder {folder} does not exist")
        found = 0
        for place, folders, names in os.walk(folder, onerror=_refuse):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
            for name in sorted(names):
                path = Path(place, name)
                if path.is_file():
                    found += 1
                    if found > MOST_FILES:
                        raise InputError(f"{folder} holds more than {MOST_FILES:,} files, so it is no submission's folder")
                    yield path.relative_to(folder).as_posix()
    except MISTAKES as error:
        raise InputError(f"folder {folder} cannot be read: {getattr(error, 'strerror', None) or error}") from error


def _refuse(error: OSError) -> None:
    raise error


def _read(folder: Path, name: str) -> bytes:
    return read_input(folder / name, limit=TEXT_LIMIT)
