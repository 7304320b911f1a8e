"""Ways to damage an artifact, and to forge a payload; benchmarks/hostile.py tries them."""

from __future__ import annotations

import json
import random
import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from generator.carriers import Written
from generator.codecs.lzma_raw import compress_raw
from generator.dequantizers import TORCH_DTYPES
from generator.payload import HEADER_BYTES, read_manifest
from generator.payload.manifest import ARRAY_DTYPES
from runtime_stub.lzma_raw import inflate_lzma
from runtime_stub.payload import MAGIC, MANIFEST_LIMIT
from runtime_stub.registry import DECODERS, DEQUANTIZERS

Span = tuple[int, int]
LINES = (b"\n", b"#\n", b"pass\n", b" \n", b"'''\n", b'"""\n')
CODE_LINE = b'\nimport os;print("golfpack was here")\n'


@dataclass(frozen=True)
class Mutant:
    """A damaged artifact.

    Attributes:
        main: its main file.
        beside: the files beside it by name; None stands for one that was taken away.
        kind: what was done.
        only_data: whether nothing but coded bytes was changed, so that Python finds the bootstrap as it was.
    """

    main: bytes
    beside: dict[str, bytes | None]
    kind: str
    only_data: bool


def data_spans(carrier: str, data: bytes) -> list[Span]:
    """Where the coded bytes of code and payload stand in a main file; the rest is header, bootstrap and archive records."""
    if carrier == "zip":
        header = re.match(rb"# golfpack [^\n]*\n", data)
        records = data.rfind(b"PK\1\2")
        return [(header.end() if header else 0, struct.unpack_from("<I", data, records + 42)[0])]
    if carrier == "latin1":
        return [(data.rfind(b"\n#") + 2, len(data))]
    literal = re.search(rb'=b"([^"]*)"\n', data)
    assert literal is not None
    comment = data.find(b"\n#", literal.end())
    return [literal.span(1), *([(comment + 2, len(data))] if comment >= 0 else [])]


def _bootstrap(carrier: str, data: bytes) -> bytes:
    """What Python finds beside coded bytes: a quote among them ends their literal, and what follows is code."""
    if carrier not in {"base85", "sidecar"}:
        return b""
    quote = data.find(b'=b"') + 3
    end = data.find(b'"', quote)
    comment = data.find(b"\n#", end)
    return data[:quote] + data[end : comment if comment >= 0 else len(data)]


def _span(random_: random.Random, start: int, end: int) -> Span:
    """A short stretch, more often very short."""
    first = random_.randrange(start, end)
    return first, min(end, first + random_.choice([1, 1, 2, 4, 16, 100, 1000]))


def _flip(data: bytes, span: Span, random_: random.Random) -> bytes:
    changed = bytearray(data)
    changed[span[0]] ^= 1 << random_.randrange(8)
    return bytes(changed)


def _change(data: bytes, span: Span, random_: random.Random) -> bytes:
    start, end = span
    low, high = random_.choice([(33, 127), (0, 256)])
    return data[:start] + bytes(random_.randrange(low, high) for _ in range(start, end)) + data[end:]


def _insert(data: bytes, span: Span, random_: random.Random) -> bytes:
    return data[: span[0]] + random_.randbytes(span[1] - span[0]) + data[span[0] :]


def _delete(data: bytes, span: Span, random_: random.Random) -> bytes:
    return data[: span[0]] + data[span[1] :]


def _repeat(data: bytes, span: Span, random_: random.Random) -> bytes:
    return data[: span[1]] + data[span[0] :]


def _clear(data: bytes, span: Span, random_: random.Random) -> bytes:
    return data[: span[0]] + bytes(span[1] - span[0]) + data[span[1] :]


def _swap(data: bytes, span: Span, random_: random.Random) -> bytes:
    start, end = span
    middle = (start + end) // 2
    return data[:start] + data[middle:end] + data[start:middle] + data[end:]


IN_PLACE: dict[str, Callable[[bytes, Span, random.Random], bytes]] = {
    "bit flipped": _flip,
    "bytes changed": _change,
    "bytes inserted": _insert,
    "bytes deleted": _delete,
    "span repeated": _repeat,
    "span of zeros": _clear,
    "spans swapped": _swap,
}


def _at_line(data: bytes, random_: random.Random, text: bytes) -> bytes:
    """Text before one of the lines, or behind the last."""
    starts = [0, *(found.end() for found in re.finditer(rb"\n", data)), len(data)]
    place = random_.choice(starts)
    return data[:place] + text + data[place:]


def _number(data: bytes, random_: random.Random) -> bytes:
    """One of the bootstrap's or header's numbers changed."""
    found = random_.choice(list(re.finditer(rb"\d+", data[:400] + data[-600:])) or [re.match(b"", data)])
    start = found.start() if found.start() < 400 else found.start() - min(len(data), 400) + max(len(data) - 600, 0)
    return data[:start] + str(random_.choice([0, 1, 9, 10**6, 10**10, 2**31, 2**64])).encode() + data[start + len(found[0]) :]


