"""Folders are written whole or not at all, and hold on to what others keep in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from generator.errors import InputError
from generator.folders import write_folder

OLD = {"a.txt": b"old", "b.txt": b"same"}
CHANGES = {"chmod", "link", "mkdir", "open", "remove", "rename", "replace", "rmdir", "symlink", "unlink", "utime", "write"}
NEW = {"a.txt": b"new", "b.txt": b"same", "c.txt": b"added"}


def accept(stage: Path) -> None:
    """A check that finds nothing."""


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_a_new_folder_with_the_modes_that_new_files_get(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "deep" / "out", NEW, False, accept)
    assert contents(place) == NEW
    (tmp_path / "plain").touch()
    (tmp_path / "folder").mkdir()
    assert (place / "a.txt").stat().st_mode == (tmp_path / "plain").stat().st_mode
    assert place.stat().st_mode == (tmp_path / "folder").stat().st_mode
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_other_files_are_not_replaced_unasked(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "out", OLD, False, accept)
    with pytest.raises(InputError, match=r"holds other files of the names a.txt; --force"):
        write_folder(place, NEW, False, accept)
    assert contents(place) == OLD
    write_folder(place, OLD, False, accept)  # the same again is fine
    write_folder(place, NEW, True, accept)
    assert contents(place) == NEW


def test_what_others_keep_there_stays(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "out", OLD, False, accept)
    (place / "notes").mkdir(mode=0o700)
    (place / "notes" / "n.txt").write_text("mine")
    (place / "link").symlink_to("notes")
    place.chmod(0o750)
    write_folder(place, NEW, True, accept)
    assert (place / "notes" / "n.txt").read_text() == "mine"
    assert (place / "link").is_symlink()
    assert place.stat().st_mode & 0o777 == 0o750
    assert (place / "notes").stat().st_mode & 0o777 == 0o700


def test_files_with_a_second_name_elsewhere_keep_their_bytes_there(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "out", OLD, False, accept)
    os.link(place / "a.txt", tmp_path / "kept.txt")
    write_folder(place, NEW, True, accept)
    assert (tmp_path / "kept.txt").read_bytes() == b"old"


def test_a_check_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    def refuse(stage: Path) -> None:
        assert contents(stage) == NEW
        raise InputError("no")

    with pytest.raises(InputError, match="no"):
        write_folder(tmp_path / "fresh", NEW, False, refuse)
    place = write_folder(tmp_path / "out", OLD, False, accept)
    with pytest.raises(InputError, match="no"):
        write_folder(place, NEW, True, refuse)
    assert contents(place) == OLD
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("what", ["a file", "a file above", "a folder within"])
def test_places_that_are_no_folder(tmp_path: Path, what: str) -> None:
    place = tmp_path / "out"
    if what == "a folder within":
        (place / "a.txt").mkdir(parents=True)
    else:
        place.touch()
    with pytest.raises(InputError, match="output .* (is there already|cannot be written)"):
        write_folder(place / "deeper" if what == "a file above" else place, NEW, True, accept)
    assert not list(tmp_path.glob(".golfpack-*"))


def write_until(moment: int, place: Path) -> int:
    """Write in a process of its own that ends, without cleaning up, before its call of that number which changes files."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        if event == "c_call" and getattr(argument, "__name__", "") in CHANGES:
            calls += 1
            if calls > moment:
                os._exit(9)

    sys.setprofile(count)
    write_folder(place, NEW, True, accept)
    os._exit(0)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere two folders can't be swapped in one step")
def test_killed_at_any_moment_the_old_folder_is_whole_or_the_new_one(tmp_path: Path) -> None:
    seen = set()
    for moment in range(500):
        place = tmp_path / str(moment) / "out"
        write_folder(place, OLD, False, accept)
        ended = write_until(moment, place)
        assert contents(place) in (OLD, NEW), f"killed before call {moment}"
        seen.add(contents(place) == NEW)
        if ended == 0:
            break
    assert ended == 0
    assert seen == {False, True}
