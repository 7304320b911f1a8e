"""Packed files as scripts: what was packed can be packed again, with other weights or other options."""

from __future__ import annotations

from pathlib import Path

from generator.audit.artifact import find_artifact
from generator.audit.carried import restore_bundle
from generator.source.collecting import Bundle
from generator.source.script import Script, parse, read_script


def open_script(path: str | Path) -> tuple[Script, Bundle | None]:
    """A script; of an artifact the one in it, its loader giving way to the import again, and what it carries.

    Raises:
        InputError: the file is missing, not Python, or an artifact that is damaged.
    """
    artifact = find_artifact(path)
    if artifact is None or not artifact.program:
        return read_script(path), None
    tree, bundle = restore_bundle(parse(artifact.script.encode(), f"packed in {path}"), artifact.path)
    return Script(artifact.path, tree, len(artifact.script.encode()), bool(artifact.loader)), bundle
