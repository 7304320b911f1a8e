"""The script of a submission, read without running it: its bytes, what it imports, what other code it takes along."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from generator.audit.artifact import Artifact, claims_golfpack, read_artifact
from generator.errors import InputError
from generator.handing_in.findings import Finding, finding
from generator.handing_in.requirements import third_party
from generator.inputs import read_input
from generator.payload import decode_payload
from generator.source.script import SCRIPT_LIMIT, imports_of, parse


@dataclass
class SubmittedScript:
    """A submission's script.

    Attributes:
        name: of the file, relative to the folder.
        size: its bytes.
        artifact: golfpack's, or another self-extracting file; None for a plain script, or a form that is not read.
        beside: other Python files of the folder that it uses, directly or through others, and their bytes.
        modules: third-party modules that all this code imports, and whether it needs them (`requirements.third_party`).
        findings: what reading found.
    """

    name: str
    size: int
    artifact: Artifact | None = None
    beside: dict[str, int] = field(default_factory=dict)
    modules: dict[str, bool] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def packed(self) -> bool:
        """Whether golfpack packed it, and it is intact."""
        return self.artifact is not None and self.artifact.foreign is None and bool(self.artifact.program)


def read_submitted(folder: Path, name: str, files: Iterable[str]) -> SubmittedScript:
    """Read a submission's script, and decode the weights that golfpack packed in it.

    Args:
        folder: of the submission.
        name: of the script in it.
        files: all files of the folder, relative to it.

    Raises:
        InputError: a file can't be read at all.
    """
    data = read_input(folder / name)
    script = SubmittedScript(name, len(data))
    try:
        script.artifact = read_artifact(folder / name)
        if script.packed and script.artifact.cargo.payload is not None:
            decode_payload(script.artifact.cargo.payload)
    except InputError as error:
        if claims_golfpack(data) or b"\0" in data:
            script.findings.append(finding("artifact", str(error)))
            script.artifact = None
            return script
    trees = list(_compiled(script, _texts(data, script.artifact)))
    local = {path.removesuffix(".py").split("/")[0] for path in files if path.endswith(".py")}
    carried = set(script.artifact.carried) if script.artifact is not None else set()
    others = {path for path in files if path.endswith(".py") and path != name}
    reached = list(trees)
    while reached:
        for path in sorted(_used(reached.pop(), others - script.beside.keys())):
            script.beside[path] = (folder / path).stat().st_size
            found = list(_compiled(script, [(path, read_input(folder / path, limit=SCRIPT_LIMIT))]))
            reached += found
            trees += found
    script.modules = third_party(trees, local | {path.removesuffix(".py").split("/")[0] for path in carried})
    return script


def _texts(data: bytes, artifact: Artifact | None) -> Iterator[tuple[str, bytes]]:
    """What is compiled when the script runs, with names for messages."""
    if artifact is None or artifact.foreign is not None:
        yield "", data
    if artifact is not None:
        yield "what is packed in ", (artifact.program or artifact.source).encode()
        yield from ((f"{path}, packed in ", text) for path, text in artifact.carried.items() if path.endswith(".py"))


def _compiled(script: SubmittedScript, texts: Iterable[tuple[str, bytes]]) -> Iterator[ast.Module]:
    """The trees of those texts that compile; findings of the others."""
    for where, data in texts:
        name = where if where.endswith(".py") else f"{where}{script.name}"
        try:
            tree = parse(data, name)
            compile(tree, name, "exec", dont_inherit=True)
        except InputError as error:
            # Before Python 3.12, an f-string could not hold its own quotes, nor a backslash in its expressions.
            newer = sys.version_info < (3, 12) and "f-string" in str(error)
            script.findings.append(finding("newer-syntax" if newer else "syntax", str(error).removeprefix("script ")))
        except (SyntaxError, ValueError, RecursionError) as error:
            script.findings.append(finding("syntax", f"{name}: {error}"))
        else:
            yield tree


def _used(tree: ast.Module, others: Iterable[str]) -> set[str]:
    """Those Python files that a tree imports, or names in a string of its own: "train_gpt_decode.py"."""
    imported = {name.split(".")[0] for name in imports_of(tree)}
    named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {path for path in others if path in named or path.removesuffix(".py").split("/")[0] in imported}