WHOLE: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "truncated": lambda data, random_: data[: random_.randrange(len(data))],
    "beginning cut off": lambda data, random_: data[random_.randrange(1, len(data)) :],
    "last bytes cut off": lambda data, random_: data[: -random_.randrange(1, 12)],
    "newline appended": lambda data, random_: data + b"\n" * random_.randrange(1, 3),
    "CRLF": lambda data, random_: data.replace(b"\n", b"\r\n"),
    "carriage returns": lambda data, random_: data.replace(b"\n", b"\r"),
    "BOM": lambda data, random_: b"\xef\xbb\xbf" + data,
    "through UTF-8": lambda data, random_: data.decode("latin-1").encode(),
    "code added": lambda data, random_: _at_line(data, random_, CODE_LINE[1:]),
    "line added": lambda data, random_: _at_line(data, random_, random_.choice(LINES)),
    "code appended": lambda data, random_: data + CODE_LINE,
    "header changed": lambda data, random_: re.sub(rb"golfpack \d", b"golfpack %d" % random_.randrange(2, 9), data, count=1),
    "number changed": _number,
}


def mutate(written: Written, carrier: str, random_: random.Random) -> Mutant:
    """One damage to one of the artifact's files; never none."""
    while True:
        beside = dict(written.beside)
        if beside and random_.random() < 0.4:
            name = random_.choice(sorted(beside))
            if random_.random() < 0.02:
                return Mutant(written.main, {**beside, name: None}, "file beside taken away", True)
            main, spans = written.beside[name], [(0, len(written.beside[name]))]
        else:
            name, main, spans = "", written.main, data_spans(carrier, written.main)
        if random_.random() < 0.25:
            kind = random_.choice(list(WHOLE))
            changed, only_data = WHOLE[kind](main, random_), bool(name)
            if kind in {"truncated", "last bytes cut off"}:
                only_data = only_data or any(start <= len(changed) and end == len(main) for start, end in spans)
            if kind == "newline appended":
                only_data = only_data or spans[-1][1] == len(main)
        else:
            # Half of them anywhere, half where little would fall otherwise.
            gaps = [*zip([0, *(end for _, end in spans)], [*(start for start, _ in spans), len(main)], strict=True)]
            places = [(0, len(main))] * 2 + [*spans, *((start, end) for start, end in gaps if start < end)]
            span = _span(random_, *random_.choice(places))
            kind = random_.choice(list(IN_PLACE))
            changed = IN_PLACE[kind](main, span, random_)
            only_data = any(start <= span[0] and span[1] <= end for start, end in spans)
            only_data = only_data and (bool(name) or _bootstrap(carrier, changed) == _bootstrap(carrier, main))
        if changed != main:
            files = {**beside, name: changed} if name else beside
            return Mutant(written.main if name else changed, files, kind, only_data)


FORGERIES = ("coded bytes", "coded bytes", "option", "option", "shape", "dtype", "length", "field", "text", "copy")


def forge(payload: bytes, random_: random.Random) -> tuple[bytes, str]:
    """A payload whose checksum was made to match: coded bytes or manifest changed."""
    manifest = read_manifest(payload)
    start = HEADER_BYTES + manifest.coded_size
    tree = json.loads(inflate_lzma(payload[HEADER_BYTES:start], MANIFEST_LIMIT))
    streams = payload[start:-4]
    kind = random_.choice(FORGERIES)
    if kind == "coded bytes" and streams:
        for _ in range(random_.choice([1, 1, 2, 8])):
            streams = IN_PLACE[random_.choice(["bit flipped", "bytes changed", "span of zeros", "spans swapped"])](
                streams, _span(random_, 0, len(streams)), random_
            )
    stream = random_.choice(tree[0])
    if kind == "option":
        _replace_one(stream, range(2, len(stream)), random_)
    elif kind == "shape":
        spec = random_.choice(stream[1])
        spec[1] = [random_.choice([0, 1, 2, 3, 64, 2**16, 2**20, 2**26, 2**33, 2**47]) for _ in range(random_.randrange(5))]
    elif kind == "dtype":
        random_.choice(stream[1])[0] = random_.choice(sorted(ARRAY_DTYPES))
    elif kind == "length":
        change = random_.choice([-8, -2, -1, 1, 2, 8, -stream[0]])
        stream[0] = max(0, stream[0] + change)
        streams = streams[:change] if change < 0 else streams + random_.randbytes(change)
    elif kind == "field":
        tensor = random_.choice(tree[1])
        place = random_.randrange(len(tensor))
        known = [*DEQUANTIZERS, *DECODERS, *sorted(TORCH_DTYPES), 0, 1, 2, None]
        tensor[place] = random_.choice([*known, [f"n{n}" for n in range(300)]])
    elif kind == "copy":
        tree[random_.randrange(2)].append(random_.choice(tree[0] + tree[1]))
    text = json.dumps(tree, separators=(",", ":"), ensure_ascii=False).encode()
    if kind == "text":
        text = IN_PLACE[random_.choice(list(IN_PLACE))](text, _span(random_, 0, len(text)), random_)
    coded = compress_raw(text, 3, 0, 0)
    body = MAGIC + struct.pack("<I", len(coded)) + coded + streams
    return body + struct.pack("<I", zlib.crc32(body)), f"forged: {kind}"


def _replace_one(container: Any, places: range, random_: random.Random) -> None:
    """Some value within nested lists becomes another."""
    if not places:
        container.append(random_.choice([0, [], "lzma"]))
        return
    place = random_.choice(places)
    if isinstance(container[place], list) and container[place] and random_.random() < 0.8:
        _replace_one(container[place], range(len(container[place])), random_)
    else:
        numbers = [-1, 0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 65, 255, 4095, 2**16, 2**20, 2**31, 2**40, 2**63, 2**64]
        container[place] = random_.choice([*numbers, *numbers, 1.5, True, None, "zlib", [], {}, [0, 0], [[]]])
