"""Evaluation of the few expressions that decode data, and of nothing else.

Literals, names assigned from them, and a list of decoders, each with a limit on what it may give. Anything else is refused
with its line.
"""

from __future__ import annotations

import ast
import lzma
import zlib
from dataclasses import dataclass
from typing import Any

from generator.audit.bounded_decoders import DECODERS, METHODS, UNCOUNTED, VALUE_LIMIT, RefusedError
from generator.errors import brief

DEPTH_LIMIT = 100  # of an expression, the names in it included: each level takes several of Python's own calls


@dataclass(frozen=True)
class Layer:
    """One step of decoding, innermost literal first: what was applied, and the bytes it gave."""

    name: str
    size: int


class Evaluator:
    """Evaluates what decoding needs, and nothing else."""

    def __init__(self, own: bytes) -> None:
        self.own = own  # the file itself, for open(__file__)
        self.names: dict[str, Any] = {}
        self.pending: dict[int, ast.stmt] = {}  # assignments that were not evaluated, by the identity of their value
        self.layers: list[Layer] = []
        self.budget = 4 * VALUE_LIMIT

    def _spend(self, value: Any) -> Any:
        """Count what was made: names keep every value, so their sum is bounded too."""
        self.budget -= len(value)
        if self.budget < 0:
            raise RefusedError(f"its values take more than {4 * VALUE_LIMIT:,} bytes together")
        return value

    def note(self, node: ast.stmt) -> None:
        """Remember an import or an assignment; anything else goes unread, as `unread` tells."""
        self.pending[id(node.value) if isinstance(node, ast.Assign) else id(node)] = node
        if isinstance(node, ast.Import):
            self.pending.pop(id(node))
            for alias in node.names:
                self.names[alias.asname or alias.name.split(".")[0]] = _Dotted(
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            self.pending.pop(id(node))
            for alias in node.names:
                self.names[alias.asname or alias.name] = _Dotted(f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            self.names[node.targets[0].id] = node.value  # evaluated when it is used

    def unread(self) -> list[str]:
        """What was noted, does something when the file is run, and was not evaluated: one sentence for each, with its line."""
        return [f"line {node.lineno}: {describe(node)} is not read" for node in self.pending.values() if not _is_inert(node)]

    def evaluate(self, node: ast.expr, depth: int = 0) -> Any:
        """The value of an expression.

        Raises:
            RefusedError: it is not one of those known.
        """
        if depth > DEPTH_LIMIT:
            raise RefusedError(f"line {node.lineno}: an expression nested too deeply")

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
            self.pending.pop(id(value), None)
            evaluated = self.evaluate(value, depth + 1)
            self.names[node.id] = evaluated
            return evaluated
        return value

    def _call(self, node: ast.Call, depth: int) -> Any:
        function = self.evaluate(node.func, depth + 1)
        arguments = [self.evaluate(argument, depth + 1) for argument in node.args]
        keywords = {str(keyword.arg): self.evaluate(keyword.value, depth + 1) for keyword in node.keywords}
        name = function.name if isinstance(function, _Dotted | _Method) else ""
        decoder = METHODS.get(name) if isinstance(function, _Method) else DECODERS.get(name)
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
        except RefusedError as error:
            raise RefusedError(f"line {node.lineno}: {error}") from error
        except Exception as error:  # whatever these functions of libraries say to arguments that nobody vouches for
            raise RefusedError(f"line {node.lineno}: {name}() fails: {brief(error) or type(error).__name__}") from error
        self._spend(value)
        if name not in UNCOUNTED:
            if not self.layers:
                literals = [given for given in (*arguments, *keywords.values()) if isinstance(given, bytes | str)]
                self.layers.append(Layer("literal", len(literals[0])))
            self.layers.append(Layer(name, len(value)))
        return value

    def _refuse(self, node: ast.expr, what: str = "") -> Any:
        raise RefusedError(f"line {node.lineno}: {what or type(node).__name__} is not evaluated, since that could run code")


def describe(node: ast.stmt) -> str:
    """What a statement is, in a few words."""
    value = getattr(node, "value", None)
    if isinstance(value, ast.Call):
        attributes, function = [], value.func
        while isinstance(function, ast.Attribute):
            attributes.append(function.attr)
            function = function.value
        if not isinstance(function, ast.Name) or len(attributes) > 5:
            return "a call"
        name = ".".join([function.id, *reversed(attributes)])
        return f"a call of {ascii(name[:60])[1:-1]}"
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return f"the definition of {ascii(node.name[:60])[1:-1]}"
    if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
        return "an assignment"
    return f"a statement ({type(node).__name__})"


def _is_inert(node: ast.stmt) -> bool:
    """Whether a statement only binds names to literals and other names, or does nothing."""
    literal = (ast.Constant, ast.Name, ast.Tuple, ast.List, ast.Dict, ast.UnaryOp, ast.USub, ast.expr_context)
    if isinstance(node, ast.Pass):
        return True
    if isinstance(node, ast.Expr):
        return isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Assign) and all(
        isinstance(part, literal) for n in (*node.targets, node.value) for part in ast.walk(n)
    )


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
