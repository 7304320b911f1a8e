"""Reading checkpoint files: safetensors, torch, npz. Nothing in them is executed, and what they expand to is bounded."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from generator.errors import InputError
from generator.inputs import regular_file
from generator.visible import first_line

SUFFIXES = ".safetensors, .pt, .pth or .npz"
EXPANDED_LIMIT = 2**30  # bytes that an archive may always expand to
EXPANSION = 64  # times an archive's own size that it may expand to, beyond that


def read_checkpoint_file(path: str | Path) -> Any:
    """What a checkpoint file holds: a mapping of names to tensors or arrays, if it is a good one.

    Raises:
        InputError: the file is missing, no ordinary file, unreadable, damaged, or of another kind.
    """
    path = regular_file(path, "checkpoint", SUFFIXES)
    suffix = path.suffix.lower()
    readers: dict[str, Callable[[Path], Any]] = {
        ".safetensors": load_file,
        ".pt": _read_torch,
        ".pth": _read_torch,
        ".npz": _read_npz,
    }
    kinds = {".safetensors": "complete safetensors", ".npz": "readable .npz"}
    if suffix not in readers:
        raise InputError(f"checkpoint {path} has an unknown suffix {suffix!r}; golfpack reads {SUFFIXES} files")
    try:
        return readers[suffix](path)
    except InputError:
        raise
    except PermissionError as error:
        raise InputError(f"checkpoint {path} cannot be read: {error.strerror}") from error
    except MemoryError as error:
        raise InputError(f"checkpoint {path} does not fit in memory") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"checkpoint {path} is not a plain state dict: it holds pickled code or objects, which golfpack "
            "refuses to load; save model.state_dict() alone with torch.save or safetensors"
        ) from error
    except Exception as error:  # whatever the library that reads the format raises on damaged data
        kind = kinds.get(suffix, "readable torch")
        raise InputError(f"checkpoint {path} is not a {kind} file: {first_line(error)}") from error


def _read_torch(path: Path) -> Any:
    if zipfile.is_zipfile(path):
        _check_expansion(path)
    elif _begins(path, b"PK\x03\x04"):
        raise InputError(
            f"checkpoint {path} is not a readable torch file: it is truncated, the zip directory at its end is missing"
        )
    with warnings.catch_warnings():  # of odd pickles: what can't be loaded is an error, and the rest is none
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_npz(path: Path) -> dict[str, Any]:
    if _begins(path, b"\x93NUMPY"):
        raise InputError(f"checkpoint {path} is a single array without a name (.npy), not an .npz file; use np.savez")
    _check_expansion(path)
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, Any] = {}
        for name in archive.files:
            if name in arrays:
                raise InputError(f"checkpoint {path} holds two arrays of the name {name!r}")
            arrays[name] = archive[name]
            if not isinstance(arrays[name], np.ndarray):
                raise InputError(f"checkpoint {path} holds {name!r}, which is not an array; remove it")
    return arrays


def _begins(path: Path, magic: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(magic)) == magic


def _check_expansion(path: Path) -> None:
    """That no member of an archive expands beyond measure."""
    with zipfile.ZipFile(path) as archive:
        expanded = sum(member.file_size for member in archive.infolist())
    size = path.stat().st_size
    if expanded > max(EXPANDED_LIMIT, EXPANSION * size):
        raise InputError(
            f"checkpoint {path} has {size:,} bytes and declares {expanded:,} when expanded; golfpack expands at most "
            f"{EXPANSION} times, or {EXPANDED_LIMIT:,} bytes"
        )
