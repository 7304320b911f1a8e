"""Artifacts opened for reading: what they carry, without executing anything."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path

import python_minifier

from generator import carriers
from generator.audit.carried import carried_files
from generator.audit.foreign import Foreign, read_foreign
from generator.carriers import DAMAGED, Cargo, ReadBack, Written
from generator.carriers.header import check_header
from generator.compressors import REGISTRY as COMPRESSORS
from generator.errors import InputError
from generator.inputs import read_input
from generator.payload import Manifest, read_manifest
from generator.source.printing import print_short
from generator.source.script import free_names, parse, restore_import
from generator.source.tokens import check_tokens
from runtime_stub.payload import MAGIC

FILE_LIMIT = 2**28  # bytes; nothing near the cap comes close
# What a file says that golfpack made, in its header or in its bootstrap.
_CLAIMS = re.compile(rb"\A(?:\xef\xbb\xbf)?\s*#(?:coding:latin1)? ?golfpack [0-9]|" + re.escape(DAMAGED.encode()))


@dataclass(frozen=True)
class Artifact:
    """An artifact, or a bare payload file (then `carrier` is "payload" and there is no program).

    Attributes:
        path: the file.
        size: its bytes, those of the files beside it included.
        carrier: name of the carrier that wrote it.
        cargo: compressed program, payload, header.
        program_size: bytes that the program takes in the artifact.
        payload_size: bytes that the payload takes in the artifact.
        beside: files beside it that belong to it.
        program: decompressed, exactly what is executed.
        script: minified source of the script alone, the import of `load_state_dict` restored.
        source: the same as readable source.
        loader: the inlined loader's source; "" without weights.
        manifest: what the payload holds; None without weights.
        carried: modules and data files that the program carries, by path relative to the script's folder.
        foreign: how a file that another tool made was read; None for golfpack's own.
    """

    path: Path
    size: int
    carrier: str
    cargo: Cargo
    program_size: int
    payload_size: int
    beside: tuple[Path, ...]
    program: str
    script: str
    source: str
    loader: str
    manifest: Manifest | None
    carried: dict[str, bytes] = field(default_factory=dict)
    foreign: Foreign | None = None


def read_artifact(path: str | Path, written: Written | None = None) -> Artifact:
    """Open a file that golfpack made, or another self-extracting file.

    Args:
        path: the file.
        written: its bytes, when they are not on disk yet.

    Raises:
        InputError: it is missing, too large, damaged, or of no form that can be read without running it.
    """
    path = Path(path)
    data = read_input(path, limit=FILE_LIMIT) if written is None else written.main
    return _read_own(path, data, written) or _open_foreign(path, data)


def find_artifact(path: str | Path) -> Artifact | None:
    """Open a file that golfpack made; None for any other.

    Raises:
        InputError: it is missing, too large or damaged.
    """
    return _read_own(Path(path), read_input(path, limit=FILE_LIMIT))


def _read_own(path: Path, data: bytes, written: Written | None = None) -> Artifact | None:
    def open_beside(name: str) -> bytes:
        if written is None:
            return read_input(path.resolve().parent / name, limit=FILE_LIMIT)
        return written.beside[name]

    try:
        for name, carrier in carriers.REGISTRY.items():
            found = carrier.read(data, open_beside)
            if found is not None:
                return _open(path, len(data), name, found)
        if data.startswith(MAGIC[:3]):  # which an archive without header comment begins with, too
            cargo = Cargo(b"", data, "", "", "", "")
            return Artifact(path, len(data), "payload", cargo, 0, len(data), (), "", "", "", "", read_manifest(data))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{path}: its code is nested too deeply to read") from error
    if claims_golfpack(data):
        raise InputError(f"{path} is an artifact that was changed or damaged: it is not what golfpack writes, byte for byte")
    return None


def claims_golfpack(data: bytes) -> bool:
    """Whether a file says that golfpack made it, be it intact or not."""
    return _CLAIMS.search(data) is not None


def _open(path: Path, size: int, carrier: str, found: ReadBack) -> Artifact:
    cargo = found.cargo
    program = COMPRESSORS[cargo.compressor].decompress(cargo.program)
    try:
        text = program.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"the artifact's code is not UTF-8 text: {error}") from error
    check_tokens(text)
    tree = parse(program, f"packed in {path}")
    _check_names(tree, cargo)
    if cargo.header:
        check_header(cargo.header, cargo.payload, len(cargo.program))
    tree, loader = restore_import(tree, cargo.payload_name)
    if cargo.payload is not None and loader is None:
        raise InputError("the payload has no loader in the code")
    return Artifact(
        path,
        size + (found.payload_size if found.beside else 0),
        carrier,
        cargo,
        found.program_size,
        found.payload_size,
        tuple(path.resolve().parent / name for name in found.beside),
        text,
        print_short(tree) if loader else text,
        readable(tree),
        readable(ast.Module([loader], [])) if loader else "",
        read_manifest(cargo.payload) if cargo.payload is not None else None,
        carried_files(tree),
    )


def _check_names(tree: ast.Module, cargo: Cargo) -> None:
    """That the bootstrap's variables are those that the program leaves free: others could take something's place."""
    names = free_names(tree, cargo.payload_name)
    found = (cargo.payload_name or names[0], cargo.program_name, cargo.scratch_name or names[2])
    if found != names:
        raise InputError(f"its bootstrap uses the names {', '.join(found)} where golfpack uses {', '.join(names)}")


def _open_foreign(path: Path, data: bytes) -> Artifact:
    """A self-extracting file that another tool made."""
    foreign = read_foreign(data, path)
    try:
        source = foreign.source.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: what it executes is not UTF-8 text: {error}") from error
    cargo = Cargo(b"", None, "", "", "", "", "")
    return Artifact(path, len(data), "foreign", cargo, 0, 0, (), source, source, source, "", None, foreign=foreign)


def readable(tree: ast.Module) -> str:
    """Source text for people; where Python's own unparser can't express an f-string, the minifier's text."""
    try:
        return ast.unparse(tree) + "\n"
    except ValueError:
        return python_minifier.unparse(tree) + "\n"
