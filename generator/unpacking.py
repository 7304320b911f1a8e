"""Extraction of weights and source; nothing is executed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from generator.artifact import read_artifact
from generator.errors import InputError
from generator.files import write_atomically
from generator.payload import decode_payload


@dataclass(frozen=True)
class Unpacked:
    """What was extracted.

    Attributes:
        state_dict: the weights, bit for bit what the packed file loads; empty for code only.
        source: the script, readable, with the import of `load_state_dict` restored; "" for a bare payload.
        files: what was written, in order.
    """

    state_dict: dict[str, Tensor]
    source: str
    files: list[Path]


def unpack(path: str | Path, output: str | Path | None = None) -> Unpacked:
    """Extract an artifact (or a payload file).

    Args:
        path: the file.
        output: folder for weights.safetensors, payload.gpk, source.py and loader.py, as far as there are any; None to write
            nothing.

    Raises:
        InputError: the file is missing, not golfpack's or damaged, or the folder can't be written.
    """
    artifact = read_artifact(path)
    payload = artifact.parts.payload
    state_dict = decode_payload(payload) if payload is not None else {}
    contents: dict[str, bytes] = {}
    if output is not None and payload is not None:
        try:
            contents["weights.safetensors"] = save(state_dict)
        except (SafetensorError, KeyError, ValueError) as error:
            raise InputError(f"{path}: the weights can't be written as safetensors: {error}") from error
        contents["payload.gpk"] = payload
    if artifact.source:
        contents["source.py"] = artifact.source.encode()
    if artifact.loader:
        contents["loader.py"] = artifact.loader.encode()
    files = []
    if output is not None:
        for name, data in contents.items():
            write_atomically(Path(output) / name, data)
            files.append(Path(output) / name)
    return Unpacked(state_dict, artifact.source, files)
