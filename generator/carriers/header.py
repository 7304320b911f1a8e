"""The comment that an artifact begins with: what it is, and how to look into it."""

from __future__ import annotations

import re

from generator.errors import InputError
from generator.version import __version__

_VERSION = re.compile(r"golfpack ([0-9][0-9A-Za-z.+]*):")


def header_text(payload: bytes | None, program_size: int) -> str:
    """The comment, without the "#". Its length does not depend on the program's, which may say where the payload begins."""
    sizes = f"{len(payload):,} B of weights, " if payload is not None else ""
    return f"golfpack {__version__}: {sizes}{program_size:>10,} B of code; to read, not run: golfpack unpack FILE -o DIR"


def check_header(header: str, payload: bytes | None, program_size: int) -> None:
    """That a file's header is the one that belongs to what the file holds.

    Raises:
        InputError: it was changed, or another version of golfpack wrote it.
    """
    if header == header_text(payload, program_size):
        return
    found = _VERSION.match(header)
    if found is not None and found[1] != __version__:
        raise InputError(f"its header says golfpack {found[1]}, and only that version can tell whether it is whole")
    raise InputError("its header was changed: it does not fit what the artifact holds")
