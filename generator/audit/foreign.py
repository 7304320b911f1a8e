"""Self-extracting files that others made, read without running: `exec(lzma.decompress(base64.b85decode("…")))` and relatives.

The file is parsed, and the argument of its `exec` is evaluated by `generator.audit.literals`, which knows literals, names and
decoders, and refuses anything else.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from generator.audit.bounded_decoders import RefusedError, text_encoding
from generator.audit.literals import Evaluator, Layer
from generator.errors import InputError, brief
from generator.source.tokens import check_tokens

FILE_LIMIT = 2**24  # bytes of a foreign file
LAYER_LIMIT = 8  # self-extracting files within one another
MOST_OTHERS = 20  # sentences about what was not read


@dataclass(frozen=True)
class Foreign:
    """What was found.

    Attributes:
        source: the script inside.
        layers: what was applied to get there, in order; the first is the literal.
        nesting: how many self-extracting files were within one another.
        others: statements that run with the file and were not read, one sentence for each, with its line.
    """

    source: bytes
    layers: list[Layer]
    nesting: int
    others: list[str] = field(default_factory=list)


def read_foreign(data: bytes, path: str | Path) -> Foreign:
    """Extract the script from a self-extracting file.

    Raises:
        InputError: it is none, or of a form that can't be evaluated without running it; the message says which.
    """
    layers: list[Layer] = []
    others: list[str] = []
    for nesting in range(LAYER_LIMIT + 1):
        try:
            found = _extract(data)
        except RefusedError as error:
            if nesting:  # the script inside may use exec for purposes of its own
                return Foreign(data, layers, nesting, others)
            raise InputError(f"{path} is not a file that golfpack made; as another self-extracting file: {error}") from error
        if nesting == LAYER_LIMIT:
            break
        data, steps, unread = found
        others += [f"in layer {nesting + 1}, {sentence}" if nesting else sentence for sentence in unread]
        layers = [*layers, *steps]
    raise InputError(f"{path} unpacks to self-extracting files more than {LAYER_LIMIT} deep")


def _extract(data: bytes) -> tuple[bytes, list[Layer], list[str]]:
    """What a file executes, how it is decoded, and what else is in the file.

    Raises:
        RefusedError: it is no file that executes what it decodes, or one that can't be read.
    """
    if len(data) > FILE_LIMIT:
        raise RefusedError(f"it has {len(data):,} bytes, more than the {FILE_LIMIT:,} that are read")
    tree = _parse(data)
    evaluator = Evaluator(data)
    source: bytes | None = None
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if source is None and isinstance(call, ast.Call) and _is_builtin(call.func, "exec", evaluator) and call.args:
            source = _executed(node, call.args[0], evaluator)
            layers = evaluator.layers
            if _calls([*call.args[1:], *call.keywords]):
                evaluator.note(ast.copy_location(ast.Expr(call.args[-1]), node))
        else:
            evaluator.note(node)
    if source is None:
        raise RefusedError("no exec() at its top level")
    return source, layers, _shortened(evaluator.unread())


def _executed(node: ast.stmt, argument: ast.expr, evaluator: Evaluator) -> bytes:
    """The source that a call of exec executes."""
    if isinstance(argument, ast.Call) and _is_builtin(argument.func, "compile", evaluator) and argument.args:
        argument = argument.args[0]
    try:
        value = evaluator.evaluate(argument)
    except RecursionError as error:
        raise RefusedError(f"line {node.lineno}: an expression nested too deeply") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise RefusedError(f"line {node.lineno}: an expression that fails: {brief(error)}") from error
    if not isinstance(value, bytes | str) or not evaluator.layers:
        raise RefusedError(f"line {node.lineno}: exec of something that was not packed")
    try:
        return value.encode() if isinstance(value, str) else value
    except UnicodeEncodeError as error:
        raise RefusedError(f"line {node.lineno}: exec of text with lone surrogates") from error


def _is_builtin(function: ast.expr, name: str, evaluator: Evaluator) -> bool:
    """Whether an expression is the name of a builtin function that nothing else was assigned to."""
    return isinstance(function, ast.Name) and function.id == name and name not in evaluator.names


def _calls(nodes: list[ast.expr | ast.keyword]) -> bool:
    """Whether anything but `globals()` and `locals()` is called."""
    calls = [part.func for node in nodes for part in ast.walk(node) if isinstance(part, ast.Call)]
    return any(not isinstance(function, ast.Name) or function.id not in {"globals", "locals"} for function in calls)


def _shortened(sentences: list[str]) -> list[str]:
    more = len(sentences) - MOST_OTHERS
    return [*sentences[:MOST_OTHERS], f"{more:,} more statements are not read"] if more > 0 else sentences


def _parse(data: bytes) -> ast.Module:
    try:
        text = data.decode(text_encoding(tokenize.detect_encoding(io.BytesIO(data).readline)[0].removesuffix("-sig")))
        text = text.removeprefix("\ufeff")
        check_tokens(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except SyntaxError as error:
        where = f"line {error.lineno}: " if error.lineno else ""
        raise RefusedError(f"it is not Python that this version can parse: {where}{ascii(error.msg)[1:-1]}") from error
    except (ValueError, LookupError) as error:
        raise RefusedError(f"it is not Python that this version can parse: {brief(error)}") from error
    except InputError as error:
        raise RefusedError(str(error)) from error
    except (RecursionError, MemoryError) as error:
        raise RefusedError("it is nested too deeply to parse") from error
