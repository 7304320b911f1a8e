"""Extraction of weights and source; nothing is executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from generator.audit.artifact import read_artifact
from generator.errors import InputError
from generator.files import check_output, write_atomically
from generator.payload import decode_payload

BUNDLE = "bundle"  # folder for modules and data files, away from the names that unpack gives


@dataclass(frozen=True)
class Unpacked:
    """What was extracted.

    Attributes:
        state_dict: the weights, bit for bit what the packed file loads; empty for code only.
        source: the script, readable, with the import of `load_state_dict` restored; "" for a bare payload.
        carried: modules and data files in the artifact, by path relative to the script's folder; `source` holds them too.
        files: what was written, in order.
        notes: what else a file of another tool does, one sentence for each statement that was not read.
    """

    state_dict: dict[str, Tensor]
    source: str
    carried: dict[str, bytes]
    files: list[Path]
    notes: list[str]


def unpack(path: str | Path, output: str | Path | None = None) -> Unpacked:
    """Extract an artifact (or a payload file).

    Args:
        path: the file.
        output: folder for weights.safetensors, payload.gpk, source.py, loader.py and what is carried, below bundle/, as far as
            there are any; None to write nothing.

    Raises:
        InputError: the file is missing, not golfpack's or damaged, or the folder can't be written.
    """
    artifact = read_artifact(path)
    payload = artifact.cargo.payload
    state_dict = decode_payload(payload) if payload is not None else {}
    contents: dict[str, bytes] = {}
    if output is not None and payload is not None:
        if "__metadata__" in state_dict:
            raise InputError(f"{path}: safetensors keeps the name '__metadata__' for itself, and a tensor here has it")
        try:
            contents["weights.safetensors"] = save(state_dict)
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path}: the weights can't be written as safetensors: {error}") from error
        contents["payload.gpk"] = payload
    if artifact.source:
        contents["source.py"] = artifact.source.encode()
    if artifact.loader:
        contents["loader.py"] = artifact.loader.encode()
    contents |= {f"{BUNDLE}/{name}": data for name, data in artifact.carried.items()}
    files = []
    if output is not None:
        for name in contents:
            _check_folders(Path(output), name)
            check_output(Path(output) / name, [path, *artifact.beside])
        for name, data in contents.items():
            write_atomically(Path(output) / name, data)
            files.append(Path(output) / name)
    notes = list(artifact.foreign.others) if artifact.foreign is not None else []
    return Unpacked(state_dict, artifact.source, artifact.carried, files, notes)


def _check_folders(output: Path, name: str) -> None:
    """That what lies in `output` already does not lead elsewhere."""
    path = output
    for part in Path(name).parts[:-1]:
        path /= part
        if path.is_symlink() or (path.exists() and not path.is_dir()):
            raise InputError(f"output {path} is there already, and is no folder of its own")
    path = output / name
    if path.is_dir():
        raise InputError(f"output {path} is there already, as a folder")
