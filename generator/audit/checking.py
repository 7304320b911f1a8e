"""Whether a packed script does what the script does: both are run, and what they print, write and return is compared."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from generator.audit.artifact import find_artifact, read_artifact
from generator.audit.execution import execute
from generator.audit.likeness import Line, comparable_lines, difference, variation
from generator.carriers import Written
from generator.defaults import TIMEOUT
from generator.errors import CheckError, InputError

_PACKED, _AGAIN = "packed", "in the next run"  # how messages call the second of two runs
_TEXT_LIMIT = 2**22  # bytes of a written file that are compared line by line


@dataclass(frozen=True)
class RunCheck:
    """How `build` and `wrap` compare the packed script with the script.

    Attributes:
        arguments: the command line that both get.
        timeout: seconds that each run may take.
    """

    arguments: tuple[str, ...] = ()
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Comparison:
    """What was found equal.

    Attributes:
        status: exit status of both.
        lines: lines that they printed.
        files: files that they wrote into their working folder.
        notes: sentences: what could not be compared.
    """

    status: int
    lines: int
    files: int
    notes: list[str] = field(default_factory=list)

    def sentences(self) -> list[str]:
        """For people: what was compared, and what was not."""
        lines, files = _count(self.lines, "line"), _count(self.files, "file")
        did = f"exit status {self.status}, {lines} printed, {files} written"
        return [f"checked: the packed script does the same as the script: {did}", *self.notes]


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@dataclass
class _Run:
    """What a script did: standard output and error as lines, and files as digest, and lines where they are text."""

    status: int | None
    streams: dict[str, list[Line]]
    files: dict[str, tuple[str, list[Line] | None]]


def check(
    script: str | Path,
    packed: str | Path,
    *,
    arguments: Sequence[str] = (),
    payload: bytes | None = None,
    timeout: float = TIMEOUT,
) -> Comparison:
    """Run a script and what it was packed into, and compare what they do.

    Each runs in a fresh process of this interpreter, in a fresh empty working folder, with empty standard input, this process'
    environment (without GOLFPACK_PAYLOAD; PYTHONHASHSEED is 0 unless it is set) and a time limit, at which its whole process
    group is killed. The packed file runs as a copy in a folder of its own, so nothing else of the script's folder is there.

    Compared are

    - the exit status;
    - standard output and standard error, line by line, of more than 16 MiB the beginning and the end. Not compared in them are
      the two files' own paths, names and folders and the path of the working folder, the frames of tracebacks (the exception's
      type and text, after them, are), file, line number and source line of warnings, and objects' addresses;
    - the files that are in the working folder afterwards: their names, and their bytes; text files line by line, as above.

    Where the script differs from itself in a second run, the numbers that vary there are left out, and a note says so.

    Args:
        script: the script; it runs where it lies.
        packed: the artifact.
        arguments: the command line for both.
        payload: what `load_state_dict()` of the unpacked script reads; None for the artifact's.
        timeout: seconds that each run may take.

    Raises:
        InputError: a file is missing, or the artifact can't be read.
        CheckError: they differ (the message names the first difference), the script differs from itself in more than numbers,
            or a run takes too long.
    """
    artifact = read_artifact(packed)
    beside = {path.name: path.read_bytes() for path in artifact.beside}
    written = Written(Path(packed).read_bytes(), beside)
    return check_written(
        Path(script),
        written,
        Path(packed).name,
        artifact.cargo.payload if payload is None else payload,
        RunCheck(tuple(arguments), timeout),
    )


def check_written(script: Path, written: Written, name: str, payload: bytes | None, options: RunCheck) -> Comparison:
    """`check` for an artifact that is not in its place yet: `written` under the file name `name`."""
    if not script.is_file():
        raise InputError(f"script {script} does not exist")
    with _fresh_folder() as folder:
        variables = {}
        if payload is not None:
            (folder / "payload.gpk").write_bytes(payload)
            variables["GOLFPACK_PAYLOAD"] = str(folder / "payload.gpk")
        runnable = _runnable(script, folder)
        original = _run(runnable, variables, options, f"script {script}")
        place = folder / "packed"
        place.mkdir()
        for file, data in {**written.beside, name: written.main}.items():
            (place / file).write_bytes(data)
        packed = _run(place / name, {}, options, f"{name}, packed from {script},")
        notes = []
        if _first_difference(original, packed, _PACKED):
            again = _run(runnable, variables, options, f"script {script}")
            notes = _compare_with_variation(original, again, packed, script)
    assert original.status is not None
    if original.status:
        last = [line.text for line in original.streams["standard error"]][-1:]
        notes.append(f"{script.name} itself ends with exit status {original.status} here ({''.join(last)[:200]})")
    return Comparison(original.status, sum(map(len, original.streams.values())), len(original.files), notes)


def _runnable(script: Path, folder: Path) -> Path:
    """The script itself; of an artifact, which would load its own weights, the one in it, as a file in `folder`."""
    artifact = find_artifact(script)
    if artifact is None or not artifact.program:
        return script.resolve()
    unpacked = folder / "unpacked" / script.name
    unpacked.parent.mkdir()
    unpacked.write_text(artifact.source, encoding="utf-8")
    return unpacked


def _compare_with_variation(original: _Run, again: _Run, packed: _Run, script: Path) -> list[str]:
    """Compare once more, now that a second run tells what varies by itself; notes on that."""
    own = _first_difference(original, again, _AGAIN, again)
    if own:
        raise CheckError(f"script {script} itself does something else each time it runs, so nothing can be compared: {own}")
    found = _first_difference(original, packed, _PACKED, again)
    if found:
        raise CheckError(f"packed, script {script} does something else: {found}")
    notes = []
    for what, lines in original.streams.items():
        varied = variation(lines, again.streams[what]).lines
        if varied:
            notes.append(f"some numbers in {what} (line {min(varied)}) differ each time the script runs, and were not compared")
    for name, (digest, _) in original.files.items():
        if again.files[name][0] != digest:
            notes.append(f"file {name} differs each time the script runs; what differs was not compared")
    return notes


def _first_difference(first: _Run, second: _Run, then: str, again: _Run | None = None) -> str:
    """The first difference, "" for none; with `again`, another run of the first, without what varies between these."""
    if first.status != second.status:
        last = [line.text for line in second.streams["standard error"]][-1:]
        return f"exit status {first.status}, {then} {second.status}{f' ({last[0][:200]})' if last else ''}"
    for what, lines in first.streams.items():
        known = variation(lines, again.streams[what]) if again else None
        found = difference(what, lines, second.streams[what], then, known)
        if found:
            return found
    for name in sorted(first.files.keys() ^ second.files.keys()):
        return f"file {name} is {f'missing {then}' if name in first.files else f'written {then} only'}"
    for name, (digest, text) in sorted(first.files.items()):
        other_digest, other_text = second.files[name]
        if digest == other_digest:
            continue
        again_digest, again_text = again.files.get(name, (digest, text)) if again else (digest, text)
        if text is not None and other_text is not None:
            known = variation(text, again_text) if again_text is not None else None
            found = difference(f"file {name}", text, other_text, then, known)
        else:
            found = f"file {name} has other bytes {then}" if again_digest == digest else ""
        if found:
            return found
    return ""


def _run(path: Path, variables: Mapping[str, str], options: RunCheck, what: str) -> _Run:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GOLFPACK_")}
    environment = {"PYTHONHASHSEED": "0", **environment, "PYTHONDONTWRITEBYTECODE": "1", **variables}
    with _fresh_folder() as folder:
        done = execute(
            [sys.executable, path, *options.arguments], folder=folder, environment=environment, timeout=options.timeout
        )
        if done.timed_out:
            raise CheckError(f"{what} has not finished after {options.timeout:g} seconds (--timeout)")
        replacements = {
            str(path): "<script>",
            path.name: "<script>",
            str(path.parent): "<folder>",
            str(folder): "<working folder>",
        }
        streams = {"standard output": done.stdout, "standard error": done.stderr}
        lines = {name: comparable_lines(data.decode(errors="backslashreplace"), replacements) for name, data in streams.items()}
        files = {
            file.relative_to(folder).as_posix(): _read(file, replacements)
            for file in sorted(folder.rglob("*"))
            if file.is_symlink() or not file.is_dir()
        }
    return _Run(done.status, lines, files)


def _read(file: Path, replacements: Mapping[str, str]) -> tuple[str, list[Line] | None]:
    """A file's digest, and its lines if it is text and not large. A link counts as where it points to."""
    if file.is_symlink():
        return f"link to {file.readlink()}", None
    if not file.is_file():
        return "special file", None
    with file.open("rb") as stream:
        start = stream.read(_TEXT_LIMIT + 1)
        digest = hashlib.sha256(start)
        while chunk := stream.read(2**20):
            digest.update(chunk)
    text = None
    if len(start) <= _TEXT_LIMIT and b"\0" not in start:
        try:
            text = comparable_lines(start.decode(), replacements)
        except UnicodeDecodeError:
            text = None
    return digest.hexdigest(), text


@contextmanager
def _fresh_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="golfpack-check-")).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # the script may have made files there that can't be removed
