"""Payloads: the bytes of all coded tensors, written and read with every field checked. docs/FORMAT.md has the bytes."""

from generator.payload.container import (
    CHECKSUM_BYTES,
    HEADER_BYTES,
    Payload,
    check_decodes_to,
    decode_payload,
    decode_streams,
    read_manifest,
    same_bits,
    write_payload,
)
from generator.payload.manifest import Manifest, StoredTensor, Stream

__all__ = [
    "CHECKSUM_BYTES",
    "HEADER_BYTES",
    "Manifest",
    "Payload",
    "StoredTensor",
    "Stream",
    "check_decodes_to",
    "decode_payload",
    "decode_streams",
    "read_manifest",
    "same_bits",
    "write_payload",
]
