"""Self-extracting files that others made, read without running: `exec(lzma.decompress(base64.b85decode("…")))` and relatives.

The file is parsed, and the argument of its `exec` is evaluated by this module: literals, names assigned from them, and a list
of decoders, each with a limit on what it may give. Anything else is refused with its line.
"""

from __future__ import annotations

import ast
import base64
import binascii
import bz2
import io
import lzma
import tokenize
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generator.errors import InputError

FILE_LIMIT = 2**25  # bytes of a foreign file
TOKEN_LIMIT = 500_000  # tokens; a literal is one, so that the syntax tree stays small whatever the file's size
VALUE_LIMIT = 2**26  # bytes of any value on the way
LAYER_LIMIT = 8  # self-extracting files within one another


@dataclass(frozen=True)
class Layer:
    """One step of decoding, innermost literal first: what was applied, and the bytes it gave."""

    name: str
    size: int


@dataclass(frozen=True)
class Foreign:
    """What was found.

    Attributes:
        source: the script inside.
        layers: what was applied to get there, in order; the first is the literal.
        nesting: how many self-extracting files were within one another.
    """

    source: bytes
    layers: list[Layer]
    nesting: int


class _RefusedError(Exception):
    """What can't be evaluated, with its line."""


def read_foreign(data: bytes, path: str | Path) -> Foreign:
    """Extract the script from a self-extracting file.

    Raises:
        InputError: it is none, or of a form that can't be evaluated without running it; the message says which.
    """
    layers: list[Layer] = []
    for nesting in range(LAYER_LIMIT + 1):
        try:
            found = _extract(data, path)
        except _RefusedError as error:
            if nesting:  # the script inside may use exec for purposes of its own
                return Foreign(data, layers, nesting)
            raise InputError(f"{path} is not a file that golfpack made; as another self-extracting file: {error}") from error
        if nesting == LAYER_LIMIT:
            break
        data, steps = found
        layers = [*layers, *steps]
    raise InputError(f"{path} unpacks to self-extracting files more than {LAYER_LIMIT} deep")


def _extract(data: bytes, path: str | Path) -> tuple[bytes, list[Layer]]:
    if len(data) > FILE_LIMIT:
        raise _RefusedError(f"it has {len(data):,} bytes, more than the {FILE_LIMIT:,} that are read")
    tree = _parse(data)
    evaluator = _Evaluator(data)
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "exec" and call.args:
            value = evaluator.evaluate(_compiled(call.args[0]))
            if isinstance(value, str):
                value = value.encode()
            if not isinstance(value, bytes) or not evaluator.layers:
                raise _RefusedError(f"line {node.lineno}: exec of something that was not packed")
            return value, evaluator.layers
        evaluator.note(node)
    raise _RefusedError("no exec() at its top level")


def _parse(data: bytes) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if len(data) > TOKEN_LIMIT:
                for count, _ in enumerate(tokenize.tokenize(io.BytesIO(data).readline)):
                    if count > TOKEN_LIMIT:
                        raise _RefusedError(f"it has more than {TOKEN_LIMIT:,} tokens")
            return ast.parse(data)
    except (SyntaxError, tokenize.TokenError, ValueError, LookupError) as error:
        raise _RefusedError(f"it is not Python that this version can parse: {error}") from error
    except (RecursionError, MemoryError) as error:
        raise _RefusedError("it is nested too deeply to parse") from error


