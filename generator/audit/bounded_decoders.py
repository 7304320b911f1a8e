"""Decoders of text and compressed data with a limit on what they may give, for data that nobody vouches for."""

from __future__ import annotations

import base64
import binascii
import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from generator.carriers.base85 import decode_ascii85

VALUE_LIMIT = 2**25  # bytes that any decoder may give
ASCII85_LIMIT = 2**20  # characters; the standard library's decoder takes seconds and a multiple of the memory for more
_B85_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"  # RFC 1924
_B85_DIGITS = np.full(256, 255, "u1")
_B85_DIGITS[np.frombuffer(_B85_ALPHABET, "u1")] = np.arange(85)


class RefusedError(Exception):
    """What is not decoded or evaluated, and why."""


def bounded(value: bytes, finished: bool = True) -> bytes:
    if len(value) > VALUE_LIMIT:
        raise RefusedError(f"it decompresses to more than {VALUE_LIMIT:,} bytes")
    if not finished:
        raise RefusedError("its compressed data is truncated")
    return value


def _octets(data: Any) -> bytes:
    """Bytes as they are; bytes(number) would make as many zeros."""
    if not isinstance(data, bytes):
        raise TypeError(f"bytes are needed, not {type(data).__name__}")
    return data


def _b85(data: Any) -> bytes:
    """The same as base64.b85decode, which takes thirty times the text's size in memory."""
    text = data.encode("ascii") if isinstance(data, str) else _octets(data)
    digits = _B85_DIGITS[np.frombuffer(text + b"~" * (-len(text) % 5), "u1")].reshape(-1, 5)
    if digits.max(initial=0) > 84:
        raise ValueError("bad base85 character")
    words = np.zeros(len(digits), "u8")
    for place in range(5):
        words *= 85
        words += digits[:, place]
    if words.max(initial=0) >> 32:
        raise ValueError("base85 overflow")
    return words.astype(">u4").tobytes()[: len(text) - -(-len(text) // 5)]


def _a85(data: Any, **options: Any) -> bytes:
    """The same as base64.a85decode, but long texts may not be abbreviated or broken into lines."""
    if len(data) <= ASCII85_LIMIT:
        return base64.a85decode(data, **options)
    if options:
        raise RefusedError(f"Ascii85 with options is read up to {ASCII85_LIMIT:,} characters")
    return decode_ascii85(data.encode("ascii") if isinstance(data, str) else _octets(data))


def _lzma(data: Any, format: int = lzma.FORMAT_AUTO, memlimit: Any = None, filters: Any = None) -> bytes:
    """Any container; one stream (concatenated ones are rare, and what follows is noticed as missing)."""
    if not isinstance(filters, list | tuple | None):
        raise RefusedError("its LZMA filters are no list")
    for item in filters or []:
        if not isinstance(item, dict) or not all(isinstance(key, str) for key in item):
            raise RefusedError("its LZMA filters are not dictionaries")
        if not 0 <= int(item.get("dict_size", 0)) <= VALUE_LIMIT * 4:
            raise RefusedError("its LZMA dictionary is too large")
    # A preset of up to 64 MiB of dictionary is used where a filter names none.
    limit = None if format == lzma.FORMAT_RAW else 4 * VALUE_LIMIT
    decompressor = lzma.LZMADecompressor(format, memlimit=limit, filters=filters)
    value = decompressor.decompress(_octets(data), VALUE_LIMIT + 1)
    # A raw LZMA1 stream may end without saying so.
    return bounded(value, decompressor.eof or format == lzma.FORMAT_RAW)


def _zlib(data: Any, wbits: int = zlib.MAX_WBITS, bufsize: int = 0) -> bytes:
    decompressor = zlib.decompressobj(wbits)
    value = decompressor.decompress(_octets(data), VALUE_LIMIT + 1)
    return bounded(value, decompressor.eof)


def _gzip(data: Any) -> bytes:
    return _zlib(data, 31)


def _bz2(data: Any) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    value = decompressor.decompress(_octets(data), VALUE_LIMIT + 1)
    return bounded(value, decompressor.eof)


def _brotli(data: Any) -> bytes:
    try:
        import brotli
    except ImportError as error:
        raise RefusedError("brotli data needs its package: pip install brotli") from error
    decompressor = brotli.Decompressor()
    value = bytearray()
    try:
        value += decompressor.process(_octets(data), output_buffer_limit=VALUE_LIMIT + 1)
        while not decompressor.is_finished() and len(value) <= VALUE_LIMIT:
            more = decompressor.process(b"", output_buffer_limit=VALUE_LIMIT + 1 - len(value))
            if not more:
                break
            value += more
    except brotli.error as error:
        raise RefusedError(f"its brotli data is damaged: {error}") from error
    return bounded(bytes(value), decompressor.is_finished())


def _decode(value: Any, encoding: str = "utf-8", errors: str = "strict") -> str:
    return _octets(value).decode(text_encoding(encoding), errors)


def _encode(value: Any, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"a string is needed, not {type(value).__name__}")
    return value.encode(text_encoding(encoding), errors)


def text_encoding(encoding: Any) -> str:
    """The name of an encoding, if it is one that takes linear time and memory.

    Raises:
        RefusedError: it is not.
    """
    if not isinstance(encoding, str) or encoding.lower().replace("_", "-") not in _TEXT_ENCODINGS:
        raise RefusedError(f"the encoding {ascii(encoding)[:40]} is not known")
    return encoding


_TEXT_ENCODINGS = frozenset({"utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1", "cp437", "cp1252"})
DECODERS: dict[str, Callable[..., Any]] = {
    "base64.b85decode": _b85,
    "base64.a85decode": _a85,
    "base64.b64decode": base64.b64decode,
    "base64.standard_b64decode": base64.standard_b64decode,
    "base64.urlsafe_b64decode": base64.urlsafe_b64decode,
    "base64.decodebytes": base64.decodebytes,
    "base64.b32decode": base64.b32decode,
    "base64.b16decode": base64.b16decode,
    "binascii.a2b_base64": binascii.a2b_base64,
    "binascii.unhexlify": binascii.unhexlify,
    "binascii.a2b_hex": binascii.a2b_hex,
    "bytes.fromhex": bytes.fromhex,
    "lzma.decompress": _lzma,
    "zlib.decompress": _zlib,
    "gzip.decompress": _gzip,
    "bz2.decompress": _bz2,
    "brotli.decompress": _brotli,
    "str": _decode,
}
METHODS: dict[str, Callable[..., Any]] = {"decode": _decode, "encode": _encode}
UNCOUNTED = frozenset({"decode", "encode", "str"})
