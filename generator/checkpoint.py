"""Checkpoints: from a file or a state dict in memory to named tensors, each distinct one once."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from generator.errors import InputError

SUFFIXES = ".safetensors, .pt, .pth or .npz"


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
        key: dotted path to the state dict inside a nested .pt file, for instance "model".

    Raises:
        InputError: the file is missing, unreadable, of another kind, or holds something that is not a tensor.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"checkpoint {path} does not exist")
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not a file; give a {SUFFIXES} file")
    try:
        state_dict = _read(path)
    except (OSError, MemoryError) as error:
        raise InputError(f"checkpoint {path} cannot be read: {error}") from error
    return from_state_dict(_select(state_dict, key, path), where=f"checkpoint {path}")


def from_state_dict(state_dict: Mapping[str, Any], where: str = "the state dict") -> Checkpoint:
    """A checkpoint of tensors in memory; tensors of equal dtype, shape and bytes (tied ones among them) count once.

    Raises:
        InputError: a value is not a dense tensor, or a name is not a string.
    """
    tensors: dict[str, Tensor] = {}
    names: dict[str, list[str]] = {}
    first_names: dict[tuple[torch.dtype, torch.Size, bytes], str] = {}
    for name, value in state_dict.items():
        tensor = _dense(name, value, where)
        identity = (tensor.dtype, tensor.shape, hashlib.sha256(tensor_bytes(tensor)).digest())
        first = first_names.setdefault(identity, name)
        if first == name:
            tensors[name] = tensor
            names[name] = []
        names[first].append(name)
    if not tensors:
        raise InputError(f"{where} holds no tensors")
    return Checkpoint(tensors, names)


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The elements' bytes in C order, of a contiguous tensor on the CPU."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, ValueError, KeyError) as error:
            raise InputError(f"checkpoint {path} is not a complete safetensors file: {error}") from error
    if suffix in {".pt", ".pth"}:
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise InputError(
                f"checkpoint {path} is not a plain state dict: it holds pickled code or objects, which golfpack "
                "refuses to load; save model.state_dict() alone with torch.save or safetensors"
            ) from error
        except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"checkpoint {path} is not a readable torch file: {_first_line(error)}") from error
    if suffix == ".npz":
        return _read_npz(path)
    raise InputError(f"checkpoint {path} has an unknown suffix {suffix!r}; golfpack reads {SUFFIXES} files")


def _read_npz(path: Path) -> dict[str, Tensor]:
    tensors = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            for name in archive.files:
                array = archive[name]
                native = array.astype(array.dtype.newbyteorder("="), order="C", copy=True)
                try:
                    tensors[name] = torch.from_numpy(native)
                except TypeError as error:
                    raise InputError(
                        f"array {name!r} of {path} has dtype {array.dtype}, which torch has no equal of"
                    ) from error
    except InputError:
        raise
    except (ValueError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        raise InputError(f"checkpoint {path} is not a readable .npz file: {_first_line(error)}") from error
    return tensors


def _select(loaded: Any, key: str | None, path: Path) -> Mapping[str, Any]:
    """The state dict inside what a file held: the value at `key`, or the whole."""
    at = ""
    for part in key.split(".") if key else []:
        if not isinstance(loaded, Mapping) or part not in loaded:
            known = ", ".join(map(str, loaded)) if isinstance(loaded, Mapping) else "none"
            raise InputError(f"checkpoint {path} has no key {part!r}{at}; keys there: {known[:300]}")
        loaded = loaded[part]
        at = f" under {key!r}"
    if isinstance(loaded, Tensor):
        raise InputError(f"checkpoint {path} holds a single tensor{at}, not a state dict of named tensors")
    if not isinstance(loaded, Mapping):
        raise InputError(f"checkpoint {path} holds a {type(loaded).__name__}{at}, not a state dict of named tensors")
    if not all(isinstance(value, Tensor) for value in loaded.values()):
        nested = [str(name) for name, value in loaded.items() if _is_state_dict(value)]
        if nested:
            prefix = f"{key}." if key else ""
            raise InputError(f"checkpoint {path} is nested; choose a state dict with --key {prefix}{nested[0]}")
    return loaded


def _is_state_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and any(isinstance(item, Tensor) for item in value.values())


def _dense(name: Any, value: Any, where: str) -> Tensor:
    if not isinstance(name, str):
        raise InputError(f"{where} has a key {name!r} that is not a string")
    if isinstance(value, np.ndarray | np.generic):
        value = torch.from_numpy(np.array(value))
    if not isinstance(value, Tensor):
        raise InputError(f"entry {name!r} of {where} is a {type(value).__name__}, not a tensor; remove it")
    if value.layout != torch.strided or value.is_quantized or value.device.type == "meta":
        raise InputError(f"tensor {name!r} of {where} is not a dense tensor with data; convert it before saving")
    return value.detach().cpu().resolve_conj().resolve_neg().contiguous()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
