"""Self-extracting files that others made, read without running: `exec(lzma.decompress(base64.b85decode("…")))` and relatives.

The file is parsed, and the argument of its `exec` is evaluated by `generator.evaluation`, which knows literals, names and
decoders, and refuses anything else.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from dataclasses import dataclass
from pathlib import Path

from generator.decoders import RefusedError, text_encoding
from generator.errors import InputError, brief
from generator.evaluation import Evaluator, Layer
from generator.source.tokens import check_tokens

FILE_LIMIT = 2**24  # bytes of a foreign file
LAYER_LIMIT = 8  # self-extracting files within one another


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


def read_foreign(data: bytes, path: str | Path) -> Foreign:
    """Extract the script from a self-extracting file.

    Raises:
        InputError: it is none, or of a form that can't be evaluated without running it; the message says which.
    """
    layers: list[Layer] = []
    for nesting in range(LAYER_LIMIT + 1):
        try:
            found = _extract(data, path)
        except RefusedError as error:
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
        raise RefusedError(f"it has {len(data):,} bytes, more than the {FILE_LIMIT:,} that are read")
    tree = _parse(data)
    evaluator = Evaluator(data)
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "exec" and call.args:
            try:
                value = evaluator.evaluate(_compiled(call.args[0]))
            except (TypeError, ValueError, OverflowError) as error:
                raise RefusedError(f"line {node.lineno}: an expression that fails: {brief(error)}") from error
            if isinstance(value, str):
                value = value.encode()
            if not isinstance(value, bytes) or not evaluator.layers:
                raise RefusedError(f"line {node.lineno}: exec of something that was not packed")
            return value, evaluator.layers
        evaluator.note(node)
    raise RefusedError("no exec() at its top level")


def _parse(data: bytes) -> ast.Module:
    try:
        text = data.decode(text_encoding(tokenize.detect_encoding(io.BytesIO(data).readline)[0].removesuffix("-sig")))
        text = text.removeprefix("\ufeff")
        check_tokens(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, LookupError) as error:
        raise RefusedError(f"it is not Python that this version can parse: {brief(error)}") from error
    except InputError as error:
        raise RefusedError(str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise RefusedError("it is nested too deeply to parse") from error


def _compiled(node: ast.expr) -> ast.expr:
    """The source in `compile(source, …)`, or the node itself."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "compile" and node.args:
        return node.args[0]
    return node
