"""Checkpoints: from a file or a state dict in memory to named tensors, each distinct one once."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from generator.errors import InputError
from generator.visible import shown
from generator.weights.checkpoint_files import read_checkpoint_file
from generator.weights.dense import DenseTensors
from runtime_stub.payload import MANIFEST_LIMIT

NESTING = 6  # levels of a nested checkpoint in which a state dict is looked for


@dataclass(frozen=True)
class Checkpoint:
    """Distinct tensors by their first name, in the order of the state dict, and every name that each one goes by."""

    tensors: dict[str, Tensor]
    names: dict[str, list[str]]  # first name → all names, itself included

    @property
    def elements(self) -> int:
        """Number of distinct elements."""
        return sum(tensor.numel() for tensor in self.tensors.values())


def load_checkpoint(path: str | Path, key: str | None = None) -> Checkpoint:
    """Read a checkpoint file.

    Args:
        path: a .safetensors, .pt, .pth (read with `weights_only=True`) or .npz file.
        key: dotted path to the state dict inside a nested .pt file, for instance "model"; keys may hold dots themselves.

    Raises:
        InputError: the file is missing, unreadable, of another kind, or holds something that is not a tensor.
    """
    where = f"checkpoint {path}"
    return from_state_dict(select_state_dict(read_checkpoint_file(path), key, where), where)


def from_state_dict(state_dict: Mapping[str, Any], where: str = "the state dict") -> Checkpoint:
    """A checkpoint of tensors in memory; tensors of equal dtype, shape and bytes (tied ones among them) count once.

    Raises:
        InputError: a value is not a dense tensor that the format can hold, or a name is not a usable string.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[str, list[str]] = {}
    first_names: dict[tuple[torch.dtype, torch.Size, bytes], str] = {}
    dense = DenseTensors(where)
    for name, value in state_dict.items():
        tensor = dense.convert(name, value)
        identity = (tensor.dtype, tensor.shape, hashlib.sha256(tensor_bytes(tensor)).digest())
        first = first_names.setdefault(identity, name)
        if first == name:
            tensors[name] = tensor
            names[name] = []
        names[first].append(name)
    if not tensors:
        raise InputError(f"{where} holds no tensors")
    named = len(json.dumps(list(names.values()), separators=(",", ":"), ensure_ascii=False).encode())
    if named > MANIFEST_LIMIT:
        raise InputError(f"the tensors' names in {where} take {named:,} bytes; the format holds at most {MANIFEST_LIMIT:,}")
    return Checkpoint(tensors, names)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The elements' bytes in C order, of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def select_state_dict(loaded: Any, key: str | None, where: str) -> Mapping[str, Any]:
    """The state dict inside what a file held, or the caller: the value at the dotted path `key`, or the whole.

    Raises:
        InputError: there is no such key, or no state dict there; `where` says what it is looked for in.
    """
    at = ""
    if key:
        loaded = _descend(loaded, key, where)
        at = f" under {key!r}"
    if isinstance(loaded, Tensor):
        raise InputError(f"{where} holds a single tensor{at}, not a state dict of named tensors")
    if not isinstance(loaded, Mapping):
        raise InputError(f"{where} holds a {type(loaded).__name__}{at}, not a state dict of named tensors")
    if not _is_flat(loaded):
        nested = next(_state_dicts(loaded, key or ""), None)
        if nested is not None:
            raise InputError(f"{where} is nested; choose a state dict with --key {shlex.quote(nested)}")
    return loaded


def _descend(loaded: Any, key: str, where: str) -> Any:
    """The value at a dotted path; of the ways to read its dots, the first that leads anywhere, long keys first."""
    pending: list[tuple[Any, str, str | None]] = [(loaded, "", key)]
    deepest: tuple[Any, str, str] | None = None
    while pending:
        value, above, rest = pending.pop()
        if rest is None:
            return value
        if deepest is None or len(above) > len(deepest[1]):
            deepest = value, above, rest
        if isinstance(value, Mapping):
            # Keys may be numbers; they are given as text here.
            by_text = {shown_key(name): name for name in value}
            ends = [n for n, char in enumerate(rest) if char == "."] + [len(rest)]
            pending += [
                (value[by_text[rest[:end]]], f"{above}.{rest[:end]}".lstrip("."), rest[end + 1 :] if end < len(rest) else None)
                for end in ends
                if rest[:end] in by_text
            ]
    assert deepest is not None
    value, above, rest = deepest
    known = ", ".join(map(shown, value)) if isinstance(value, Mapping) else "none"
    under = f" under {above!r}" if above else ""
    raise InputError(f"{where} has no key {rest!r}{under}; keys there: {known[:300]}")


def shown_key(name: Any) -> str:
    """A key as it is written in --key."""
    return name if isinstance(name, str) else shown(name)


def _is_flat(value: Mapping[Any, Any]) -> bool:
    return all(isinstance(item, Tensor) or not isinstance(item, Mapping) for item in value.values())


def _state_dicts(value: Mapping[Any, Any], above: str, levels: int = NESTING) -> Iterator[str]:
    """Keys of mappings within that hold tensors, the uppermost first."""
    inner = [(f"{above}.{shown_key(name)}".lstrip("."), item) for name, item in value.items() if isinstance(item, Mapping)]
    yield from (path for path, item in inner if any(isinstance(one, Tensor) for one in item.values()))
    if levels:
        for path, item in inner:
            yield from _state_dicts(item, path, levels - 1)
