"""Safetensors files of float32, written and read a tensor at a time: no more of them is in memory than is being used.

The format: https://huggingface.co/docs/safetensors. The library's own writer makes a copy of all tensors at once, and its
reader maps the file into memory, where a file that becomes shorter ends the process.
"""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from generator.errors import InputError
from generator.files import write_atomically

ALIGNMENT = 8  # of the first tensor in the file


def write_tensors(
    path: str | Path, shapes: Mapping[str, Sequence[int]], read: Callable[[str], Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a file, whole or not at all.

    Args:
        path: the output.
        shapes: of each tensor; they are written in the order of their names.
        read: gives a tensor of float32 by its name, and is asked for each once.
        metadata: of the file.

    Raises:
        InputError: as `write_atomically`.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in sorted(shapes):
        start, end = end, end + 4 * math.prod(shapes[name])
        header[name] = {"dtype": "F32", "shape": list(shapes[name]), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)

    def chunks() -> Iterator[bytes]:
        yield len(text).to_bytes(8, "little") + text
        for name in sorted(shapes):
            yield read(name).detach().cpu().contiguous().numpy().astype("<f4", copy=False).tobytes()

    write_atomically(path, chunks())


class TensorFile(Mapping[str, Tensor]):
    """The tensors of a file, each read anew when it is asked for.

    The file stays open: it may be replaced by another without harm.

    Attributes:
        path: the file's.
        metadata: the file's.
        shapes: of each tensor.
        dtypes: of each tensor, as the format names them.
    """

    def __init__(self, path: Path):
        """Open a file.

        Raises:
            OSError, SafetensorError, ValueError: it can't be read, or is none of this format.
        """
        with safe_open(path, framework="np") as file:  # which checks that names, shapes and places fit together
            self.metadata: dict[str, str] = file.metadata() or {}
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._descriptor)
        size = int.from_bytes(os.pread(self._descriptor, 8, 0), "little")
        header = json.loads(os.pread(self._descriptor, size, 8))
        header.pop("__metadata__", None)
        self.shapes: dict[str, tuple[int, ...]] = {name: tuple(entry["shape"]) for name, entry in header.items()}
        self.dtypes: dict[str, str] = {name: entry["dtype"] for name, entry in header.items()}
        self._places = {name: [8 + size + offset for offset in entry["data_offsets"]] for name, entry in header.items()}

    def __getitem__(self, name: str) -> Tensor:
        """A tensor of float32.

        Raises:
            KeyError: there is none of this name.
            InputError: it can't be read any more.
        """
        start, end = self._places[name]
        data = bytearray()
        while start + len(data) < end:
            more = os.pread(self._descriptor, end - start - len(data), start + len(data))
            if not more:
                raise InputError(f"{self.path} has become shorter while it was read")
            data += more
        return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32, copy=False)).reshape(self.shapes[name])

    def __contains__(self, name: object) -> bool:
        return name in self.shapes

    def __iter__(self) -> Iterator[str]:
        return iter(self.shapes)

    def __len__(self) -> int:
        return len(self.shapes)
