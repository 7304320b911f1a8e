"""The decoders that golfpack inlines into an artifact, importable as they stand during development.

A training script writes

    from runtime_stub import load_state_dict
    model.load_state_dict(load_state_dict())

Unpacked, that reads the payload file named by the environment variable GOLFPACK_PAYLOAD. Packed, golfpack replaces the
import by the inlined loader.
"""

import os
import pathlib
import sys
import typing

if typing.TYPE_CHECKING:
    import torch

__all__ = ["load_state_dict", "read_file"]


def load_state_dict() -> "dict[str, torch.Tensor]":
    """All tensors of the payload named by GOLFPACK_PAYLOAD, bit for bit what the packed script would load.

    Raises:
        RuntimeError: the variable is unset, or the file is missing, not a payload, or damaged.
    """
    from runtime_stub import payload, registry, tensors

    path = os.environ.get("GOLFPACK_PAYLOAD")
    if not path:
        raise RuntimeError(
            "this script is not packed: set GOLFPACK_PAYLOAD to a payload file, which "
            "`golfpack encode CHECKPOINT -o model.gpk` makes from a checkpoint"
        )
    try:
        data = pathlib.Path(path).read_bytes()
    except OSError as error:
        raise RuntimeError(f"GOLFPACK_PAYLOAD names {path}, which cannot be read: {error.strerror}") from error
    if not data.startswith(payload.MAGIC):
        raise RuntimeError(f"GOLFPACK_PAYLOAD names {path}, which is not a golfpack payload of a version known here")
    if not payload.is_intact(data):
        raise RuntimeError(f"GOLFPACK_PAYLOAD names {path}, which is damaged: its checksum does not match")
    return tensors.make_tensors(payload.read_payload(data, registry.DECODERS, registry.DEQUANTIZERS))


def read_file(name: str) -> bytes:
    """A data file that `golfpack build --include FILE` carries in the artifact.

    Unpacked, the file is read from the folder of the script that runs; packed, from the artifact, without writing to disk.

    Args:
        name: the file's path relative to the script's folder.

    Raises:
        FileNotFoundError: there is no such file.
    """
    script = getattr(sys.modules["__main__"], "__file__", None)
    return pathlib.Path(script or ".").resolve().parent.joinpath(name).read_bytes()
