"""A rehearsal of what an artifact does up to the user's code, on the bytes that are about to be put in place.

That a file can be taken apart does not prove that it can load. So before a build replaces anything, the bootstrap is executed
as Python would execute it, with the last `exec` held back, and then the loader's own expression that finds the payload.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import sys
from pathlib import Path
from typing import Any

from generator import carriers
from generator.audit.artifact import Artifact
from generator.carriers.base import PROGRAM_FILE
from generator.compressors import REGISTRY as COMPRESSORS
from generator.errors import CheckError


def rehearse(artifact: Artifact, main: Path, payload: bytes | None) -> None:
    """Execute the bootstrap and the loader's reading path.

    Args:
        artifact: what was built, as it reads without executing it.
        main: a file with the artifact's bytes, in the folder that it is to lie in.
        payload: what it was built from; None for a script without weights.

    Raises:
        CheckError: the file would execute other code, or load another payload. That would be a bug, never to be shipped.
    """
    try:
        program, scope = _run_bootstrap(artifact, main)
        loaded = _read_payload(artifact, scope) if artifact.cargo.payload is not None else None
    except (Exception, SystemExit) as error:
        raise CheckError(f"{artifact.path} would not load: {type(error).__name__}: {error}; please report this bug") from error
    if program != artifact.program.encode():
        raise CheckError(f"{artifact.path} would execute other code than it was built from; please report this bug")
    if not loaded == artifact.cargo.payload == payload:
        raise CheckError(f"{artifact.path} would load another payload than it was built from; please report this bug")


def _run_bootstrap(artifact: Artifact, main: Path) -> tuple[bytes, dict[str, Any]]:
    """The program that the bootstrap would execute, and the variables that it leaves."""
    bootstrap, variables = carriers.REGISTRY[artifact.carrier].start(main.read_bytes(), str(main))
    path = list(sys.path)
    executed: list[bytes] = []
    scope: dict[str, Any] = {"__name__": "__main__", "__file__": str(main), **variables}

    def execute(text: Any) -> None:
        executed.append(text if isinstance(text, bytes) else text.encode())
        if len(executed) <= COMPRESSORS[artifact.cargo.compressor].executions:  # a decoder comes first
            exec(text, scope)

    # Text that is registered for inspect.getsource is compiled first.
    held_back = {"exec": execute, "compile": lambda text, name, mode: text}
    scope["__builtins__"] = {**vars(builtins), **held_back}
    try:
        exec(compile(bootstrap, str(main), "exec", dont_inherit=True), scope)
    finally:
        linecache.cache.pop(PROGRAM_FILE, None)
        sys.path[:] = path
    return executed[-1], scope


def _read_payload(artifact: Artifact, scope: dict[str, Any]) -> bytes:
    """What the loader decodes: the value of its expression `checked(read_…(file, …))`, without the decoding."""
    function = ast.parse(artifact.loader).body[0]
    assert isinstance(function, ast.FunctionDef)
    returned = function.body[-1]
    assert isinstance(returned, ast.Return)
    assert returned.value is not None
    reading = next(
        node
        for node in ast.walk(returned.value)
        if isinstance(node, ast.Call) and len(node.args) == 1 and _reads(node.args[0], artifact.cargo.payload_name)
    )
    returned.value = reading
    function.name = "read"
    names = {artifact.cargo.payload_name: scope[artifact.cargo.payload_name]}
    exec(compile(ast.fix_missing_locations(ast.Module([function], [])), "<loader>", "exec", dont_inherit=True), names)
    payload: bytes = names["read"]()
    return payload


def _reads(node: ast.expr, payload_name: str) -> bool:
    """Whether an expression is the call of a function with the payload's file as its first argument."""
    first = node.args[0] if isinstance(node, ast.Call) and node.args else None
    return isinstance(first, ast.Name) and first.id == payload_name