def _compiled(node: ast.expr) -> ast.expr:
    """The source in `compile(source, …)`, or the node itself."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "compile" and node.args:
        return node.args[0]
    return node


class _Evaluator:
    """Evaluates what decoding needs, and nothing else."""

    def __init__(self, own: bytes) -> None:
        self.own = own  # the file itself, for open(__file__)
        self.names: dict[str, Any] = {}
        self.layers: list[Layer] = []
        self.budget = 4 * VALUE_LIMIT

    def _spend(self, value: Any) -> Any:
        """Count what was made: names keep every value, so their sum is bounded too."""
        self.budget -= len(value)
        if self.budget < 0:
            raise _RefusedError(f"its values take more than {4 * VALUE_LIMIT:,} bytes together")
        return value

    def note(self, node: ast.stmt) -> None:
        """Remember imports and assignments; other statements are left to whoever runs the file."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.names[alias.asname or alias.name.split(".")[0]] = _Dotted(
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                self.names[alias.asname or alias.name] = _Dotted(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self.names[node.targets[0].id] = node.value  # evaluated when it is used

    def evaluate(self, node: ast.expr, depth: int = 0) -> Any:
        """The value of an expression.

        Raises:
            _RefusedError: it is not one of those known.
        """
        if depth > 200:
            raise _RefusedError(f"line {node.lineno}: an expression nested too deeply")

        def inner(child: ast.expr) -> Any:
            return self.evaluate(child, depth + 1)

        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.Name):
            return self._name(node, depth)
        if isinstance(node, ast.Attribute):
            value = inner(node.value)
            if isinstance(value, _Dotted):
                return _constant(value.attribute(node.attr))
            return _Method(value, node.attr)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            left, right = inner(node.left), inner(node.right)
            if type(left) is type(right) and isinstance(left, bytes | str):
                return self._spend(left + right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            left, right = inner(node.left), inner(node.right)
            if isinstance(left, int) and isinstance(right, int):
                return left | right
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant):
            value = node.operand.value
            return -value if isinstance(value, int) else self._refuse(node)
        if isinstance(node, ast.List | ast.Tuple) and len(node.elts) < 100:
            return [inner(item) for item in node.elts]
        if isinstance(node, ast.Dict) and len(node.keys) < 100:
            return {inner(key) if key else None: inner(value) for key, value in zip(node.keys, node.values, strict=True)}
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            value = inner(node.value)
            bounds = [inner(part) if part else None for part in (node.slice.lower, node.slice.upper, node.slice.step)]
            if isinstance(value, bytes | str) and all(isinstance(bound, int | None) for bound in bounds) and bounds[2] != 0:
                return self._spend(value[slice(*bounds)])
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        return self._refuse(node)

    def _name(self, node: ast.Name, depth: int) -> Any:
        value = self.names.get(node.id, _Dotted(node.id))
        if isinstance(value, ast.expr):
            self.names.pop(node.id)  # a name can't stand for itself
            evaluated = self.evaluate(value, depth + 1)
            self.names[node.id] = evaluated
            return evaluated
        return value

    def _call(self, node: ast.Call, depth: int) -> Any:
        function = self.evaluate(node.func, depth + 1)
        arguments = [self.evaluate(argument, depth + 1) for argument in node.args]
        keywords = {str(keyword.arg): self.evaluate(keyword.value, depth + 1) for keyword in node.keywords}
        name = function.name if isinstance(function, _Dotted | _Method) else ""
        decoder = _METHODS.get(name) if isinstance(function, _Method) else _DECODERS.get(name)
        if isinstance(function, _Method):
            arguments.insert(0, function.value)
        if name == "open" and arguments and isinstance(arguments[0], _Dotted) and arguments[0].name == "__file__":
            binary = "b" in str(arguments[1] if len(arguments) > 1 else keywords.get("mode", "r"))
            return _OwnFile(self.own if binary else self.own.decode("utf-8", "replace"))
        if name == "read" and len(arguments) == 1 and isinstance(arguments[0], _OwnFile):
            return arguments[0].content
        if decoder is None or "**" in keywords or "None" in keywords:
            return self._refuse(node, f"a call of {name or 'something'}()")
        try:
            value = decoder(*arguments, **keywords)
        except _RefusedError as error:
            raise _RefusedError(f"line {node.lineno}: {error}") from error
        except (ValueError, TypeError, LookupError, EOFError, OSError, lzma.LZMAError, zlib.error, MemoryError) as error:
            raise _RefusedError(f"line {node.lineno}: {name}() fails: {error}") from error
        self._spend(value)
        if name not in _UNCOUNTED:
            if not self.layers:
                self.layers.append(Layer("literal", len(arguments[0])))
            self.layers.append(Layer(name, len(value)))
        return value

    def _refuse(self, node: ast.expr, what: str = "") -> Any:
        raise _RefusedError(f"line {node.lineno}: {what or type(node).__name__} is not evaluated, since that could run code")


@dataclass(frozen=True)
class _Dotted:
    """A module, or a name in it."""

    name: str

    def attribute(self, name: str) -> _Dotted:
        return _Dotted(f"{self.name}.{name}")


