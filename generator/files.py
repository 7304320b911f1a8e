"""Writing outputs whole or not at all, and never in place of an input.

A symbolic link as output is followed: the file that it leads to is replaced, and the link stays.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from generator.errors import InputError

MISTAKES = (OSError, ValueError, RuntimeError)  # of a path: too long, with NUL, links in a circle


def check_output(path: str | Path, inputs: Iterable[str | Path] = ()) -> Path:
    """Fail early, before minutes of coding, when `path` can't be written or must not be.

    Args:
        path: the output.
        inputs: files that the output must not replace, whatever names lead to them.

    Returns:
        The place that `write_atomically` would write to, links followed.

    Raises:
        InputError: it can't be written, is there already and no regular file or write-protected, or is an input.
    """
    try:
        place = Path(path).resolve()
        _check_place(Path(path), place)
    except MISTAKES as error:
        raise InputError(f"output {path} cannot be written: {_reason(error)}") from error
    for file in inputs:
        if same_file(place, Path(file)):
            raise InputError(f"output {path} is an input, too ({file}), and would replace it; give another name")
    return place


def same_file(left: Path, right: Path) -> bool:
    """Whether two paths are one file, through links of either kind; a file that is not there yet has only its place."""
    try:
        return left.samefile(right)
    except MISTAKES:
        return os.path.realpath(left) == os.path.realpath(right)


def write_atomically(path: str | Path, data: bytes | Iterable[bytes], check: Callable[[Path], None] | None = None) -> None:
    """Write to a temporary file beside `path` and rename it: an interruption leaves what was there before.

    Args:
        path: the output; see `check_output`. A file that is there already passes on its mode.
        data: its new contents, or pieces of them, each asked for when those before are written.
        check: called with the temporary file, before anything is replaced; what it raises leaves all as it was.

    Raises:
        InputError: the place can't be written to; nothing is left behind.
    """
    place = check_output(path)
    temporary = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        mode = stat.S_IMODE(place.stat().st_mode) if place.exists() else 0o666 & ~umask()
        # Not named after the output, whose name may already be as long as names can be.
        descriptor, name = tempfile.mkstemp(prefix=".golfpack-", dir=place.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.writelines([data] if isinstance(data, bytes) else data)
        temporary.chmod(mode)  # mkstemp's 0600 would hide the artifact from other users
        if check is not None:
            check(temporary)
        temporary.replace(place)
    except OSError as error:
        raise InputError(f"output {path} cannot be written: {_reason(error)}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _check_place(path: Path, place: Path) -> None:
    if place.is_dir():
        raise InputError(f"output {path} is a folder; give a file name")
    if place.exists():
        mode = place.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"output {path} is there already, and is not a regular file; give another name")
        if not mode & 0o222:
            raise InputError(f"output {path} is there already, and is write-protected")
    folder = place.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output {path} cannot be written: {folder} is not a writable folder")


def _reason(error: BaseException) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def umask() -> int:
    """The bits of a mode that new files do not get."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
