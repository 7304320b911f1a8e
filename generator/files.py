"""Writing outputs whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from generator.carriers import Written
from generator.errors import InputError


def write_atomically(path: str | Path, data: bytes) -> None:
    """Write to a temporary file beside `path` and rename it: an interruption leaves what was there before.

    Raises:
        InputError: the place can't be written to; nothing is left behind.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give a file name")
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide the artifact from other users
        temporary.replace(path)
    except OSError as error:
        raise InputError(f"output {path} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_artifact(path: str | Path, written: Written) -> None:
    """Write an artifact's files, those beside the main one first, so that a new main file never lacks them.

    Raises:
        InputError: as for `write_atomically`.
    """
    for name, data in written.beside.items():
        write_atomically(Path(path).parent / name, data)
    write_atomically(path, written.main)


def check_writable(path: str | Path) -> None:
    """Fail early, before minutes of coding, when `path` can't be written.

    Raises:
        InputError: as `write_atomically` would.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"output {path} is a folder; give a file name")
    folder = path.parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"output {path} cannot be written: {folder} is not a writable folder")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
