"""What is in an artifact, byte by byte; nothing is executed."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from generator import codecs, dequantizers
from generator.audit.artifact import Artifact, read_artifact
from generator.audit.foreign import Foreign
from generator.compressors import REGISTRY as COMPRESSORS
from generator.payload import CHECKSUM_BYTES, HEADER_BYTES, Manifest, decode_streams
from runtime_stub.split import Array

BLOCK = 1 << 20  # elements that are counted at a time; bincount makes 64 bits of each


@dataclass(frozen=True)
class Part:
    """A share of the file. The parts' bytes add up to the file's size."""

    name: str
    bytes: int


@dataclass(frozen=True)
class TensorShare:
    """One stored tensor and its share of the payload.

    `bytes` is exact when the tensor has a stream of its own; within a shared stream the size is apportioned by the order-0
    entropy of the arrays.
    """

    names: list[str]
    shape: list[int]
    dtype: str
    quantizer: str
    codecs: list[str]
    bytes: int
    bits_per_element: float
    zero_rows: int  # rows, along the last dimension, of integers that are all zero


@dataclass(frozen=True)
class Inspection:
    """Everything that `golfpack inspect` prints."""

    file: str
    size: int
    carrier: str
    header: str
    compressor: str  # of the program
    requires: list[str]  # modules beyond the standard library that the loader needs
    parts: list[Part]
    tensors: list[TensorShare]
    program_bytes: int  # decompressed
    code_bytes: int  # as the challenge counts them: the main file's
    model_bytes: int  # likewise, those of the weights' file beside it; 0 where the main file holds all
    notes: list[str] = field(default_factory=list)  # what a build has to say about the script, or a reader about a foreign file

    @property
    def wrapper_bytes(self) -> int:
        """Everything in the file that is not payload: header, bootstrap, loader and script, as they stand in the file."""
        return sum(part.bytes for part in self.parts if not part.name.startswith("payload"))

    @property
    def payload_bytes(self) -> int:
        """The payload, as it stands in the file, or beside it."""
        return self.size - self.wrapper_bytes

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "wrapper_bytes": self.wrapper_bytes, "payload_bytes": self.payload_bytes}


def inspect(path: str | Path) -> Inspection:
    """List what is in an artifact or payload file.

    Raises:
        InputError: the file is missing, not golfpack's, or damaged.
    """
    return inspect_artifact(read_artifact(path))


def inspect_artifact(artifact: Artifact) -> Inspection:
    """List what is in an opened artifact."""
    model = artifact.payload_size if artifact.beside or artifact.carrier == "payload" else 0
    return Inspection(
        str(artifact.path),
        artifact.size,
        artifact.carrier,
        artifact.cargo.header,
        _compressor(artifact),
        _requires(artifact),
        _parts(artifact),
        _tensors(artifact),
        len(artifact.program.encode()),
        artifact.size - model,
        model,
        list(artifact.foreign.others) if artifact.foreign is not None else [],
    )


def _compressor(artifact: Artifact) -> str:
    if artifact.foreign is not None:
        return " → ".join(layer.name for layer in artifact.foreign.layers[1:])
    return artifact.cargo.compressor if artifact.program else ""


def _requires(artifact: Artifact) -> list[str]:
    modules = set(COMPRESSORS[artifact.cargo.compressor].requires) if artifact.cargo.program else set()
    if artifact.manifest is not None:
        modules |= _modules(artifact.manifest)
    return [*sorted(modules), *(["numpy", "torch"] if artifact.manifest else [])]


def _modules(manifest: Manifest) -> set[str]:
    """Modules that the decoders of a payload need."""
    ids = {name for stream in manifest.streams for name in stream.ids}
    return {module for name in ids if name in codecs.REGISTRY for module in codecs.REGISTRY[name].requires}


def _parts(artifact: Artifact) -> list[Part]:
    program, payload, manifest = artifact.cargo.program, artifact.cargo.payload, artifact.manifest
    carrier = artifact.carrier
    if artifact.foreign is not None:
        return _foreign_parts(artifact.foreign, artifact.size)
    parts = []
    if program:
        # Script and loader are compressed together; the loader's share is what the whole takes more than the script alone.
        compressor = COMPRESSORS[artifact.cargo.compressor]
        loader = len(program) - len(compressor.compress(artifact.script.encode())) if artifact.loader else 0
        parts += [
            Part("header and bootstrap", artifact.size - artifact.program_size - artifact.payload_size),
            Part("script", len(program) - loader),
            *([Part("loader", loader)] if artifact.loader else []),
            Part(f"{carrier} overhead of the code", artifact.program_size - len(program)),
        ]
    if payload is not None and manifest is not None:
        parts.append(Part("payload: manifest and frame", manifest.coded_size + HEADER_BYTES + CHECKSUM_BYTES))
        sizes: Counter[str] = Counter()
        for stream in manifest.streams:
            sizes[str(stream)] += stream.size
        parts += [Part(f"payload: {codec} streams", size) for codec, size in sorted(sizes.items())]
        if program:
            parts.append(Part(f"payload: {carrier} overhead", artifact.payload_size - len(payload)))
    return parts


def _foreign_parts(foreign: Foreign, size: int) -> list[Part]:
    """The compressed program, what its text costs, and what is around it."""
    literal = foreign.layers[0].size
    decoded = foreign.layers[1]
    packed = decoded.size if decoded.name.split(".")[0] in {"base64", "binascii", "bytes"} else literal
    parts = [Part("around the literal", size - literal), Part("compressed code", packed)]
    return [*parts, Part(f"overhead of {decoded.name}", literal - packed)] if packed != literal else parts


def _tensors(artifact: Artifact) -> list[TensorShare]:
    if artifact.manifest is None or artifact.cargo.payload is None:
        return []
    streams = artifact.manifest.streams
    arrays = decode_streams(artifact.cargo.payload, artifact.manifest)
    entropies = [[_entropy_bits(array) for array in stream] for stream in arrays]
    shares = []
    for tensor, places in artifact.manifest.arrays_of():
        size = 0.0
        for stream, index in places:
            total = sum(entropies[stream])
            portion = entropies[stream][index] / total if total else 1 / len(arrays[stream])
            size += portion * streams[stream].size
        elements = arrays[places[0][0]][places[0][1]]
        shares.append(
            TensorShare(
                tensor.names,
                list(elements.shape),
                tensor.dtype,
                dequantizers.REGISTRY[tensor.dequantizer].shown(tensor.stored, elements),
                [str(streams[stream]) for stream, _ in places],
                round(size),
                8 * size / elements.size if elements.size else 0.0,
                int((~elements.any(-1)).sum()) if tensor.dequantizer != "keep" and elements.ndim > 1 else 0,
            )
        )
    return shares


def _entropy_bits(array: Array) -> float:
    """Order-0 entropy of the array's elements, in bits for the whole array."""
    if array.dtype.kind in "iu" and array.itemsize <= 2:  # most arrays; sorting takes many times as long
        symbols = array.ravel().view(f"<u{array.itemsize}")
        counts = np.zeros(1 << 8 * array.itemsize, "i8")
        for start in range(0, len(symbols), BLOCK):
            counts += np.bincount(symbols[start : start + BLOCK], minlength=len(counts))
        counts = counts[counts > 0]
    else:
        _, counts = np.unique(array, return_counts=True)
    return float(-(counts * np.log2(counts / counts.sum())).sum()) if array.size else 0.0
