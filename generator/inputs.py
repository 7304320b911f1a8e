"""Files that users name: ordinary ones, of bounded size."""

from __future__ import annotations

import stat
from pathlib import Path

from generator.errors import InputError

TEXT_LIMIT = 2**24  # bytes of a file that is read as text


def regular_file(path: str | Path, what: str = "file", kinds: str | None = None) -> Path:
    """The path of a file that can be read to its end: no folder, no pipe (which may never end), no device.

    Args:
        path: as the user gave it.
        what: what it should be, for messages: "checkpoint".
        kinds: what to give instead of something else.

    Raises:
        InputError: there is no such file, or it is none that can be read so.
    """
    path = Path(path)
    advice = f"; give a {kinds} file" if kinds else ""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(f"{what} {path} does not exist") from error
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # a NUL, or half of a surrogate pair
        raise InputError(f"{what} {str(path)!r} is not a possible file name") from error
    if not stat.S_ISREG(mode):
        raise InputError(f"{what} {path} is {_kind(mode)}, not a file{advice}")
    return path


def read_input(path: str | Path, what: str = "file", limit: int | None = None) -> bytes:
    """The bytes of a file.

    Args:
        path: as the user gave it.
        what: what it should be, for messages.
        limit: bytes that it may have.

    Raises:
        InputError: as for `regular_file`; it is too large, or can't be read.
    """
    path = regular_file(path, what)
    try:
        size = path.stat().st_size
        if limit is not None and size > limit:
            raise InputError(f"{what} {path} has {size:,} bytes, more than the {limit:,} that golfpack reads")
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{what} {path} cannot be read: {error.strerror or error}") from error


def read_text(path: str | Path, what: str) -> str:
    """The text of a file, UTF-8.

    Raises:
        InputError: as for `read_input`; it is not UTF-8.
    """
    try:
        return read_input(path, what, TEXT_LIMIT).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{what} {path} cannot be read: {error}") from error


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")
