"""Payloads and artifacts of format version 1, kept in `tests/golden/version_1.json`, read as they did when it was written."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import generator
from generator.errors import InputError
from generator.payload import version_1

OLD: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "version_1.json").read_text())


def digests(state_dict: dict[str, torch.Tensor]) -> dict[str, list[Any]]:
    result = {}
    for name, tensor in state_dict.items():
        octets = tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        digest = hashlib.sha256(octets).hexdigest()[:16] if octets else ""
        result[name] = [str(tensor.dtype), list(tensor.shape), digest]
    return result


def test_every_codec_of_version_1_is_kept() -> None:
    coded = {"zstd with a dictionary": "zstd"}
    ids = {coded.get(name, name.split(",")[0].split(" ")[0]) for name in OLD["streams"]}
    assert ids == version_1.DECODERS.keys()


@pytest.mark.parametrize("name", OLD["payloads"])
def test_payloads(name: str, tmp_path: Path) -> None:
    data = base64.b85decode(OLD["payloads"][name]["payload"])
    assert data[:4] == b"GPK\x01"
    assert digests(generator.decode_payload(data)) == OLD["payloads"][name]["tensors"]
    path = tmp_path / "model.gpk"
    path.write_bytes(data)
    inspection = generator.inspect(path)
    assert sum(part.bytes for part in inspection.parts) == len(data)
    assert {codec for tensor in inspection.tensors for codec in tensor.codecs} <= version_1.DECODERS.keys()
    assert generator.verify(path).passed


@pytest.mark.parametrize("carrier", OLD["artifacts"])
def test_artifacts(carrier: str, tmp_path: Path) -> None:
    for file, text in OLD["artifacts"][carrier]["files"].items():
        (tmp_path / file).write_bytes(base64.b85decode(text))
    path = tmp_path / "train_gpt.py"
    assert generator.inspect(path).carrier == carrier
    assert digests(generator.unpack(path, tmp_path / "out").state_dict) == OLD["artifacts"][carrier]["tensors"]
    verification = generator.verify(path, run=True)
    assert verification.passed, verification
    assert len(verification.output.splitlines()) == len(OLD["artifacts"][carrier]["tensors"])


@pytest.mark.parametrize("name", OLD["streams"])
def test_streams_are_checked_and_any_damage_is_an_error_or_other_numbers(name: str) -> None:
    """Options that are off by one, or missing, never bring more than a ValueError before decoding."""
    old = OLD["streams"][name]
    codec = {"zstd with a dictionary": "zstd"}.get(name, name.split(",")[0].split(" ")[0])
    data = base64.b85decode(old["data"])
    for options in ([], [*old["options"], 0], [None], [[], [], []]):
        if options == old["options"] or (codec == "zstd" and not options):
            continue
        manifest = [[[codec, len(data), [["|i1", [5, 7]]], *options]], [[["w"], "keep", "int8", "int8", 0]]]
        with pytest.raises(ValueError, match="stream"):
            version_1.parse_manifest(json.dumps(manifest).encode(), 1000)


def test_an_unknown_codec_of_version_1_is_named() -> None:
    with pytest.raises(ValueError, match="unknown codec 'center'"):
        version_1.parse_manifest(b'[[["center", 1, [["|i1", [1]]]]], []]', 1000)


def test_other_versions_are_refused() -> None:
    for version in (0, 3, 255):
        with pytest.raises(InputError, match=f"format version {version}; known here: 1 and 2"):
            generator.decode_payload(b"GPK" + bytes([version]) + bytes(20))
