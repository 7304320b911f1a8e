"""Putting an artifact's files in place, so that a kill at any moment leaves the old artifact whole or the new one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from generator import carriers
from generator.carriers import Written
from generator.errors import InputError
from generator.files import write_atomically
from generator.inputs import read_input

_MAIN_LIMIT = 2**20  # bytes of a main file that has files beside it


def place_artifact(output: Path, written: Written, check: Callable[[Path], None]) -> None:
    """Write an artifact.

    Files beside the main one come first, under names that no other artifact uses, and the main file last. Then those of the
    artifact that was there before go, unless a copy of it still refers to them.

    Args:
        output: the main file, links followed; see `generator.files.check_output`.
        written: the bytes.
        check: called with a file that holds the main file's bytes and lies where it is to lie, before anything is replaced.

    Raises:
        InputError: the place can't be written to, or another file has the name of one that belongs beside.
    """
    outdated = _beside(output) - written.beside.keys()
    added = []
    try:
        for name, data in written.beside.items():
            target = output.parent / name
            if target.is_symlink() or target.exists():
                if target.is_file() and target.stat().st_size == len(data) and target.read_bytes() == data:
                    continue
                raise InputError(f"output {target}, which belongs beside {output.name}, is there already and is another file")
            write_atomically(target, data)
            added.append(target)
        write_atomically(output, written.main, check)
    except BaseException:
        for target in added:
            target.unlink(missing_ok=True)
        raise
    for name in outdated:
        if not _is_referred_to(name, output.parent):
            (output.parent / name).unlink(missing_ok=True)


def _beside(main: Path) -> set[str]:
    """Names of the files that belong to an artifact; none where there is none."""
    try:
        data = read_input(main, limit=_MAIN_LIMIT)
        every = carriers.REGISTRY.values()
        return {name for carrier in every for name in carrier.files_beside(data, lambda name: read_input(main.parent / name))}
    except InputError:
        return set()


def _is_referred_to(name: str, folder: Path) -> bool:
    """Whether a file in the folder holds the name, as a main file would."""
    text = ascii(name)[1:-1].encode()
    for file in folder.iterdir():
        if file.name != name and file.is_file() and file.stat().st_size <= _MAIN_LIMIT and text in file.read_bytes():
            return True
    return False
