"""Writing a folder of files whole or not at all, beside what others keep in it."""

from __future__ import annotations

import ctypes
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from generator.errors import InputError
from generator.files import MISTAKES, check_output, umask

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def check_folder(folder: str | Path, files: Mapping[str, bytes], replace: bool) -> Path:
    """Fail early when a folder can't be written, or holds other files of the same names.

    Args:
        folder: the output.
        files: what is to be written, by name; there are no folders within.
        replace: whether files of these names may be replaced.

    Returns:
        Its place, links followed.

    Raises:
        InputError: it is a file or can't be written to; a file is there already, and is another.
    """
    try:
        place = Path(folder).resolve()
        if place.exists() and not place.is_dir():
            raise InputError(f"output {folder} is there already, and is no folder")
        # Its parent has to be writable, too: the folder is made beside and put in place as a whole.
        check_output(place.with_name(f"{place.name}.new"))
        different = [name for name, data in files.items() if _is_other(place / name, data)]
    except MISTAKES as error:
        raise InputError(f"output {folder} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    if different and not replace:
        raise InputError(f"output {folder} holds other files of the names {', '.join(different)}; --force replaces them")
    return place


def write_folder(folder: str | Path, files: Mapping[str, bytes], replace: bool, check: Callable[[Path], None]) -> Path:
    """Write files into a folder, all at once.

    They are written to a new folder beside it, which then takes its place in one step; what else is in the old one is taken
    along. A failure or a kill at any moment leaves the old folder whole, or the new one. (Where the system can't swap two
    folders, as only Linux can, there is a moment between two renames in which the old one is aside under a hidden name.)

    Args:
        folder: the output, made if need be.
        files: as for `check_folder`.
        replace: whether files of these names may be replaced.
        check: called with the new folder before it takes its place; what it raises leaves all as it was.

    Returns:
        Its place, links followed.

    Raises:
        InputError: as for `check_folder`.
    """
    place = check_folder(folder, files, replace)
    stage = None
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        stage = Path(tempfile.mkdtemp(prefix=".golfpack-", dir=place.parent))
        if place.exists():
            shutil.copytree(place, stage, symlinks=True, copy_function=_link, dirs_exist_ok=True)  # the folder's mode, too
        else:
            stage.chmod(0o777 & ~umask())
        for name, data in files.items():
            _write_anew(stage / name, data)
        check(stage)
        if place.exists():
            _swap(stage, place)
        else:
            stage.rename(place)
    except (*MISTAKES, shutil.Error) as error:
        raise InputError(f"output {folder} cannot be written: {getattr(error, 'strerror', None) or error}") from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
    return place


def _is_other(path: Path, data: bytes) -> bool:
    """Whether something else than a file of these bytes lies there."""
    if not path.is_symlink() and not path.exists():
        return False
    return path.is_symlink() or not path.is_file() or path.stat().st_size != len(data) or path.read_bytes() != data


def _link(source: str, target: str) -> None:
    """A second name for a file that stays as it is; a copy where the file system has no such names."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _write_anew(path: Path, data: bytes) -> None:
    """A new file in place of the name's old one, whose bytes have another name, too."""
    mode = path.stat().st_mode if path.is_file() else 0o666 & ~umask()
    if path.is_dir() and not path.is_symlink():
        raise InputError(f"output {path.name} is there already, as a folder")
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode & 0o7777)


def _swap(stage: Path, place: Path) -> None:
    """Exchange two folders: in one step where the system can."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        rename = None
    names = (os.fsencode(stage), os.fsencode(place))
    if rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    aside = stage.with_name(f"{stage.name}.old")
    place.rename(aside)
    try:
        stage.rename(place)
    except BaseException:
        aside.rename(place)
        raise
    aside.rename(stage)