@dataclass(frozen=True)
class _Method:
    """A method of a value."""

    value: Any
    name: str


@dataclass(frozen=True)
class _OwnFile:
    """The file being read, opened by itself."""

    content: bytes | str


def _constant(name: _Dotted) -> Any:
    module, _, attribute = name.name.partition(".")
    if module == "lzma" and attribute.startswith(("FORMAT_", "FILTER_", "CHECK_", "MODE_", "MF_", "PRESET_")):
        return getattr(lzma, attribute, name)
    if module == "zlib" and attribute in {"MAX_WBITS"}:
        return zlib.MAX_WBITS
    return name


def _bounded(value: bytes, finished: bool = True) -> bytes:
    if len(value) > VALUE_LIMIT:
        raise _RefusedError(f"it decompresses to more than {VALUE_LIMIT:,} bytes")
    if not finished:
        raise _RefusedError("its compressed data is truncated")
    return value


def _lzma(data: Any, format: int = lzma.FORMAT_AUTO, memlimit: Any = None, filters: Any = None) -> bytes:
    """Any container; one stream (concatenated ones are rare, and what follows is noticed as missing)."""
    for item in filters or []:
        if not isinstance(item, dict) or not all(isinstance(key, str) for key in item):
            raise _RefusedError("its LZMA filters are not dictionaries")
        if not 0 <= int(item.get("dict_size", 0)) <= VALUE_LIMIT * 4:
            raise _RefusedError("its LZMA dictionary is too large")
    # A preset of up to 64 MiB of dictionary is used where a filter names none.
    limit = None if format == lzma.FORMAT_RAW else 4 * VALUE_LIMIT
    decompressor = lzma.LZMADecompressor(format, memlimit=limit, filters=filters)
    value = decompressor.decompress(data, VALUE_LIMIT + 1)
    # A raw LZMA1 stream may end without saying so.
    return _bounded(value, decompressor.eof or format == lzma.FORMAT_RAW)


def _zlib(data: Any, wbits: int = zlib.MAX_WBITS, bufsize: int = 0) -> bytes:
    decompressor = zlib.decompressobj(wbits)
    value = decompressor.decompress(data, VALUE_LIMIT + 1)
    return _bounded(value, decompressor.eof)


def _gzip(data: Any) -> bytes:
    return _zlib(data, 31)


def _bz2(data: Any) -> bytes:
    decompressor = bz2.BZ2Decompressor()
    value = decompressor.decompress(data, VALUE_LIMIT + 1)
    return _bounded(value, decompressor.eof)


def _brotli(data: Any) -> bytes:
    try:
        import brotli
    except ImportError as error:
        raise _RefusedError("brotli data needs its package: pip install brotli") from error
    decompressor = brotli.Decompressor()
    value = bytearray()
    try:
        value += decompressor.process(data, output_buffer_limit=VALUE_LIMIT + 1)
        while not decompressor.is_finished() and len(value) <= VALUE_LIMIT:
            more = decompressor.process(b"", output_buffer_limit=VALUE_LIMIT + 1 - len(value))
            if not more:
                break
            value += more
    except brotli.error as error:
        raise _RefusedError(f"its brotli data is damaged: {error}") from error
    return _bounded(bytes(value), decompressor.is_finished())


def _decode(value: Any, encoding: str = "utf-8", errors: str = "strict") -> str:
    return bytes(value).decode(_text_encoding(encoding), errors)


def _encode(value: str, encoding: str = "utf-8", errors: str = "strict") -> bytes:
    return value.encode(_text_encoding(encoding), errors)


def _text_encoding(encoding: str) -> str:
    if encoding.lower().replace("_", "-") not in _TEXT_ENCODINGS:
        raise _RefusedError(f"the encoding {encoding!r} is not known")
    return encoding


_TEXT_ENCODINGS = frozenset({"utf-8", "utf8", "ascii", "latin-1", "latin1", "iso-8859-1", "cp437", "cp1252"})
_DECODERS: dict[str, Callable[..., Any]] = {
    "base64.b85decode": base64.b85decode,
    "base64.a85decode": base64.a85decode,
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
_METHODS: dict[str, Callable[..., Any]] = {"decode": _decode, "encode": _encode}
_UNCOUNTED = frozenset({"decode", "encode", "str"})
